//! A flat JSON file of inputs and outputs, and deterministic keys.

use diversity_proto::ids::{Address, Deployment, PublicKey, Signature};
use k256::ecdsa::SigningKey;
use k256::ecdsa::signature::hazmat::PrehashSigner;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One vector file, either checked or, with `DIVERSITY_REGENERATE=1`, written anew.
pub struct File {
    path: PathBuf,
    regenerate: bool,
    values: Map<String, Value>,
    used: BTreeSet<String>,
}

impl File {
    pub fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("vectors")
            .join(name);
        let regenerate = std::env::var_os("DIVERSITY_REGENERATE").is_some_and(|v| v == "1");
        let values = if regenerate {
            Map::new()
        } else {
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        Self {
            path,
            regenerate,
            values,
            used: BTreeSet::new(),
        }
    }

    fn input(&mut self, key: &str, default: Value) -> Value {
        assert!(self.used.insert(key.into()), "{key} is used twice");
        if self.regenerate {
            self.values.insert(key.into(), default.clone());
            return default;
        }
        self.values
            .get(key)
            .unwrap_or_else(|| panic!("{}: no {key}", self.path.display()))
            .clone()
    }

    /// An input of any length.
    pub fn hex(&mut self, key: &str, default: &[u8]) -> Vec<u8> {
        unhex(&self.input(key, Value::String(hex(default))))
    }

    /// An input of fixed length.
    pub fn array<const N: usize>(&mut self, key: &str, default: [u8; N]) -> [u8; N] {
        self.hex(key, &default).try_into().expect("length")
    }

    /// A number, as a decimal string.
    pub fn number(&mut self, key: &str, default: u64) -> u64 {
        decimal(&self.input(key, Value::String(default.to_string())))
    }

    /// A text.
    pub fn text(&mut self, key: &str, default: &str) -> String {
        text(&self.input(key, Value::String(default.into()))).into()
    }

    /// Several inputs of any length.
    pub fn hexes<T: AsRef<[u8]>>(&mut self, key: &str, default: &[T]) -> Vec<Vec<u8>> {
        let default = default.iter().map(|x| Value::String(hex(x.as_ref())));
        list(&self.input(key, default.collect()))
            .iter()
            .map(unhex)
            .collect()
    }

    /// Several numbers.
    pub fn numbers(&mut self, key: &str, default: &[u64]) -> Vec<u64> {
        let default = default.iter().map(|x| Value::String(x.to_string()));
        list(&self.input(key, default.collect()))
            .iter()
            .map(decimal)
            .collect()
    }

    /// Several texts.
    pub fn texts(&mut self, key: &str, default: &[&str]) -> Vec<String> {
        let default = default.iter().map(|x| Value::String((*x).into()));
        list(&self.input(key, default.collect()))
            .iter()
            .map(|x| text(x).into())
            .collect()
    }

    /// What the inputs must give.
    pub fn gives(&mut self, key: &str, computed: impl AsRef<[u8]>) {
        self.output(key, Value::String(hex(computed.as_ref())));
    }

    /// Several outputs.
    pub fn gives_all<T: AsRef<[u8]>>(&mut self, key: &str, computed: &[T]) {
        let computed = computed.iter().map(|x| Value::String(hex(x.as_ref())));
        self.output(key, computed.collect());
    }

    /// A number that the inputs must give.
    pub fn gives_number(&mut self, key: &str, computed: u64) {
        self.output(key, Value::String(computed.to_string()));
    }

    fn output(&mut self, key: &str, computed: Value) {
        let found = self.input(key, computed.clone());
        assert_eq!(found, computed, "{}: {key}", self.path.display());
    }

    /// Every value in the file was used; writes it when regenerating.
    pub fn finish(self) {
        if self.regenerate {
            let mut text = serde_json::to_string_pretty(&self.values).expect("a JSON object");
            text.push('\n');
            std::fs::create_dir_all(self.path.parent().expect("a folder")).expect("folder");
            std::fs::write(&self.path, text).expect("written");
            return;
        }
        for key in self.values.keys() {
            let path = self.path.display();
            assert!(self.used.contains(key), "{path}: nothing checks {key}");
        }
    }

    /// The deployment of this file.
    pub fn deployment(&mut self) -> Deployment {
        Deployment {
            chain_id: self.number("chain_id", 31_337),
            contract: Address(self.array("contract", [0xd1; 20])),
        }
    }

    /// A key of this file; its public key and address are outputs.
    pub fn key(&mut self, name: &str, seed: u8) -> Key {
        let secret = self.array(&format!("{name}_secret"), [seed; 32]);
        let key = Key(SigningKey::from_bytes(&secret.into()).expect("a secret key"));
        self.gives(&format!("{name}_public_key"), key.public().0);
        self.gives(&format!("{name}_address"), key.address().0);
        key
    }
}

/// A signing key with RFC 6979 nonces: the same digest always gives the same signature.
pub struct Key(SigningKey);

impl Key {
    pub fn public(&self) -> PublicKey {
        let point = self.0.verifying_key().to_encoded_point(true);
        PublicKey(point.as_bytes().try_into().expect("33 bytes"))
    }
    pub fn address(&self) -> Address {
        let point = self.0.verifying_key().to_encoded_point(false);
        let hash = diversity_proto::domain::keccak_raw(&point.as_bytes()[1..]);
        Address(*hash.last_chunk().expect("32 bytes have 20"))
    }
    /// Its address as the id of a user, a sensor or a node.
    pub fn id<I: From<Address>>(&self) -> I {
        self.address().into()
    }
    /// `r || s`, low s.
    pub fn sign(&self, digest: &[u8; 32]) -> Signature {
        let signature: k256::ecdsa::Signature = self.0.sign_prehash(digest).expect("signs");
        let low = signature.normalize_s().unwrap_or(signature);
        Signature(low.to_bytes().into())
    }
    /// `r || s || v`, as wallets write it.
    pub fn sign_recoverable(&self, digest: &[u8; 32]) -> [u8; 65] {
        let (signature, id) = self.0.sign_prehash_recoverable(digest).expect("signs");
        let mut out = [0; 65];
        out[..64].copy_from_slice(&signature.to_bytes());
        out[64] = 27 + id.to_byte();
        assert_eq!(self.sign(digest).0, out[..64], "low s");
        out
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::from("0x");
    for b in bytes {
        out.push_str(&format!("{b:02x}"));
    }
    out
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = text(value).strip_prefix("0x").expect("0x").as_bytes();
    assert_eq!(digits.len() % 2, 0);
    let nibble = |c: u8| char::from(c).to_digit(16).expect("hexadecimal") as u8;
    digits
        .chunks_exact(2)
        .map(|pair| nibble(pair[0]) << 4 | nibble(pair[1]))
        .collect()
}

fn decimal(value: &Value) -> u64 {
    text(value).parse().expect("a decimal number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}
