use super::*;
use std::net::{IpAddr, Ipv4Addr};
use weft_model::node::Role;
use weft_model::route::{Action, Respond, Route, RouteTable, VirtualHost};
use weft_model::{Cluster, Node};
use weft_xds::server::NackStatus;

fn origin_at(line: u32, rule: u32) -> Origin {
    Origin { place: format!("policies/orders.yaml:{line}"), object: format!("HTTPRoute shop/orders rules[{rule}]") }
}

fn route(name: &str, origin: Origin) -> Route {
    Route { origin, ..Route::all(name, Action::Respond(Respond { status: 200, body: String::new() })) }
}

fn given() -> Arc<ResourceSet> {
    let routes = vec![
        route("made by weft", Origin::default()),
        route("shop/orders/0", origin_at(8, 0)),
        route("shop/orders/1", origin_at(17, 1)),
    ];
    let host = VirtualHost { name: "all".into(), domains: vec!["*".into()], routes };
    let table = RouteTable { name: "http".into(), virtual_hosts: vec![host] };
    let cluster = Cluster {
        origin: Origin { place: "a.yaml:3".into(), object: "Service shop/order".into() },
        ..Cluster::new("order")
    };
    Arc::new(ResourceSet::build(vec![Resource::RouteTable(table), Resource::Cluster(cluster)], None))
}

fn node(pod: &str, nack: Option<(&str, &str, &str)>) -> NodeStatus {
    let node = Node {
        role: Role::Sidecar,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        pod: pod.into(),
        namespace: "shop".into(),
        workload: pod.into(),
        labels: BTreeMap::new(),
        app_address: None,
        interception: false,
        locality: Default::default(),
    };
    let last_nack = nack.map(|(kind, name, text)| NackStatus {
        kind: kind.into(),
        names: if name.is_empty() { vec![] } else { vec![name.into()] },
        text: text.into(),
        at_ms: 1,
    });
    NodeStatus {
        id: node.id(),
        node,
        connected_at_ms: 0,
        in_sync: false,
        version: String::new(),
        wanted_version: String::new(),
        kinds: BTreeMap::new(),
        last_nack,
    }
}

fn said(nodes: &[NodeStatus]) -> Vec<String> {
    problems(nodes, |_| Some(given())).iter().map(ToString::to_string).collect()
}

#[test]
fn a_refused_route_is_a_problem_at_the_line_of_the_rule_that_the_proxy_names() {
    let nodes = [node("order-0", Some(("RDS", "http", "route shop/orders/1: bad regex"))), node("order-1", None)];
    assert_eq!(
        said(&nodes),
        ["policies/orders.yaml:17:1 spec.rules[1]: proxies refuse what this became (RDS \"http\"): \
          route shop/orders/1: bad regex (refused by sidecar~127.0.0.1~order-0.shop~shop.svc.cluster.local; \
          the last good version stays in force there)"]
    );
    let problem = &problems(&nodes, |_| Some(given()))[0];
    assert_eq!(problem.object.as_ref().unwrap().to_string(), "HTTPRoute shop/orders");
}

#[test]
fn a_table_without_a_named_route_is_told_at_the_first_that_somebody_wrote() {
    let said = said(&[node("order-0", Some(("RDS", "http", "no")))]);
    assert!(said[0].starts_with("policies/orders.yaml:8:1 spec.rules[0]: "), "{said:?}");
}

#[test]
fn many_proxies_with_one_reason_are_one_problem() {
    let nodes: Vec<NodeStatus> =
        (0..5).map(|n| node(&format!("order-{n}"), Some(("CDS", "order", "no such balancer")))).collect();
    let said = said(&nodes);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("a.yaml:3:1 proxies refuse") && said[0].contains("and 4 more"), "{said:?}");
}

#[test]
fn what_has_no_place_is_said_all_the_same() {
    let said = said(&[node("order-0", Some(("LDS", "0.0.0.0_80", "the port is taken")))]);
    assert!(said[0].contains("(LDS \"0.0.0.0_80\"): the port is taken"), "{said:?}");
    let said = self::said(&[node("order-0", Some(("LDS", "", "bad response")))]);
    assert!(said[0].contains("(LDS): bad response"), "{said:?}");
}
