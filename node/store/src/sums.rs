//! What notices a record that is missing: for each family of keys (their first byte) how many records there are and a sum over
//! their checksums. The sums change with every batch, and a scan of all records must give them again.
//!
//! ```text
//! stored value = value | crc32 of key length u32, key and value u32
//! mark         = 1 u8 | turn u64 | position u64 | families u16 | for each: family u8, count u64, sum u64 | crc32 of all before u32
//! ```

use std::collections::BTreeMap;

const CRC: usize = 4;
const VERSION: u8 = 1;

/// The checksum that stands behind a stored value.
fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&(key.len() as u32).to_be_bytes());
    crc.update(key);
    crc.update(value);
    crc.finalize()
}

/// A value as it is stored.
pub(crate) fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let crc = checksum(key, &value);
    value.extend_from_slice(&crc.to_be_bytes());
    value
}

/// The value in what is stored; nothing if it was changed on the disk.
pub(crate) fn unseal<'a>(key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (value, crc) = stored.split_at_checked(stored.len().checked_sub(CRC)?)?;
    (checksum(key, value).to_be_bytes() == crc).then_some(value)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    sum: u64,
}

/// The sums of all families. Equal sets of records have equal sums, whatever came and went before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums(BTreeMap<u8, Sum>);

impl Sums {
    /// A record that came.
    pub fn add(&mut self, key: &[u8], stored: &[u8]) {
        let sum = self.0.entry(family(key)).or_default();
        sum.count = sum.count.wrapping_add(1);
        sum.sum = sum.sum.wrapping_add(mix(key, stored));
    }

    /// A record that went.
    pub fn remove(&mut self, key: &[u8], stored: &[u8]) {
        let sum = self.0.entry(family(key)).or_default();
        sum.count = sum.count.wrapping_sub(1);
        sum.sum = sum.sum.wrapping_sub(mix(key, stored));
        if *sum == Sum::default() {
            self.0.remove(&family(key));
        }
    }

    /// Whether the records of these families are those of `other`.
    pub fn agree_on(&self, other: &Self, families: &[u8]) -> bool {
        families.iter().all(|f| self.0.get(f) == other.0.get(f))
    }

    /// In words, how these records differ from those that should be there.
    pub fn difference(&self, wanted: &Self) -> String {
        let families = self.0.keys().chain(wanted.0.keys());
        let mut differing: Vec<u8> = families
            .filter(|f| self.0.get(f) != wanted.0.get(f))
            .copied()
            .collect();
        differing.sort_unstable();
        differing.dedup();
        let count = |sums: &Self, f: &u8| sums.0.get(f).map_or(0, |s| s.count);
        let words: Vec<_> = differing
            .iter()
            .map(|f| {
                format!(
                    "of the records {} it holds {} and should hold {}",
                    char::from(*f).escape_default(),
                    count(self, f),
                    count(wanted, f)
                )
            })
            .collect();
        words.join("; ")
    }
}

fn family(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or_default()
}

/// The checksum covers key and value; it is spread, so that sums of several records do not cancel out (splitmix64).
fn mix(key: &[u8], stored: &[u8]) -> u64 {
    let crc = stored
        .split_at_checked(stored.len().saturating_sub(CRC))
        .and_then(|(_, crc)| crc.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    let length = (stored.len() as u64) << 11 ^ key.len() as u64;
    let mut x = (u64::from(crc) << 32 ^ length).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The sums as they are stored: right before each batch, those behind it. So one of the last two marks is that of what is there,
/// wherever a crash has cut the engine's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Grows with every mark.
    pub turn: u64,
    /// Number of the journal's batches up to which all are in it.
    pub position: u64,
    /// Of the records behind the batch.
    pub sums: Sums,
}

impl Mark {
    /// Its key: two take turns.
    pub fn key(&self) -> [u8; 1] {
        [(self.turn % 2) as u8]
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.turn.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        out.extend_from_slice(&(self.sums.0.len() as u16).to_be_bytes());
        for (family, sum) in &self.sums.0 {
            out.push(*family);
            out.extend_from_slice(&sum.count.to_be_bytes());
            out.extend_from_slice(&sum.sum.to_be_bytes());
        }
        seal(b"mark", out)
    }

    pub fn decode(stored: &[u8]) -> Option<Self> {
        let mut rest = unseal(b"mark", stored)?;
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(head)
        };
        let u64_of = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_be_bytes);
        if take(1)? != [VERSION] {
            return None;
        }
        let (turn, position) = (u64_of(take(8)?)?, u64_of(take(8)?)?);
        let families = u16::from_be_bytes(take(2)?.try_into().ok()?);
        let mut sums = BTreeMap::new();
        for _ in 0..families {
            let family = take(1)?[0];
            let (count, sum) = (u64_of(take(8)?)?, u64_of(take(8)?)?);
            sums.insert(family, Sum { count, sum });
        }
        Some(Self {
            turn,
            position,
            sums: Sums(sums),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_depend_on_what_is_there_and_on_nothing_else() {
        let (mut one, mut other) = (Sums::default(), Sums::default());
        let stored = |key: &[u8], value: &[u8]| seal(key, value.to_vec());
        one.add(b"a1", &stored(b"a1", b"x"));
        one.add(b"b1", &stored(b"b1", b"y"));
        other.add(b"b1", &stored(b"b1", b"old"));
        other.add(b"a1", &stored(b"a1", b"x"));
        other.add(b"c1", &stored(b"c1", b"z"));
        assert!(one.agree_on(&other, b"a") && !one.agree_on(&other, b"ab"));
        let words = other.difference(&one);
        assert!(
            words.contains("records c it holds 1 and should hold 0"),
            "{words}"
        );
        other.remove(b"b1", &stored(b"b1", b"old"));
        other.add(b"b1", &stored(b"b1", b"y"));
        other.remove(b"c1", &stored(b"c1", b"z"));
        assert_eq!(one, other);
        // A value under the key of another is none.
        assert_eq!(unseal(b"a1", &stored(b"a1", b"x")), Some(&b"x"[..]));
        assert_eq!(unseal(b"a2", &stored(b"a1", b"x")), None);
        assert_eq!(unseal(b"a1", b"abc"), None);
    }

    #[test]
    fn a_mark_with_any_bit_flipped_is_none() {
        let mut mark = Mark {
            turn: 7,
            position: 99,
            ..Mark::default()
        };
        mark.sums.add(b"a", &seal(b"a", vec![1]));
        let good = mark.encode();
        assert_eq!(Mark::decode(&good), Some(mark));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&bad), None, "bit {bit}");
        }
    }
}
