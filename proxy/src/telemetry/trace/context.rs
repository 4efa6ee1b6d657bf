//! The `traceparent` header.

use crate::telemetry::ids::{Random, hex};
use http::HeaderValue;

/// Bytes of `00-<32>-<16>-<2>`.
const LENGTH: usize = 55;
const SAMPLED: u64 = 1;

/// Names a trace; never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// Names a span in its trace; never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

impl TraceId {
    pub(crate) fn new(random: &mut Random) -> TraceId {
        // The low half decides on sampling and must be random; it is also what keeps the whole from being zero.
        TraceId(u128::from(random.bits()) << 64 | u128::from(random.bits().max(1)))
    }

    pub fn bits(self) -> u128 {
        self.0
    }

    /// Lower-case hexadecimal, as in the header.
    pub fn hex(self) -> [u8; 32] {
        let mut digits = [0; 32];
        digits[..16].copy_from_slice(&hex((self.0 >> 64) as u64));
        digits[16..].copy_from_slice(&hex(self.0 as u64));
        digits
    }
}

impl SpanId {
    pub(crate) fn new(random: &mut Random) -> SpanId {
        SpanId(random.bits().max(1))
    }

    pub fn bits(self) -> u64 {
        self.0
    }
}

/// Where one request stands in its trace, seen from this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    /// What the upstream is told to be its parent: this proxy's own span when it is recorded.
    pub span_id: SpanId,
    /// The caller's span. Absent where the trace began here.
    pub parent: Option<SpanId>,
    /// Whether whoever made `span_id` may have recorded it.
    pub sampled: bool,
    /// Whether this proxy records a span.
    pub recorded: bool,
}

impl TraceContext {
    /// The header that says this to the upstream.
    pub fn traceparent(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.trace_id.hex());
        text[36..52].copy_from_slice(&hex(self.span_id.0));
        text[54] = b'0' + u8::from(self.sampled);
        HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are a header value")
    }
}

/// What a caller's `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) trace_id: TraceId,
    pub(crate) parent: SpanId,
    pub(crate) sampled: bool,
}

impl Incoming {
    /// As strict as the specification asks: lower case only, no zero ids, never version `ff`; a version that
    /// is not yet known may be longer, after one more dash.
    pub(crate) fn parse(header: &[u8]) -> Option<Incoming> {
        let (fixed, rest) = header.split_at_checked(LENGTH)?;
        if [fixed[2], fixed[35], fixed[52]] != [b'-'; 3] {
            return None;
        }
        match number(&fixed[0..2])? {
            0xff => return None,
            0 if !rest.is_empty() => return None,
            _ if !rest.is_empty() && rest[0] != b'-' => return None,
            _ => {}
        }
        let trace_id = u128::from(number(&fixed[3..19])?) << 64 | u128::from(number(&fixed[19..35])?);
        let parent = number(&fixed[36..52])?;
        let flags = number(&fixed[53..55])?;
        let valid = trace_id != 0 && parent != 0;
        let sampled = flags & SAMPLED != 0;
        valid.then_some(Incoming { trace_id: TraceId(trace_id), parent: SpanId(parent), sampled })
    }
}

/// Up to 16 lower-case hexadecimal digits.
fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0;
    let mut all = 0;
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        all |= value;
        number = number << 4 | u64::from(value & 0xf);
    }
    (all & NO_DIGIT == 0).then_some(number)
}

const NO_DIGIT: u8 = 0x80;

/// What each byte is worth as a digit.
const VALUES: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    table
};
