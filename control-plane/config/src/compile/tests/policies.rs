//! What is said of retries, sessions, breakers and rates apart from DestinationRules.

use super::*;
use std::time::Duration;
use weft_model::balancer::{Persistence, SessionCarrier, SessionLifetimes};
use weft_model::breaker::{RetryBudget, RetryLimit, ShareOf, Trip, TripOn};
use weft_model::rate_limit::{KeyPart, Mode, RateLimit};
use weft_model::retry::{Backoff, RetryOn};

const ORDER: &str = "outbound|8080||order.shop.svc.cluster.local";
const HTTP: &str = "name: http, port: 80, protocol: HTTP";

fn order_with(annotations: &str) -> String {
    let head = format!("metadata: {{name: order, namespace: shop, annotations: {{{annotations}}}}}");
    service("shop/order", PORT_8080).replace("metadata: {name: order, namespace: shop}", &head)
}

fn accrual(annotations: &[(&str, &str)]) -> Option<Trip> {
    let lines: Vec<String> =
        annotations.iter().map(|(name, value)| format!("balancer.linkerd.io/{name}: \"{value}\"")).collect();
    sidecar(&order_with(&lines.join(", ")), "shop").cluster(ORDER).breakers.trip
}

#[test]
fn linkerds_failure_accrual_is_a_breaker_around_each_endpoint() {
    assert_eq!(accrual(&[]), None);
    let on = ("failure-accrual", "consecutive");
    let default = Trip {
        on: TripOn::Consecutive { failures: 7 },
        min_penalty: Duration::from_secs(1),
        max_penalty: Duration::from_secs(60),
        jitter: 0.5,
    };
    assert_eq!(accrual(&[on]), Some(default));
    let all = [
        on,
        ("failure-accrual-consecutive-max-failures", "3"),
        ("failure-accrual-consecutive-min-penalty", "500ms"),
        ("failure-accrual-consecutive-max-penalty", "2m"),
        ("failure-accrual-consecutive-jitter-ratio", "0"),
    ];
    let expected = Trip {
        on: TripOn::Consecutive { failures: 3 },
        min_penalty: Duration::from_millis(500),
        max_penalty: Duration::from_secs(120),
        jitter: 0.0,
    };
    assert_eq!(accrual(&all), Some(expected));
    assert_eq!(accrual(&[on, ("failure-accrual-consecutive-max-failures", "0")]), None);
    assert_eq!(accrual(&[("failure-accrual", "other")]), None);
}

fn rule_with(more: &str) -> Forward {
    let rules = format!("rules: [{{{more}, backendRefs: [{{name: order, port: 8080}}]}}]");
    let yaml = format!("{}{}{}", gateway(&[HTTP]), route("infra/r", &rules), service("infra/order", PORT_8080));
    forward(&edge(&yaml).routes("infra/edge|80", "*")[0]).clone()
}

#[test]
fn a_rules_retry_repeats_its_codes_and_failed_connections_and_its_backoff_is_a_minimum() {
    let ms = Duration::from_millis;
    let retry = rule_with("retry: {codes: [500, 503], attempts: 3, backoff: 100ms}").retry.unwrap();
    let connection = RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM | RetryOn::RESET;
    assert_eq!(retry.on, connection | RetryOn::RETRIABLE_STATUS_CODES);
    assert_eq!((retry.status_codes.as_slice(), retry.num_retries), (&[500, 503][..], 3));
    assert_eq!((retry.min_wait, retry.backoff), (ms(100), Backoff { base: ms(100), max: ms(1000) }));
    assert!(retry.avoid_previous_hosts);
    let empty = rule_with("retry: {}").retry.unwrap();
    assert_eq!((empty.on, empty.num_retries), (connection, 2));
    assert_eq!((empty.min_wait, empty.backoff), (ms(0), Backoff::default()));
    assert_eq!(rule_with("retry: {attempts: 0}").retry.unwrap().num_retries, 0);
    assert!(!rule_with("name: none").retry.unwrap().on.has(RetryOn::RESET), "the default");
}

#[test]
fn a_rules_session_is_kept_under_its_name_or_one_of_its_own() {
    let cookie = |name: &str, ttl, lifetimes| {
        let carrier = SessionCarrier::Cookie { name: name.into(), path: "/".into(), ttl };
        Some(Persistence { carrier, lifetimes })
    };
    let limited = |absolute: Option<u64>, idle: Option<u64>| SessionLifetimes {
        absolute: absolute.map(Duration::from_secs),
        idle: idle.map(Duration::from_secs),
    };
    let session = |written: &str| rule_with(&format!("sessionPersistence: {{{written}}}")).persistence;
    assert_eq!(session(""), cookie("weft-session-infra-r-0", None, limited(None, None)));
    let permanent = "sessionName: shop, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}";
    assert_eq!(session(permanent), cookie("shop", Some(Duration::from_secs(3600)), limited(Some(3600), None)));
    let idle = cookie("shop", None, limited(Some(3600), Some(60)));
    assert_eq!(session("sessionName: shop, absoluteTimeout: 1h, idleTimeout: 1m"), idle);
    let unlimited = cookie("shop", None, limited(None, None));
    assert_eq!(session("sessionName: shop, absoluteTimeout: 0s, idleTimeout: 0s"), unlimited, "0 is no limit");
    let header = SessionCarrier::Header { name: "x-s".into() };
    let held = Some(Persistence { carrier: header, lifetimes: limited(None, Some(60)) });
    assert_eq!(session("sessionName: x-s, type: Header, idleTimeout: 1m"), held);
}

/// A policy of `shop`, in the `weft.dev` or the experimental group.
fn policy(kind: &str, name: &str, spec: &str) -> String {
    let group = if kind == "RateLimitPolicy" { "weft.dev" } else { "gateway.networking.x-k8s.io" };
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: {group}/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn backend_policy(name: &str, spec: &str) -> String {
    policy("XBackendTrafficPolicy", name, &format!("targetRefs: [{{group: \"\", kind: Service, name: order}}], {spec}"))
}

#[test]
fn a_services_owner_budgets_the_retries_of_its_callers() {
    let order = service("shop/order", PORT_8080);
    let retries = |more: &str| {
        let held = sidecar(&format!("{order}{more}"), "team");
        let breakers = held.cluster(ORDER).breakers;
        assert_eq!(breakers.default.retries, breakers.high.retries);
        breakers.default.retries
    };
    let budget = |percent, min_concurrency, seconds| {
        let of = ShareOf::BegunWithin(Duration::from_secs(seconds));
        RetryLimit::Budget(RetryBudget { percent, of, min_concurrency })
    };
    assert_eq!(retries(""), RetryLimit::default(), "a retry always has a budget");
    // 20 % per 10 s, at least 10 per 1 s
    assert_eq!(retries(&backend_policy("shop/p", "retryConstraint: {}")), budget(20.0, 100, 10));
    let written = "retryConstraint: {budget: {percent: 5, interval: 1s}, minRetryRate: {count: 3, interval: 2s}}";
    assert_eq!(retries(&backend_policy("shop/p", written)), budget(5.0, 2, 1));
    let two = format!("{}{}", backend_policy("shop/a", written), backend_policy("shop/b", "retryConstraint: {}"));
    assert_eq!(retries(&two), budget(5.0, 2, 1), "the first by name");
    let rule =
        super::endpoints::rule("shop/r", "order", "connectionPool: {http: {maxRetries: 4}}, retryBudget: {percent: 1}");
    let ruled = sidecar(&format!("{order}{}{rule}", backend_policy("shop/p", written)), "team");
    let callers_own = RetryLimit::Budget(RetryBudget { percent: 1.0, ..RetryBudget::ENVOY });
    assert_eq!(ruled.cluster(ORDER).breakers.default.retries, callers_own, "a DestinationRule comes first");
    assert_eq!(retries(&backend_policy("team/p", written)), RetryLimit::default(), "a policy is of its namespace");
}

#[test]
fn a_services_owner_keeps_sessions_on_every_route_that_says_nothing_itself() {
    let policy = backend_policy("shop/p", "sessionPersistence: {type: Header}");
    let held = sidecar(&format!("{}{policy}", service("shop/order", PORT_8080)), "team");
    let header = |name: &str| {
        let carrier = SessionCarrier::Header { name: name.into() };
        Some(Persistence { carrier, lifetimes: SessionLifetimes::default() })
    };
    assert_eq!(forward(&held.routes("outbound", "order.shop")[0]).persistence, header("weft-session-shop-p"));
    let rules =
        "rules: [{sessionPersistence: {sessionName: own, type: Header}, backendRefs: [{name: order, port: 8080}]}]";
    let mesh = route("shop/r", &format!("parentRefs: [{{group: \"\", kind: Service, name: order}}], {rules}"));
    let held = sidecar(&format!("{}{policy}{mesh}", service("shop/order", PORT_8080)), "team");
    assert_eq!(forward(&held.routes("outbound", "order.shop")[1]).persistence, header("own"));
}

const TEN_PER_SECOND: &str = "limits: [{name: a, requests: 10, per: 1s}]";

fn limit(name: &str, target: &str) -> String {
    policy("RateLimitPolicy", name, &format!("targetRefs: [{{{target}}}], {TEN_PER_SECOND}"))
}

fn limits(route: &Route) -> Vec<&str> {
    route.rate_limits.iter().map(|limit| limit.name.as_str()).collect()
}

#[test]
fn a_gateways_limits_are_on_all_routes_of_the_listeners_that_they_name_and_a_routes_on_its_rules() {
    let gateway_api = "group: gateway.networking.k8s.io";
    let rules =
        "rules: [{name: one, backendRefs: [{name: o, port: 1}]}, {name: two, backendRefs: [{name: o, port: 1}]}]";
    let listeners = [
        "name: a, port: 80, protocol: HTTP, hostname: a.example",
        "name: b, port: 80, protocol: HTTP, hostname: b.example",
    ];
    let yaml = [
        gateway(&listeners),
        route("infra/r", rules),
        limit("infra/whole", &format!("{gateway_api}, kind: Gateway, name: edge")),
        limit("infra/at-b", &format!("{gateway_api}, kind: Gateway, name: edge, sectionName: b")),
        limit("infra/all-rules", &format!("{gateway_api}, kind: HTTPRoute, name: r")),
        limit("infra/rule-two", &format!("{gateway_api}, kind: HTTPRoute, name: r, sectionName: two")),
        limit("team/elsewhere", &format!("{gateway_api}, kind: Gateway, name: edge")),
    ];
    let held = edge(&yaml.concat());
    let of = |domain: &str| held.routes("infra/edge|80", domain).iter().map(limits).collect::<Vec<_>>();
    assert_eq!(
        of("a.example"),
        [vec!["infra/whole", "infra/all-rules"], vec!["infra/whole", "infra/all-rules", "infra/rule-two"]]
    );
    assert_eq!(of("b.example")[0], ["infra/at-b", "infra/whole", "infra/all-rules"]);
}

#[test]
fn a_listener_sets_listener_has_the_whole_gateways_limits_and_nobodys_virtual_services() {
    let gateway_ref = "group: gateway.networking.k8s.io, kind: Gateway, name: edge";
    let letting_in = "  allowedListeners: {namespaces: {from: Same}}\n";
    let set = "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: more, namespace: infra}\n\
               spec: {parentRef: {name: edge}, listeners: [{name: http, port: 81, protocol: HTTP}]}\n---\n";
    let both = format!("parentRefs: [{{name: edge}}, {{kind: ListenerSet, name: more}}], {TO_ORDER}");
    let yaml = [
        gateway(&[HTTP]).replace("---\n", &format!("{letting_in}---\n")),
        set.to_owned(),
        route("infra/r", &both),
        virtual_service(
            "infra/v",
            "hosts: [a.example], gateways: [edge], http: [{route: [{destination: {host: order}}]}]",
        ),
        limit("infra/whole", gateway_ref),
        limit("infra/at-http", &format!("{gateway_ref}, sectionName: http")),
    ];
    let held = edge(&yaml.concat());
    assert_eq!(limits(&held.routes("infra/edge|80", "*")[0]), ["infra/at-http", "infra/whole"]);
    assert_eq!(limits(&held.routes("infra/edge|81", "*")[0]), ["infra/whole"], "another listener has that name");
    let domains =
        |table: &str| held.table(table).virtual_hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>();
    assert_eq!(domains("infra/edge|80"), ["*", "a.example"]);
    assert_eq!(domains("infra/edge|81"), ["*"]);
}

#[test]
fn limits_of_a_gateway_and_of_a_service_hold_for_virtual_services_too() {
    let gateway_ref = "group: gateway.networking.k8s.io, kind: Gateway, name: edge";
    let spec = "hosts: [a.example, order.infra.svc.cluster.local], gateways: [mesh, infra/edge], \
                http: [{route: [{destination: {host: order}}]}]";
    let yaml = [
        gateway(&[HTTP]),
        service("infra/order", "ports: [{name: http, port: 80, targetPort: 8000}], selector: {app: order}"),
        virtual_service("infra/v", spec),
        limit("infra/whole", gateway_ref),
        limit("infra/at-http", &format!("{gateway_ref}, sectionName: http")),
        limit("infra/inbound", "group: \"\", kind: Service, name: order"),
    ]
    .concat();
    assert_eq!(limits(&edge(&yaml).routes("infra/edge|80", "a.example")[0]), ["infra/at-http", "infra/whole"]);
    let mut node = node(Role::Sidecar, "infra", "order");
    node.labels = BTreeMap::from([("app".into(), "order".into())]);
    let held = Held(Mesh::compile(&world(&yaml)).for_node(&node));
    assert_eq!(limits(&held.routes("inbound|8000||", "*")[0]), ["infra/inbound"]);
    assert_eq!(limits(&held.routes("outbound", "order")[1]), [""; 0], "callers are not limited");
}

#[test]
fn a_services_limits_are_where_its_server_is() {
    let yaml = [
        service("shop/order", "ports: [{name: http, port: 80, targetPort: 8000}], selector: {app: order}"),
        service("shop/other", "ports: [{name: http, port: 80, targetPort: 9000}], selector: {app: other}"),
        limit("shop/inbound", "group: \"\", kind: Service, name: order"),
    ];
    let mut node = node(Role::Sidecar, "shop", "order");
    node.labels = BTreeMap::from([("app".into(), "order".into())]);
    let held = Held(Mesh::compile(&world(&yaml.concat())).for_node(&node));
    assert_eq!(limits(&held.routes("inbound|8000||", "*")[0]), ["shop/inbound"]);
    assert_eq!(limits(&held.routes("outbound", "order")[0]), [""; 0], "callers are not limited");
}

#[test]
fn a_limit_is_compiled_whole() {
    let spec = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}], mode: Shadow, \
                limits: [{name: all, requests: 5, per: 1m}, {name: one, key: [{clientIP: {}}, {pathPrefix: /x/}], \
                requests: 10, per: 1s, burst: 20, maxKeys: 5}], answer: {status: 503, body: slow, headers: false}";
    let yaml =
        format!("{}{}{}", gateway(&[HTTP]), route("infra/r", TO_ORDER), policy("RateLimitPolicy", "infra/p", spec));
    let held = edge(&yaml);
    let [RateLimit { name, mode, buckets, answer }] = held.routes("infra/edge|80", "*")[0].rate_limits.as_slice()
    else {
        panic!()
    };
    assert_eq!((name.as_str(), *mode), ("infra/p", Mode::Shadow));
    assert_eq!((answer.status, answer.body.as_str(), answer.headers), (503, "slow", false));
    assert_eq!((buckets[0].limit.max_tokens, buckets[0].max_keys, buckets[0].key.as_slice()), (5, 10_000, &[][..]));
    assert_eq!(buckets[0].limit.fill_interval, Duration::from_secs(12));
    assert_eq!(buckets[1].key, [KeyPart::ClientIp, KeyPart::PathPrefix("/x".into())]);
    assert_eq!((buckets[1].limit.max_tokens, buckets[1].limit.tokens_per_fill, buckets[1].max_keys), (20, 1, 5));
}
