//! What comes to a sidecar's own workload.

use super::*;
use weft_model::cluster::Discovery;
use weft_model::listener::{ApplicationProtocol, Direction};

/// A Service `shop/order` of one port, whose one endpoint has the node's address.
fn own(port: &str) -> String {
    format!(
        "{}apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: order-1, namespace: shop, labels: {{kubernetes.io/service-name: order}}}}\n\
         addressType: IPv4\nports: [{{name: {}, port: 8000}}]\nendpoints: [{{addresses: [127.0.1.7]}}]\n---\n",
        service("shop/order", &format!("ports: [{{{port}, port: 80, targetPort: 8000}}]")),
        port.split([' ', ',']).nth(1).unwrap()
    )
}

#[test]
fn an_http_port_goes_to_the_program_beside() {
    let mut node = node(Role::Sidecar, "shop", "order");
    node.app_address = Some("127.0.2.7".parse().unwrap());
    node.labels = BTreeMap::from([("app".into(), "order".into()), ("version".into(), "v2".into())]);
    let held = Held(Mesh::compile(&world(&own("name: http"))).for_node(&node));
    let listener = held.listener("inbound|8000");
    assert_eq!((listener.address.to_string().as_str(), listener.direction), ("127.0.1.7:8000", Direction::Inbound));
    let [chain] = listener.chains.as_slice() else { panic!("{listener:?}") };
    assert!(!http(&chain.handler).edge);
    assert_eq!(http(&chain.handler).route_table, "inbound|8000||");
    assert_eq!(targets(&held.routes("inbound|8000||", "*")[0]), ["inbound|8000||"]);
    let cluster = held.cluster("inbound|8000||");
    assert_eq!(cluster.service.host, "order.shop.svc.cluster.local");
    let Discovery::Static(endpoints) = &cluster.discovery else { panic!("{cluster:?}") };
    assert_eq!(endpoints[0].address.to_string(), "127.0.2.7:8000");
    assert_eq!((endpoints[0].workload.name.as_str(), endpoints[0].workload.version.as_str()), ("order", "v2"));
}

#[test]
fn without_an_own_address_the_program_is_on_loopback() {
    let held = sidecar(&own("name: http"), "shop");
    let Discovery::Static(endpoints) = &held.cluster("inbound|8000||").discovery else { panic!() };
    assert_eq!(endpoints[0].address.to_string(), "127.0.0.1:8000");
}

#[test]
fn a_tcp_port_is_opaque() {
    for port in ["name: tcp-x", "name: mysql", "name: x, appProtocol: redis"] {
        let held = sidecar(&own(port), "shop");
        let [chain] = held.listener("inbound|8000").chains.as_slice() else { panic!() };
        assert!(matches!(&chain.handler, Handler::Tcp(tcp) if tcp.clusters[0].name == "inbound|8000||"), "{port}");
        assert!(!held.names().contains(&"RDS inbound|8000||".to_owned()), "{port}");
    }
}

#[test]
fn a_port_of_unknown_protocol_is_detected() {
    let held = sidecar(&own("name: web"), "shop");
    let listener = held.listener("inbound|8000");
    let [http, tcp] = listener.chains.as_slice() else { panic!("{listener:?}") };
    assert_eq!(http.matches.application, Some(ApplicationProtocol::Http));
    assert!(matches!(http.handler, Handler::Http(_)));
    assert_eq!(tcp.matches.application, None);
    assert!(matches!(tcp.handler, Handler::Tcp(_)));
    assert!(listener.detect_timeout.is_some());
}

#[test]
fn a_pod_that_a_service_selects_has_its_listener_before_it_is_an_endpoint() {
    let mut node = node(Role::Sidecar, "shop", "order");
    node.labels = BTreeMap::from([("app".into(), "order".into())]);
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: order-0, namespace: shop}\n\
               spec: {containers: [{name: c, image: x, ports: [{name: web, containerPort: 8001}]}]}\n---\n";
    let yaml = [
        service("shop/order", "selector: {app: order}, ports: [{name: http, port: 80, targetPort: web}]"),
        service("shop/twice", "selector: {app: order}, ports: [{name: tcp, port: 81, targetPort: 8001}]"),
        service("shop/other", "selector: {app: other}, ports: [{name: http, port: 8002}]"),
        service("team/order", "selector: {app: order}, ports: [{name: http, port: 8003}]"),
        service("shop/none", "ports: [{name: http, port: 8004}]"),
        pod.to_owned(),
    ];
    let held = Held(Mesh::compile(&world(&yaml.concat())).for_node(&node));
    let listeners: Vec<String> = held.names().into_iter().filter(|name| name.starts_with("LDS")).collect();
    assert_eq!(listeners, ["LDS inbound|8001", "LDS outbound"]);
    assert!(matches!(held.listener("inbound|8001").chains[0].handler, Handler::Http(_)), "the first by name counts");
}
