//! VirtualServices that send to subsets of DestinationRules: the two kinds, obeyed together.

use super::traffic_policy::{addresses, order_of};
use super::virtual_services::{TABLE, destination_rule};
use super::*;
use std::time::Duration;
use weft_model::balancer::{Balancer, HashPolicy, HashSource};
use weft_model::retry::{RetryOn, RetryPolicy};

const EDGE: &str = "name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}";

const HASHED: &str = "loadBalancer: {consistentHash: {httpHeaderName: x-user}}";

const SUBSETS: &str = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]";

fn subset(name: &str) -> String {
    format!("outbound|8080|{name}|order.shop.svc.cluster.local")
}

/// `shop/order` with a rule of this policy, and 90 % of its requests to v1; these fields are further ones of the route.
fn split(policy: &str, fields: &str) -> String {
    let pods = order_of(&["version: v1", "version: v1", "version: v2"]);
    let rule = destination_rule(&format!("host: order, trafficPolicy: {{{policy}}}, {SUBSETS}"));
    let destination = |subset: &str, weight| {
        format!("{{destination: {{host: order.shop.svc.cluster.local, subset: {subset}}}, weight: {weight}}}")
    };
    let route = format!("{fields}route: [{}, {}]", destination("v1", 90), destination("v2", 10));
    let spec = format!("hosts: [order, shop.example], gateways: [mesh, infra/edge], http: [{{{route}}}]");
    format!("{}{pods}{rule}{}", gateway(&[EDGE]), virtual_service("shop/v", &spec))
}

/// The split route of a caller beside its server, of one elsewhere, and of a gateway.
fn everywhere(yaml: &str) -> Vec<(Held, Route)> {
    let of = |held: Held, table: &str, domain: &str| {
        let route = held.routes(table, domain).last().unwrap().clone();
        (held, route)
    };
    vec![
        of(sidecar(yaml, "shop"), TABLE, "order"),
        of(sidecar(yaml, "team"), TABLE, "order.shop"),
        of(edge(yaml), "infra/edge|80", "shop.example"),
    ]
}

fn retry(route: &Route) -> &RetryPolicy {
    forward(route).retry.as_ref().unwrap()
}

#[test]
fn a_split_reaches_every_caller_with_its_clusters_endpoints_hash_and_retries() {
    let policy = format!("{HASHED}, outlierDetection: {{consecutive5xxErrors: 3, baseEjectionTime: 10s}}");
    for (held, route) in everywhere(&split(&policy, "retries: {attempts: 3, retryOn: \"5xx\"}, ")) {
        let sent = forward(&route);
        assert_eq!(targets(&route), [subset("v1"), subset("v2")]);
        assert_eq!(sent.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [90, 10]);
        let hash = HashPolicy { source: HashSource::Header("x-user".into()), terminal: false };
        assert_eq!(sent.hash, [hash], "one key for both");
        let retry = retry(&route);
        assert_eq!((retry.num_retries, retry.on), (3, RetryOn::SERVER_ERROR));
        assert!(!retry.avoid_previous_hosts, "the hash chooses the host");
        for (name, expected) in [("v1", vec!["127.0.1.1", "127.0.1.2"]), ("v2", vec!["127.0.1.3"])] {
            assert_eq!(addresses(held.endpoints(&subset(name))), expected);
            let cluster = held.cluster(&subset(name));
            let outlier = cluster.outlier.as_ref().unwrap();
            assert_eq!((outlier.consecutive_5xx.threshold, outlier.base_ejection_time), (3, Duration::from_secs(10)));
            assert_eq!(cluster.balancer, Balancer::RingHash { minimum_size: 1024, maximum_size: 8_388_608 });
            assert_eq!(cluster.balancing.panic_threshold, 0);
        }
    }
}

#[test]
fn a_gateway_holds_only_the_subsets_that_its_routes_name() {
    let spec = "hosts: [shop.example], gateways: [infra/edge], http: [\
                {route: [{destination: {host: order, subset: v1}}], mirrors: [{destination: {host: other, subset: m}}]}]";
    let yaml = [
        gateway(&[EDGE]),
        order_of(&["version: v1"]),
        service("shop/other", PORT_8080),
        destination_rule(&format!("host: order, {SUBSETS}")),
        destination_rule("host: other, subsets: [{name: m}, {name: n}]").replace("name: d,", "name: e,"),
        virtual_service("shop/v", spec),
    ];
    let held = edge(&yaml.concat());
    let clusters = held.0.iter().filter_map(|resource| match resource {
        Resource::Cluster(cluster) => Some(cluster.name.as_str()),
        _ => None,
    });
    assert_eq!(clusters.collect::<Vec<_>>(), ["outbound|8080|m|other.shop.svc.cluster.local".to_owned(), subset("v1")]);
    assert_eq!(addresses(held.endpoints(&subset("v1"))), ["127.0.1.1"]);
}

#[test]
fn retries_of_a_hash_change_hosts_only_where_that_is_written() {
    let avoids = |policy: &str, fields: &str| {
        let found = everywhere(&split(policy, fields)).into_iter();
        let mut avoids: Vec<bool> = found.map(|(_, route)| retry(&route).avoid_previous_hosts).collect();
        avoids.dedup();
        assert_eq!(avoids.len(), 1, "every caller alike");
        avoids[0]
    };
    for (fields, plain, hashed) in [
        ("", true, false),
        ("retries: {attempts: 1}, ", true, false),
        ("retries: {attempts: 1, retryIgnorePreviousHosts: true}, ", true, true),
        ("retries: {attempts: 1, retryIgnorePreviousHosts: false}, ", false, false),
    ] {
        assert_eq!((avoids("", fields), avoids(HASHED, fields)), (plain, hashed), "{fields}");
    }
}

#[test]
fn no_attempts_is_no_retry_and_never_the_default() {
    for (_, route) in everywhere(&split(HASHED, "retries: {attempts: 0}, ")) {
        assert_eq!((retry(&route).num_retries, retry(&route).on), (0, RetryOn::NONE));
    }
    let rules = "rules: [{retry: {attempts: 0}, backendRefs: [{name: order, port: 8080}]}]";
    let parent = "parentRefs: [{group: \"\", kind: Service, name: order}]";
    let yaml = format!("{}{}", service("shop/order", PORT_8080), route("shop/r", &format!("{parent}, {rules}")));
    assert_eq!(retry(&sidecar(&yaml, "shop").routes(TABLE, "order")[1]).num_retries, 0);
}

#[test]
fn a_subset_that_alone_is_hashed_gives_its_key_to_the_route_for_both() {
    let subsets = "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {consistentHash: \
                   {useSourceIp: true}}}}, {name: v2, labels: {version: v2}}]";
    let yaml = split("", "").replace(SUBSETS, subsets);
    for (held, route) in everywhere(&yaml) {
        assert_eq!(forward(&route).hash, [HashPolicy { source: HashSource::SourceIp, terminal: false }]);
        assert!(!retry(&route).avoid_previous_hosts);
        let is_consistent = |name| held.cluster(&subset(name)).balancer.is_consistent();
        assert_eq!((is_consistent("v1"), is_consistent("v2")), (true, false));
    }
}
