//! What a data plane says about its traffic: counters, the access log, traces.
//!
//! All of it is written on the request's own thread, so all of it must cost next to nothing there:
//! counters are resolved before they are needed and have one writer each, a log line is bytes
//! appended to a buffer of its worker, a span is built only when somebody will see it. Whatever may
//! block (a disk, a collector, a scraper) is behind a bounded queue on another thread, and what does
//! not fit is counted and let go.

pub mod flags;
pub mod ids;
pub mod metrics;
pub mod otlp;
pub mod record;
pub mod trace;

use crate::settings::Settings;
use http::{HeaderMap, HeaderValue};
use ids::Random;
use metrics::{Kind, Metrics, WorkerMetrics};
use otlp::{Exporter, SpanSender};
use record::{AccessLogger, LogWriter, Record};
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use trace::{Sampling, SpanKind, TraceContext};

/// The telemetry of one data plane. What is queued is written when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    pub metrics: Arc<Metrics>,
    pub access_log: Option<AccessLogger>,
    pub traces: Option<Exporter>,
    /// Of the traces that begin here; all, unless set before workers start.
    pub sampling: Sampling,
}

impl Telemetry {
    /// Starts what the settings ask for. Fails when the access log cannot be opened or the collector's address is
    /// not one.
    pub fn start(settings: &Settings) -> io::Result<Telemetry> {
        let node = &settings.node;
        let metrics = Metrics::new(vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("role", format!("{:?}", node.role).to_lowercase()),
            ("node", node.id()),
        ]);
        let access_log = AccessLogger::open(&settings.access_log)?;
        if let Some(log) = &access_log {
            let help = "Access log lines that were lost because their file or pipe was too slow, full or gone.";
            let name = "weft_access_log_dropped_lines_total";
            metrics.extra(name, help, Kind::Counter, log.dropped_lines_reader());
        }
        let traces = settings.otlp.as_deref().map(|endpoint| Exporter::start(endpoint, node)).transpose()?;
        if let Some(traces) = &traces {
            let help = "Spans that were lost because the collector was too slow or away.";
            metrics.extra("weft_dropped_spans_total", help, Kind::Counter, traces.dropped_spans_reader());
        }
        Ok(Telemetry { metrics, access_log, traces, sampling: Sampling::ALL })
    }

    /// One worker's end of it; call it on the worker's own thread.
    pub fn worker(&self) -> WorkerTelemetry {
        WorkerTelemetry {
            metrics: self.metrics.worker(),
            log: self.access_log.as_ref().map(AccessLogger::writer),
            spans: self.traces.as_ref().map(Exporter::sender),
            sampling: self.sampling,
            random: RefCell::new(Random::from_os()),
        }
    }
}

/// One worker's end of the telemetry. It stays on its thread.
#[derive(Debug)]
pub struct WorkerTelemetry {
    pub metrics: WorkerMetrics,
    log: Option<LogWriter>,
    spans: Option<SpanSender>,
    sampling: Sampling,
    random: RefCell<Random>,
}

impl WorkerTelemetry {
    /// Whether any request at all is recorded; if not, nothing need be remembered for [`Self::record`].
    pub fn records(&self) -> bool {
        self.log.is_some() || self.spans.is_some()
    }

    /// Whether this request is recorded.
    pub fn wants(&self, trace: Option<&TraceContext>) -> bool {
        self.log.is_some() || trace.is_some_and(|trace| trace.recorded)
    }

    /// A new `x-request-id`.
    #[inline]
    pub fn request_id(&self) -> HeaderValue {
        self.random.borrow_mut().request_id()
    }

    /// Finds or begins the trace of a request, and tells the upstream through `headers`.
    pub fn trace(&self, headers: &mut HeaderMap) -> TraceContext {
        let recording = self.spans.is_some().then_some(self.sampling);
        trace::propagate(headers, recording, &mut self.random.borrow_mut())
    }

    /// A request has ended: writes its line, and its span if its trace is recorded here. Never blocks.
    pub fn record(&self, record: &Record<'_>, kind: SpanKind) {
        if let Some(log) = &self.log {
            log.write(record);
        }
        if let Some(spans) = &self.spans {
            spans.send(record, kind);
        }
    }

    /// Hands over the lines that wait. Call it every tenth of a second or so.
    pub fn flush(&self) {
        if let Some(log) = &self.log {
            log.flush();
        }
    }
}
