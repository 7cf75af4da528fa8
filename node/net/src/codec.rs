//! What runs over streams: a `u32` length and that many bytes, checked against a maximum before anything is read. That is a
//! request or an answer of the repair protocol, or a batch of direct messages, which holds such bytes again, one after the
//! other.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

/// The bytes of a length.
pub(crate) const LENGTH: usize = 4;

/// The messages of one batch, at most.
pub(crate) const BATCH_MESSAGES_MAX: usize = 1024;

/// Length-prefixed opaque bytes with a maximum for each direction.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    pub(crate) request_bytes_max: usize,
    pub(crate) response_bytes_max: usize,
}

impl Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.request_bytes_max).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.response_bytes_max).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response).await
    }
}

pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; LENGTH];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if length as usize > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes are announced, and {max} are accepted"),
        ));
    }
    // Grows with what really arrives: the announcement alone costs no memory.
    let mut bytes = Vec::new();
    io.take(u64::from(length)).read_to_end(&mut bytes).await?;
    if bytes.len() != length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

pub(crate) async fn write(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // At once: each write is a packet of its own further down.
    io.write_all(&[&length.to_be_bytes(), bytes].concat())
        .await?;
    io.flush().await
}

/// Appends one message to a batch.
pub(crate) fn push_message(batch: &mut Vec<u8>, message: &[u8]) {
    let length = u32::try_from(message.len()).expect("bounded by the limits");
    batch.extend_from_slice(&length.to_be_bytes());
    batch.extend_from_slice(message);
}

/// The messages of a batch; nothing if it is malformed, one of them is too long, or there are too many.
pub(crate) fn split_batch(mut batch: &[u8], max: usize) -> Option<Vec<Vec<u8>>> {
    let mut messages = Vec::new();
    while !batch.is_empty() {
        let (length, rest) = batch.split_first_chunk::<LENGTH>()?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > max || length > rest.len() || messages.len() == BATCH_MESSAGES_MAX {
            return None;
        }
        let (message, rest) = rest.split_at(length);
        messages.push(message.to_vec());
        batch = rest;
    }
    Some(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    #[test]
    fn what_is_written_is_read() {
        for bytes in [vec![], vec![1], vec![7; 1000]] {
            let mut wire = Vec::new();
            block_on(write(&mut wire, &bytes)).expect("writes");
            assert_eq!(wire.len(), LENGTH + bytes.len());
            let read = block_on(read(&mut Cursor::new(&wire), 1000)).expect("reads");
            assert_eq!(read, bytes);
            for cut in 0..wire.len() {
                let short = block_on(super::read(&mut Cursor::new(&wire[..cut]), 1000));
                assert_eq!(
                    short.expect_err("cut off").kind(),
                    io::ErrorKind::UnexpectedEof
                );
            }
        }
    }

    #[test]
    fn an_oversized_announcement_is_refused_before_its_bytes() {
        let mut wire = Cursor::new(1001u32.to_be_bytes());
        let error = block_on(read(&mut wire, 1000)).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn batches_split_into_what_was_put_in() {
        let messages: Vec<Vec<u8>> = (0..20).map(|n| vec![n as u8; n * 3]).collect();
        let mut batch = Vec::new();
        for message in &messages {
            push_message(&mut batch, message);
        }
        assert_eq!(split_batch(&batch, 57), Some(messages));
        assert_eq!(split_batch(&batch, 56), None);
        assert_eq!(split_batch(&batch[..batch.len() - 1], 57), None);
        assert_eq!(split_batch(&[0, 0, 0], 57), None);
        assert_eq!(split_batch(&[], 57), Some(Vec::new()));
        assert!(split_batch(&[0; LENGTH * BATCH_MESSAGES_MAX], 57).is_some());
        assert!(split_batch(&[0; LENGTH * (BATCH_MESSAGES_MAX + 1)], 57).is_none());
    }
}
