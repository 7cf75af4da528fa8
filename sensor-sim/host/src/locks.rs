//! The locks' keys, and the frames that they sign.

use crate::schedule::{Cut, Event, Schedule};
use diversity_client::hexed;
use diversity_keys::{KeyError, SecretKey};
use diversity_proto::entity::{Period, SensorDeclaration};
use diversity_proto::frame::{Variable, VariableType};
use diversity_proto::{Deployment, PublicKey, SensorId};
use diversity_sensor_core::{
    Board, Body, Counter, FRAME_BODY_BYTES_MAX, FRAME_BYTES_MAX, Identity, Sensor,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Type of the sensors.
pub const SENSOR_TYPE: &str = "bike-lock";
const KEYS_FILE: &str = "keys.json";

/// What can go wrong with the keys of the locks.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
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
    /// Not a file of keys.
    #[error("{} is not a file of lock keys ({reason}): give the folder that an earlier replay wrote", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No key for a bike of the trips file.
    #[error("{} has no key for bike {label}: give the folder of the replay that registered it", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// The bike.
        label: String,
    },
    /// No randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
}

#[derive(Serialize, Deserialize)]
struct KeysFile {
    version: u8,
    /// Secret key by bike id.
    keys: BTreeMap<String, hexed::Bytes>,
}

/// One lock's key.
pub struct LockKey {
    /// The bike's id.
    pub label: String,
    /// The sensor's id.
    pub sensor: SensorId,
    /// Its secret key.
    pub secret: SecretKey,
}

/// The keys of all locks of a replay, in the order of its schedule.
pub struct Keyring(pub Vec<LockKey>);

impl Keyring {
    /// Reads the keys in a folder. With `create`, keys that are missing are made and written, durably, before they are used.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn open(folder: &Path, schedule: &Schedule, create: bool) -> Result<Self, KeyringError> {
        let path = folder.join(KEYS_FILE);
        let mut file = read(&path)?;
        let mut keys = Vec::with_capacity(schedule.locks.len());
        let mut made = false;
        for lock in &schedule.locks {
            let secret = match file.keys.get(&lock.label) {
                Some(bytes) => parse(bytes).ok_or_else(|| KeyringError::Malformed {
                    path: path.clone(),
                    reason: format!("the key of bike {} is no key", lock.label),
                })?,
                None if create => {
                    let secret = SecretKey::generate()?;
                    let bytes = hexed::Bytes(secret.to_bytes().to_vec());
                    file.keys.insert(lock.label.clone(), bytes);
                    made = true;
                    secret
                }
                None => {
                    let label = lock.label.clone();
                    return Err(KeyringError::Missing { path, label });
                }
            };
            keys.push(LockKey {
                label: lock.label.clone(),
                sensor: SensorId(secret.address()),
                secret,
            });
        }
        if made {
            write(folder, &path, &file).map_err(|source| KeyringError::File {
                action: "write",
                path,
                source,
            })?;
        }
        Ok(Self(keys))
    }
}

impl LockKey {
    /// What the lock is registered as.
    pub fn declaration(&self) -> SensorDeclaration {
        SensorDeclaration {
            public_key: PublicKey(self.secret.public_key()),
            sensor_type: SENSOR_TYPE.into(),
            label: self.label.clone(),
            variables: vec![Variable {
                name: "state".into(),
                ty: VariableType::Bool,
            }],
            period: Period::Month,
        }
    }

    /// Signs messages from `first_q` on as one frame: the same bytes every time.
    pub fn frame(&self, deployment: &Deployment, first_q: u64, events: &[Event]) -> Vec<u8> {
        let identity = Identity {
            deployment: deployment.bytes(),
            sensor: self.sensor.0,
            width: 1,
            period: diversity_sensor_core::Period::Month,
        };
        let mut body = Body::<FRAME_BODY_BYTES_MAX>::new(&identity);
        for event in events {
            body.push(event.time, &[u8::from(event.open)])
                .expect("the schedule cuts frames at their bounds");
        }
        let board = SoftBoard {
            secret: &self.secret,
            next_q: first_q,
        };
        let mut sensor = Sensor::resume(board, identity).expect("a soft board never fails");
        let mut out = [0; FRAME_BYTES_MAX];
        let sealed = sensor
            .seal(&body, &mut out)
            .expect("a soft board never fails");
        out[..sealed.len].to_vec()
    }
}

/// A frame of the schedule, signed.
pub fn sign_cut(
    keys: &Keyring,
    deployment: &Deployment,
    schedule: &Schedule,
    cut: &Cut,
) -> Vec<u8> {
    let first = cut.first_q as usize;
    let events = &schedule.locks[cut.lock as usize].events[first..first + usize::from(cut.count)];
    keys.0[cut.lock as usize].frame(deployment, cut.first_q.into(), events)
}

/// A board whose frames need no store: they follow from the trips and the key, so a lost one is made again, byte for byte.
struct SoftBoard<'a> {
    secret: &'a SecretKey,
    next_q: u64,
}

impl Board for SoftBoard<'_> {
    type Error = std::convert::Infallible;

    fn load(&mut self) -> Result<Option<Counter>, Self::Error> {
        // All in one boot epoch: no opening, so the frame before does not matter.
        Ok(Some(Counter {
            epoch: 0,
            next_q: self.next_q,
            last_frame: [0; 32],
        }))
    }

    fn commit(&mut self, _: &Counter, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn release(&mut self, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    fn sign(&mut self, digest: &[u8; 32]) -> Result<[u8; 64], Self::Error> {
        Ok(self.secret.sign(digest))
    }
}

fn parse(bytes: &hexed::Bytes) -> Option<SecretKey> {
    SecretKey::from_bytes(bytes.0.as_slice().try_into().ok()?).ok()
}

fn read(path: &Path) -> Result<KeysFile, KeyringError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(KeysFile {
                version: 1,
                keys: BTreeMap::new(),
            });
        }
        Err(source) => {
            return Err(KeyringError::File {
                action: "read",
                path: path.into(),
                source,
            });
        }
    };
    let malformed = |reason| KeyringError::Malformed {
        path: path.into(),
        reason,
    };
    let file: KeysFile = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    if file.version != 1 {
        let version = file.version;
        return Err(malformed(format!(
            "it has version {version}, and this program knows 1"
        )));
    }
    Ok(file)
}

/// For the owner's eyes only, and durable before a key is used.
fn write(folder: &Path, path: &Path, file: &KeysFile) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let new = path.with_extension("new");
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    let text = serde_json::to_string_pretty(file).expect("strings and numbers");
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&new, path)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trips::{HEADER, Trips};
    use diversity_proto::Address;
    use diversity_proto::frame::Frame;

    fn schedule(frame_messages: u16) -> Schedule {
        let lines: String = (0..60)
            .map(|i| {
                format!(
                    "B{},{},{}\n",
                    i % 3,
                    1_443_657_600 + i * 90_000,
                    1_443_658_600 + i * 90_000
                )
            })
            .collect();
        let text = format!("{HEADER}\n{lines}");
        let trips = Trips::parse(&mut text.as_bytes(), Path::new("x")).unwrap();
        Schedule::new(&trips, frame_messages)
    }

    #[test]
    fn frames_say_what_the_schedule_says_under_the_locks_key() {
        let deployment = Deployment {
            chain_id: 1,
            contract: Address([1; 20]),
        };
        let folder = tempfile::tempdir().unwrap();
        for frame_messages in [1, 7] {
            let schedule = schedule(frame_messages);
            let keys = Keyring::open(folder.path(), &schedule, true).unwrap();
            for cut in &schedule.cuts {
                let bytes = sign_cut(&keys, &deployment, &schedule, cut);
                assert_eq!(bytes, sign_cut(&keys, &deployment, &schedule, cut));
                let frame = Frame::decode(&bytes).unwrap();
                let (key, lock) = (
                    &keys.0[cut.lock as usize],
                    &schedule.locks[cut.lock as usize],
                );
                assert_eq!(
                    (frame.sensor, frame.epoch, frame.opening),
                    (key.sensor, 0, None)
                );
                assert_eq!(
                    (frame.first_q, frame.next_q()),
                    (cut.first_q.into(), cut.next_q())
                );
                let digest = frame.digest(&deployment);
                let public = key.secret.public_key();
                assert!(diversity_keys::verify(
                    &public,
                    &digest.0,
                    &frame.signature.0
                ));
                let events = &lock.events[cut.first_q as usize..];
                for (message, event) in frame.messages().zip(events) {
                    assert_eq!(
                        (message.time, message.values),
                        (event.time, &[u8::from(event.open)][..])
                    );
                    assert!(key.declaration().period.same(cut.time, message.time));
                }
            }
        }
    }

    #[test]
    fn keys_stay_the_same_and_are_never_made_where_they_must_exist() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("keys");
        let schedule = schedule(1);
        let missing = Keyring::open(&inner, &schedule, false).err().unwrap();
        assert!(
            missing.to_string().contains("no key for bike B0"),
            "{missing}"
        );
        assert!(!inner.exists());
        let first = Keyring::open(&inner, &schedule, true).unwrap();
        let again = Keyring::open(&inner, &schedule, false).unwrap();
        let ids = |k: &Keyring| k.0.iter().map(|k| k.sensor).collect::<Vec<_>>();
        assert_eq!(ids(&first), ids(&again));
        let mode = std::fs::metadata(inner.join(KEYS_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(inner.join(KEYS_FILE), "{\"version\":2,\"keys\":{}}").unwrap();
        let version = Keyring::open(&inner, &schedule, true).err().unwrap();
        assert!(version.to_string().contains("version 2"), "{version}");
    }
}
