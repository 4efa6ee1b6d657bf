//! A record as a span: OpenTelemetry's HTTP semantic conventions, and Istio's tags beside them.

use super::SpanKind;
use crate::telemetry::metrics::Peer;
use crate::telemetry::record::Record;
use crate::telemetry::trace::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::borrow::Cow;
use weft_model::Node;

/// Who sends the spans. The service is named as Istio does: `order.default`.
pub(super) fn resource(node: &Node) -> Resource {
    let peer = Peer::from(node);
    let service = if peer.app.is_empty() { &peer.workload } else { &peer.app };
    let revision = if peer.version.is_empty() { "latest" } else { &peer.version };
    Resource::builder_empty()
        .with_service_name(format!("{service}.{}", peer.namespace))
        .with_attributes([
            KeyValue::new("service.instance.id", node.pod.clone()),
            KeyValue::new("service.version", revision.to_owned()),
            KeyValue::new("k8s.pod.name", node.pod.clone()),
            KeyValue::new("k8s.namespace.name", node.namespace.clone()),
            KeyValue::new("node_id", node.id()),
            KeyValue::new("istio.canonical_service", service.clone()),
            KeyValue::new("istio.canonical_revision", revision.to_owned()),
            KeyValue::new("istio.namespace", node.namespace.clone()),
        ])
        .build()
}

/// What one hop did for one request.
#[derive(Debug)]
pub(super) struct Span(Box<SpanData>);

impl Span {
    pub(super) fn of(record: &Record<'_>, context: &TraceContext, kind: SpanKind) -> Span {
        let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let trace_id = TraceId::from(context.trace_id.bits());
        let span_id = SpanId::from(context.span_id.bits());
        let scope = InstrumentationScope::builder("weft").with_version(env!("CARGO_PKG_VERSION"));
        Span(Box::new(SpanData {
            span_context: SpanContext::new(trace_id, span_id, flags, false, TraceState::default()),
            parent_span_id: context.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.bits())),
            parent_span_is_remote: context.parent.is_some(),
            name: name(record),
            start_time: record.start_time,
            end_time: record.start_time + record.duration,
            attributes: attributes(record, &kind),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: status(record, &kind),
            span_kind: kind,
            instrumentation_scope: scope.build(),
        }))
    }

    pub(super) fn into_data(self) -> SpanData {
        *self.0
    }
}

/// Method and route: few different names, whatever is asked for.
fn name(record: &Record<'_>) -> Cow<'static, str> {
    match (record.method, record.route_name) {
        (Some(method), Some(route)) => format!("{method} {route}").into(),
        (Some(method), None) => method.to_owned().into(),
        (None, _) => "tcp".into(),
    }
}

fn attributes(record: &Record<'_>, kind: &SpanKind) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(24);
    let mut add = |key: &'static str, value: Option<Value>| {
        all.extend(value.map(|value| KeyValue::new(key, value)));
    };
    let mut path = record.path.unwrap_or_default().splitn(2, |byte| *byte == b'?');
    add("http.request.method", record.method.map(text));
    add("url.path", path.next().filter(|path| !path.is_empty()).map(lossy));
    add("url.query", path.next().map(lossy));
    add("network.protocol.version", record.protocol.map(|name| text(name.trim_start_matches("HTTP/"))));
    if record.method.is_some() && record.response_code != 0 {
        add("http.response.status_code", Some(Value::I64(i64::from(record.response_code))));
    }
    if let Some(code) = record.grpc_status {
        add("rpc.system", Some(text("grpc")));
        add("rpc.grpc.status_code", Some(Value::I64(i64::from(code))));
    }
    add("error.type", error_type(record, kind));
    let (host, port) = split_authority(record.authority.unwrap_or_default());
    add("server.address", host.map(lossy));
    add("server.port", port.map(|port| Value::I64(i64::from(port))));
    add("client.address", record.downstream_remote_address.map(|peer| text(&peer.ip().to_string())));
    let peer = if *kind == SpanKind::Client { record.upstream_host } else { record.downstream_remote_address };
    add("network.peer.address", peer.map(|peer| text(&peer.ip().to_string())));
    add("network.peer.port", peer.map(|peer| Value::I64(i64::from(peer.port()))));
    add("user_agent.original", record.user_agent.map(lossy));
    add("http.request.body.size", size(record.bytes_received));
    add("http.response.body.size", size(record.bytes_sent));
    // Istio's.
    add("guid:x-request-id", record.request_id.map(lossy));
    add("upstream_cluster", record.upstream_cluster.map(text));
    add("upstream_address", record.upstream_host.map(|host| text(&host.to_string())));
    add("response_flags", Some(text(&record.response_flags.to_string())));
    all
}

/// An error is the server's when the server failed, and the client's also when it asked wrongly.
fn is_error(record: &Record<'_>, kind: &SpanKind) -> bool {
    let least = if *kind == SpanKind::Client { 400 } else { 500 };
    match record.method {
        Some(_) => record.response_code == 0 || record.response_code >= least,
        None => !record.response_flags.is_empty(),
    }
}

fn error_type(record: &Record<'_>, kind: &SpanKind) -> Option<Value> {
    let name = || match record.response_code {
        0 => text(&record.response_flags.to_string()),
        code => text(&code.to_string()),
    };
    is_error(record, kind).then(name)
}

fn status(record: &Record<'_>, kind: &SpanKind) -> Status {
    match is_error(record, kind) {
        true => Status::error(record.message.unwrap_or_default().to_owned()),
        false => Status::Unset,
    }
}

fn split_authority(authority: &[u8]) -> (Option<&[u8]>, Option<u16>) {
    if authority.is_empty() {
        return (None, None);
    }
    let colon = authority.iter().rposition(|byte| *byte == b':').filter(|at| !authority[*at..].contains(&b']'));
    let port = colon.and_then(|at| std::str::from_utf8(&authority[at + 1..]).ok()?.parse().ok());
    match (colon, port) {
        (Some(at), Some(port)) => (Some(&authority[..at]), Some(port)),
        _ => (Some(authority), None),
    }
}

fn text(value: &str) -> Value {
    Value::from(value.to_owned())
}

fn lossy(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(bytes).into_owned())
}

fn size(bytes: u64) -> Option<Value> {
    (bytes > 0).then(|| Value::I64(i64::try_from(bytes).unwrap_or(i64::MAX)))
}
