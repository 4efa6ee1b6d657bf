use super::*;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use weft_config::merge;
use weft_model::node::Role;

fn mesh(order_port: u16) -> Mesh {
    let text = format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: order, namespace: shop }}
spec: {{ ports: [{{ name: http, port: {order_port} }}] }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: edge, namespace: shop }}
spec:
  gatewayClassName: weft
  listeners: [{{ name: http, port: 8080, protocol: HTTP }}]
"
    );
    let parsed = weft_config::read("a.yaml", &text);
    assert_eq!(parsed.problems, []);
    Mesh::compile(&merge([("a.yaml", &parsed)].into_iter()).0)
}

fn node(role: Role, name: &str) -> Node {
    Node {
        role,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        pod: name.into(),
        namespace: "shop".into(),
        workload: name.into(),
        labels: BTreeMap::new(),
        app_address: None,
        interception: false,
        locality: Default::default(),
    }
}

fn clusters(set: &ResourceSet) -> Vec<&str> {
    set.iter(Kind::Cluster).map(|(name, _)| name).filter(|name| name.starts_with("outbound|")).collect()
}

const ORDER_80: &str = "outbound|80||order.shop.svc.cluster.local";
const ORDER_81: &str = "outbound|81||order.shop.svc.cluster.local";

#[test]
fn only_nodes_whom_a_change_concerns_hear_of_it() {
    let publisher = Publisher::new(Arc::default());
    publisher.publish(mesh(80));
    let mut sidecar = publisher.subscribe(&node(Role::Sidecar, "caller"));
    let mut gateway = publisher.subscribe(&node(Role::Gateway, "edge"));
    assert_eq!(clusters(&sidecar.borrow_and_update()), [ORDER_80]);
    assert_eq!(gateway.borrow_and_update().len(Kind::Listener), 1);

    assert_eq!(publisher.publish(mesh(80)), 0, "nothing changed");
    assert_eq!(publisher.publish(mesh(81)), 1);
    assert!(sidecar.has_changed().unwrap());
    assert!(!gateway.has_changed().unwrap());
    assert_eq!(clusters(&sidecar.borrow_and_update()), [ORDER_81]);
}

#[test]
fn what_did_not_change_is_not_encoded_again() {
    let publisher = Publisher::new(Arc::default());
    publisher.publish(mesh(80));
    let sidecar = publisher.subscribe(&node(Role::Sidecar, "caller"));
    let listener = |set: &ResourceSet| set.iter(Kind::Listener).next().unwrap().1.clone();
    let before = listener(&sidecar.borrow());
    publisher.publish(mesh(81));
    assert!(Arc::ptr_eq(&before, &listener(&sidecar.borrow())));
}

#[test]
fn a_node_that_has_gone_is_forgotten_and_may_come_again() {
    let publisher = Publisher::new(Arc::default());
    let one = publisher.subscribe(&node(Role::Sidecar, "caller"));
    let again = publisher.subscribe(&node(Role::Sidecar, "caller"));
    assert_eq!(publisher.nodes().len(), 1, "the same node twice is one");
    drop(one);
    publisher.publish(mesh(80));
    assert_eq!(clusters(&again.borrow()), [ORDER_80]);
    drop(again);
    publisher.publish(mesh(81));
    assert_eq!(publisher.nodes(), [""; 0]);
    assert_eq!(clusters(&publisher.subscribe(&node(Role::Sidecar, "caller")).borrow()), [ORDER_81]);
}

/// Whoever subscribes in the middle of a publication must not be left with the mesh before it.
#[test]
fn nobody_is_left_with_an_old_mesh() {
    let publisher = Arc::new(Publisher::new(Arc::default()));
    std::thread::scope(|scope| {
        let subscribed: Vec<_> = (0..2)
            .map(|thread| {
                let publisher = &publisher;
                scope.spawn(move || {
                    let nodes = (0..20).map(|n| node(Role::Sidecar, &format!("{thread}-{n}")));
                    nodes.map(|node| publisher.subscribe(&node)).collect::<Vec<_>>()
                })
            })
            .collect();
        for port in 1..=20 {
            publisher.publish(mesh(port));
        }
        for receiver in subscribed.into_iter().flat_map(|thread| thread.join().unwrap()) {
            assert_eq!(clusters(&receiver.borrow()), ["outbound|20||order.shop.svc.cluster.local"]);
        }
    });
}
