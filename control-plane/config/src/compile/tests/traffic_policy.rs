//! DestinationRules as what clusters and the routes to them obey.

use super::endpoints::{rule, slice};
use super::*;
use std::time::Duration;
use weft_model::balancer::{Balancer, HashPolicy, HashSource, SlowStart};
use weft_model::breaker::{CircuitBreakers, RetryBudget, RetryLimit, ShareOf, Thresholds};
use weft_model::cluster::{Http2Keepalive, Keepalive, Pool, Protocol};
use weft_model::outlier::{Consecutive, OutlierDetection, SuccessRate};

pub(super) const ORDER: &str = "outbound|8080||order.shop.svc.cluster.local";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The cluster of `shop/order` under a rule of this policy.
fn under(policy: &str) -> Cluster {
    let yaml = format!("{}{}", service("shop/order", PORT_8080), rule("shop/r", "order", policy));
    sidecar(&yaml, "shop").cluster(ORDER).clone()
}

#[test]
fn every_limit_and_time_of_a_connection_pool_is_obeyed() {
    let cluster = under(
        "connectionPool: {tcp: {maxConnections: 1, connectTimeout: 3s, maxConnectionDuration: 1h, idleTimeout: 9s, \
         tcpKeepalive: {probes: 2, time: 60s, interval: 5s}}, http: {http1MaxPendingRequests: 3, http2MaxRequests: 4, \
         maxRequestsPerConnection: 5, maxRetries: 6, idleTimeout: 7s, maxConcurrentStreams: 8, \
         http2KeepAlive: {interval: 10s, timeout: 2s}}}",
    );
    let limits =
        Thresholds { max_connections: 1, max_pending_requests: 3, max_requests: 4, retries: RetryLimit::Concurrent(6) };
    assert_eq!(cluster.breakers, CircuitBreakers { default: limits, ..CircuitBreakers::default() });
    assert_eq!(cluster.connect_timeout, seconds(3));
    let pool = Pool {
        max_requests_per_connection: Some(5),
        idle_timeout: Some(seconds(7)),
        max_connection_duration: Some(seconds(3600)),
        max_concurrent_streams: Some(8),
        keepalive: Some(Keepalive { probes: Some(2), time: Some(seconds(60)), interval: Some(seconds(5)) }),
        http2_keepalive: Some(Http2Keepalive { interval: seconds(10), timeout: seconds(2) }),
    };
    assert_eq!(cluster.pool, pool);
}

#[test]
fn what_a_rule_leaves_out_is_istios_default() {
    for policy in [
        "",
        "connectionPool: {}",
        "connectionPool: {tcp: {}, http: {http1MaxPendingRequests: 0, http2MaxRequests: 0, maxRetries: 0}}",
    ] {
        let cluster = under(policy);
        assert_eq!(cluster.breakers, CircuitBreakers::default(), "{policy}");
        assert_eq!((cluster.pool, cluster.connect_timeout), (Pool::default(), seconds(10)), "{policy}");
        assert_eq!((cluster.balancer, cluster.protocol), (Balancer::LEAST_REQUEST, Protocol::Http1), "{policy}");
    }
    let ping = under("connectionPool: {http: {http2KeepAlive: {interval: 10s}}}").pool.http2_keepalive;
    assert_eq!(ping, Some(Http2Keepalive { interval: seconds(10), timeout: seconds(20) }));
}

#[test]
fn a_cluster_without_outlier_detection_is_safe_and_does_not_panic() {
    let alone = sidecar(&service("shop/order", PORT_8080), "shop");
    let ruled = under("loadBalancer: {simple: RANDOM}");
    for cluster in [alone.cluster(ORDER), &ruled] {
        assert_eq!(cluster.outlier, Some(OutlierDetection::safe()));
        assert_eq!(cluster.balancing.panic_threshold, 0);
    }
    assert_eq!(alone.cluster("PassthroughCluster").outlier, None);
    let edge = edge(&format!(
        "{}{}{}",
        gateway(&["name: http, port: 80, protocol: HTTP"]),
        route("infra/r", TO_ORDER),
        service("infra/order", PORT_8080)
    ));
    assert_eq!(edge.cluster("outbound|8080||order.infra.svc.cluster.local").outlier, Some(OutlierDetection::safe()));
}

#[test]
fn outlier_detection_is_exactly_istios() {
    let never = SuccessRate { enforcing: 0, enforcing_local_origin: 0, ..SuccessRate::default() };
    let istio = OutlierDetection { success_rate: never, ..OutlierDetection::default() };
    let empty = under("outlierDetection: {}");
    assert_eq!((empty.outlier, empty.balancing.panic_threshold), (Some(istio.clone()), 0));
    let on = |threshold| Consecutive { threshold, enforcing: 100 };
    let all = under(
        "outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 3, splitExternalLocalOriginErrors: true, \
         consecutiveLocalOriginFailures: 2, interval: 5s, baseEjectionTime: 10m, maxEjectionPercent: 50, minHealthPercent: 30, \
         outlierDetectionHttpErrorCodes: [429, 500]}",
    );
    let expected = OutlierDetection {
        consecutive_5xx: on(7),
        consecutive_gateway_failure: on(3),
        consecutive_local_origin_failure: on(2),
        split_external_local_origin_errors: true,
        interval: seconds(5),
        base_ejection_time: seconds(600),
        max_ejection_time: seconds(600),
        max_ejection_percent: 50,
        error_codes: vec![429, 500],
        ..istio.clone()
    };
    assert_eq!((all.outlier, all.balancing.panic_threshold), (Some(expected), 30));
    let off = Consecutive { threshold: 0, enforcing: 0 };
    let zeros =
        under("outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 0, maxEjectionPercent: 0}");
    let expected = OutlierDetection { consecutive_5xx: off, consecutive_gateway_failure: off, ..istio };
    assert_eq!(zeros.outlier, Some(expected));
    let old_name = under("outlierDetection: {consecutiveErrors: 9}").outlier.unwrap();
    assert_eq!(old_name.consecutive_5xx, on(9));
}

#[test]
fn a_service_that_publishes_unready_endpoints_never_panics() {
    let order = service("shop/order", &format!("publishNotReadyAddresses: true, {PORT_8080}"));
    let policy = rule("shop/r", "order", "outlierDetection: {minHealthPercent: 30}");
    let held = sidecar(&format!("{order}{policy}"), "shop");
    assert_eq!(held.cluster(ORDER).balancing.panic_threshold, 0);
}

#[test]
fn a_retry_budget_stands_in_place_of_a_count() {
    let retries = |policy: &str| under(policy).breakers.default.retries;
    let budget = |percent, min_concurrency, of| RetryLimit::Budget(RetryBudget { percent, of, min_concurrency });
    assert_eq!(retries(""), budget(20.0, 3, ShareOf::FirstTries), "of nobody's writing");
    assert_eq!(retries("retryBudget: {}"), budget(20.0, 3, ShareOf::AllTries), "Envoy's");
    assert_eq!(
        retries(
            "retryBudget: {percent: 12.5, minRetryConcurrency: 4, budgetInterval: 10s}, connectionPool: {http: {maxRetries: 1}}"
        ),
        budget(12.5, 4, ShareOf::BegunWithin(seconds(10)))
    );
    assert_eq!(retries("retryBudget: {budgetInterval: 0s}"), budget(20.0, 3, ShareOf::AllTries));
    assert_eq!(
        retries("retryBudget: {percent: 1}, portLevelSettings: [{port: {number: 8080}}]"),
        budget(1.0, 3, ShareOf::AllTries),
        "a port has no budget of its own"
    );
}

#[test]
fn balancers_have_their_sizes_and_warm_up() {
    let balancer = |written: &str| under(&format!("loadBalancer: {{{written}}}")).balancer;
    let ring = |minimum_size| Balancer::RingHash { minimum_size, maximum_size: 8_388_608 };
    assert_eq!(balancer("consistentHash: {useSourceIp: true}"), ring(1024));
    assert_eq!(balancer("consistentHash: {useSourceIp: true, minimumRingSize: 9}"), ring(9));
    assert_eq!(balancer("consistentHash: {useSourceIp: true, maglev: {}}"), Balancer::MAGLEV);
    let warm = |more: &str| under(&format!("loadBalancer: {{{more}}}")).balancing.slow_start;
    let start =
        |min_weight_percent, aggression| Some(SlowStart { window: seconds(60), min_weight_percent, aggression });
    assert_eq!(warm("warmupDurationSecs: 60s"), start(10.0, 1.0));
    assert_eq!(
        warm("simple: ROUND_ROBIN, warmup: {duration: 60s, minimumPercent: 5.5, aggression: 2}"),
        start(5.5, 2.0)
    );
    assert_eq!(warm("simple: RANDOM, warmup: {duration: 60s}"), None);
}

#[test]
fn every_route_to_a_hashed_cluster_has_its_key_and_does_not_avoid_hosts() {
    let hash = |written: &str| {
        let policy = format!("loadBalancer: {{consistentHash: {{{written}}}}}");
        let yaml = format!("{}{}", service("shop/order", PORT_8080), rule("shop/r", "order", &policy));
        forward(&sidecar(&yaml, "team").routes("outbound", "order.shop")[0]).hash.clone()
    };
    let of = |source| [HashPolicy { source, terminal: false }];
    assert_eq!(hash("httpHeaderName: X-User"), of(HashSource::Header("x-user".into())));
    assert_eq!(hash("useSourceIp: true"), of(HashSource::SourceIp));
    assert_eq!(hash("httpQueryParameterName: u"), of(HashSource::QueryParameter("u".into())));
    let cookie = |path: &str, ttl| of(HashSource::Cookie { name: "c".into(), path: path.into(), ttl });
    assert_eq!(hash("httpCookie: {name: c, path: /p, ttl: 0s}"), cookie("/p", Some(seconds(0))));
    assert_eq!(hash("httpCookie: {name: c}"), cookie("", None));

    let rules = "rules: [{retry: {}, backendRefs: [{name: order, port: 8080}, {name: plain, port: 8080}]}, \
                 {retry: {}, backendRefs: [{name: plain, port: 8080}]}]";
    let yaml = [
        gateway(&["name: http, port: 80, protocol: HTTP"]),
        route("infra/r", rules),
        service("infra/order", PORT_8080),
        service("infra/plain", PORT_8080),
        rule("infra/r", "order", "loadBalancer: {consistentHash: {useSourceIp: true}}"),
    ];
    let held = edge(&yaml.concat());
    let routes = held.routes("infra/edge|80", "*");
    let told: Vec<(usize, bool)> = routes
        .iter()
        .map(|route| (forward(route).hash.len(), forward(route).retry.as_ref().unwrap().avoid_previous_hosts))
        .collect();
    assert_eq!(told, [(1, false), (0, true)]);
}

#[test]
fn inbound_only_the_connection_pool_counts() {
    let policy = "loadBalancer: {simple: RANDOM}, outlierDetection: {}, retryBudget: {percent: 1}, \
                  connectionPool: {tcp: {maxConnections: 5, idleTimeout: 0s}, http: {http2MaxRequests: 6, h2UpgradePolicy: UPGRADE}}";
    let of_port = |port: &str| {
        let spec = format!("ports: [{{name: {port}, port: 80, targetPort: 8000}}], selector: {{app: order}}");
        let yaml = format!("{}{}", service("shop/order", &spec), rule("shop/r", "order", policy));
        let mut node = node(Role::Sidecar, "shop", "order");
        node.labels = BTreeMap::from([("app".into(), "order".into())]);
        Held(Mesh::compile(&world(&yaml)).for_node(&node))
    };
    let held = of_port("http");
    let cluster = held.cluster("inbound|8000||");
    let limits = cluster.breakers.default;
    assert_eq!((limits.max_connections, limits.max_requests, limits.retries), (5, 6, RetryLimit::default()));
    assert_eq!((cluster.balancer, &cluster.outlier, cluster.protocol), (Balancer::default(), &None, Protocol::Http1));
    assert_eq!(cluster.balancing.panic_threshold, 50);
    assert_eq!(cluster.origin.object, "DestinationRule shop/r");
    let held = of_port("tcp");
    let Handler::Tcp(tcp) = &held.listener("inbound|8000").chains[0].handler else { panic!() };
    assert_eq!((tcp.idle_timeout, held.cluster("inbound|8000||").pool.idle_timeout), (None, None));
}

pub(super) fn pod(name: &str, labels: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\nspec: {{containers: [{{name: c, image: x}}]}}\n---\n"
    )
}

/// `shop/order` with a Pod of each set of labels, at 127.0.1.1 and so on.
pub(super) fn order_of(pods: &[&str]) -> String {
    let numbered = || pods.iter().enumerate().map(|(at, labels)| (at + 1, labels));
    let endpoints: Vec<String> = numbered()
        .map(|(at, _)| format!("addresses: [127.0.1.{at}], targetRef: {{kind: Pod, name: p{at}, namespace: shop}}"))
        .collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let pods: Vec<String> = numbered().map(|(at, labels)| pod(&format!("shop/p{at}"), labels)).collect();
    let slice = slice("shop/order", "{name: http, port: 8080}", &endpoints);
    format!("{}{slice}{}", service("shop/order", PORT_8080), pods.concat())
}

pub(super) fn addresses(endpoints: &Endpoints) -> Vec<String> {
    endpoints.endpoints.iter().map(|endpoint| endpoint.address.ip().to_string()).collect()
}

const SUBSETS: &str = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}, trafficPolicy: \
    {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 9090}, outlierDetection: {interval: 1s}}]}}]";

fn with_subsets(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: s, namespace: shop}}\n\
         spec: {{host: order, trafficPolicy: {{{policy}}}, {SUBSETS}}}\n---\n"
    )
}

#[test]
fn subsets_are_clusters_of_the_endpoints_that_have_their_labels() {
    let yaml = format!("{}{}", order_of(&["version: v1", "version: v2, app: a", "app: b"]), with_subsets(""));
    let held = sidecar(&yaml, "team");
    let subset = |name: &str| format!("outbound|8080|{name}|order.shop.svc.cluster.local");
    assert_eq!(addresses(held.endpoints(ORDER)), ["127.0.1.1", "127.0.1.2", "127.0.1.3"]);
    assert_eq!(addresses(held.endpoints(&subset("v1"))), ["127.0.1.1"]);
    assert_eq!(addresses(held.endpoints(&subset("v2"))), ["127.0.1.2"]);
    let cluster = held.cluster(&subset("v2"));
    assert_eq!(cluster.origin.object, "DestinationRule shop/s subset v2");
    assert_eq!(cluster.service.host, "order.shop.svc.cluster.local");
}

#[test]
fn a_subsets_policy_stands_over_the_rules_group_by_group_and_a_ports_over_all() {
    let policy = "loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: {maxConnections: 5}}, outlierDetection: {interval: 3s}";
    let yaml = format!(
        "{}{}",
        service("shop/order", "ports: [{name: http, port: 8080}, {name: http-b, port: 9090}]"),
        with_subsets(policy)
    );
    let held = sidecar(&yaml, "shop");
    let seen = |port: u16, subset: &str| {
        let cluster = held.cluster(&format!("outbound|{port}|{subset}|order.shop.svc.cluster.local"));
        let interval = cluster.outlier.as_ref().unwrap().interval;
        (cluster.balancer, cluster.breakers.default.max_connections, interval)
    };
    assert_eq!(seen(8080, ""), (Balancer::RoundRobin, 5, seconds(3)));
    assert_eq!(seen(8080, "v1"), (Balancer::RoundRobin, 5, seconds(3)));
    assert_eq!(seen(8080, "v2"), (Balancer::Random, 5, seconds(3)));
    assert_eq!(seen(9090, "v2"), (Balancer::default(), u32::MAX, seconds(1)), "settings of a port inherit nothing");
}

#[test]
fn a_callers_own_rule_has_its_own_subsets() {
    let own = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: own, namespace: team}\n\
               spec: {host: order.shop.svc.cluster.local, subsets: [{name: v1, labels: {app: b}}]}\n---\n";
    let yaml = format!("{}{}{own}", order_of(&["version: v1", "app: b"]), with_subsets(""));
    let v1 = "outbound|8080|v1|order.shop.svc.cluster.local";
    assert_eq!(addresses(sidecar(&yaml, "team").endpoints(v1)), ["127.0.1.2"]);
    assert_eq!(addresses(sidecar(&yaml, "shop").endpoints(v1)), ["127.0.1.1"]);
}
