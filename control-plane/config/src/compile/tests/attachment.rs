//! Which routes attach to which listeners.

use super::*;

const HTTP: &str = "name: http, port: 80, protocol: HTTP";

/// The rules that serve a domain of the one table.
fn served(listeners: &[&str], routes: &str, domain: &str) -> Vec<String> {
    let held = edge(&format!("{}{routes}", gateway(listeners)));
    names(held.routes("infra/edge|80", domain)).into_iter().map(str::to_owned).collect()
}

fn allowing(namespaces: &str) -> String {
    format!("{HTTP}, allowedRoutes: {{namespaces: {namespaces}}}")
}

#[test]
fn routes_of_the_gateways_own_namespace_attach_by_default() {
    let routes = format!("{}{}", route("infra/own", TO_ORDER), route("team/other", TO_ORDER));
    assert_eq!(served(&[HTTP], &routes, "*"), ["infra/own/0"]);
    assert_eq!(served(&[&allowing("{from: Same}")], &routes, "*"), ["infra/own/0"]);
}

#[test]
fn from_all_lets_every_namespace_in_and_none_lets_nobody() {
    let routes = format!("{}{}", route("infra/own", TO_ORDER), route("team/other", TO_ORDER));
    assert_eq!(served(&[&allowing("{from: All}")], &routes, "*"), ["infra/own/0", "team/other/0"]);
}

#[test]
fn a_selector_goes_by_the_labels_of_the_namespace() {
    let namespaces = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {shop: \"yes\"}}\n---\n";
    let routes = format!("{namespaces}{}{}", route("infra/own", TO_ORDER), route("team/other", TO_ORDER));
    let labelled = allowing("{from: Selector, selector: {matchLabels: {shop: \"yes\"}}}");
    assert_eq!(served(&[&labelled], &routes, "*"), ["team/other/0"]);
    // every namespace has the label of its name, written down or not
    let by_name = allowing("{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: infra}}}");
    assert_eq!(served(&[&by_name], &routes, "*"), ["infra/own/0"]);
}

#[test]
fn a_section_name_and_a_port_choose_listeners() {
    let listeners = [
        "name: a, port: 80, protocol: HTTP, hostname: a.example",
        "name: b, port: 80, protocol: HTTP, hostname: b.example",
    ];
    let to = |parent: &str| {
        route(
            "infra/r",
            &format!("parentRefs: [{{name: edge, {parent}}}], rules: [{{backendRefs: [{{name: o, port: 1}}]}}]"),
        )
    };
    assert_eq!(served(&listeners, &to("sectionName: a"), "a.example").len(), 1);
    assert_eq!(served(&listeners, &to("sectionName: a"), "b.example").len(), 0);
    assert_eq!(served(&listeners, &to("port: 80"), "b.example").len(), 1);
    assert_eq!(served(&listeners, &to("port: 81"), "b.example").len(), 0);
    assert_eq!(served(&listeners, &to("sectionName: b, port: 80"), "a.example").len(), 0);
}

#[test]
fn a_listener_of_other_kinds_takes_no_http_route() {
    let routes = route("infra/own", TO_ORDER);
    let grpc = format!("{HTTP}, allowedRoutes: {{kinds: [{{kind: GRPCRoute}}]}}");
    assert!(served(&[&grpc], &routes, "*").is_empty());
    let both = format!("{HTTP}, allowedRoutes: {{kinds: [{{kind: GRPCRoute}}, {{kind: HTTPRoute}}]}}");
    assert_eq!(served(&[&both], &routes, "*").len(), 1);
}

#[test]
fn host_names_meet_in_the_narrower_one() {
    let listeners = ["name: http, port: 80, protocol: HTTP, hostname: \"*.example\""];
    let route = route("infra/r", &format!("hostnames: [a.example, \"*.b.example\", other], {TO_ORDER}"));
    let held = edge(&format!("{}{route}", gateway(&listeners)));
    assert_eq!(held.domains("infra/edge|80"), ["*.b.example", "*.example", "a.example"]);
    assert_eq!(names(held.routes("infra/edge|80", "a.example")), ["infra/r/0"]);
    assert!(held.routes("infra/edge|80", "*.example").is_empty());
}

#[test]
fn a_route_attaches_once_however_often_it_names_the_listener() {
    let twice =
        "parentRefs: [{name: edge}, {name: edge, sectionName: http}], rules: [{backendRefs: [{name: o, port: 1}]}]";
    assert_eq!(served(&[HTTP], &route("infra/r", twice), "*"), ["infra/r/0"]);
}

#[test]
fn a_gateway_of_another_class_serves_nothing() {
    let other_class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: other}\n\
                       spec: {controllerName: elsewhere.example/controller}\n---\n";
    let own_class = other_class.replace("elsewhere.example/controller", "weft.dev/gateway");
    let gateway = gateway(&[HTTP]).replace("gatewayClassName: weft", "gatewayClassName: other");
    assert!(edge(&format!("{other_class}{gateway}")).0.is_empty());
    assert!(edge(&gateway).0.is_empty(), "a class that nobody defines");
    assert!(!edge(&format!("{own_class}{gateway}")).0.is_empty());
}
