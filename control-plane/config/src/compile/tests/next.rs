//! A mesh that follows another is the mesh that would have been compiled, whatever changed.

use super::*;
use crate::compile::difference::Served;
use std::collections::BTreeMap;
use std::sync::Arc;

const SERVICES: &str = "\
apiVersion: v1
kind: Service
metadata: {name: order, namespace: shop}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: tcp, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: order, namespace: shop}
spec:
  host: order
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: weft
  listeners: [{name: http, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: order, namespace: shop}
spec:
  parentRefs: [{name: edge, namespace: infra}]
  rules: [{backendRefs: [{name: order, port: 8080}]}]
";

/// Of these pods; each pod's number is its address's last.
fn slice(of: &str, namespace: &str, pods: &[u8]) -> String {
    let endpoint =
        |pod: &u8| format!("{{addresses: [10.0.0.{pod}], targetRef: {{kind: Pod, name: pod-{pod}, namespace: shop}}}}");
    let endpoints: Vec<String> = pods.iter().map(endpoint).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {of}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {of}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 8080}}, {{name: tcp, port: 9000}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

fn pod(number: u8, version: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{number}, namespace: shop, labels: {{version: {version}}}}}\n\
         status: {{podIP: 10.0.0.{number}}}\n"
    )
}

fn after(documents: &[String]) -> World {
    let documents = [SERVICES.to_owned()].into_iter().chain(documents.iter().cloned());
    world(&documents.collect::<Vec<_>>().join("---\n"))
}

/// Sidecars of a namespace with rules, of one without, of one that nobody knows; one that serves; one that its Pod tells of; a gateway.
fn nodes() -> Vec<Node> {
    let mut nodes = vec![node(Role::Gateway, "infra", "edge")];
    for (namespace, interception) in [("shop", true), ("shop", false), ("infra", true), ("nowhere", true)] {
        nodes.push(Node { interception, ..node(Role::Sidecar, namespace, "order") });
    }
    nodes.push(Node { address: "10.0.0.1".parse().unwrap(), ..nodes[1].clone() });
    // one that says nothing of itself is what its Pod says
    nodes.push(Node { pod: "pod-1".into(), labels: BTreeMap::new(), ..nodes[2].clone() });
    nodes
}

#[test]
fn whatever_changes_the_next_mesh_is_as_if_it_were_the_first() {
    let first = [slice("order", "shop", &[1, 2]), slice("db", "shop", &[3]), pod(1, "v1"), pod(2, "v2"), pod(3, "v1")];
    let with = |at: usize, document: String| {
        let mut documents = first.clone();
        documents[at] = document;
        after(&documents)
    };
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: db, namespace: infra}\nspec: {host: \
                db.shop, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}\n";
    let worlds = [
        after(&first),
        with(0, slice("order", "shop", &[1, 2, 4])),
        with(0, slice("order", "shop", &[2])),
        // a pod tells whose an endpoint is: this one changes from one subset to the other
        with(2, pod(1, "v2")),
        with(1, slice("db", "shop", &[3, 5])),
        // the slice of one Service becomes another's
        with(1, slice("order", "shop", &[3])),
        after(&first[1..]),
        // a namespace that is known by who serves in it alone
        after(&[first.as_slice(), &[slice("order", "new", &[1])]].concat()),
        after(&[first.as_slice(), &[rule.to_owned()]].concat()),
        after(&[]),
        after(&first),
    ];
    let mut mesh = Mesh::compile(&World::default());
    let mut held: Vec<Vec<Resource>> = nodes().iter().map(|node| mesh.for_node(node)).collect();
    let mut moves = vec![0; nodes().len()];
    for (at, world) in worlds.iter().enumerate() {
        mesh = mesh.next(world);
        let anew = Mesh::compile(world);
        for ((node, held), moves) in nodes().iter().zip(&mut held).zip(&mut moves) {
            let all = anew.for_node(node);
            assert_eq!(mesh.for_node(node), all, "change {at}, {node:?}");
            // what is said to have moved is all that did
            if let Some(moved) = mesh.moved_for(node) {
                *moves += 1;
                for resource in moved {
                    let place =
                        held.iter().position(|held| (held.kind(), held.name()) == (resource.kind(), resource.name()));
                    held[place.expect("nothing new")] = resource;
                }
                assert_eq!(*held, all, "change {at}, {node:?}");
            }
            *held = all;
        }
    }
    // fewer where connections are redirected: a headless Service's endpoints have listeners; and where the node itself comes and goes
    assert_eq!(moves, [7, 3, 7, 3, 3, 1, 3]);
}

#[test]
fn when_another_serves_nothing_else_is_made_again() {
    let before = after(&[slice("order", "shop", &[1]), slice("db", "shop", &[3])]);
    let mut now = before.clone();
    let moved = after(&[slice("order", "shop", &[2]), slice("db", "shop", &[3])]);
    now.objects.extend(moved.objects.into_iter().filter(|(key, _)| key.name == "order-1"));
    let mesh = Mesh::compile(&before);
    mesh.for_node(&nodes()[1]);
    let next = mesh.next(&now);
    let (before, after) = (&mesh.callers["shop"].outbound, &next.callers["shop"].outbound);
    assert!(Arc::ptr_eq(before, after) && after.get().is_some());
    let shared = |name: &str| Arc::ptr_eq(&mesh.endpoints[name], &next.endpoints[name]);
    assert!(shared("outbound|9000||db.shop.svc.cluster.local"));
    assert!(!shared("outbound|8080||order.shop.svc.cluster.local"));
    assert!(Arc::ptr_eq(&mesh.gateways, &next.gateways));
}

#[test]
fn a_change_of_anything_else_may_mean_anything() {
    let one = after(&[]);
    let mut other = one.clone();
    other.objects.retain(|key, _| key.name != "db");
    assert_eq!(Served::between(&one, &other), None);
    assert_eq!(Served::between(&other, &one), None);
    assert_eq!(Served::between(&one, &one.clone()), Some(Served::default()));
}
