use super::*;
use crate::Body;
use crate::read::tests::{body, problems};

const HEAD: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec:
  host: order
";

#[track_caller]
fn rule(spec: &str) -> DestinationRule {
    let parsed = crate::read("f", &format!("{HEAD}{spec}"));
    assert!(!parsed.problems.iter().any(crate::Problem::is_error), "{:?}", parsed.problems);
    match &parsed.objects[0].body {
        Body::DestinationRule(rule) => rule.clone(),
        other => panic!("{other:?}"),
    }
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn what_is_acted_on_is_read_without_a_warning() {
    let text = format!(
        "{HEAD}  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
    connectionPool:
      tcp: {{connectTimeout: 1.5s}}
      http: {{idleTimeout: 0s, maxRequestsPerConnection: 100, h2UpgradePolicy: UPGRADE}}
    portLevelSettings:
    - port: {{number: 8080}}
      loadBalancer: {{simple: LEAST_CONN}}
      connectionPool: {{http: {{useClientProtocol: true, maxRequestsPerConnection: 0}}}}
    tls: {{mode: DISABLE}}
  exportTo: ['*']
"
    );
    let Body::DestinationRule(rule) = body(&text) else { panic!() };
    assert_eq!((rule.host.as_str(), rule.host.place.line, rule.host.place.column), ("order", 5, 9));
    let host = rule.traffic_policy.for_port(9090);
    assert_eq!(host.load_balancer.as_ref().unwrap().policy, Some(LbPolicy::RoundRobin));
    assert_eq!(host.connection_pool.as_ref().unwrap().tcp.connect_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(host.connection_pool.as_ref().unwrap().http.idle_timeout, Some(Duration::ZERO));
    assert_eq!(host.connection_pool.as_ref().unwrap().http.max_requests_per_connection, Some(100));
    assert_eq!(host.connection_pool.as_ref().unwrap().http.h2_upgrade_policy, H2Upgrade::Upgrade);
    let port = rule.traffic_policy.for_port(8080);
    assert_eq!(port.load_balancer.as_ref().unwrap().policy, Some(LbPolicy::LeastRequest));
    assert_eq!(port.connection_pool.as_ref().unwrap().tcp.connect_timeout, None, "a port inherits nothing");
    assert!(port.connection_pool.as_ref().unwrap().http.use_client_protocol);
    assert_eq!(port.connection_pool.as_ref().unwrap().http.max_requests_per_connection, None, "0 is unlimited");
}

#[test]
fn every_simple_balancer_has_its_name() {
    for (name, policy) in [
        ("ROUND_ROBIN", LbPolicy::RoundRobin),
        ("LEAST_REQUEST", LbPolicy::LeastRequest),
        ("LEAST_CONN", LbPolicy::LeastRequest),
        ("UNSPECIFIED", LbPolicy::LeastRequest),
        ("RANDOM", LbPolicy::Random),
        ("PASSTHROUGH", LbPolicy::Passthrough),
    ] {
        let rule = rule(&format!("  trafficPolicy: {{loadBalancer: {{simple: {name}}}}}\n"));
        assert_eq!(rule.traffic_policy.settings.load_balancer.unwrap().policy, Some(policy), "{name}");
    }
}

const WHOLE: &str = include_str!("tests/whole.yaml");

#[test]
fn the_rest_is_typed_too() {
    let rule = rule(WHOLE);
    let policy = &rule.traffic_policy;
    let pool = policy.settings.connection_pool.as_ref().unwrap();
    assert_eq!(pool.tcp.max_connections, Some(100));
    assert_eq!(pool.tcp.keepalive, Some(TcpKeepalive { probes: Some(9), time: seconds(7200), interval: seconds(75) }));
    assert_eq!((pool.tcp.max_connection_duration, pool.tcp.idle_timeout), (seconds(3600), seconds(0)));
    assert_eq!((pool.http.http1_max_pending_requests, pool.http.http2_max_requests), (Some(1), Some(2)));
    assert_eq!((pool.http.max_retries, pool.http.max_concurrent_streams), (Some(3), Some(4)));
    assert_eq!(pool.http.http2_keepalive, Some(Http2Keepalive { interval: seconds(10), timeout: seconds(5) }));

    let outlier = policy.settings.outlier_detection.as_ref().unwrap();
    assert_eq!(outlier.consecutive_5xx_errors, Some(7), "by its old name");
    assert_eq!((outlier.consecutive_gateway_errors, outlier.consecutive_local_origin_failures), (Some(3), Some(2)));
    assert!(outlier.split_external_local_origin_errors);
    assert_eq!((outlier.interval, outlier.base_ejection_time), (seconds(5), seconds(60)));
    assert_eq!((outlier.max_ejection_percent, outlier.min_health_percent), (Some(50), Some(10)));
    assert_eq!(outlier.http_error_codes, [429, 500]);

    let tls = policy.settings.tls.as_ref().unwrap();
    assert_eq!(
        (tls.mode, tls.credential_name.as_deref(), tls.sni.as_deref()),
        (ClientTlsMode::Mutual, Some("c"), Some("s"))
    );
    let balancer = policy.settings.load_balancer.as_ref().unwrap();
    assert_eq!(
        balancer.policy,
        Some(LbPolicy::ConsistentHash(ConsistentHash {
            key: HashKey::Cookie { name: "user".into(), path: Some("/".into()), ttl: seconds(0) },
            algorithm: HashAlgorithm::Maglev { table_size: 131 },
        }))
    );
    let locality = balancer.locality.as_ref().unwrap();
    assert_eq!((locality.enabled, locality.distribute[0].to["eu/b/*"]), (Some(true), 20));
    assert_eq!(
        balancer.warmup,
        Some(Warmup { duration: Duration::from_secs(60), minimum_percent: 5.5, aggression: 2.0 })
    );
    let tunnel = policy.tunnel.as_ref().unwrap();
    assert_eq!((tunnel.protocol.as_str(), tunnel.target_host.as_str(), tunnel.target_port), ("POST", "h", 443));
    assert_eq!(policy.proxy_protocol, Some(ProxyProtocol::V2));
    assert_eq!(
        policy.retry_budget,
        Some(RetryBudget { percent: 12.5, min_retry_concurrency: 4, interval: seconds(10) })
    );
    assert_eq!((rule.subsets[0].name.as_str(), &rule.subsets[0].labels["version"]), ("v1", &"v1".into()));
    let subset = rule.subsets[0].traffic_policy.as_ref().unwrap();
    assert_eq!(subset.settings.load_balancer.as_ref().unwrap().policy, Some(LbPolicy::Random));
    assert_eq!(rule.export_to, ["."]);
    assert_eq!(rule.workload_selector.unwrap().match_labels["app"], "a");
}

#[test]
fn what_is_not_acted_on_is_a_warning_at_its_line() {
    let lines: Vec<&str> = WHOLE.lines().collect();
    let found = problems(&format!("{HEAD}{WHOLE}"));
    let mut named = Vec::new();
    for problem in &found {
        let (line, rest) = problem.split_once(':').unwrap();
        let line = lines[line.parse::<usize>().unwrap() - 6];
        let field = rest.split('`').nth(1).unwrap_or_else(|| panic!("{problem}"));
        assert!(line.trim_start().trim_start_matches("- ").starts_with(field) || line.contains(&format!("{field}:")));
        assert!(problem.contains(" warning: "), "{problem}");
        named.push(field);
    }
    assert_eq!(named, ["warmup", "tls", "tunnel", "proxyProtocol", "exportTo", "workloadSelector",]);
    assert_eq!(
        problems(&format!("{HEAD}  trafficPolicy:\n    loadBalancer: {{simple: PASSTHROUGH}}\n")),
        ["7:28 warning: spec.trafficPolicy.loadBalancer.simple: Weft does not act on PASSTHROUGH yet \
          (requests are spread as by LEAST_REQUEST)"]
    );
}

#[test]
fn sizes_of_hash_tables_are_envoys() {
    let algorithm = |written: &str| {
        let rule =
            rule(&format!("  trafficPolicy: {{loadBalancer: {{consistentHash: {{useSourceIp: true, {written}}}}}}}\n"));
        match rule.traffic_policy.settings.load_balancer.unwrap().policy {
            Some(LbPolicy::ConsistentHash(hash)) => hash.algorithm,
            other => panic!("{other:?}"),
        }
    };
    let ring = |minimum_ring_size| HashAlgorithm::RingHash { minimum_ring_size };
    assert_eq!(algorithm("minimumRingSize: 0"), ring(1024));
    assert_eq!(algorithm("minimumRingSize: 8"), ring(8));
    assert_eq!(algorithm("ringHash: {minimumRingSize: 16}"), ring(16));
    assert_eq!(algorithm("maglev: {}"), HashAlgorithm::Maglev { table_size: 65_537 });
    for (written, expected) in [
        (
            "maglev: {tableSize: 100}",
            "7:76 spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize: \
          100 is not a prime (write a prime such as 65537)",
        ),
        (
            "minimumRingSize: 8388609",
            "7:73 spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize: \
          8388609 is out of range (write a number from 0 to 8388608)",
        ),
    ] {
        let text =
            format!("{HEAD}  trafficPolicy:\n    loadBalancer: {{consistentHash: {{useSourceIp: true, {written}}}}}\n");
        assert_eq!(problems(&text), [expected]);
    }
}

#[test]
fn mistakes_are_said() {
    let found = problems(&format!(
        "{HEAD}  trafficPolicy:
    loadBalancer: {{simple: LEAST_CONNS, consistentHash: {{useSourceIp: true, httpHeaderName: a}}}}
    connectionPool:
      tcp: {{connectTimeout: 0s, maxConnection: 5}}
      http: {{maxRequestsPerConnection: -1, useClientProtocol: true, h2UpgradePolicy: UPGRADE}}
    outlierDetection: {{consecutiveErrors: 1, consecutive5xxErrors: 2, maxEjectionPercent: 101}}
    portLevelSettings:
    - port: {{number: 80}}
    - port: {{number: 80}}
    - loadBalancer: {{simple: RANDOM}}
    tls: {{mode: MUTUAL}}
  subsets: [{{name: a}}, {{name: a}}]
"
    ));
    let errors: Vec<&String> = found.iter().filter(|problem| !problem.contains(" warning: ")).collect();
    assert_eq!(
        errors,
        [
            "7:28 spec.trafficPolicy.loadBalancer.simple: \"LEAST_CONNS\" is not one of ROUND_ROBIN, LEAST_REQUEST, \
             LEAST_CONN, RANDOM, PASSTHROUGH, UNSPECIFIED (did you mean `LEAST_CONN`?)",
            "7:41 spec.trafficPolicy.loadBalancer.consistentHash: stands beside `simple` (keep one of the two)",
            "7:57 spec.trafficPolicy.loadBalancer.consistentHash: needs exactly one thing to hash \
             (write one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName)",
            "9:29 spec.trafficPolicy.connectionPool.tcp.connectTimeout: must be at least 1ms \
             (write a duration such as 500ms, 10s or 1m30s)",
            "9:33 spec.trafficPolicy.connectionPool.tcp.maxConnection: unknown field `maxConnection` \
             (did you mean `maxConnections`?)",
            "10:40 spec.trafficPolicy.connectionPool.http.maxRequestsPerConnection: -1 is out of range \
             (write a number from 0 to 536870912)",
            "10:44 spec.trafficPolicy.connectionPool.http.useClientProtocol: does not go with h2UpgradePolicy: UPGRADE \
             (keep one of the two)",
            "11:24 spec.trafficPolicy.outlierDetection.consecutiveErrors: is the old name of `consecutive5xxErrors`, \
             which is written too (remove it)",
            "11:91 spec.trafficPolicy.outlierDetection.maxEjectionPercent: 101 is out of range \
             (write a number from 0 to 100)",
            "14:7 spec.trafficPolicy.portLevelSettings: port 80 already has its settings in line 13 (join the two)",
            "15:7 spec.trafficPolicy.portLevelSettings[2].port: is missing (write `port:`)",
            "16:10 spec.trafficPolicy.tls.clientCertificate: is missing (mode MUTUAL needs it, or credentialName)",
            "16:10 spec.trafficPolicy.tls.privateKey: is missing (mode MUTUAL needs it, or credentialName)",
            "17:24 spec.subsets: a subset is already named a in line 17 (rename it)",
        ]
    );
}

#[test]
fn durations_are_gos() {
    for (written, millis) in [("0.5s", 500), ("1h1.5m", 3_690_000), ("1500us", 1), ("2000000ns", 2)] {
        let rule = rule(&format!("  trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {written}}}}}}}\n"));
        let read = rule.traffic_policy.settings.connection_pool.as_ref().unwrap().tcp.connect_timeout.unwrap();
        assert_eq!(read.as_millis(), millis, "{written}");
    }
    for written in ["10", "-1s", "1d", "1.2.3s", ".s", "9999999999999h", "s"] {
        let found =
            problems(&format!("{HEAD}  trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {written}}}}}}}\n"));
        assert!(
            found.len() == 1 && found[0].contains("duration") || found[0].contains("no unit"),
            "{written} {found:?}"
        );
    }
}
