//! Spans to a collector, over OTLP/gRPC.
//!
//! A collector may be slow or away, and traffic must not notice. So a worker puts its span into a
//! bounded queue and goes on; a thread sends batches. What does not fit is dropped and counted.

mod span;

use crate::telemetry::record::Record;
use crate::telemetry::trace::SpanKind;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::trace::SpanExporter as _;
use parking_lot::Mutex;
use span::Span;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weft_model::Node;

/// Spans that may wait; OpenTelemetry's default for a batch processor is 2048 and a worker makes many.
const QUEUED_SPANS: usize = 8192;
/// Spans in one message (OpenTelemetry's default).
const BATCH_SPANS: usize = 512;
/// How long a span waits for others to travel with. OpenTelemetry's default is 5 s, for people too long.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// For one message, retries included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end waits for what is queued.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The way to a collector. What is queued is sent when it is dropped.
#[derive(Debug)]
pub struct Exporter {
    spans: SpanSender,
    stop: CancellationToken,
    /// Yields an error, "disconnected", when the sending thread has ended.
    ended: Mutex<Receiver<()>>,
}

/// A worker's end of it.
#[derive(Clone, Debug)]
pub struct SpanSender {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    /// `endpoint`: `http://127.0.0.1:4317`. The collector need not be there yet.
    pub fn start(endpoint: &str, node: &Node) -> io::Result<Exporter> {
        check(endpoint)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut collector = {
            let _entered = runtime.enter();
            let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT);
            builder.build().map_err(|error| invalid(endpoint, &error.to_string()))?
        };
        collector.set_resource(&span::resource(node));
        let (queue, queued) = mpsc::channel(QUEUED_SPANS);
        let spans = SpanSender { queue, dropped: Arc::default() };
        let stop = CancellationToken::new();
        let (ending, ended) = sync_channel(0);
        let sender = Sender { collector, queued, stop: stop.clone(), dropped: spans.dropped.clone(), failing: false };
        thread::Builder::new().name("traces".into()).spawn(move || {
            let _ending = ending;
            runtime.block_on(sender.run());
        })?;
        Ok(Exporter { spans, stop, ended: Mutex::new(ended) })
    }

    /// A worker's end of it.
    pub fn sender(&self) -> SpanSender {
        self.spans.clone()
    }

    /// Spans that were lost because the collector was too slow or away.
    pub fn dropped_spans(&self) -> u64 {
        self.spans.dropped.load(Ordering::Relaxed)
    }

    /// The same, for as long as the reader lives.
    pub fn dropped_spans_reader(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = self.spans.dropped.clone();
        move || dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.cancel();
        // Nothing is ever sent: this waits for the thread's end, or gives the collector up.
        let _ = self.ended.get_mut().recv_timeout(LAST_WORDS);
    }
}

impl SpanSender {
    /// Queues the span of a request whose trace is recorded here; of others there is none. `Server` at the callee's
    /// side and at the edge, `Client` at the caller's. Never blocks.
    pub fn send(&self, record: &Record<'_>, kind: SpanKind) {
        let Some(context) = record.trace.filter(|context| context.recorded) else { return };
        let span = Span::of(record, context, kind);
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn check(endpoint: &str) -> io::Result<()> {
    let uri: http::Uri =
        endpoint.parse().map_err(|error: http::uri::InvalidUri| invalid(endpoint, &error.to_string()))?;
    match uri.scheme_str() {
        Some("http") => Ok(()),
        Some("https") => Err(invalid(endpoint, "TLS to a collector is not supported; send to one beside the proxy")),
        _ => Err(invalid(endpoint, "it must begin with http://")),
    }
}

fn invalid(endpoint: &str, why: &str) -> io::Error {
    let hint = "an example is http://127.0.0.1:4317";
    io::Error::new(io::ErrorKind::InvalidInput, format!("OTLP endpoint \"{endpoint}\": {why} ({hint})"))
}

/// The thread's work.
struct Sender {
    collector: SpanExporter,
    queued: mpsc::Receiver<Span>,
    stop: CancellationToken,
    dropped: Arc<AtomicU64>,
    failing: bool,
}

impl Sender {
    async fn run(mut self) {
        while let Some(batch) = self.batch().await {
            self.send(batch).await;
        }
        while !self.queued.is_empty() {
            let mut batch = Vec::with_capacity(BATCH_SPANS);
            self.queued.recv_many(&mut batch, BATCH_SPANS).await;
            self.send(batch).await;
        }
    }

    /// The next spans that travel together; `None` at the end.
    async fn batch(&mut self) -> Option<Vec<Span>> {
        let first = tokio::select! {
            () = self.stop.cancelled() => return None,
            first = self.queued.recv() => first?,
        };
        let mut batch = vec![first];
        let late = tokio::time::sleep(BATCH_DELAY);
        tokio::pin!(late);
        while batch.len() < BATCH_SPANS {
            let room = BATCH_SPANS - batch.len();
            tokio::select! {
                () = &mut late => break,
                () = self.stop.cancelled() => break,
                taken = self.queued.recv_many(&mut batch, room) => if taken == 0 { break },
            }
        }
        Some(batch)
    }

    async fn send(&mut self, batch: Vec<Span>) {
        let spans = batch.len() as u64;
        let batch = batch.into_iter().map(Span::into_data).collect();
        let result = self.collector.export(batch).await;
        if let Err(error) = &result {
            self.dropped.fetch_add(spans, Ordering::Relaxed);
            if !self.failing {
                tracing::warn!(%error, "traces: spans are lost until the collector takes them again");
            }
        }
        self.failing = result.is_err();
    }
}
