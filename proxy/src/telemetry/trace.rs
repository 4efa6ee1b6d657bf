//! Traces: which requests, over all hops, were one.
//!
//! The context travels in the W3C `traceparent` header (Trace Context, level 1). A proxy that
//! records adds a span of its own between its caller and its upstream; one that does not record hands the
//! context on as it came, since nobody would ever find a parent that was not recorded. Where there is no
//! context, or one that cannot be read, a new trace begins, so that the access logs of all hops
//! share one trace id even when nobody records.
//!
//! Without a collector this costs a look at one header.

mod context;

pub use context::{SpanId, TraceContext, TraceId};
pub use opentelemetry::trace::SpanKind;

use super::ids::Random;
use context::Incoming;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How many of the traces that begin here are recorded, when there is somebody to record them for.
/// Callers that have decided are obeyed (parent-based sampling).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Traces whose id, in its low 56 bits, is below this (as OpenTelemetry's `TraceIdRatioBased`).
    below: u64,
}

impl Sampling {
    pub const ALL: Sampling = Sampling { below: 1 << 56 };

    /// A share from 0 to 1; what is outside is the nearer of the two.
    pub fn ratio(share: f64) -> Sampling {
        Sampling { below: (share.clamp(0.0, 1.0) * (1u64 << 56) as f64) as u64 }
    }

    fn takes(self, trace_id: TraceId) -> bool {
        (trace_id.bits() as u64 & ((1 << 56) - 1)) < self.below
    }
}

/// Finds or begins the trace of a request, and tells the upstream through `headers`. `recording`: how to
/// sample, when there is a collector.
pub fn propagate(headers: &mut HeaderMap, recording: Option<Sampling>, random: &mut Random) -> TraceContext {
    let incoming = incoming(headers);
    if let Some(Incoming { trace_id, parent, sampled }) = incoming
        && (recording.is_none() || !sampled)
    {
        return TraceContext { trace_id, span_id: parent, parent: Some(parent), sampled, recorded: false };
    }
    let context = match incoming {
        Some(Incoming { trace_id, parent, .. }) => {
            let span_id = SpanId::new(random);
            TraceContext { trace_id, span_id, parent: Some(parent), sampled: true, recorded: true }
        }
        None => begin(recording, random),
    };
    headers.insert(TRACEPARENT, context.traceparent());
    if incoming.is_none() {
        // It belongs to a trace that we could not read.
        headers.remove(TRACESTATE);
    }
    context
}

/// The caller's context, if there is exactly one and it can be read.
fn incoming(headers: &HeaderMap) -> Option<Incoming> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let first = all.next().map(HeaderValue::as_bytes)?;
    Incoming::parse(first).filter(|_| all.next().is_none())
}

fn begin(recording: Option<Sampling>, random: &mut Random) -> TraceContext {
    let trace_id = TraceId::new(random);
    let recorded = recording.is_some_and(|sampling| sampling.takes(trace_id));
    TraceContext { trace_id, span_id: SpanId::new(random), parent: None, sampled: recorded, recorded }
}
