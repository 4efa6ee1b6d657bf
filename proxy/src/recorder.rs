//! Where a worker writes down what happened: metrics, the access log, traces.
//!
//! The one place that knows how an exchange's story becomes a record, so that all three say the same.

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::live::LiveCluster;
use crate::rejection::Rejection;
use crate::shared::Shared;
use crate::snapshot::LiveListener;
use crate::tcp::Passage;
use crate::telemetry::WorkerTelemetry;
use crate::telemetry::flags::Flags;
use crate::telemetry::metrics::{
    ConnectionCounter, Counters, Peer, Protocol, Reporter, Security, Series, SeriesKey, ServiceLabels,
};
use crate::telemetry::record::Record;
use crate::telemetry::trace::{SpanKind, TraceContext};
use crate::worker::WorkerEndpoint;
use http::{HeaderMap, HeaderValue};
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use weft_model::listener::Direction;

/// The access log's buffer is handed over so often.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Upstream times up to so many milliseconds have their header value ready.
const READY_MILLISECONDS: u64 = 256;

/// One worker's pen.
pub(crate) struct Recorder {
    telemetry: WorkerTelemetry,
    /// This data plane as a workload.
    own: Arc<Peer>,
    milliseconds: Vec<HeaderValue>,
    /// The wall clock when `started` was now: one clock is read per request, not two.
    started: (Instant, SystemTime),
}

/// Series of one endpoint, resolved when first used.
#[derive(Default)]
pub(crate) struct EndpointSeries {
    http: OnceCell<Series>,
    grpc: OnceCell<Series>,
    tcp: OnceCell<Series>,
}

impl Recorder {
    pub(crate) fn new(shared: &Shared) -> Recorder {
        Recorder {
            telemetry: shared.telemetry.worker(),
            own: Arc::new(Peer::from(&shared.settings.node)),
            milliseconds: (0..READY_MILLISECONDS).map(HeaderValue::from).collect(),
            started: (Instant::now(), SystemTime::now()),
        }
    }

    pub(crate) fn flush(&self) {
        self.telemetry.flush();
    }

    pub(crate) async fn keep_flushing(&self) {
        if !self.telemetry.records() {
            return;
        }
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            self.flush();
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.telemetry.metrics.counters()
    }

    pub(crate) fn connection_counter(&self) -> ConnectionCounter {
        self.telemetry.metrics.connection_counter()
    }

    pub(crate) fn request_id(&self) -> HeaderValue {
        self.telemetry.request_id()
    }

    /// Continues the caller's trace or begins one, and tells the upstream.
    pub(crate) fn trace(&self, headers: &mut HeaderMap) -> TraceContext {
        self.telemetry.trace(headers)
    }

    /// Whole milliseconds as a header value.
    pub(crate) fn milliseconds(&self, time: Duration) -> HeaderValue {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self.milliseconds.get(milliseconds as usize) {
            Some(ready) => ready.clone(),
            None => HeaderValue::from(milliseconds),
        }
    }

    /// Whether somebody will want to know what a request looked like.
    pub(crate) fn wants_facts(&self) -> bool {
        self.telemetry.records()
    }

    /// An exchange has ended, one way or another.
    pub(crate) fn record(&self, exchange: &Exchange) {
        let ending = &exchange.ending;
        let duration = ending.at.unwrap_or_else(Instant::now).saturating_duration_since(exchange.began);
        let count = |series: &Series| {
            let received = exchange.meter.received.get();
            series.request(ending.status, ending.grpc_status, ending.flags, duration, received, ending.sent);
        };
        match &exchange.attempt {
            Some(attempt) => count(self.series(exchange, &attempt.host)),
            None => count(&self.series_without_endpoint(exchange)),
        }
        if self.telemetry.wants(exchange.trace.as_ref()) {
            let kind = match exchange.connection.direction() {
                Direction::Outbound => SpanKind::Client,
                Direction::Inbound | Direction::Edge => SpanKind::Server,
            };
            with_record(self, exchange, duration, |record| self.telemetry.record(record, kind));
        }
    }

    /// A head that could not be read, so that there never was an exchange.
    pub(crate) fn unparsed(&self, connection: &Connection, rejection: &Rejection) {
        self.counters().unparsed_requests.one();
        let appearance = rejection.appearance();
        let key = self.key(connection.direction(), None, &Peer::unknown(), Protocol::Http);
        let status = appearance.status.as_u16();
        self.telemetry.metrics.series(&key).request(status, None, appearance.flags, Duration::ZERO, 0, 0);
        let message = rejection.message();
        let record = Record {
            response_code: status,
            response_flags: appearance.flags,
            response_code_details: Some(appearance.details),
            downstream_local_address: Some(connection.local),
            downstream_remote_address: Some(connection.peer),
            requested_server_name: connection.server_name.as_deref(),
            message: Some(&message),
            ..Record::at(SystemTime::now())
        };
        self.write(&record);
    }

    pub(crate) fn tcp_opened(&self, listener: &LiveListener, host: &WorkerEndpoint) {
        self.tcp_series(listener, host).tcp_opened();
    }

    /// An opaque connection has ended.
    pub(crate) fn record_tcp(&self, passage: &Passage<'_>) {
        if let Some(host) = &passage.host {
            let series = self.tcp_series(passage.listener, host);
            series.tcp_received(passage.traffic.received());
            series.tcp_sent(passage.traffic.sent());
            series.tcp_closed();
        }
        let origin = passage.cluster.map(|cluster| &cluster.spec.origin);
        let message = passage.rejection.as_ref().map(|rejection| rejection.explained(origin));
        let appearance = passage.rejection.as_ref().map(Rejection::appearance);
        let record = Record {
            response_flags: appearance.as_ref().map_or(Flags::NONE, |appearance| appearance.flags),
            response_code_details: appearance.as_ref().map(|appearance| appearance.details),
            bytes_received: passage.traffic.received(),
            bytes_sent: passage.traffic.sent(),
            duration: passage.began.elapsed(),
            upstream_host: passage.host.as_ref().map(|host| host.endpoint.address),
            upstream_cluster: Some(passage.cluster_name),
            downstream_local_address: Some(passage.arrival.local),
            downstream_remote_address: Some(passage.arrival.peer),
            requested_server_name: passage.arrival.server_name.as_deref(),
            message: message.as_deref(),
            ..Record::at(self.wall(passage.began))
        };
        self.write(&record);
    }

    /// What was no HTTP exchange has no span.
    fn write(&self, record: &Record<'_>) {
        if self.telemetry.wants(None) {
            self.telemetry.record(record, SpanKind::Server);
        }
    }

    fn series<'a>(&self, exchange: &Exchange, host: &'a WorkerEndpoint) -> &'a Series {
        let direction = exchange.connection.direction();
        let (cell, protocol) = match exchange.found.grpc {
            true => (&host.series.grpc, Protocol::Grpc),
            false => (&host.series.http, Protocol::Http),
        };
        cell.get_or_init(|| self.resolve(direction, host, protocol))
    }

    fn tcp_series<'a>(&self, listener: &LiveListener, host: &'a WorkerEndpoint) -> &'a Series {
        let resolve = || self.resolve(listener.spec.direction, host, Protocol::Tcp);
        host.series.tcp.get_or_init(resolve)
    }

    fn resolve(&self, direction: Direction, host: &WorkerEndpoint, protocol: Protocol) -> Series {
        let peer = Arc::new(Peer::from(&host.endpoint.workload));
        self.telemetry.metrics.series(&self.key(direction, Some(&host.cluster.borrow()), &peer, protocol))
    }

    fn series_without_endpoint(&self, exchange: &Exchange) -> Series {
        let protocol = if exchange.found.grpc { Protocol::Grpc } else { Protocol::Http };
        let cluster = exchange.cluster().ok().map(Arc::as_ref);
        self.telemetry.metrics.series(&self.key(exchange.connection.direction(), cluster, &Peer::unknown(), protocol))
    }

    /// Inbound, this workload is the destination; else it is the source.
    fn key(
        &self,
        direction: Direction,
        cluster: Option<&LiveCluster>,
        peer: &Arc<Peer>,
        protocol: Protocol,
    ) -> SeriesKey {
        let service = cluster.map_or_else(ServiceLabels::default, |cluster| (&cluster.spec.service).into());
        let (reporter, source, destination, security) = match direction {
            Direction::Inbound => (Reporter::Destination, Peer::unknown(), self.own.clone(), Security::None),
            Direction::Outbound | Direction::Edge => {
                (Reporter::Source, self.own.clone(), peer.clone(), Security::Unknown)
            }
        };
        SeriesKey { reporter, source, destination, service, protocol, security }
    }

    /// The wall clock's time of an instant.
    fn wall(&self, instant: Instant) -> SystemTime {
        let (then, wall) = self.started;
        wall + instant.saturating_duration_since(then)
    }
}

/// An exchange as the log and traces tell it.
fn with_record(recorder: &Recorder, exchange: &Exchange, duration: Duration, tell: impl FnOnce(&Record<'_>)) {
    let Some(facts) = &exchange.facts else { return };
    let (connection, ending) = (&exchange.connection, &exchange.ending);
    let route = exchange.route().map(|route| &route.route.model);
    let cluster = exchange.cluster().ok();
    let origin = cluster.map(|cluster| &cluster.spec.origin);
    let message = ending.rejection.as_ref().map(|rejection| rejection.explained(origin));
    let path = facts.uri.path_and_query().map(|path| path.as_str().as_bytes());
    let authority = facts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let reason = ending.rejection.as_ref().and_then(Rejection::transport_failure);
    tell(&Record {
        method: Some(facts.method.as_str()),
        path,
        protocol: Some(protocol(facts.version)),
        response_code: ending.status,
        grpc_status: ending.grpc_status,
        response_flags: ending.flags,
        response_code_details: Some(ending.details).filter(|details| !details.is_empty()),
        upstream_transport_failure_reason: reason,
        bytes_received: exchange.meter.received.get(),
        bytes_sent: ending.sent,
        duration,
        upstream_service_time: ending.upstream_time,
        upstream_request_attempt_count: exchange.tries,
        x_forwarded_for: facts.forwarded_for.as_ref().map(HeaderValue::as_bytes),
        user_agent: facts.user_agent.as_ref().map(HeaderValue::as_bytes),
        request_id: facts.request_id.as_ref().map(HeaderValue::as_bytes),
        authority: authority.or(facts.authority.as_ref().map(HeaderValue::as_bytes)),
        upstream_host: exchange.attempt.as_ref().map(|attempt| attempt.host.endpoint.address),
        upstream_cluster: cluster.map(|cluster| cluster.spec.name.as_str()),
        downstream_local_address: Some(connection.local),
        downstream_remote_address: Some(connection.peer),
        requested_server_name: connection.server_name.as_deref(),
        route_name: route.map(|route| route.name.as_str()),
        trace: exchange.trace.as_ref(),
        message: message.as_deref(),
        policy: route.map(|route| &route.origin).filter(|origin| !origin.object.is_empty()),
        ..Record::at(recorder.wall(exchange.began))
    });
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
