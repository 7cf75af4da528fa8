//! What a replay remembers between runs: which agreement, how frames were cut, and how far every lock has come.

use crate::schedule::Schedule;
use crate::trips::Trips;
use diversity_client::devnet::write_atomically;
use diversity_client::hexed;
use diversity_proto::{AgreementId, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of a replay.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

/// What must not change between runs of one replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// 1.
    pub version: u8,
    /// [`fingerprint`] of the trips.
    #[serde(with = "hexed")]
    pub trips: Digest,
    /// Messages in a frame: another number would make other frames over the same q.
    pub frame_messages: u16,
    /// The agreement.
    #[serde(with = "hexed")]
    pub agreement: AgreementId,
}

/// How far one lock has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockCounter {
    /// First q that nodes of every user do not hold yet.
    pub acknowledged: u64,
    /// Messages that the trips file gives this lock.
    pub messages: u64,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Reading or writing failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not what an earlier run wrote.
    #[error("{} is not what an earlier replay wrote ({reason}): move it away", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The same for the same trips, in whatever order a file has them.
pub fn fingerprint(trips: &Trips) -> Digest {
    let mut text = String::new();
    for (bike, trips) in &trips.0 {
        for t in trips {
            text.push_str(&format!("{bike},{},{}\n", t.start, t.end));
        }
    }
    Digest(diversity_proto::domain::sha256_raw(text.as_bytes()))
}

impl Folder {
    /// The folder of these trips in a devnet's folder. Other trips get locks of their own, so that replays do not disturb one
    /// another.
    pub fn in_devnet(devnet: &Path, trips: &Digest) -> Self {
        let name = &trips.hex()[2..18];
        let devnet = devnet.parent().unwrap_or(Path::new(""));
        Self(devnet.join("sensor-sim").join(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What an earlier run of the same trips left; `None` if there was none.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn state(&self, trips: &Digest) -> Result<Option<State>, FolderError> {
        let path = self.path("state.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(FolderError::File {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let malformed = |path: PathBuf, reason: String| FolderError::Malformed { path, reason };
        let state: State =
            serde_json::from_str(&text).map_err(|e| malformed(path.clone(), e.to_string()))?;
        if state.version != 1 {
            return Err(malformed(path, format!("it has version {}", state.version)));
        }
        Ok((state.trips == *trips).then_some(state))
    }

    /// Remembers the agreement, before the first frame leaves.
    ///
    /// # Errors
    /// [`FolderError::File`].
    pub fn set_state(&self, state: &State) -> Result<(), FolderError> {
        self.write("state.json", state)
    }

    /// Remembers how far every lock has come.
    ///
    /// # Errors
    /// [`FolderError::File`].
    pub fn set_counters(
        &self,
        schedule: &Schedule,
        acknowledged: &[u64],
    ) -> Result<(), FolderError> {
        let counters: BTreeMap<_, _> = schedule
            .locks
            .iter()
            .zip(acknowledged)
            .map(|(lock, acknowledged)| {
                let counter = LockCounter {
                    acknowledged: *acknowledged,
                    messages: lock.events.len() as u64,
                };
                (&lock.label, counter)
            })
            .collect();
        self.write("counters.json", &counters)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), FolderError> {
        let path = self.path(name);
        let mut text = serde_json::to_string_pretty(value).expect("strings and numbers");
        text.push('\n');
        std::fs::create_dir_all(&self.0)
            .and_then(|()| write_atomically(&path, text.as_bytes()))
            .map_err(|source| FolderError::File {
                action: "write",
                path,
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_finds_its_state_again_and_no_other_does() {
        let folder = tempfile::tempdir().unwrap();
        let state = State {
            version: 1,
            trips: Digest([1; 32]),
            frame_messages: 20,
            agreement: AgreementId([2; 32]),
        };
        let mine = Folder::in_devnet(&folder.path().join("devnet.json"), &state.trips);
        assert!(mine.0.ends_with("sensor-sim/0101010101010101"));
        assert_eq!(mine.state(&state.trips).unwrap(), None);
        mine.set_state(&state).unwrap();
        assert_eq!(mine.state(&state.trips).unwrap(), Some(state));
        assert_eq!(mine.state(&Digest([3; 32])).unwrap(), None);
        std::fs::write(mine.path("state.json"), "{").unwrap();
        assert!(mine.state(&state.trips).is_err());
    }

    #[test]
    fn the_order_of_a_file_does_not_matter() {
        let read = |lines: &str| {
            let text = format!("{}\n{lines}", crate::trips::HEADER);
            fingerprint(&Trips::parse(&mut text.as_bytes(), Path::new("x")).unwrap())
        };
        assert_eq!(read("A,1,2\nB,1,2\nA,3,4\n"), read("B,1,2\nA,3,4\nA,1,2\n"));
        assert_ne!(read("A,1,2\n"), read("A,1,3\n"));
    }
}
