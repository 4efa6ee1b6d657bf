//! One of every policy for when things go wrong.

use super::{ORDER, backend, endpoint, route};
use std::net::SocketAddr;
use std::time::Duration;
use weft_model::Resource;
use weft_model::balancer::{
    Balancer, HashPolicy, HashSource, LocalityRule, Persistence, SessionCarrier, SessionLifetimes, SlowStart,
};
use weft_model::breaker::{Priority, RetryBudget, RetryLimit, ShareOf, Thresholds, Trip, TripOn};
use weft_model::cluster::{Cluster, Discovery, Http2Keepalive, Keepalive, Protocol};
use weft_model::endpoint::{Endpoint, Endpoints, Health, Locality};
use weft_model::fault::{Abort, AbortWith, Delay, Fault};
use weft_model::health_check::{HealthCheck, Probe};
use weft_model::outlier::{OutlierDetection, Slow};
use weft_model::rate_limit::{Bucket, KeyPart, LimitAnswer, Mode, RateLimit, TokenBucket};
use weft_model::retry::{Backoff, RateLimitedBackoff, ResetFormat, ResetHeader, RetryOn, RetryPolicy};
use weft_model::route::{Action, Forward, HeaderMatch, PathMatch, Route, Share, StringMatch, Target};

const SECOND: Duration = Duration::from_secs(1);
const ZONED: &str = "zoned";

pub(super) fn clusters(nowhere: SocketAddr) -> Vec<Resource> {
    let to = |name: &str, balancer| {
        let mut cluster = Cluster::new(name);
        cluster.discovery = Discovery::Static(vec![endpoint(nowhere, Health::Healthy)]);
        cluster.balancer = balancer;
        cluster
    };
    let slow_start = Some(SlowStart { window: SECOND * 10, min_weight_percent: 20.0, aggression: 1.5 });
    let mut hashed = to("hashed", Balancer::RING_HASH);
    hashed.balancing.hash_balance_factor = Some(150);
    hashed.balancing.locality = LocalityRule::ZoneAware { routing_enabled_percent: 50.0, min_cluster_size: 3 };
    hashed.balancing.fail_traffic_on_panic = true;
    let mut guarded = guarded(to("guarded", Balancer::LeastRequest { choices: 3, bias: 2.0 }));
    guarded.balancing.slow_start = slow_start;
    let mut turns = to("turns", Balancer::RoundRobin);
    turns.balancing.slow_start = slow_start;
    turns.balancing.panic_threshold = 0;
    turns.balancing.fail_traffic_on_panic = true;
    let mut zoned = Cluster::new(ZONED);
    zoned.balancing.locality = LocalityRule::Weighted;
    zoned.outlier = Some(OutlierDetection::safe());
    let clusters =
        [hashed, guarded, turns, zoned, to("maglev", Balancer::MAGLEV), to("ewma", Balancer::PEAK_EWMA), pinged(to)];
    clusters.into_iter().map(Resource::Cluster).chain([localities(nowhere)]).collect()
}

fn guarded(mut cluster: Cluster) -> Cluster {
    cluster.breakers.default = Thresholds {
        max_connections: 1,
        max_pending_requests: 2,
        max_requests: 3,
        retries: RetryLimit::Budget(RetryBudget {
            percent: 25.5,
            min_concurrency: 1,
            of: ShareOf::BegunWithin(SECOND),
        }),
    };
    cluster.breakers.high.retries = RetryLimit::Concurrent(4);
    cluster.breakers.max_connections_per_host = Some(5);
    let on = TripOn::SuccessRate { threshold: 0.8, window: SECOND, min_requests: 5 };
    cluster.breakers.trip = Some(Trip { on, min_penalty: SECOND, max_penalty: SECOND * 60, jitter: 0.5 });
    cluster.outlier = Some(OutlierDetection {
        error_codes: vec![429, 500, 503],
        split_external_local_origin_errors: true,
        always_eject_one_host: true,
        keep_one_host: true,
        max_ejection_time_jitter: SECOND,
        slow: Some(Slow::default()),
        ..OutlierDetection::default()
    });
    let http = Probe::Http {
        host: "order".into(),
        path: "/healthz".into(),
        method: "HEAD".into(),
        expected: vec![200..=204, 302..=302],
        retriable: vec![500..=599],
        http2: false,
    };
    let tcp = Probe::Tcp { send: b"ping".to_vec(), receive: vec![b"po".to_vec(), b"ng".to_vec()] };
    cluster.health_checks = [http, tcp].map(check).into();
    cluster
}

/// Over HTTP/2, which gRPC checks and pings need.
fn pinged(to: impl Fn(&str, Balancer) -> Cluster) -> Cluster {
    let mut cluster = to("pinged", Balancer::Random);
    cluster.protocol = Protocol::Http2;
    cluster.pool.max_connection_duration = Some(SECOND * 60);
    cluster.pool.max_concurrent_streams = Some(100);
    cluster.pool.http2_keepalive = Some(Http2Keepalive { interval: SECOND * 30, timeout: SECOND });
    cluster.pool.keepalive = Some(Keepalive { probes: Some(3), time: Some(SECOND * 60), interval: None });
    cluster.health_checks = vec![check(Probe::Grpc { service: "order".into(), authority: "order".into() })];
    cluster
}

fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        timeout: SECOND,
        interval: SECOND * 60,
        no_traffic_interval: SECOND * 60,
        interval_jitter: SECOND,
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        reuse_connection: false,
        probe,
    }
}

fn localities(nowhere: SocketAddr) -> Resource {
    let zone = |zone: &str| Locality { region: "eu".into(), zone: zone.into(), sub_zone: String::new() };
    let member = |priority, at: &str, port| {
        let address = SocketAddr::new(nowhere.ip(), port);
        Endpoint { priority, locality: zone(at), ..Endpoint::at(address) }
    };
    Resource::Endpoints(Endpoints {
        cluster: ZONED.into(),
        endpoints: vec![member(0, "a", 1), member(0, "a", 2), member(0, "b", 3), member(1, "a", 4)],
        locality_weights: vec![(zone("a"), 3), (zone("b"), 1)],
    })
}

pub(super) fn routes() -> Vec<Route> {
    let route = |path: &str, forward| route(path, PathMatch::PathPrefix(path.into()), Action::Forward(forward));
    let order = || Forward { backends: vec![backend(Target::Cluster(ORDER.into()), 1)], ..Forward::default() };
    let cookie = SessionCarrier::Cookie { name: "sticky".into(), path: "/".into(), ttl: Some(SECOND * 60) };
    let header = SessionCarrier::Header { name: "x-sticky".into() };
    let lifetimes = SessionLifetimes { absolute: Some(SECOND * 3600), idle: Some(SECOND * 60) };
    let held = |carrier| Some(Persistence { carrier, lifetimes });
    vec![
        route("/retried", retried(order())),
        Route { fault: Some(fault()), ..route("/aborted", order()) },
        Route { rate_limits: vec![by_caller(), limit("all", Mode::Enforce)], ..route("/limited", order()) },
        Route { rate_limits: vec![limit("shadow", Mode::Shadow)], ..route("/shadow", order()) },
        route("/sticky", Forward { persistence: held(cookie), ..order() }),
        route("/by-header", Forward { persistence: held(header), ..order() }),
    ]
}

fn retried(forward: Forward) -> Forward {
    let on = RetryOn::all_names().filter_map(RetryOn::named).fold(RetryOn::NONE, |all, reason| all | reason);
    let reset = |name: &str, format| ResetHeader { name: name.into(), format };
    let retry = RetryPolicy {
        on,
        status_codes: vec![425, 429],
        headers: vec![HeaderMatch { name: "x-again".into(), value: StringMatch::Present, invert: false }],
        num_retries: 2,
        per_try_timeout: Some(SECOND),
        per_try_idle_timeout: Some(SECOND),
        backoff: Backoff { base: SECOND / 1000, max: SECOND / 100 },
        min_wait: SECOND / 10,
        rate_limited_backoff: Some(RateLimitedBackoff {
            reset_headers: vec![
                reset("retry-after", ResetFormat::Seconds),
                reset("x-reset", ResetFormat::UnixTimestamp),
            ],
            max_interval: SECOND,
        }),
        avoid_previous_hosts: true,
        host_selection_attempts: 5,
        avoid_previous_priorities: Some(2),
        hedge_on_per_try_timeout: true,
        idempotent_only: true,
    };
    let cookie = HashSource::Cookie { name: "user".into(), path: "/".into(), ttl: Some(Duration::ZERO) };
    let sources =
        [HashSource::Header("x-user".into()), cookie, HashSource::SourceIp, HashSource::QueryParameter("user".into())];
    Forward {
        retry: Some(retry),
        backend_timeout: Some(SECOND * 2),
        request_timeout: Some(SECOND * 5),
        idle_timeout: Some(SECOND * 5),
        grpc_timeout_max: Some(SECOND * 5),
        priority: Priority::High,
        hash: sources.map(|source| HashPolicy { source, terminal: true }).into(),
        ..forward
    }
}

fn fault() -> Fault {
    Fault {
        delay: Some(Delay { duration: Duration::from_millis(1), share: Share::ALL }),
        abort: Some(Abort { with: AbortWith::Http(451), share: Share::ALL }),
        max_active: Some(10),
    }
}

/// Two requests, and for an hour no more.
fn limit(name: &str, mode: Mode) -> RateLimit {
    let limit = TokenBucket { max_tokens: 2, tokens_per_fill: 2, fill_interval: SECOND * 3600 };
    let bucket = Bucket { name: "all".into(), key: vec![], limit, max_keys: 1 };
    let answer = LimitAnswer { status: 503, ..LimitAnswer::default() };
    RateLimit { name: name.into(), mode, buckets: vec![bucket], answer }
}

/// What no Envoy knows.
fn by_caller() -> RateLimit {
    let mut limit = limit("by caller", Mode::Enforce);
    limit.buckets[0].key = vec![KeyPart::Caller, KeyPart::HeaderIs { name: "x-tier".into(), value: "free".into() }];
    limit.buckets[0].limit.fill_interval = Duration::from_millis(1);
    limit
}
