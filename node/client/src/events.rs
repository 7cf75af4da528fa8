//! Server-sent events of a node.

use crate::api::Event;
use crate::error::{ApiError, chain};
use futures::stream::{BoxStream, StreamExt};
use reqwest::Response;

/// Longest event that is read, bytes.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A stream of events; see [`crate::Api::events`].
pub struct Events {
    url: String,
    bytes: BoxStream<'static, Result<Vec<u8>, String>>,
    buffer: Vec<u8>,
}

impl Events {
    pub(crate) fn new(url: String, response: Response) -> Self {
        let bytes = response.bytes_stream();
        let bytes = bytes.map(|c| c.map(|c| c.to_vec()).map_err(|e| chain(&e)));
        Self::from_stream(url, bytes.boxed())
    }

    fn from_stream(url: String, bytes: BoxStream<'static, Result<Vec<u8>, String>>) -> Self {
        Self {
            url,
            bytes,
            buffer: Vec::new(),
        }
    }

    /// The next event; `None` when the node ended the stream. Events that this version does not know are left out.
    ///
    /// # Errors
    /// [`ApiError::Broken`] when the connection broke, [`ApiError::Answer`] for what is no event.
    pub async fn next(&mut self) -> Result<Option<Event>, ApiError> {
        loop {
            while let Some((block, used)) = first_block(&self.buffer) {
                let event = parse(&block);
                self.buffer.drain(..used);
                if let Some(event) = event {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Err(ApiError::Answer {
                    url: self.url.clone(),
                    reason: format!("an event of more than {EVENT_BYTES_MAX} bytes"),
                });
            }
            match self.bytes.next().await {
                None => return Ok(None),
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(reason)) => {
                    return Err(ApiError::Broken {
                        url: self.url.clone(),
                        reason,
                    });
                }
            }
        }
    }
}

/// The first whole block of lines, and how many bytes it takes with the empty line behind it.
fn first_block(buffer: &[u8]) -> Option<(String, usize)> {
    let mut start = 0;
    let mut block = Vec::new();
    while let Some(n) = buffer[start..].iter().position(|b| *b == b'\n') {
        let line = &buffer[start..start + n];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        start += n + 1;
        if line.is_empty() {
            return Some((String::from_utf8_lossy(&block).into_owned(), start));
        }
        block.extend_from_slice(line);
        block.push(b'\n');
    }
    None
}

/// The event in the `data:` lines of a block; comments and other fields are left out.
fn parse(block: &str) -> Option<Event> {
    let lines = block.lines().filter_map(|line| line.strip_prefix("data:"));
    let data: Vec<_> = lines.map(|d| d.strip_prefix(' ').unwrap_or(d)).collect();
    serde_json::from_str(&data.join("\n")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::AgreementId;

    #[tokio::test]
    async fn events_are_read_however_they_arrive() {
        let settled = Event::Settled {
            agreement: AgreementId([7; 32]),
            from: 3,
            t: 4,
        };
        let json = serde_json::to_string(&settled).unwrap();
        let text = format!(
            ": a comment\n\nid: 1\nevent: settled\ndata: {json}\n\ndata:{{\"event\":\"later\"}}\r\n\r\ndata:{json}\n\n"
        );
        for size in [1, 7, text.len()] {
            let chunks: Vec<_> = text
                .as_bytes()
                .chunks(size)
                .map(|c| Ok(c.to_vec()))
                .collect();
            let stream = futures::stream::iter(chunks).boxed();
            let mut events = Events::from_stream("url".into(), stream);
            assert_eq!(events.next().await.unwrap(), Some(settled.clone()));
            assert_eq!(events.next().await.unwrap(), Some(settled.clone()));
            assert_eq!(events.next().await.unwrap(), None);
        }
    }
}
