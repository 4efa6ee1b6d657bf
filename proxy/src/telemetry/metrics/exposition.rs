//! Prometheus' text format, version 0.0.4.

use super::histogram::Distribution;
use super::key::{Protocol, SeriesKey};
use super::series::{Cells, Outcome};
use super::{Kind, Metrics};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// What one series comes to over all workers.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    requests: BTreeMap<Outcome, Requests>,
    tcp: Tcp,
}

#[derive(Debug, Default)]
struct Requests {
    duration: Distribution,
    request_bytes: Distribution,
    response_bytes: Distribution,
}

#[derive(Debug, Default)]
struct Tcp {
    opened: u64,
    closed: u64,
    sent: u64,
    received: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, cells: &Cells) {
        for (outcome, cells) in cells.outcomes() {
            let requests = self.requests.entry(outcome).or_default();
            requests.duration.add(&cells.duration);
            requests.request_bytes.add(&cells.request_bytes);
            requests.response_bytes.add(&cells.response_bytes);
        }
        // What closed was open: read in this order it is never more.
        self.tcp.closed += cells.tcp.closed.load(Ordering::Relaxed);
        self.tcp.opened += cells.tcp.opened.load(Ordering::Relaxed);
        self.tcp.sent += cells.tcp.sent.load(Ordering::Relaxed);
        self.tcp.received += cells.tcp.received.load(Ordering::Relaxed);
    }
}

pub(crate) fn render(metrics: &Metrics, now: SystemTime) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let totals = metrics.totals();
    requests(&mut out, &totals);
    tcp(&mut out, &totals);
    own(&mut out, metrics, now);
    out
}

/// The samples of an exposition, without buckets, as name and value.
pub(crate) fn flat(exposition: &str) -> Vec<(String, String)> {
    let samples = exposition.lines().filter(|line| !line.starts_with('#'));
    let pairs = samples.filter_map(|line| line.rsplit_once(' '));
    let whole = pairs.filter(|(name, _)| !name.split('{').next().is_some_and(|name| name.ends_with("_bucket")));
    whole.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

type All = BTreeMap<Arc<SeriesKey>, Totals>;

fn requests(out: &mut String, all: &All) {
    let lines: Vec<(String, &Requests)> = all
        .iter()
        .flat_map(|(key, totals)| totals.requests.iter().map(move |(outcome, requests)| (key, outcome, requests)))
        .filter(|(_, _, requests)| requests.duration.count() > 0)
        .map(|(key, outcome, requests)| (request_labels(key, *outcome), requests))
        .collect();
    if lines.is_empty() {
        return;
    }
    head(out, "istio_requests_total", "counter", "Requests, by who called whom and how they ended.");
    for (labels, requests) in &lines {
        line(out, "istio_requests_total", labels, requests.duration.count());
    }
    head(out, "istio_request_duration_milliseconds", "histogram", "From a request's head to the end of its answer.");
    for (labels, requests) in &lines {
        histogram(out, "istio_request_duration_milliseconds", labels, &requests.duration, |micros| micros / 1_000.0);
    }
    head(out, "istio_request_bytes", "histogram", "Bytes of request bodies.");
    for (labels, requests) in &lines {
        histogram(out, "istio_request_bytes", labels, &requests.request_bytes, |bytes| bytes);
    }
    head(out, "istio_response_bytes", "histogram", "Bytes of response bodies.");
    for (labels, requests) in &lines {
        histogram(out, "istio_response_bytes", labels, &requests.response_bytes, |bytes| bytes);
    }
}

fn tcp(out: &mut String, all: &All) {
    let lines: Vec<(String, &Tcp)> = all
        .iter()
        .filter(|(key, totals)| key.protocol == Protocol::Tcp && totals.tcp.opened > 0)
        .map(|(key, totals)| (tcp_labels(key), &totals.tcp))
        .collect();
    let mut family = |name: &str, help: &str, read: fn(&Tcp) -> u64| {
        if lines.is_empty() {
            return;
        }
        head(out, name, "counter", help);
        for (labels, tcp) in &lines {
            line(out, name, labels, read(tcp));
        }
    };
    family("istio_tcp_connections_opened_total", "Opaque connections that began.", |tcp| tcp.opened);
    family("istio_tcp_connections_closed_total", "Opaque connections that ended.", |tcp| tcp.closed);
    family("istio_tcp_sent_bytes_total", "Bytes sent to callers of opaque connections.", |tcp| tcp.sent);
    family("istio_tcp_received_bytes_total", "Bytes received from callers of opaque connections.", |tcp| tcp.received);
}

fn own(out: &mut String, metrics: &Metrics, now: SystemTime) {
    let mut one = |name: &str, kind: Kind, help: &str, value: u64| {
        head(out, name, kind.name(), help);
        line(out, name, "", value);
    };
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    let sum = |read: fn(&super::Counters) -> u64| metrics.sum(read);
    one(
        "weft_downstream_connections_active",
        gauge,
        "Connections from callers.",
        sum(|c| c.downstream_connections.now()),
    );
    one(
        "weft_downstream_connections_total",
        counter,
        "Connections from callers, ever.",
        sum(|c| c.downstream_connections.total()),
    );
    one("weft_upstream_connections_active", gauge, "Connections to endpoints.", sum(|c| c.upstream_connections.now()));
    one(
        "weft_upstream_connections_total",
        counter,
        "Connections to endpoints, ever.",
        sum(|c| c.upstream_connections.total()),
    );
    one("weft_requests_active", gauge, "Requests that are being answered.", sum(|c| c.requests.now()));
    one(
        "weft_upstream_connect_failures_total",
        counter,
        "Connections to endpoints that could not be made.",
        sum(|c| c.upstream_connect_failures.value()),
    );
    one(
        "weft_tls_handshake_failures_total",
        counter,
        "TLS handshakes with callers that failed.",
        sum(|c| c.tls_handshake_failures.value()),
    );
    one(
        "weft_client_certificate_failures_total",
        counter,
        "TLS handshakes with callers that failed because they showed no certificate, or one that is not believed.",
        sum(|c| c.client_certificate_failures.value()),
    );
    one(
        "weft_unparsed_requests_total",
        counter,
        "Requests that could not be read.",
        sum(|c| c.unparsed_requests.value()),
    );
    one(
        "weft_rate_limit_shadowed_total",
        counter,
        "Requests that a rate limit in shadow mode would have refused.",
        sum(|c| c.shadow_limited.value()),
    );
    one("weft_panics_total", counter, "Bugs that ended a connection, and nothing else.", sum(|c| c.panics.value()));
    one(
        "weft_metrics_overflowed_total",
        counter,
        "Times that there was no series left and several were counted as one.",
        metrics.shared.overflowed.load(Ordering::Relaxed),
    );
    let config = metrics.config.lock();
    one("weft_config_number", gauge, "How many configurations have been in service.", config.number);
    one("weft_config_rejected_total", counter, "Resources that were refused.", config.rejected);
    if let Some(applied) = config.applied {
        let age = now.duration_since(applied).unwrap_or_default();
        one("weft_config_age_seconds", gauge, "Since the configuration last changed.", age.as_secs());
    }
    for extra in metrics.extras.lock().iter() {
        one(extra.name, extra.kind, extra.help, (extra.read)());
    }
    head(out, "weft_build_info", "gauge", "What this data plane is.");
    let mut labels = String::new();
    for (name, value) in &metrics.info {
        label(&mut labels, name, value);
    }
    line(out, "weft_build_info", &labels, 1);
    head(out, "process_start_time_seconds", "gauge", "Start of the process since the epoch.");
    push(out, format_args!("process_start_time_seconds {:.3}\n", metrics.started_seconds()));
}

fn request_labels(key: &SeriesKey, outcome: Outcome) -> String {
    let mut labels = key_labels(key);
    push(&mut labels, format_args!(",response_code=\"{}\",response_flags=\"{}\"", outcome.status, outcome.flags));
    if let Some(code) = outcome.grpc_status {
        push(&mut labels, format_args!(",grpc_response_status=\"{code}\""));
    }
    labels
}

fn tcp_labels(key: &SeriesKey) -> String {
    let mut labels = key_labels(key);
    labels.push_str(",response_flags=\"-\"");
    labels
}

fn key_labels(key: &SeriesKey) -> String {
    let mut labels = String::with_capacity(1024);
    for (name, value) in key.labels() {
        label(&mut labels, name, value);
    }
    labels
}

pub(crate) fn label(labels: &mut String, name: &str, value: &str) {
    let comma = if labels.is_empty() { "" } else { "," };
    push(labels, format_args!("{comma}{name}=\""));
    for character in value.chars() {
        match character {
            '\\' => labels.push_str("\\\\"),
            '"' => labels.push_str("\\\""),
            '\n' => labels.push_str("\\n"),
            other => labels.push(other),
        }
    }
    labels.push('"');
}

pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    push(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

pub(crate) fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    match labels {
        "" => push(out, format_args!("{name} {value}\n")),
        labels => push(out, format_args!("{name}{{{labels}}} {value}\n")),
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, seen: &Distribution, unit: fn(f64) -> f64) {
    for (bound, count) in seen.cumulative() {
        push(out, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}\n"));
    }
    let count = seen.count();
    push(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n"));
    push(out, format_args!("{name}_sum{{{labels}}} {}\n", unit(seen.sum() as f64)));
    push(out, format_args!("{name}_count{{{labels}}} {count}\n"));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
}
