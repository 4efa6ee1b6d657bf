//! Near and far endpoints.

use super::endpoints::{rule, slice};
use super::traffic_policy::{ORDER, addresses, order_of};
use super::*;
use proptest::prelude::*;
use weft_model::balancer::LocalityRule;
use weft_model::endpoint::Locality;

fn place(written: &str) -> Locality {
    let mut parts = written.split('/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Locality { region: part(), zone: part(), sub_zone: part() }
}

/// What a sidecar there holds.
fn from(yaml: &str, locality: &str) -> Held {
    let mut node = node(Role::Sidecar, "shop", "caller");
    node.locality = place(locality);
    node.labels = BTreeMap::from([("version".into(), "v1".into())]);
    Held(Mesh::compile(&world(yaml)).for_node(&node))
}

fn at(region: &str, zone: &str) -> String {
    format!("topology.kubernetes.io/region: {region}, topology.kubernetes.io/zone: {zone}")
}

/// Endpoints in eu/a, eu/b, us/a and as/a.
fn world_of(policy: &str) -> String {
    let pods = [at("eu", "a") + ", version: v2", at("eu", "b") + ", version: v1", at("us", "a"), at("as", "a")];
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    format!("{}{}", order_of(&pods), rule("shop/r", "order", policy))
}

fn priorities(policy: &str, locality: &str) -> Vec<u32> {
    let held = from(&world_of(policy), locality);
    held.endpoints(ORDER).endpoints.iter().map(|endpoint| endpoint.priority).collect()
}

#[test]
fn an_endpoints_locality_is_its_pods_its_machines_or_its_slices() {
    let machine = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: m, labels: {{{}}}}}\n---\n", at("us", "c"));
    let endpoints = [
        "addresses: [127.0.1.1], nodeName: m",
        "addresses: [127.0.1.2], zone: z",
        "addresses: [127.0.1.3], nodeName: m, zone: z",
        "addresses: [127.0.1.4]",
    ];
    let slice = slice("shop/order", "{name: http, port: 8080}", &endpoints);
    let held = sidecar(&format!("{}{slice}{machine}", service("shop/order", PORT_8080)), "shop");
    let found: Vec<Locality> =
        held.endpoints(ORDER).endpoints.iter().map(|endpoint| endpoint.locality.clone()).collect();
    assert_eq!(found, [place("us/c"), place("/z"), place("us/z"), place("")]);
    let held = sidecar(&order_of(&[&at("eu", "a")]), "shop");
    assert_eq!(held.endpoints(ORDER).endpoints[0].locality, place("eu/a"));
}

#[test]
fn with_outlier_detection_load_fails_over_from_near_to_far() {
    assert_eq!(priorities("outlierDetection: {}", "eu/a"), [0, 1, 2, 2]);
    assert_eq!(priorities("outlierDetection: {}", "us/b"), [1, 1, 0, 1]);
    assert_eq!(priorities("outlierDetection: {}", ""), [0; 4], "a caller of unknown place");
    assert_eq!(priorities("loadBalancer: {localityLbSetting: {enabled: true}}", "eu/b"), [1, 0, 2, 2]);
    assert_eq!(priorities("outlierDetection: {}, loadBalancer: {localityLbSetting: {enabled: false}}", "eu/a"), [0; 4]);
    assert_eq!(priorities("loadBalancer: {simple: RANDOM}", "eu/a"), [0; 4], "nobody asked");
}

#[test]
fn a_caller_without_a_word_of_its_own_is_where_its_labels_say() {
    let mut node = node(Role::Sidecar, "shop", "caller");
    node.labels = BTreeMap::from([("topology.kubernetes.io/region".into(), "us".into())]);
    let held = Held(Mesh::compile(&world(&world_of("outlierDetection: {}"))).for_node(&node));
    let found: Vec<u32> = held.endpoints(ORDER).endpoints.iter().map(|endpoint| endpoint.priority).collect();
    assert_eq!(found, [1, 1, 0, 1]);
}

#[test]
fn failover_names_the_region_that_comes_next() {
    let to_asia = "loadBalancer: {localityLbSetting: {failover: [{from: eu, to: as}]}}";
    assert_eq!(priorities(to_asia, "eu/a"), [0, 1, 3, 2]);
    assert_eq!(priorities(to_asia, "us/a"), [1, 1, 0, 1]);
}

#[test]
fn failover_priority_goes_by_labels_in_their_order() {
    let by = |labels: &str| format!("loadBalancer: {{localityLbSetting: {{failoverPriority: [{labels}]}}}}");
    let region_then_version = by("topology.kubernetes.io/region, version");
    assert_eq!(priorities(&region_then_version, "eu/a"), [1, 0, 2, 2]);
    assert_eq!(priorities(&by("\"version=v2\""), "eu/a"), [0, 1, 1, 1]);
    let both = "loadBalancer: {localityLbSetting: {failoverPriority: [version], failover: [{from: eu, to: us}]}}";
    assert_eq!(priorities(both, "eu/a"), [1, 0, 2, 3], "labels first, then distance");
}

#[test]
fn distribute_shares_load_among_localities() {
    let policy = "loadBalancer: {localityLbSetting: {distribute: [{from: eu/a/*, to: {\"eu/a/*\": 70, \"eu/*\": 20, \"us/*\": 10}}]}}";
    let held = from(&world_of(policy), "eu/a");
    assert_eq!(held.cluster(ORDER).balancing.locality, LocalityRule::Weighted);
    let endpoints = held.endpoints(ORDER);
    let expected = [(place("eu/a"), 700_000), (place("eu/b"), 200_000), (place("us/a"), 100_000)];
    assert_eq!(endpoints.locality_weights, expected);
    assert_eq!(addresses(endpoints), ["127.0.1.1", "127.0.1.2", "127.0.1.3"], "others get none");
    let elsewhere = from(&world_of(policy), "us/a");
    let alike = [place("as/a"), place("eu/a"), place("eu/b"), place("us/a")].map(|locality| (locality, 1));
    assert_eq!(elsewhere.endpoints(ORDER).locality_weights, alike);
    let wide = "loadBalancer: {localityLbSetting: {distribute: [{from: \"*\", to: {\"eu/*\": 50, us: 50, as: 0}}]}}";
    let held = from(&world_of(wide), "");
    let expected = [(place("eu/a"), 250_000), (place("eu/b"), 250_000), (place("us/a"), 500_000)];
    assert_eq!(held.endpoints(ORDER).locality_weights, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Wherever endpoints and the caller are: nobody is lost, and no priority is left out.
    #[test]
    fn priorities_have_no_gaps(
        places in prop::collection::vec((0usize..3, 0usize..3), 1..8),
        own in (0usize..3, 0usize..3),
        failover in any::<bool>(),
    ) {
        let (regions, zones) = (["eu", "us", "as"], ["a", "b", "c"]);
        let pods: Vec<String> = places.iter().map(|(region, zone)| at(regions[*region], zones[*zone])).collect();
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let setting = if failover { "failover: [{from: eu, to: as}]" } else { "failoverPriority: [topology.kubernetes.io/zone]" };
        let policy = format!("loadBalancer: {{localityLbSetting: {{{setting}}}}}");
        let yaml = format!("{}{}", order_of(&pods), rule("shop/r", "order", &policy));
        let held = from(&yaml, &format!("{}/{}", regions[own.0], zones[own.1]));
        let endpoints = &held.endpoints(ORDER).endpoints;
        prop_assert_eq!(endpoints.len(), places.len());
        let priorities: std::collections::BTreeSet<u32> = endpoints.iter().map(|endpoint| endpoint.priority).collect();
        prop_assert!(priorities.iter().copied().eq(0..priorities.len() as u32), "{priorities:?}");
    }
}
