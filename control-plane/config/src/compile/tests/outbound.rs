//! What a sidecar's workload may call.

use super::*;
use weft_model::cluster::Discovery;

const TABLE: &str = "outbound";
const ORDER: &str = "outbound|8080||order.shop.svc.cluster.local";

#[test]
fn a_service_has_its_names_with_the_port_and_without_where_that_is_clear() {
    let held = sidecar(&service("shop/order", PORT_8080), "shop");
    assert_eq!(
        held.domains(TABLE),
        [
            "order:8080",
            "order.shop:8080",
            "order.shop.svc:8080",
            "order.shop.svc.cluster.local:8080",
            "order",
            "order.shop",
            "order.shop.svc",
            "order.shop.svc.cluster.local",
            "*"
        ]
    );
    let other = sidecar(&service("shop/order", PORT_8080), "team");
    assert!(!other.domains(TABLE).contains(&"order"), "short names are of the own namespace");
    assert!(other.domains(TABLE).contains(&"order.shop"));
}

#[test]
fn of_several_ports_the_one_without_a_number_is_80() {
    let ports = "ports: [{name: http, port: 80}, {name: admin, port: 9090}, {name: dns, port: 53, protocol: UDP}]";
    let held = sidecar(&service("shop/order", ports), "shop");
    assert_eq!(targets(&held.routes(TABLE, "order")[0]), ["outbound|80||order.shop.svc.cluster.local"]);
    assert_eq!(targets(&held.routes(TABLE, "order:9090")[0]), ["outbound|9090||order.shop.svc.cluster.local"]);
    assert!(!held.domains(TABLE).contains(&"order:53"));
    let neither = sidecar(&service("shop/order", "ports: [{name: a, port: 81}, {name: b, port: 82}]"), "shop");
    assert!(!neither.domains(TABLE).contains(&"order"));
}

#[test]
fn the_listener_is_an_explicit_proxy_and_the_rest_passes_through() {
    let held = sidecar(&service("shop/order", PORT_8080), "shop");
    let listener = held.listener("outbound");
    assert_eq!(listener.address.to_string(), "127.0.1.7:15001");
    let http = http(&listener.chains[0].handler);
    assert_eq!(
        (http.route_table.as_str(), http.upgrades.as_slice()),
        (TABLE, &["websocket".to_owned(), "CONNECT".to_owned()][..])
    );
    assert_eq!(targets(&held.routes(TABLE, "*")[0]), ["PassthroughCluster"]);
    assert_eq!(held.cluster("PassthroughCluster").discovery, Discovery::Forward);
}

fn mesh_route(name: &str, parent: &str) -> String {
    let backend = name.split_once('/').unwrap().0;
    let rules = format!("rules: [{{backendRefs: [{{name: {backend}-canary, namespace: shop, port: 8080}}]}}]");
    route(name, &format!("parentRefs: [{{group: \"\", kind: Service, namespace: shop, {parent}}}], {rules}"))
}

fn outbound_names(yaml: &str, namespace: &str, domain: &str) -> Vec<String> {
    names(sidecar(yaml, namespace).routes(TABLE, domain)).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_producers_route_is_for_all_callers_and_a_consumers_for_its_own_alone() {
    let order = service("shop/order", PORT_8080);
    let producer = format!("{order}{}", mesh_route("shop/producer", "name: order"));
    assert_eq!(outbound_names(&producer, "shop", "order.shop"), ["connect", "shop/producer/0"]);
    assert_eq!(outbound_names(&producer, "team", "order.shop"), ["connect", "shop/producer/0"]);
    let both = format!("{producer}{}", mesh_route("team/consumer", "name: order"));
    assert_eq!(outbound_names(&both, "team", "order.shop"), ["connect", "team/consumer/0"]);
    assert_eq!(outbound_names(&both, "shop", "order.shop"), ["connect", "shop/producer/0"]);
    let consumer = format!("{order}{}", mesh_route("team/consumer", "name: order"));
    assert_eq!(outbound_names(&consumer, "other", "order.shop"), ["default"]);
}

#[test]
fn a_mesh_route_is_for_the_ports_that_it_names() {
    let order = service("shop/order", "ports: [{name: http, port: 8080}, {name: admin, port: 9090}]");
    for (parent, on_8080, on_9090) in [
        ("name: order", true, true),
        ("name: order, port: 8080", true, false),
        ("name: order, sectionName: admin", false, true),
        ("name: order, port: 8080, sectionName: admin", false, false),
    ] {
        let yaml = format!("{order}{}", mesh_route("shop/r", parent));
        for (domain, routed) in [("order:8080", on_8080), ("order:9090", on_9090)] {
            let found = outbound_names(&yaml, "shop", domain).contains(&"shop/r/0".to_owned());
            assert_eq!(found, routed, "{parent} {domain}");
        }
    }
}

#[test]
fn mesh_routes_have_the_gateway_apis_precedence_and_tunnels_go_to_the_service() {
    let path = |name: &str, path: &str| {
        let rules =
            format!("rules: [{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: order, port: 8080}}]}}]");
        route(name, &format!("parentRefs: [{{group: \"\", kind: Service, name: order}}], {rules}"))
    };
    let yaml =
        format!("{}{}{}", service("shop/order", PORT_8080), path("shop/a", "/short"), path("shop/b", "/longer/path"));
    let held = sidecar(&yaml, "shop");
    let routes = held.routes(TABLE, "order");
    assert_eq!(names(routes), ["connect", "shop/b/0", "shop/a/0"]);
    assert_eq!((routes[0].matches.methods.as_slice(), targets(&routes[0])), (&["CONNECT".to_owned()][..], vec![ORDER]));
}

#[test]
fn a_redirect_in_the_mesh_keeps_the_services_port() {
    let redirect = |fields: &str| {
        let filter = format!("{{type: RequestRedirect, requestRedirect: {{{fields}}}}}");
        let rules = format!("rules: [{{filters: [{filter}]}}]");
        let route = route("shop/r", &format!("parentRefs: [{{group: \"\", kind: Service, name: order}}], {rules}"));
        let held = sidecar(&format!("{}{route}", service("shop/order", PORT_8080)), "shop");
        match &held.routes(TABLE, "order")[1].action {
            Action::Redirect(redirect) => redirect.port,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(redirect("hostname: b.example"), Some(8080));
    assert_eq!(redirect("port: 81"), Some(81));
    assert_eq!(redirect("scheme: https"), None, "the scheme's own port");
}

#[test]
fn an_empty_world_lets_everything_pass() {
    let held = sidecar("", "shop");
    assert_eq!(held.names(), ["CDS PassthroughCluster", "LDS outbound", "RDS outbound"]);
}
