use crate::exposition::Exposition;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio_util::sync::CancellationToken;
use weft_proxy::admin::{
    Admin, BreakerView, ClusterView, CountersView, EjectionView, EndpointView, HappeningView, HealthChecksView,
    Inspect, Moment, PriorityView,
};
use weft_proxy::telemetry::metrics::Metrics;

#[derive(Default)]
struct DataPlane {
    ready: AtomicBool,
    drains: AtomicU32,
    quits: AtomicU32,
    reopens: AtomicU32,
    /// Besides [`order`].
    clusters: Mutex<Vec<ClusterView>>,
}

/// A cluster of one endpoint that nothing speaks against, and one that is ejected.
fn order() -> ClusterView {
    let moment = |seconds| Moment { time: "2026-11-21T08:30:00.000Z".into(), seconds };
    let endpoint = EndpointView {
        address: "127.0.1.3:8080".parse().unwrap(),
        health: "healthy".into(),
        health_flags: "healthy".into(),
        active_health_check: "unknown".into(),
        weight: 2,
        priority: 0,
        locality: "eu/eu-1".into(),
        workload: "shop/order".into(),
        active_requests: 5,
        connections: 7,
        ejections: 0,
        ejection: None,
        breaker: Some(BreakerView { state: "closed".into(), until: None }),
    };
    let ejected = EndpointView {
        address: "127.0.1.4:8080".parse().unwrap(),
        health_flags: "/failed_outlier_check".into(),
        ejections: 1,
        ejection: Some(EjectionView {
            cause: "consecutive_5xx".into(),
            why: "5 failed requests in a row".into(),
            since: moment(12),
            returns_at: Some(moment(18)),
        }),
        breaker: Some(BreakerView { state: "open".into(), until: Some(moment(3)) }),
        ..endpoint.clone()
    };
    ClusterView {
        name: "outbound|8080||order".into(),
        service: "order.shop".into(),
        discovery: "EDS".into(),
        balancer: "LEAST_REQUEST".into(),
        origin: "policies/order.yaml:3 DestinationRule shop/order".into(),
        default: PriorityView {
            max_connections: 1024,
            max_pending_requests: 1,
            max_retries: Some(3),
            pending_requests: 1,
            rq_pending_open: true,
            ..PriorityView::default()
        },
        counters: CountersView {
            upstream_rq_pending_overflow: 9,
            outlier_detection_ejections_enforced_total: 1,
            ..CountersView::default()
        },
        health_checks: HealthChecksView { attempt: 7, success: 4, failure: 3, network_failure: 2, passive_failure: 1 },
        was_called: true,
        happenings: vec![HappeningView {
            at: moment(12),
            endpoint: "127.0.1.4:8080".into(),
            what: "ejected for 30s (ejection 1): 5 failed requests in a row".into(),
        }],
        endpoints: vec![endpoint, ejected],
        ..ClusterView::default()
    }
}

impl Inspect for DataPlane {
    fn ready(&self) -> Result<(), String> {
        self.ready.load(Ordering::Relaxed).then_some(()).ok_or("no configuration has arrived yet".into())
    }

    fn config_dump(&self) -> Value {
        json!({ "listeners": ["outbound"] })
    }

    fn clusters(&self) -> Vec<ClusterView> {
        let mut clusters = self.clusters.lock().clone();
        clusters.push(order());
        clusters
    }

    fn drain(&self) {
        self.drains.fetch_add(1, Ordering::Relaxed);
    }

    fn quit(&self) {
        self.quits.fetch_add(1, Ordering::Relaxed);
    }

    fn reopen_logs(&self) {
        self.reopens.fetch_add(1, Ordering::Relaxed);
    }

    fn server_info(&self) -> Value {
        json!({ "node": "sidecar~127.0.1.2~order-0.shop~shop.svc.cluster.local" })
    }
}

struct Doors {
    state: Arc<DataPlane>,
    metrics: Arc<Metrics>,
    admin: SocketAddr,
    scrape: SocketAddr,
    shutdown: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Doors {
    fn open() -> Doors {
        let (admin, scrape) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (state, metrics) = (Arc::<DataPlane>::default(), Metrics::new(vec![]));
        let (admin_address, scrape_address) = (admin.local_addr().unwrap(), scrape.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let doors = Admin { inspect: state.clone(), metrics: metrics.clone() };
        let thread = doors.spawn(admin, scrape, shutdown.clone()).unwrap();
        Doors { state, metrics, admin: admin_address, scrape: scrape_address, shutdown, thread: Some(thread) }
    }

    fn get(&self, path: &str) -> Reply {
        ask(self.admin, "GET", path, "")
    }

    fn post(&self, path: &str) -> Reply {
        ask(self.admin, "POST", path, "")
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Reply {
    let host =
        if headers.to_ascii_lowercase().contains("host:") { String::new() } else { format!("host: {address}\r\n") };
    raw(address, &format!("{method} {path} HTTP/1.1\r\n{host}{headers}connection: close\r\n\r\n"))
}

fn raw(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("{reply:?}")).parse().unwrap();
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[test]
fn ready_says_why_not() {
    let doors = Doors::open();
    for path in ["/ready", "/healthz/ready"] {
        let reply = doors.get(path);
        assert_eq!((reply.status, reply.body.as_str()), (503, "no configuration has arrived yet\n"));
    }
    doors.state.ready.store(true, Ordering::Relaxed);
    let reply = doors.get("/ready");
    assert_eq!((reply.status, reply.body.as_str()), (200, "LIVE\n"));
    assert_eq!(ask(doors.scrape, "GET", "/healthz/ready", "").status, 200);
    assert_eq!(ask(doors.admin, "HEAD", "/ready", "").status, 200);
}

#[test]
fn clusters_are_text_or_json() {
    let doors = Doors::open();
    let text = doors.get("/clusters").body;
    assert!(
        text.contains("outbound|8080||order::origin::policies/order.yaml:3 DestinationRule shop/order\n"),
        "{text}"
    );
    assert!(text.contains("outbound|8080||order::127.0.1.3:8080::health_flags::healthy\n"), "{text}");
    assert!(text.contains("outbound|8080||order::127.0.1.3:8080::rq_active::5\n"), "{text}");
    for line in [
        "default_priority::max_connections::1024",
        "default_priority::max_pending_requests::1",
        "default_priority::max_retries::3",
        "default_priority::rq_pending_active::1",
        "happening::2026-11-21T08:30:00.000Z 127.0.1.4:8080: ejected for 30s (ejection 1): 5 failed requests in a row",
        "127.0.1.3:8080::cx_active::7",
        "127.0.1.3:8080::locality::eu/eu-1",
        "127.0.1.3:8080::breaker::closed",
        "127.0.1.4:8080::health_flags::/failed_outlier_check",
        "127.0.1.4:8080::ejected_until::2026-11-21T08:30:00.000Z",
        "127.0.1.4:8080::ejected_for::consecutive_5xx: 5 failed requests in a row",
        "127.0.1.4:8080::breaker_open_until::2026-11-21T08:30:00.000Z",
    ] {
        assert!(text.contains(&format!("outbound|8080||order::{line}\n")), "{line} in {text}");
    }
    let reply = doors.get("/clusters?format=json");
    assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
    let json: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(json["clusters"][0]["endpoints"][0]["address"], "127.0.1.3:8080");
    let read: Vec<ClusterView> = serde_json::from_value(json["clusters"].clone()).unwrap();
    assert_eq!(read, [order()], "what is written can be read again");
    assert_eq!(doors.get("/clusters?format=xml").status, 400);
}

#[test]
fn the_configuration_and_the_server_are_json() {
    let doors = Doors::open();
    let dump: Value = serde_json::from_str(&doors.get("/config_dump").body).unwrap();
    assert_eq!(dump["listeners"][0], "outbound");
    let info: Value = serde_json::from_str(&doors.get("/server_info").body).unwrap();
    assert_eq!(info["state"], "NOT_READY");
    assert_eq!(info["reason"], "no configuration has arrived yet");
    assert_eq!(info["node"], "sidecar~127.0.1.2~order-0.shop~shop.svc.cluster.local");
}

#[test]
fn stats_can_be_filtered() {
    let doors = Doors::open();
    doors.metrics.worker().counters().panics.add(3);
    let all = doors.get("/stats").body;
    assert!(all.contains("weft_panics_total: 3\n"), "{all}");
    assert!(all.contains("cluster.outbound|8080||order.membership_healthy: 1\n"), "{all}");
    assert!(all.contains("cluster.outbound|8080||order.circuit_breakers.default.rq_pending_open: 1\n"), "{all}");
    assert!(all.contains("cluster.outbound|8080||order.outlier_detection.ejections_active: 1\n"), "{all}");
    assert_eq!(doors.get("/stats?filter=%5Eweft_pan.cs").body, "weft_panics_total: 3\n");
    let wrong = doors.get("/stats?filter=(");
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("filter"), "{}", wrong.body);
    assert_eq!(doors.get("/stats?filter=(a%7B1000%7D)%7B1000%7D").status, 400, "a huge expression is refused");
    assert!(Exposition::parse(&doors.get("/stats?format=prometheus").body).sum("weft_panics_total", &[]) == 3.0);
}

#[test]
fn prometheus_finds_its_format_at_both_doors() {
    let doors = Doors::open();
    for (address, path) in
        [(doors.admin, "/stats/prometheus"), (doors.scrape, "/stats/prometheus"), (doors.scrape, "/metrics")]
    {
        let reply = ask(address, "GET", path, "");
        assert_eq!(reply.status, 200);
        assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{}", reply.head);
        assert!(Exposition::parse(&reply.body).types.contains_key("weft_build_info"));
    }
}

#[test]
fn clusters_have_envoys_metrics_when_they_were_called() {
    let doors = Doors::open();
    let quiet = ClusterView { name: "outbound|8080||quiet".into(), ..ClusterView::default() };
    let named = ClusterView { name: "a \"quoted\" name".into(), was_called: true, ..ClusterView::default() };
    *doors.state.clusters.lock() = vec![quiet, named];
    let all = Exposition::parse(&ask(doors.scrape, "GET", "/stats/prometheus", "").body);
    let order = [("envoy_cluster_name", "outbound|8080||order")];
    for (name, kind, value) in [
        ("envoy_cluster_upstream_rq_pending_overflow", "counter", 9.0),
        ("envoy_cluster_outlier_detection_ejections_active", "gauge", 1.0),
        ("envoy_cluster_outlier_detection_ejections_enforced_total", "counter", 1.0),
        ("envoy_cluster_circuit_breakers_default_rq_pending_open", "gauge", 1.0),
        ("envoy_cluster_circuit_breakers_high_rq_open", "gauge", 0.0),
        ("envoy_cluster_membership_total", "gauge", 2.0),
        ("envoy_cluster_membership_healthy", "gauge", 1.0),
        ("envoy_cluster_upstream_rq_active", "gauge", 10.0),
        ("envoy_cluster_health_check_attempt", "counter", 7.0),
        ("envoy_cluster_health_check_success", "counter", 4.0),
        ("envoy_cluster_health_check_failure", "counter", 3.0),
        ("envoy_cluster_health_check_network_failure", "counter", 2.0),
        ("envoy_cluster_health_check_passive_failure", "counter", 1.0),
    ] {
        assert_eq!((all.sum(name, &order), all.types[name].as_str()), (value, kind), "{name}");
        assert_eq!(all.named(name).count(), 2, "who was never called says nothing");
    }
    assert_eq!(all.named("envoy_cluster_upstream_rq_retry").count(), 2);
    assert_eq!(all.sum("weft_metrics_clusters_left_out", &[]), 0.0);
}

#[test]
fn of_too_many_clusters_those_with_something_to_say_have_metrics() {
    let doors = Doors::open();
    let called = |number| ClusterView { name: format!("a{number}"), was_called: true, ..ClusterView::default() };
    *doors.state.clusters.lock() = (0..600).map(called).collect();
    let all = Exposition::parse(&doors.get("/stats/prometheus").body);
    assert_eq!(all.named("envoy_cluster_membership_total").count(), 500);
    assert_eq!(all.sum("weft_metrics_clusters_left_out", &[]), 101.0);
    assert_eq!(all.sum("envoy_cluster_upstream_rq_pending_overflow", &[]), 9.0);
}

#[test]
fn levers_need_post() {
    let doors = Doors::open();
    for path in ["/drain", "/drain_listeners", "/quitquitquit", "/logging?level=info", "/reopen_logs"] {
        let reply = doors.get(path);
        assert_eq!(reply.status, 405, "{path}");
        assert!(reply.head.contains("allow: post"), "{}", reply.head);
    }
    assert_eq!(doors.post("/ready").status, 405);
    assert_eq!(doors.state.drains.load(Ordering::Relaxed), 0);
    assert_eq!(doors.post("/drain").status, 200);
    assert_eq!(doors.post("/drain_listeners").status, 200);
    assert_eq!(doors.post("/quitquitquit").status, 200);
    assert_eq!(doors.state.drains.load(Ordering::Relaxed), 2);
    assert_eq!(doors.state.quits.load(Ordering::Relaxed), 1);
    assert_eq!(doors.post("/reopen_logs").status, 200);
    assert_eq!(doors.state.reopens.load(Ordering::Relaxed), 1);
    let reply = doors.post("/logging?level=debug");
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("RUST_LOG"), "{}", reply.body);
}

#[test]
fn an_unknown_path_is_told_what_there_is() {
    let doors = Doors::open();
    let reply = doors.get("/nonsense");
    assert_eq!(reply.status, 404);
    assert!(reply.body.contains("/help"), "{}", reply.body);
    let help = doors.get("/help").body;
    for path in ["/ready", "/config_dump", "/clusters", "/stats", "/drain"] {
        assert!(help.contains(path), "{path} in {help}");
    }
    assert_eq!(doors.get("/").body, help);
}

#[test]
fn the_scrape_door_shows_nothing_but_numbers_and_readiness() {
    let doors = Doors::open();
    for (method, path) in [
        ("GET", "/config_dump"),
        ("GET", "/clusters"),
        ("GET", "/stats"),
        ("POST", "/drain"),
        ("POST", "/quitquitquit"),
    ] {
        let reply = ask(doors.scrape, method, path, "");
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.body.contains("admin port"), "{}", reply.body);
    }
    assert_eq!(doors.state.drains.load(Ordering::Relaxed), 0);
}

#[test]
fn a_web_page_cannot_pull_levers() {
    let doors = Doors::open();
    for headers in
        ["origin: https://evil.example\r\n", "sec-fetch-site: cross-site\r\n", "host: rebound.evil.example\r\n"]
    {
        assert_eq!(ask(doors.admin, "POST", "/drain", headers).status, 403, "{headers}");
        assert_eq!(ask(doors.admin, "GET", "/config_dump", headers).status, 403, "{headers}");
    }
    assert_eq!(doors.state.drains.load(Ordering::Relaxed), 0);
    for headers in ["host: localhost:15000\r\n", "host: LOCALHOST\r\n", "host: [::1]:15000\r\n", "host: 127.0.1.2\r\n"]
    {
        assert_eq!(ask(doors.admin, "GET", "/config_dump", headers).status, 200, "{headers}");
    }
    assert_eq!(raw(doors.admin, "GET /config_dump HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn a_huge_head_is_refused_and_the_door_stays_open() {
    let doors = Doors::open();
    let mut stream = TcpStream::connect(doors.admin).unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(64 * 1024)).as_bytes());
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    assert!(!reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
    assert_eq!(doors.get("/help").status, 200);
}

#[test]
fn connections_that_say_nothing_do_not_keep_the_end_waiting() {
    let doors = Doors::open();
    let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(doors.admin).unwrap()).collect();
    assert_eq!(doors.get("/help").status, 200);
    drop(doors);
    for mut stream in silent {
        let mut rest = Vec::new();
        // Closed or reset, both are an end.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
}
