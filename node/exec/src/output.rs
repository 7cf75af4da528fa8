//! What comes of an execution, parsed strictly (wire-format §5).

/// Most bytes of a result.
pub const RESULT_BYTES_MAX: usize = 4096;
/// Most bytes of one sensor's detail.
pub const DETAIL_BYTES_MAX: usize = 1024;
/// Most bytes of a carry.
pub const CARRY_BYTES_MAX: usize = 1 << 20;
/// Most bytes of an input. A constant of the format: what is longer is a trap, on every node.
pub const INPUT_BYTES_MAX: usize = 32 << 20;
/// The version of the output that this crate reads.
const VERSION: u8 = 1;

/// Why a node abstains (R8): a limit of its own, never what follows from the input alone, which is a trap. The codes are part of
/// the wire format: they are the one byte of result of such an output. (5 and 6 stood for an unusable output and a long input.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Abstain {
    /// The execution used up its fuel.
    Fuel = 1,
    /// The native stack is exhausted. How deep a recursion can go depends on the engine, so this is no trap of the standard.
    Stack = 2,
    /// The host could not or would not give memory that the module may have by its own declaration.
    Memory = 3,
    /// The wall clock ran out.
    Time = 4,
    /// The engine stopped for a reason of its own.
    Engine = 7,
}

impl Abstain {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 5] = [
        Self::Fuel,
        Self::Stack,
        Self::Memory,
        Self::Time,
        Self::Engine,
    ];

    /// The byte on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl std::fmt::Display for Abstain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fuel => "the code ran for more instructions than the node allows",
            Self::Stack => "the code recursed deeper than the node's stack",
            Self::Memory => "the node could not give the memory that the code asked for",
            Self::Time => "the code ran for longer than the node allows",
            Self::Engine => "the engine stopped the code",
        })
    }
}

/// Kind of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Null: nothing is written on chain.
    Null,
    /// A value.
    Value,
    /// A trap of the WebAssembly standard, an output that cannot be used, or an input that is too long.
    Trap,
    /// No answer of this node.
    Abstain(Abstain),
}

impl Kind {
    /// The byte on the wire: 0 null, 1 value, 2 trap, 3 abstain.
    pub const fn code(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Value => 1,
            Self::Trap => 2,
            Self::Abstain(_) => 3,
        }
    }
}

/// What comes of an execution. The fields are those that the commitment covers, as wire-format §5 fixes them per kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Null, value, trap or abstain.
    pub kind: Kind,
    /// Packed result of a value; the code of the reason when abstaining; else empty.
    pub result: Vec<u8>,
    /// Packed detail, one item per sensor in agreement order, or nothing.
    pub detail: Vec<Vec<u8>>,
    /// Carry for the next execution: of a trap the one that was given, empty when abstaining.
    pub carry: Vec<u8>,
    /// The guest's digest of what it processed; zero for trap and abstain.
    pub trace: [u8; 32],
}

impl Output {
    /// A trap leaves everything as it was.
    pub(crate) fn trap(carry: &[u8]) -> Self {
        Self {
            kind: Kind::Trap,
            result: vec![],
            detail: vec![],
            carry: carry.to_vec(),
            trace: [0; 32],
        }
    }

    /// No answer.
    pub(crate) fn abstain(reason: Abstain) -> Self {
        Self {
            kind: Kind::Abstain(reason),
            result: vec![reason.code()],
            detail: vec![],
            carry: vec![],
            trace: [0; 32],
        }
    }

    /// Reads the guest's output. `None` unless every byte is as it must be: the version, a tag of 0 with an empty result or
    /// 1, no detail or one item for each of the `sensors`, all lengths within their limits, and nothing after the trace.
    pub(crate) fn parse(bytes: &[u8], sensors: u32) -> Option<Self> {
        let mut r = Reader(bytes);
        if r.u8()? != VERSION {
            return None;
        }
        let kind = match r.u8()? {
            0 => Kind::Null,
            1 => Kind::Value,
            _ => return None,
        };
        let result = r.bytes(RESULT_BYTES_MAX)?;
        if kind == Kind::Null && !result.is_empty() {
            return None;
        }
        let items = r.u32()?;
        // Each item takes four bytes at least, so the bytes that are there bound what is allocated.
        if items != 0 && items != sensors || items as usize > r.0.len() / 4 {
            return None;
        }
        let mut detail = Vec::with_capacity(items as usize);
        for _ in 0..items {
            detail.push(r.bytes(DETAIL_BYTES_MAX)?.to_vec());
        }
        let carry = r.bytes(CARRY_BYTES_MAX)?.to_vec();
        let trace = *r.0.first_chunk()?;
        (r.0.len() == trace.len()).then(|| Self {
            kind,
            result: result.to_vec(),
            detail,
            carry,
            trace,
        })
    }
}

/// The start of an input, as far as the executor has to know it: the carry, and how many sensors the window has.
pub(crate) fn carry_and_sensors(input: &[u8]) -> Option<(&[u8], u32)> {
    let mut r = Reader(input);
    let carry = r.bytes(CARRY_BYTES_MAX)?;
    // version u8, t u64, from u64, to u64 (wire-format §4)
    r.take(25)?;
    Some((carry, r.u32()?))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    fn bytes(&mut self, max: usize) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        if n > max { None } else { self.take(n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(
        tag: u8,
        result: &[u8],
        detail: &[Vec<u8>],
        carry: &[u8],
        trace: [u8; 32],
    ) -> Vec<u8> {
        let bytes = |b: &[u8]| [&(b.len() as u32).to_be_bytes()[..], b].concat();
        let mut out = vec![VERSION, tag];
        out.extend(bytes(result));
        out.extend((detail.len() as u32).to_be_bytes());
        detail.iter().for_each(|d| out.extend(bytes(d)));
        out.extend(bytes(carry));
        out.extend(trace);
        out
    }

    proptest! {
        #[test]
        fn round_trip(result: Vec<u8>, detail: Vec<Vec<u8>>, carry: Vec<u8>, trace: [u8; 32]) {
            let bytes = encode(1, &result, &detail, &carry, trace);
            let output = Output::parse(&bytes, detail.len() as u32).unwrap();
            prop_assert_eq!(output, Output { kind: Kind::Value, result, detail, carry, trace });
        }

        /// Arbitrary bytes neither panic nor give two readings: what parses encodes to the same bytes.
        #[test]
        fn injective(bytes: Vec<u8>, sensors in 0u32..4) {
            if let Some(o) = Output::parse(&bytes, sensors) {
                prop_assert_eq!(encode(o.kind.code(), &o.result, &o.detail, &o.carry, o.trace), bytes);
            }
        }

        #[test]
        fn every_cut_and_addition_is_refused(cut in 0usize..60) {
            let whole = encode(1, &[1; 12], &[vec![2; 3]], &[3; 4], [4; 32]);
            prop_assert!(Output::parse(&whole[..cut.min(whole.len() - 1)], 1).is_none());
            prop_assert!(Output::parse(&[&whole[..], &[0]].concat(), 1).is_none());
        }
    }

    #[test]
    fn bounds() {
        let trace = [0; 32];
        let of = |tag, result: usize, detail: &[usize], carry: usize, sensors| {
            let detail: Vec<_> = detail.iter().map(|n| vec![0; *n]).collect();
            Output::parse(
                &encode(tag, &vec![0; result], &detail, &vec![0; carry], trace),
                sensors,
            )
            .is_some()
        };
        assert!(of(
            1,
            RESULT_BYTES_MAX,
            &[DETAIL_BYTES_MAX, 0],
            CARRY_BYTES_MAX,
            2
        ));
        assert!(!of(1, RESULT_BYTES_MAX + 1, &[], 0, 2));
        assert!(!of(1, 0, &[DETAIL_BYTES_MAX + 1, 0], 0, 2));
        assert!(!of(1, 0, &[], CARRY_BYTES_MAX + 1, 2));
        assert!(of(0, 0, &[1, 1], 1, 2), "null with a detail and a carry");
        assert!(!of(0, 1, &[], 0, 2), "null with a result");
        assert!(!of(1, 0, &[1], 0, 2), "a detail for one of two sensors");
        assert!(
            !of(2, 0, &[], 0, 2) && !of(3, 0, &[], 0, 2),
            "a guest cannot claim a trap or abstain"
        );
    }

    #[test]
    fn start_of_the_input() {
        let input = [
            &[0, 0, 0, 2, 7, 8][..],
            &[1],
            &[0; 24],
            &[0, 0, 0, 5],
            &[9; 9],
        ]
        .concat();
        assert_eq!(carry_and_sensors(&input), Some((&[7, 8][..], 5)));
        assert_eq!(carry_and_sensors(&input[..33]), None);
    }

    #[test]
    fn codes() {
        assert_eq!(Abstain::ALL.map(Abstain::code), [1, 2, 3, 4, 7]);
        for reason in Abstain::ALL {
            assert_eq!(Abstain::from_code(reason.code()), Some(reason));
        }
        for none in [0, 5, 6, 8] {
            assert_eq!(Abstain::from_code(none), None);
        }
    }
}
