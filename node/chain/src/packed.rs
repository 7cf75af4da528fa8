//! Users and terms as they stand in the calldata of their creation and, unchanged, in its event (wire-format §6): packed,
//! because each byte is paid for twice.

use crate::signature::SignatureError;
use diversity_proto::codec::{DecodeError, Reader};
use diversity_proto::domain::keccak_raw;
use diversity_proto::entity::NAME_BYTES_MAX;
use diversity_proto::terms::{NODES_MAX, Terms, TermsHeader, TrustedNode, USERS_MAX};
use diversity_proto::{Digest, NodeId, UserId};

/// `user 20 | name`
pub(crate) fn user(user: &UserId, name: &str) -> Vec<u8> {
    [&user.0[..], name.as_bytes()].concat()
}

/// Reads [`user`]. The contract bounds a name, but not what is in it: bytes that are no UTF-8 become U+FFFD.
pub(crate) fn read_user(data: &[u8]) -> Result<(UserId, String), DecodeError> {
    let mut r = Reader::new(data);
    let user = UserId(r.array("user")?);
    let name = r.rest();
    match name.len() {
        0 => Err(DecodeError::Truncated("name")),
        1..=NAME_BYTES_MAX => Ok((user, String::from_utf8_lossy(name).into_owned())),
        len => Err(DecodeError::TooLong {
            what: "name",
            len,
            max: NAME_BYTES_MAX,
        }),
    }
}

/// `n u8 | user 20, n times | m u8 | node 20 and trust u8, m times | sensorsRoot 32 | offChainCode 32 | conditions 32`
pub(crate) fn terms(terms: &Terms) -> Result<Vec<u8>, SignatureError> {
    let count = |what, given: usize| {
        u8::try_from(given).map_err(|_| SignatureError::TooMany { what, given })
    };
    let mut out = vec![count("users", terms.users.len())?];
    for user in &terms.users {
        out.extend_from_slice(&user.0);
    }
    out.push(count("nodes", terms.nodes.len())?);
    for n in &terms.nodes {
        out.extend_from_slice(&n.node.0);
        out.push(n.trust);
    }
    let header = terms.header();
    for digest in [
        header.sensors_root,
        header.off_chain_code,
        header.conditions,
    ] {
        out.extend_from_slice(&digest.0);
    }
    Ok(out)
}

/// What the packed terms say, and what stands behind them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PackedTerms<'a> {
    pub users: Vec<UserId>,
    pub nodes: Vec<TrustedNode>,
    pub header: TermsHeader,
    pub extra: &'a [u8],
}

/// Reads [`terms`]. Strict: what it refuses, no `MainContract` has accepted.
pub(crate) fn read_terms(data: &[u8]) -> Result<PackedTerms<'_>, DecodeError> {
    let mut r = Reader::new(data);
    let bounded = |what, len: u8, max: usize| {
        let len = usize::from(len);
        if len > max {
            return Err(DecodeError::TooLong { what, len, max });
        }
        Ok(len)
    };
    let n = bounded("users", r.u8("number of users")?, USERS_MAX)?;
    let users = (0..n)
        .map(|_| Ok(UserId(r.array("users")?)))
        .collect::<Result<Vec<_>, _>>()?;
    let m = bounded("nodes", r.u8("number of nodes")?, NODES_MAX)?;
    let nodes = (0..m)
        .map(|_| {
            Ok(TrustedNode {
                node: NodeId(r.array("nodes")?),
                trust: r.u8("trust")?,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let header = TermsHeader {
        users: words(users.iter().map(|u| &u.0[..])),
        nodes: words(nodes.iter().map(|n| &n.node.0[..])),
        trust: words(nodes.iter().map(|n| std::slice::from_ref(&n.trust))),
        sensors_root: Digest(r.array("root of the sensors")?),
        off_chain_code: Digest(r.array("digest of the module")?),
        conditions: Digest(r.array("digest of the conditions")?),
    };
    if users.len() < 2 || !users.is_sorted_by(|a, b| a < b) {
        return Err(DecodeError::Invalid(
            "users (two or more, strictly ascending)",
        ));
    }
    if nodes.is_empty() || !nodes.is_sorted_by(|a, b| a.node < b.node) {
        return Err(DecodeError::Invalid(
            "nodes (one or more, strictly ascending)",
        ));
    }
    if nodes.iter().any(|n| usize::from(n.trust) >= users.len()) {
        return Err(DecodeError::Invalid("trust (the index of a user)"));
    }
    Ok(PackedTerms {
        users,
        nodes,
        header,
        extra: r.rest(),
    })
}

/// EIP-712 hash of a list, each item in a word of its own.
fn words<'a>(items: impl Iterator<Item = &'a [u8]>) -> Digest {
    let mut out = Vec::new();
    for item in items {
        out.extend(std::iter::repeat_n(0, 32 - item.len()));
        out.extend_from_slice(item);
    }
    Digest(keccak_raw(&out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use diversity_proto::terms::{Leader, Qos, SensorStart, WindowSpec};
    use diversity_proto::{Address, SensorId};

    fn agreement() -> Terms {
        let node = |i, trust| TrustedNode {
            node: NodeId([i; 20]),
            trust,
        };
        Terms {
            title: "test".into(),
            users: vec![UserId([1; 20]), UserId([2; 20])],
            nodes: vec![node(3, 1), node(4, 0), node(5, 1)],
            sensors: vec![SensorStart {
                sensor: SensorId([6; 20]),
                q0: 7,
            }],
            off_chain_code: Digest([8; 32]),
            window: WindowSpec::Count { z: 1, slide: 1 },
            future_tolerance_s: 0,
            grace_s: 1,
            protocol: diversity_proto::terms::Protocol::Fast,
            leader: Leader::Rotating,
            flush_ms: 0,
            round_timeout_ms: 1_000,
            round_timeout_max_ms: 1_000,
            batch: 1,
            qos: Qos::None,
            result: vec![],
            detail: vec![],
            abstain_ms: 0,
        }
    }

    #[test]
    fn terms_are_read_back_as_they_were_written() {
        let t = agreement();
        let mut data = terms(&t).unwrap();
        assert_eq!(data.len(), 1 + 2 * 20 + 1 + 3 * 21 + 96);
        data.extend_from_slice(b"extra");
        let read = read_terms(&data).unwrap();
        assert_eq!((read.users, read.nodes), (t.users.clone(), t.nodes.clone()));
        assert_eq!(read.header, t.header());
        assert_eq!(read.extra, b"extra");
    }

    #[test]
    fn cut_terms_are_refused_wherever_they_are_cut() {
        let data = terms(&agreement()).unwrap();
        for cut in 0..data.len() {
            let error = read_terms(&data[..cut]).unwrap_err();
            assert!(matches!(error, DecodeError::Truncated(_)), "{cut}: {error}");
        }
        assert_eq!(read_terms(&data).unwrap().extra, b"");
    }

    #[test]
    fn terms_that_the_contract_refuses_are_refused_here() {
        let bad = |change: fn(&mut Terms)| {
            let mut t = agreement();
            change(&mut t);
            read_terms(&terms(&t).unwrap()).unwrap_err().to_string()
        };
        assert!(bad(|t| t.users.truncate(1)).contains("users"));
        assert!(bad(|t| t.users.reverse()).contains("users"));
        assert!(bad(|t| t.users[1] = t.users[0]).contains("users"));
        assert!(bad(|t| t.nodes.clear()).contains("nodes"));
        assert!(bad(|t| t.nodes.swap(0, 1)).contains("nodes"));
        assert!(bad(|t| t.nodes[1] = t.nodes[0]).contains("nodes"));
        assert!(bad(|t| t.nodes[2].trust = 2).contains("trust"));
    }

    #[test]
    fn more_parties_than_a_byte_can_count_are_refused() {
        let mut t = agreement();
        t.users = (0..=255).map(|i| UserId([i; 20])).collect();
        assert_eq!(
            terms(&t),
            Err(SignatureError::TooMany {
                what: "users",
                given: 256
            })
        );
    }

    /// The packed form has no lengths of its own for them: one too few would shift everything behind it.
    #[test]
    fn another_number_of_signatures_than_users_is_refused() {
        use crate::calls::{AgreementKey, create_agreement};
        let d = diversity_proto::Deployment {
            chain_id: 1,
            contract: Address([0xcc; 20]),
        };
        let key = AgreementKey {
            agreement: diversity_proto::AgreementId([1; 32]),
            aggregate: [2; 32],
            y: [3; 32],
        };
        let signature = crate::EvmSignature::new(&[1; 64], false).unwrap();
        let refused = |signatures: usize| {
            let signatures = vec![signature; signatures];
            create_agreement(&d, &key, &agreement(), &signatures, &[]).unwrap_err()
        };
        for (given, text) in [
            (1, "1 signatures of users, but 2 users"),
            (3, "3 signatures of users, but 2 users"),
            (2, "0 acceptances, but 2 users"),
        ] {
            let error = refused(given).to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_user_is_read_back_and_a_name_is_wanted() {
        let id = UserId([9; 20]);
        let data = user(&id, "Bike hire");
        assert_eq!(read_user(&data), Ok((id, "Bike hire".into())));
        for cut in 0..20 {
            assert_eq!(read_user(&data[..cut]), Err(DecodeError::Truncated("user")));
        }
        assert_eq!(read_user(&data[..20]), Err(DecodeError::Truncated("name")));
        assert!(read_user(&user(&id, &"n".repeat(64))).is_ok());
        assert!(read_user(&user(&id, &"n".repeat(65))).is_err());
        let (_, name) = read_user(&[&id.0[..], &[0xff]].concat()).unwrap();
        assert_eq!(name, "\u{fffd}");
    }
}
