//! What the proxies know of one service, for people and programs.

use super::name;
use super::proxies::Answered;
use crate::look::{BAD, BOLD, Cell, DIM, GOOD, Table, WARN, age, paint};
use serde::Serialize;
use std::fmt::Write as _;
use weft_proxy::admin::{BreakerView, ClusterView, EjectionView, EndpointView, PriorityView};

/// So many of the latest happenings are for people; programs get all.
const HAPPENINGS: usize = 8;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(rename = "name")]
    asked: String,
    proxies: Vec<ProxyReport>,
    /// Services that the proxies know.
    #[serde(skip)]
    services: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ProxyReport {
    proxy: String,
    admin: String,
    /// Why it said nothing.
    error: Option<String>,
    /// Those that the name means.
    clusters: Vec<ClusterView>,
}

impl Report {
    pub(super) fn of(asked: &str, answers: Vec<Answered>) -> Report {
        let known = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).flatten();
        let services = name::services(known);
        let proxies = answers.into_iter().map(|(proxy, answer)| {
            let (clusters, error) = match answer {
                Ok(clusters) => (clusters, None),
                Err(error) => (Vec::new(), Some(format!("{error:#}"))),
            };
            let clusters = clusters.into_iter().filter(|cluster| name::means(asked, cluster)).collect();
            ProxyReport { proxy: proxy.name, admin: proxy.admin, error, clusters }
        });
        Report { asked: asked.to_owned(), proxies: proxies.collect(), services }
    }

    pub(super) fn is_known(&self) -> bool {
        self.proxies.iter().any(|proxy| !proxy.clusters.is_empty())
    }

    pub(super) fn answered(&self) -> bool {
        self.proxies.iter().any(|proxy| proxy.error.is_none())
    }

    pub(super) fn all_answered(&self) -> bool {
        !self.proxies.is_empty() && self.proxies.iter().all(|proxy| proxy.error.is_none())
    }

    /// Nobody knows the name: what may have been meant.
    pub(super) fn unknown(&self) -> String {
        let Report { asked, services, .. } = self;
        match name::nearest(asked, services.iter().map(String::as_str)) {
            Some(near) => format!("no proxy knows a service {asked}: did you mean {near}?"),
            None if services.is_empty() => format!("no proxy knows a service {asked}, or any other"),
            None => format!("no proxy knows a service {asked}; there are {}", services.join(", ")),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        for ProxyReport { proxy, admin, error, clusters } in &self.proxies {
            parts.extend(clusters.iter().map(|cluster| cluster_text(proxy, cluster)));
            let why =
                error.as_ref().map(|why| format!("{} {proxy} ({admin}) does not answer: {why}\n", paint(BAD, "✗")));
            parts.extend(why);
        }
        if parts.is_empty() {
            parts.push(format!("{} there is no proxy to ask\n", paint(WARN, "!")));
        }
        parts.join("\n")
    }
}

fn cluster_text(proxy: &str, cluster: &ClusterView) -> String {
    let mut out = format!("{}  {}  {}\n", paint(BOLD, proxy), cluster.name, paint(DIM, &cluster.origin));
    for (name, priority) in [("limits", &cluster.default), ("limits of high priority", &cluster.high)] {
        if let Some(limits) = limits(priority) {
            line(&mut out, format_args!("{name}: {limits}"));
        }
    }
    if let Some(refused) = refused(cluster) {
        line(&mut out, paint(WARN, format!("refused so far: {refused}")));
    }
    if cluster.endpoints.is_empty() {
        line(&mut out, paint(BAD, "no endpoints: nothing that is ready answers for it"));
        return out;
    }
    out.push_str(&table(&cluster.endpoints).to_string());
    for happening in cluster.happenings.iter().rev().take(HAPPENINGS) {
        let ago = format!("{} ago", age(happening.at.seconds));
        line(&mut out, format_args!("{} {}: {}", paint(DIM, ago), happening.endpoint, printable(&happening.what)));
    }
    out
}

fn table(endpoints: &[EndpointView]) -> Table {
    let mut table = Table::new(["ADDRESS", "WORKLOAD", "HEALTH", "ACTIVE", "EJECTED", "RETURNS", "WHY"]);
    for endpoint in endpoints {
        let ejection = endpoint.ejection.as_ref();
        let returns = ejection.and_then(|ejection| ejection.returns_at.as_ref()).or(open_until(endpoint));
        table.row([
            endpoint.address.to_string().into(),
            or_dash(&endpoint.workload),
            health(endpoint),
            endpoint.active_requests.to_string().into(),
            ejection.map_or_else(dash, |ejection| format!("{} ago", age(ejection.since.seconds)).into()),
            returns.map_or_else(dash, |at| format!("in {}", age(at.seconds)).into()),
            why(endpoint),
        ]);
    }
    table
}

fn open_until(endpoint: &EndpointView) -> Option<&weft_proxy::admin::Moment> {
    endpoint.breaker.as_ref()?.until.as_ref()
}

fn health(endpoint: &EndpointView) -> Cell {
    let state = endpoint.breaker.as_ref().map_or("closed", |breaker| breaker.state.as_str());
    match (&endpoint.ejection, &*endpoint.health) {
        (_, "draining") => paint(WARN, "draining"),
        (Some(_), _) => paint(BAD, "ejected"),
        _ if endpoint.health_flags.contains("pending_active_hc") => paint(WARN, "unchecked"),
        _ if !endpoint.is_healthy() => paint(BAD, "unhealthy"),
        _ if state == "open" => paint(BAD, "open"),
        _ if state == "half-open" => paint(WARN, "half-open"),
        _ => paint(GOOD, "healthy"),
    }
}

/// All that speaks against it, in words.
fn why(endpoint: &EndpointView) -> Cell {
    let mut words = Vec::new();
    if let Some(EjectionView { cause, why, .. }) = &endpoint.ejection {
        words.push(format!("{why} ({cause}), ejection {}", endpoint.ejections));
    }
    match &*endpoint.health {
        "draining" => words.push("it is being shut down".to_owned()),
        "unhealthy" => words.push("it is not ready".to_owned()),
        _ => {}
    }
    if endpoint.active_health_check == "unhealthy" {
        words.push("it fails its health checks".to_owned());
    }
    match &endpoint.breaker {
        Some(BreakerView { state, .. }) if state == "open" => words.push("its breaker is open".to_owned()),
        Some(BreakerView { state, .. }) if state == "half-open" => words.push("one request probes it".to_owned()),
        _ => {}
    }
    if words.is_empty() { dash() } else { words.join("; ").into() }
}

/// Of what is limited: how much is in flight, of how much.
fn limits(of: &PriorityView) -> Option<String> {
    let all = [
        ("connections", of.connections, of.max_connections),
        ("waiting", of.pending_requests, of.max_pending_requests),
        ("requests", of.requests, of.max_requests),
        ("retries", of.retries, of.max_retries.unwrap_or(u32::MAX)),
    ];
    let limited = all.into_iter().filter(|(_, _, limit)| *limit != u32::MAX);
    let mut words: Vec<String> = limited.map(|(what, active, limit)| format!("{what} {active} of {limit}")).collect();
    if words.is_empty() {
        return None;
    }
    words.extend(of.retry_budget.as_ref().map(|budget| format!("retries {} of {budget}", of.retries)));
    Some(words.join(", "))
}

fn refused(cluster: &ClusterView) -> Option<String> {
    let counters = &cluster.counters;
    let all = [
        (counters.upstream_rq_pending_overflow, "requests over a limit"),
        (counters.upstream_cx_overflow, "connections over a limit"),
        (counters.upstream_rq_retry_overflow, "retries over the budget"),
        (counters.outlier_detection_ejections_overflow, "ejections over max_ejection_percent"),
    ];
    let some = all.into_iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = some.map(|(count, what)| format!("{count} {what}")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn line(out: &mut String, text: impl std::fmt::Display) {
    writeln!(out, "  {text}").expect("writing to a String cannot fail");
}

fn or_dash(text: &str) -> Cell {
    if text.is_empty() { dash() } else { text.into() }
}

fn dash() -> Cell {
    paint(DIM, "-")
}

/// Another process's words do not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
