//! Secrets in files: Web3 Secret Storage version 3, as Ethereum wallets read and write it.
//!
//! A file is AES-128-CTR under a key that scrypt makes of a password, with a Keccak MAC. Written with mode 0600. When a
//! file is read its size and the parameters of its key derivation are capped, so that a hostile file costs neither
//! memory nor minutes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::Hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use sha3::{Digest, Keccak256};
use zeroize::Zeroizing;

use crate::{KeyError, SecretKey, os_random};

/// The greatest keystore file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 16 * 1024;
/// The most memory that scrypt may take when a file is read, in bytes. The standard cost takes half of it.
pub const SCRYPT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The most work that scrypt may take when a file is read: `N * r * p`. Four times the standard cost.
pub const SCRYPT_WORK_MAX: u64 = 1 << 23;
/// The most PBKDF2 iterations when a file is read.
pub const PBKDF2_ITERATIONS_MAX: u32 = 10_000_000;

/// How hard a password is to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cost {
    /// scrypt with N = 2^18, r = 8, p = 1: about a second and 256 MiB. The default, for every key that guards anything.
    #[default]
    Standard,
    /// scrypt with N = 2^12: some milliseconds and 4 MiB. For tests and for the generated keys of a local devnet.
    Light,
}

impl Cost {
    fn log_n(self) -> u8 {
        match self {
            Cost::Standard => 18,
            Cost::Light => 12,
        }
    }
}

/// What can go wrong with a keystore file.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Reading or writing failed.
    #[error("cannot {action} the keystore file {}: {source}", path.display())]
    File {
        /// "read" or "write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A keystore is never overwritten.
    #[error("there is a keystore file at {} already: choose another name, or move that one away", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file is larger than any keystore.
    #[error(
        "the keystore is larger than {FILE_BYTES_MAX} bytes, so it is something else: check the path"
    )]
    TooLarge,
    /// Not the JSON of a keystore.
    #[error("this is not a Web3 Secret Storage file ({reason}): check the path")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// A version, cipher or key derivation that this program does not know.
    #[error(
        "the keystore uses {what}, and this program reads version 3 with aes-128-ctr and scrypt or pbkdf2: convert it with the wallet that made it"
    )]
    Unsupported {
        /// What is unknown.
        what: String,
    },
    /// Parameters beyond the caps.
    #[error(
        "the keystore demands a key derivation beyond what is allowed ({what}): it is hostile or broken; encrypt the key anew"
    )]
    TooCostly {
        /// Which parameters.
        what: String,
    },
    /// The MAC does not match.
    #[error("the password is wrong, or the keystore file was changed")]
    Password,
    /// The file names another address than its key has.
    #[error(
        "the keystore names an address that its key does not have: the file was put together wrongly"
    )]
    Address,
    /// No randomness for salt and nonce.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// As it is written.
#[derive(Serialize)]
struct Keystore {
    crypto: Crypto,
    id: String,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

/// What is read of one: an id says nothing, and an address need not be there.
#[derive(Deserialize)]
struct Found {
    crypto: Crypto,
    version: u32,
    #[serde(default)]
    address: Option<String>,
}

impl Found {
    fn parse(json: &str) -> Result<Self, KeystoreError> {
        if json.len() as u64 > FILE_BYTES_MAX {
            return Err(KeystoreError::TooLarge);
        }
        let json = json.strip_prefix('\u{feff}').unwrap_or(json);
        let value = serde_json::from_str(json).map_err(|error| malformed(&error))?;
        serde_json::from_value(lower_case(value)?).map_err(|error| malformed(&error))
    }

    fn address(&self) -> Result<Option<[u8; 20]>, KeystoreError> {
        let text = self.address.as_deref().filter(|text| !text.is_empty());
        text.map(|text| from_hex(text, "address")).transpose()
    }
}

/// Names in lower case, since other tools tell `Crypto` and `crypto` no more apart; whoever says one thing twice says it alike.
fn lower_case(value: Value) -> Result<Value, KeystoreError> {
    let Value::Object(fields) = value else {
        return Ok(value);
    };
    let mut out = serde_json::Map::new();
    for (name, value) in fields {
        let (name, value) = (name.to_ascii_lowercase(), lower_case(value)?);
        match out.insert(name.clone(), value) {
            Some(other) if other != out[&name] => {
                return Err(KeystoreError::Malformed {
                    reason: format!("it says {} twice, and not the same", shown(&name)),
                });
            }
            _ => {}
        }
    }
    Ok(Value::Object(out))
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

/// The parameters of both derivations; which ones must be there depends on `kdf`.
#[derive(Serialize, Deserialize, Default)]
struct KdfParams {
    dklen: u32,
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prf: Option<String>,
}

/// Encrypts a 32-byte secret; gives the text of the file. `address` stands in the clear beside it (leave it out for
/// secrets that are not account keys). `randomness` is salt, nonce and file id: 64 fresh bytes for every call.
pub fn seal(
    secret: &[u8; 32],
    address: Option<&[u8; 20]>,
    password: &[u8],
    cost: Cost,
    randomness: &[u8; 64],
) -> String {
    let (salt, rest) = randomness.split_at(32);
    let (iv, id) = rest.split_at(16);
    let key = scrypt_key(password, salt, cost.log_n(), 8, 1);
    let mut ciphertext = *secret;
    apply_cipher(&key, iv, &mut ciphertext);
    let keystore = Keystore {
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: to_hex(iv) },
            ciphertext: to_hex(&ciphertext),
            kdf: "scrypt".into(),
            kdfparams: KdfParams {
                dklen: 32,
                salt: to_hex(salt),
                n: Some(1 << cost.log_n()),
                r: Some(8),
                p: Some(1),
                ..KdfParams::default()
            },
            mac: to_hex(&mac(&key, &ciphertext)),
        },
        id: uuid(id),
        version: 3,
        address: address.map(|address| to_hex(address)),
    };
    serde_json::to_string_pretty(&keystore).expect("strings and numbers always serialise")
}

/// Decrypts the text of a keystore file.
///
/// # Errors
/// [`KeystoreError`]; a wrong password is told from a malformed file.
pub fn open(json: &str, password: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let keystore = Found::parse(json)?;
    if keystore.version != 3 {
        return Err(unsupported(format!("version {}", keystore.version)));
    }
    let crypto = &keystore.crypto;
    if crypto.cipher != "aes-128-ctr" {
        return Err(unsupported(format!("the cipher {}", shown(&crypto.cipher))));
    }
    let iv: [u8; 16] = from_hex(&crypto.cipherparams.iv, "iv")?;
    let mut secret = Zeroizing::new(from_hex::<32>(&crypto.ciphertext, "ciphertext")?);
    let expected: [u8; 32] = from_hex(&crypto.mac, "mac")?;
    let key = derive_key(crypto, password)?;
    let difference = mac(&key, secret.as_slice())
        .iter()
        .zip(expected)
        .fold(0u8, |sum, (a, b)| sum | (a ^ b));
    if difference != 0 {
        return Err(KeystoreError::Password);
    }
    apply_cipher(&key, &iv, secret.as_mut_slice());
    if let Some(address) = keystore.address()?
        && SecretKey::from_bytes(&secret)?.address() != address
    {
        return Err(KeystoreError::Address);
    }
    Ok(secret)
}

/// The address that a keystore names in the clear; nothing if it names none.
///
/// # Errors
/// [`KeystoreError`] if it is none.
pub fn named_address(json: &str) -> Result<Option<[u8; 20]>, KeystoreError> {
    Found::parse(json)?.address()
}

/// Writes a new keystore file with mode 0600, durably, and never over an existing one.
///
/// # Errors
/// [`KeystoreError::Exists`], [`KeystoreError::File`], or no randomness.
pub fn write(
    path: &Path,
    secret: &[u8; 32],
    address: Option<&[u8; 20]>,
    password: &[u8],
    cost: Cost,
) -> Result<(), KeystoreError> {
    if path.exists() {
        return Err(KeystoreError::Exists { path: path.into() });
    }
    let json = seal(secret, address, password, cost, &os_random()?);
    let new = path.with_extension("new");
    let written = write_durably(&new, &json)
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| File::open(parent(path))?.sync_all());
    written.map_err(|source| KeystoreError::File {
        action: "write",
        path: path.into(),
        source,
    })
}

/// Reads and decrypts a keystore file.
///
/// # Errors
/// [`KeystoreError`].
pub fn read(path: &Path, password: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    open(&read_text(path)?, password)
}

/// The text of a keystore file; of a longer file a part that is too long.
///
/// # Errors
/// [`KeystoreError::File`].
pub fn read_text(path: &Path) -> Result<String, KeystoreError> {
    let mut json = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut json))
        .map_err(|source| KeystoreError::File {
            action: "read",
            path: path.into(),
            source,
        })?;
    Ok(json)
}

fn write_durably(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn derive_key(crypto: &Crypto, password: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let params = &crypto.kdfparams;
    if params.dklen != 32 {
        return Err(unsupported(format!(
            "a derived key of {} bytes",
            params.dklen
        )));
    }
    let salt = from_hex_any(&params.salt, "salt")?;
    let missing = |name: &str| KeystoreError::Malformed {
        reason: format!("kdfparams has no {name}"),
    };
    match crypto.kdf.as_str() {
        "scrypt" => {
            let n = params.n.ok_or_else(|| missing("n"))?;
            let r = params.r.ok_or_else(|| missing("r"))?;
            let p = params.p.ok_or_else(|| missing("p"))?;
            let log_n = check_scrypt(n, r, p)?;
            Ok(scrypt_key(password, &salt, log_n, r, p))
        }
        "pbkdf2" => {
            let c = params.c.ok_or_else(|| missing("c"))?;
            let prf = params.prf.as_deref().ok_or_else(|| missing("prf"))?;
            if prf != "hmac-sha256" {
                return Err(unsupported(format!("pbkdf2 with {}", shown(prf))));
            }
            if c == 0 || c > PBKDF2_ITERATIONS_MAX {
                return Err(KeystoreError::TooCostly {
                    what: format!("{c} iterations of pbkdf2"),
                });
            }
            let mut key = Zeroizing::new([0u8; 32]);
            pbkdf2::pbkdf2::<Hmac<Sha256>>(password, &salt, c, key.as_mut_slice());
            Ok(key)
        }
        other => Err(unsupported(format!("the key derivation {}", shown(other)))),
    }
}

/// Checks scrypt's parameters before any of its memory is taken; gives log2 N.
fn check_scrypt(n: u64, r: u32, p: u32) -> Result<u8, KeystoreError> {
    let too_costly = || KeystoreError::TooCostly {
        what: format!("scrypt with n = {n}, r = {r}, p = {p}"),
    };
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
        return Err(too_costly());
    }
    let block = n.checked_mul(u64::from(r)).ok_or_else(too_costly)?;
    let bytes = block.checked_mul(128).ok_or_else(too_costly)?;
    let work = block.checked_mul(u64::from(p)).ok_or_else(too_costly)?;
    if bytes > SCRYPT_BYTES_MAX || work > SCRYPT_WORK_MAX {
        return Err(too_costly());
    }
    let log_n = n.trailing_zeros() as u8;
    // RFC 7914: N < 2^(128 r / 8).
    if u32::from(log_n) >= r.saturating_mul(16) {
        return Err(unsupported(format!(
            "scrypt with n = {n} and r = {r}, which RFC 7914 excludes"
        )));
    }
    Ok(log_n)
}

fn scrypt_key(password: &[u8], salt: &[u8], log_n: u8, r: u32, p: u32) -> Zeroizing<[u8; 32]> {
    let params = scrypt::Params::new(log_n, r, p).expect("the parameters were checked");
    let mut key = Zeroizing::new([0u8; 32]);
    scrypt::scrypt(password, salt, &params, key.as_mut_slice())
        .expect("32 bytes are a legal length");
    key
}

fn mac(key: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    Keccak256::new()
        .chain_update(&key[16..])
        .chain_update(ciphertext)
        .finalize()
        .into()
}

fn apply_cipher(key: &[u8; 32], iv: &[u8], bytes: &mut [u8]) {
    ctr::Ctr128BE::<aes::Aes128>::new_from_slices(&key[..16], iv)
        .expect("16 and 16 bytes")
        .apply_keystream(bytes);
}

/// A version 4 UUID of 16 random bytes (RFC 9562).
fn uuid(random: &[u8]) -> String {
    let mut bytes: [u8; 16] = random.try_into().expect("16 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = to_hex(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn from_hex<const N: usize>(text: &str, name: &str) -> Result<[u8; N], KeystoreError> {
    from_hex_any(text, name)?
        .try_into()
        .map_err(|bytes: Vec<u8>| KeystoreError::Malformed {
            reason: format!("{name} has {} bytes instead of {N}", bytes.len()),
        })
}

/// Hex with or without `0x`; the length is bounded by that of the file.
fn from_hex_any(text: &str, name: &str) -> Result<Vec<u8>, KeystoreError> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let not_hex = || KeystoreError::Malformed {
        reason: format!("{name} is not hexadecimal"),
    };
    if !digits.len().is_multiple_of(2) {
        return Err(not_hex());
    }
    digits
        .chunks_exact(2)
        .map(|pair| {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            u8::try_from(high << 4 | low).ok()
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(not_hex)
}

fn malformed(error: &serde_json::Error) -> KeystoreError {
    KeystoreError::Malformed {
        reason: error.to_string(),
    }
}

fn unsupported(what: String) -> KeystoreError {
    KeystoreError::Unsupported { what }
}

/// A short, printable form of text from a file, for an error message.
fn shown(text: &str) -> String {
    text.chars()
        .take(32)
        .flat_map(char::escape_default)
        .collect()
}

#[cfg(test)]
#[path = "keystore_tests.rs"]
mod tests;
