//! What a sidecar holds whose pod's connections are redirected to it.

use super::*;
use weft_model::cluster::Discovery;
use weft_model::listener::{ApplicationProtocol, Binding, Direction};

fn redirected(yaml: &str) -> Held {
    let mut node = node(Role::Sidecar, "shop", "order");
    node.interception = true;
    Held(Mesh::compile(&world(yaml)).for_node(&node))
}

fn with_address(name: &str, address: &str, ports: &str) -> String {
    service(name, &format!("clusterIP: {address}, {ports}"))
}

fn slice(name: &str, port: &str, addresses: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{port}]\nendpoints: [{{addresses: [{addresses}]}}]\n---\n"
    )
}

#[test]
fn every_address_of_a_service_has_a_listener_with_the_routes_of_its_port() {
    let held = redirected(&with_address("shop/pay", "10.96.0.7, clusterIPs: [10.96.0.7, 'fd96::7']", PORT_8080));
    for (name, address) in [("10.96.0.7_8080", "10.96.0.7:8080"), ("fd96::7_8080", "[fd96::7]:8080")] {
        let listener = held.listener(name);
        assert_eq!((listener.binding, listener.direction), (Binding::Handed, Direction::Outbound));
        assert_eq!(listener.address.to_string(), address);
    }
    let table = "pay.shop.svc.cluster.local:8080";
    assert_eq!(held.domains(table), ["*"], "the address says whose it is");
    assert_eq!(targets(&held.routes(table, "*")[0]), ["outbound|8080||pay.shop.svc.cluster.local"]);
}

#[test]
fn only_a_port_of_unknown_protocol_waits_for_the_callers_first_bytes() {
    let ports = "ports: [{name: http, port: 80}, {name: mysql, port: 3306}, {name: x, port: 7000}]";
    let held = redirected(&with_address("shop/pay", "10.96.0.7", ports));
    let detected = |name: &str| -> Vec<Option<ApplicationProtocol>> {
        held.listener(name).chains.iter().map(|chain| chain.matches.application).collect()
    };
    assert_eq!(detected("10.96.0.7_80"), [None]);
    assert_eq!(detected("10.96.0.7_7000"), [Some(ApplicationProtocol::Http), None]);
    let [chain] = held.listener("10.96.0.7_3306").chains.as_slice() else { panic!() };
    assert!(
        matches!(&chain.handler, Handler::Tcp(tcp) if tcp.clusters[0].name == "outbound|3306||pay.shop.svc.cluster.local")
    );
}

#[test]
fn an_endpoint_of_a_headless_service_is_gone_on_to_itself() {
    let ports = "ports: [{name: http, port: 9000}]";
    let yaml = with_address("shop/db", "None", ports) + &slice("db", "{name: http, port: 9001}", "10.0.0.1");
    let held = redirected(&yaml);
    assert_eq!(held.listener("10.0.0.1_9001").binding, Binding::Handed);
    let route = &held.routes("db.shop.svc.cluster.local:9000", "*")[0];
    assert_eq!(targets(route), ["direct|9000||db.shop.svc.cluster.local"]);
    assert_eq!(held.cluster("direct|9000||db.shop.svc.cluster.local").discovery, Discovery::OriginalDestination);
    assert_eq!(held.cluster("outbound|9000||db.shop.svc.cluster.local").discovery, Discovery::Eds);
    let own = with_address("shop/db", "None", ports) + &slice("db", "{name: http, port: 9001}", "127.0.1.7");
    assert!(!redirected(&own).names().contains(&"LDS 127.0.1.7_9001".to_owned()), "the pod's own calls are its own");
}

#[test]
fn what_is_not_known_passes_through_both_ways() {
    let held = redirected("");
    for (name, port, cluster, direction) in [
        ("virtualOutbound", 15001, "PassthroughCluster", Direction::Outbound),
        ("virtualInbound", 15006, "InboundPassthroughCluster", Direction::Inbound),
    ] {
        let listener = held.listener(name);
        assert_eq!((listener.binding, listener.direction), (Binding::OriginalDestination, direction));
        assert_eq!((listener.address.ip().is_unspecified(), listener.address.port()), (true, port));
        let last = listener.chains.last().unwrap();
        assert!(matches!(&last.handler, Handler::Tcp(tcp) if tcp.clusters[0].name == cluster), "{last:?}");
        assert_eq!(held.cluster(cluster).discovery, Discovery::OriginalDestination);
    }
    assert!(held.cluster("PassthroughCluster").bind_source.is_empty());
    let names = held.names();
    assert!(!names.contains(&"LDS outbound".to_owned()) && !names.contains(&"RDS outbound".to_owned()), "{names:?}");
}

#[test]
fn inbound_goes_on_to_the_program_from_a_source_that_rules_can_tell() {
    let yaml = with_address("shop/order", "10.96.0.7", "ports: [{name: http, port: 80, targetPort: 8000}]")
        + &slice("order", "{name: http, port: 8000}", "127.0.1.7");
    let held = redirected(&yaml);
    let listener = held.listener("inbound|8000");
    assert_eq!((listener.binding, listener.address.to_string().as_str()), (Binding::Handed, "0.0.0.0:8000"));
    let cluster = held.cluster("inbound|8000||");
    assert_eq!(cluster.discovery, Discovery::OriginalDestination);
    let sources: Vec<String> = cluster.bind_source.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["127.0.0.6", "::6"]);
}
