//! Packed results and details (wire-format §5), decoded by the field names of the terms.

use crate::hexed;
use diversity_proto::terms::{Field, abi_width};
use serde_json::{Map, Value};

/// Names that stand beside the fields of a result or a detail in JSON; terms must not use them.
pub const RESERVED: &[&str] = &[
    "t",
    "from",
    "to",
    "kind",
    "sensors",
    "sensor",
    "label",
    "window_hash",
    "tx",
    "gas_used",
    "outcomes",
    "said_by",
];

/// Why bytes are not the fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbiError {
    /// Not a static elementary type.
    #[error("field {name} has type {ty}, which is not bool, uintN, intN, bytesN or address")]
    Type {
        /// Field.
        name: String,
        /// Its type.
        ty: String,
    },
    /// The fields take another number of bytes.
    #[error(
        "the fields take {expected} bytes, but there are {found}: the module does not give what the terms name"
    )]
    Length {
        /// By the terms.
        expected: usize,
        /// Given.
        found: usize,
    },
}

/// Whether terms may name a field so.
pub fn usable_name(name: &str) -> bool {
    !name.is_empty() && !RESERVED.contains(&name)
}

/// The fields as JSON: numbers where they fit 64 bits, else decimal strings; `bytesN` and addresses as hexadecimal. A field
/// with a reserved name (the terms came from elsewhere) gets an underscore behind it.
///
/// # Errors
/// [`AbiError`].
pub fn decode_packed(fields: &[Field], bytes: &[u8]) -> Result<Map<String, Value>, AbiError> {
    let widths = fields
        .iter()
        .map(|f| {
            abi_width(&f.ty).ok_or_else(|| AbiError::Type {
                name: f.name.clone(),
                ty: f.ty.clone(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let expected = widths.iter().sum();
    if bytes.len() != expected {
        return Err(AbiError::Length {
            expected,
            found: bytes.len(),
        });
    }
    let mut rest = bytes;
    let mut out = Map::new();
    for (field, width) in fields.iter().zip(widths) {
        let (value, tail) = rest.split_at(width);
        rest = tail;
        let mut name = field.name.clone();
        if !usable_name(&name) {
            name.push('_');
        }
        out.insert(name, decode_one(&field.ty, value));
    }
    Ok(out)
}

fn decode_one(ty: &str, bytes: &[u8]) -> Value {
    if ty == "bool" {
        return Value::Bool(bytes[0] != 0);
    }
    if ty.starts_with("uint") {
        return unsigned(bytes);
    }
    if ty.starts_with("int") {
        let negative = bytes[0] & 0x80 != 0;
        if !negative {
            return unsigned(bytes);
        }
        let magnitude = negate(bytes);
        return match small(&magnitude) {
            Some(v) if v <= 1 << 63 => Value::from((v as i64).wrapping_neg()),
            _ => Value::String(format!("-{}", decimal(&magnitude))),
        };
    }
    Value::String(hexed::encode(bytes))
}

fn unsigned(bytes: &[u8]) -> Value {
    match small(bytes) {
        Some(v) => Value::from(v),
        None => Value::String(decimal(bytes)),
    }
}

/// The value, if it fits 64 bits.
fn small(bytes: &[u8]) -> Option<u64> {
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
    high.iter()
        .all(|b| *b == 0)
        .then(|| low.iter().fold(0, |v, b| v << 8 | u64::from(*b)))
}

/// Two's complement.
fn negate(bytes: &[u8]) -> Vec<u8> {
    let mut carry = true;
    let mut out: Vec<u8> = bytes
        .iter()
        .rev()
        .map(|b| {
            let (v, overflow) = (!b).overflowing_add(u8::from(carry));
            carry = overflow;
            v
        })
        .collect();
    out.reverse();
    out
}

/// Decimal digits of a big-endian integer, by repeated division by ten.
fn decimal(bytes: &[u8]) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::new();
    while number.iter().any(|b| *b != 0) {
        let mut remainder = 0u16;
        for b in &mut number {
            let v = remainder << 8 | u16::from(*b);
            *b = (v / 10) as u8;
            remainder = v % 10;
        }
        digits.push(char::from(b'0' + remainder as u8));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(name: &str, ty: &str) -> Field {
        Field {
            name: name.into(),
            ty: ty.into(),
        }
    }

    fn one(ty: &str, bytes: &[u8]) -> Value {
        decode_packed(&[field("x", ty)], bytes).unwrap()["x"].clone()
    }

    #[test]
    fn every_type_has_its_json() {
        assert_eq!(one("bool", &[1]), json!(true));
        assert_eq!(one("uint8", &[255]), json!(255));
        assert_eq!(one("uint64", &[255; 8]), json!(u64::MAX));
        assert_eq!(
            one("uint72", &[0, 255, 255, 255, 255, 255, 255, 255, 255]),
            json!(u64::MAX)
        );
        assert_eq!(
            one("uint72", &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
            json!("18446744073709551616")
        );
        let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert_eq!(one("uint256", &[255; 32]), json!(max));
        assert_eq!(one("int16", &[0xff, 0x85]), json!(-123));
        assert_eq!(one("int64", &[0x80, 0, 0, 0, 0, 0, 0, 0]), json!(i64::MIN));
        assert_eq!(one("int256", &[255; 32]), json!(-1));
        assert_eq!(
            one("int72", &[0x80, 0, 0, 0, 0, 0, 0, 0, 0]),
            json!("-2361183241434822606848")
        );
        assert_eq!(one("bytes3", &[1, 2, 0xab]), json!("0x0102ab"));
        assert_eq!(one("address", &[7; 20]), json!(hexed::encode(&[7; 20])));
    }

    #[test]
    fn fields_follow_one_another_and_reserved_names_step_aside() {
        let fields = [
            field("total_seconds", "uint64"),
            field("trips", "uint32"),
            field("t", "bool"),
        ];
        let found = decode_packed(&fields, &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9, 0]).unwrap();
        assert_eq!(
            Value::Object(found),
            json!({"total_seconds": 256, "trips": 9, "t_": false})
        );
        let short = decode_packed(&fields, &[0; 12]);
        assert_eq!(
            short,
            Err(AbiError::Length {
                expected: 13,
                found: 12
            })
        );
        assert!(decode_packed(&[field("x", "string")], &[]).is_err());
    }
}
