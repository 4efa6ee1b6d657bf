//! Services as clusters and endpoints.

use super::*;
use std::time::Duration;
use weft_model::cluster::{Balancer, Discovery, Protocol};
use weft_model::endpoint::Health;

const ORDER: &str = "outbound|8080||order.shop.svc.cluster.local";

pub(super) fn slice(service: &str, ports: &str, endpoints: &[&str]) -> String {
    let (namespace, name) = service.split_once('/').unwrap();
    let endpoints: Vec<String> = endpoints.iter().map(|endpoint| format!("- {{{endpoint}}}\n")).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-{}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{ports}]\nendpoints:\n{}---\n",
        endpoints.len(),
        endpoints.concat()
    )
}

#[test]
fn endpoints_are_those_of_the_ports_name_with_the_health_of_their_conditions() {
    let yaml = [
        service("shop/order", "ports: [{name: http, port: 8080, targetPort: web}, {name: admin, port: 9090}]"),
        slice(
            "shop/order",
            "{name: http, port: 8000}, {name: admin, port: 9000}",
            &[
                "addresses: [127.0.1.3], conditions: {ready: true}",
                "addresses: [127.0.1.2]",
                "addresses: [127.0.1.4], conditions: {ready: false}",
                "addresses: [127.0.1.5], conditions: {ready: false, serving: true, terminating: true}",
            ],
        ),
    ];
    let held = sidecar(&yaml.concat(), "shop");
    let found: Vec<(String, Health)> = held
        .endpoints(ORDER)
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.address.to_string(), endpoint.health))
        .collect();
    let expected = [
        ("127.0.1.2:8000", Health::Healthy),
        ("127.0.1.3:8000", Health::Healthy),
        ("127.0.1.4:8000", Health::Unhealthy),
        ("127.0.1.5:8000", Health::Draining),
    ];
    assert_eq!(found, expected.map(|(address, health)| (address.to_owned(), health)));
    let admin = held.endpoints("outbound|9090||order.shop.svc.cluster.local");
    assert_eq!(admin.endpoints[0].address.port(), 9000);
}

#[test]
fn an_address_in_two_slices_is_one_endpoint_as_healthy_as_it_is_anywhere() {
    let yaml = [
        service("shop/order", PORT_8080),
        slice("shop/order", "{name: http, port: 8000}", &["addresses: [127.0.1.3], conditions: {ready: false}"]),
        slice("shop/order", "{name: http, port: 8000}", &["addresses: [127.0.1.2]", "addresses: [127.0.1.3]"]),
    ];
    let held = sidecar(&yaml.concat(), "shop");
    let endpoints = &held.endpoints(ORDER).endpoints;
    assert_eq!(endpoints.len(), 2);
    assert!(endpoints.iter().all(|endpoint| endpoint.health == Health::Healthy));
}

#[test]
fn an_endpoint_knows_its_workload() {
    let pod = |name: &str, meta: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, {meta}}}\nspec: {{containers: [{{name: c, image: x}}]}}\n---\n"
        )
    };
    let target = |address: &str, pod: &str| {
        format!("addresses: [{address}], targetRef: {{kind: Pod, name: {pod}, namespace: shop}}")
    };
    let yaml = [
        service("shop/order", PORT_8080),
        pod(
            "order-5d4f-x2",
            "labels: {app: order, version: v2}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: order-api-5d4f, uid: \"1\", controller: true}]",
        ),
        pod("alone", "labels: {app.kubernetes.io/name: solo}"),
        slice(
            "shop/order",
            "{name: http, port: 8000}",
            &[&target("127.0.1.2", "order-5d4f-x2"), &target("127.0.1.3", "alone"), &target("127.0.1.4", "gone")],
        ),
    ];
    let held = sidecar(&yaml.concat(), "shop");
    let workloads: Vec<_> = held.endpoints(ORDER).endpoints.iter().map(|endpoint| &endpoint.workload).collect();
    assert_eq!(
        (workloads[0].name.as_str(), workloads[0].app.as_str(), workloads[0].version.as_str()),
        ("order-api", "order", "v2")
    );
    assert_eq!((workloads[1].name.as_str(), workloads[1].app.as_str()), ("alone", "solo"));
    assert_eq!((workloads[2].name.as_str(), workloads[2].namespace.as_str()), ("", "shop"));
}

#[test]
fn a_service_without_endpoints_is_still_a_cluster() {
    let held = sidecar(&service("shop/order", PORT_8080), "shop");
    assert_eq!(held.cluster(ORDER).discovery, Discovery::Eds);
    assert!(held.endpoints(ORDER).endpoints.is_empty());
}

#[test]
fn an_external_name_is_resolved_by_the_proxy() {
    let yaml = service("shop/pay", "type: ExternalName, externalName: pay.example, ports: [{port: 443}]");
    let held = sidecar(&yaml, "shop");
    let name = "outbound|443||pay.shop.svc.cluster.local";
    assert_eq!(held.cluster(name).discovery, Discovery::Dns { host: "pay.example".into(), port: 443 });
    assert!(!held.names().contains(&format!("EDS {name}")));
}

#[test]
fn the_protocol_is_the_ports_and_unknown_ones_depend_on_who_calls() {
    let service = service(
        "infra/order",
        "ports: [{name: http, port: 1}, {name: grpc-api, port: 2}, {name: x, port: 3}, {name: y, port: 4, appProtocol: kubernetes.io/h2c}]",
    );
    let protocols = |held: Held| {
        [1, 2, 3, 4].map(|port| held.cluster(&format!("outbound|{port}||order.infra.svc.cluster.local")).protocol)
    };
    let own = sidecar(&service, "infra");
    assert_eq!(protocols(own), [Protocol::Http1, Protocol::Http2, Protocol::Downstream, Protocol::Http2]);
    let to_all = "rules: [{backendRefs: [{name: order, port: 1}, {name: order, port: 2}, {name: order, port: 3}, {name: order, port: 4}]}]";
    let yaml = format!("{}{}{service}", gateway(&["name: http, port: 80, protocol: HTTP"]), route("infra/r", to_all));
    assert_eq!(protocols(edge(&yaml)), [Protocol::Http1, Protocol::Http2, Protocol::Http1, Protocol::Http2]);
}

pub(super) fn rule(name: &str, host: &str, policy: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{host: \"{host}\", trafficPolicy: {{{policy}}}}}\n---\n"
    )
}

#[test]
fn a_destination_rule_sets_what_it_says_and_a_ports_settings_stand_alone() {
    let policy = "loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {tcp: {connectTimeout: 1s}, \
                  http: {idleTimeout: 0s, maxRequestsPerConnection: 1, h2UpgradePolicy: UPGRADE}}, \
                  portLevelSettings: [{port: {number: 9090}, loadBalancer: {simple: RANDOM}}]";
    let service = service("shop/order", "ports: [{name: http, port: 8080}, {name: http-admin, port: 9090}]");
    let held = sidecar(&format!("{service}{}", rule("shop/r", "order", policy)), "shop");
    let main = held.cluster(ORDER);
    assert_eq!(main.balancer, Balancer::RoundRobin);
    assert_eq!(main.connect_timeout, Duration::from_secs(1));
    assert_eq!((main.pool.max_requests_per_connection, main.pool.idle_timeout), (Some(1), None));
    assert_eq!(main.protocol, Protocol::Http2);
    assert_eq!(main.origin.object, "DestinationRule shop/r");
    let admin = held.cluster("outbound|9090||order.shop.svc.cluster.local");
    assert_eq!(admin.balancer, Balancer::Random);
    assert_eq!(admin.connect_timeout, Duration::from_secs(10), "a port inherits nothing");
    assert_eq!(admin.protocol, Protocol::Http1);
}

#[test]
fn hosts_are_short_or_long_and_the_most_specific_rule_counts() {
    let service = service("shop/order", PORT_8080);
    let balancer = |rules: &str, caller: &str| sidecar(&format!("{service}{rules}"), caller).cluster(ORDER).balancer;
    let round_robin = "loadBalancer: {simple: ROUND_ROBIN}";
    for host in ["order", "order.shop", "order.shop.svc", "order.shop.svc.cluster.local", "*.shop.svc.cluster.local"] {
        assert_eq!(balancer(&rule("shop/r", host, round_robin), "other"), Balancer::RoundRobin, "{host}");
    }
    assert_eq!(balancer(&rule("shop/r", "orders", round_robin), "other"), Balancer::default());
    let wide = rule("shop/a", "*.shop.svc.cluster.local", "loadBalancer: {simple: RANDOM}");
    assert_eq!(balancer(&format!("{wide}{}", rule("shop/b", "order", round_robin)), "other"), Balancer::RoundRobin);
}

#[test]
fn a_rule_in_the_callers_namespace_is_for_its_callers_only_and_goes_first() {
    let yaml = format!(
        "{}{}{}",
        service("shop/order", PORT_8080),
        rule("shop/r", "order", "loadBalancer: {simple: ROUND_ROBIN}"),
        rule("team/r", "order.shop.svc.cluster.local", "loadBalancer: {simple: RANDOM}")
    );
    assert_eq!(sidecar(&yaml, "team").cluster(ORDER).balancer, Balancer::Random);
    assert_eq!(sidecar(&yaml, "shop").cluster(ORDER).balancer, Balancer::RoundRobin);
    assert_eq!(sidecar(&yaml, "unheard-of").cluster(ORDER).balancer, Balancer::RoundRobin);
}
