//! What is said of VirtualServices.

use super::*;

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n---\n"
    )
}

/// What is said of one with these fields beside a Gateway, two Services and a DestinationRule.
fn of(spec: &str) -> Vec<String> {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d, namespace: shop}\n\
                spec: {host: canary, subsets: [{name: v1}]}\n---\n";
    let services = [service("shop", "order"), service("shop", "canary"), service("team", "stock")].concat();
    said(&format!("{}{services}{rule}{}", gateway(HTTP), virtual_service("v", spec)))
}

fn of_destination(destination: &str) -> Vec<String> {
    of(&format!("hosts: [order], http: [{{route: [{{destination: {{{destination}}}}}]}}]"))
}

#[test]
fn nothing_is_said_of_what_is_there() {
    for destination in
        ["host: order", "host: order.shop.svc.cluster.local, port: {number: 8080}", "host: canary, subset: v1"]
    {
        assert_eq!(of_destination(destination), [""; 0], "{destination}");
    }
}

#[test]
fn a_destination_that_is_not_there_is_said_with_what_was_meant() {
    for (destination, expected) in [
        ("host: ordr", "there is no Service ordr.shop.svc.cluster.local (did you mean \"order\"?)"),
        (
            "host: stock",
            "there is no Service stock.shop.svc.cluster.local \
             (Service stock is in namespace team: write stock.team.svc.cluster.local)",
        ),
        ("host: order, port: {number: 81}", "order has no port 81; it has 8080 (write port: {number: 8080})"),
        ("host: canary, subset: v2", "canary has no subset v2; DestinationRule shop/d has v1 (did you mean \"v1\"?)"),
        (
            "host: order, subset: v1",
            "order has no subset v1: no DestinationRule is for it (write a DestinationRule with subset v1)",
        ),
    ] {
        assert_eq!(
            of_destination(destination),
            [format!("spec.http[0].route[0].destination: {expected}")],
            "{destination}"
        );
    }
    let mirror = of("hosts: [order], http: [{route: [{destination: {host: order}}], mirror: {host: ordr}}]");
    assert_eq!(mirror.len(), 1);
    assert!(mirror[0].starts_with("spec.http[0].mirrors[0].destination: there is no Service ordr"), "{mirror:?}");
}

#[test]
fn a_gateway_that_is_not_there_or_does_not_let_in_is_a_warning() {
    let at = |gateways: &str| {
        of(&format!(
            "hosts: [a.example], gateways: [{gateways}], http: [{{route: [{{destination: {{host: order}}}}]}}]"
        ))
    };
    for (gateways, expected) in [
        ("edge", "there is no Gateway shop/edge: nothing is routed there (write infra/edge)"),
        ("infra/egde", "there is no Gateway infra/egde: nothing is routed there (did you mean \"edge\"?)"),
        (
            "bookinfo-gateway",
            "there is no Gateway shop/bookinfo-gateway: nothing is routed there \
             (Weft knows gateways of gateway.networking.k8s.io, and not those of networking.istio.io yet)",
        ),
        (
            "infra/edge",
            "no listener of Gateway infra/edge lets in routes of namespace shop \
             (let allowedRoutes.namespaces be from: All, or a Selector that takes shop)",
        ),
    ] {
        assert_eq!(at(gateways), [format!("warning: spec.gateways[0]: {expected}")], "{gateways}");
    }
}

#[test]
fn a_host_that_no_listener_takes_is_a_warning() {
    let listener = "{name: http, port: 80, protocol: HTTP, hostname: \"*.shop.example\", allowedRoutes: {namespaces: {from: All}}}";
    let spec =
        "hosts: [a.shop.example, a.example], gateways: [infra/edge], http: [{route: [{destination: {host: order}}]}]";
    assert_eq!(
        said(&format!("{}{}{}", gateway(listener), service("shop", "order"), virtual_service("v", spec))),
        ["warning: spec.hosts[1]: no listener of Gateway edge takes a.example (they take *.shop.example)"]
    );
}

#[test]
fn a_host_that_another_has_in_the_mesh_is_a_warning() {
    let spec = "hosts: [order], http: [{route: [{destination: {host: order}}]}]";
    let found =
        said(&format!("{}{}{}", service("shop", "order"), virtual_service("a", spec), virtual_service("b", spec)));
    assert_eq!(
        found,
        [
            "warning: spec.hosts[0]: VirtualService shop/a at x.yaml:6:1 has order inside the mesh already: this one is not asked \
          (write both in one VirtualService)"
        ]
    );
}

#[test]
fn delegates_are_looked_up() {
    let root = |delegate: &str| {
        format!("hosts: [order], http: [{{match: [{{uri: {{prefix: /a}}}}], delegate: {{name: {delegate}}}}}]")
    };
    let to_order = "route: [{destination: {host: order}}]";
    let leaf = |name: &str, spec: &str| virtual_service(name, spec);
    let with = |delegate: &str, leaves: &str| {
        said(&format!("{}{}{leaves}", service("shop", "order"), virtual_service("v", &root(delegate))))
    };
    assert_eq!(with("leaf", &leaf("leaf", &format!("http: [{{{to_order}}}]"))), [""; 0]);
    assert_eq!(
        with("lef", &leaf("leaf", &format!("http: [{{{to_order}}}]"))),
        [
            "spec.http[0].delegate: there is no VirtualService shop/lef (did you mean \"leaf\"?)",
            "warning: spec.hosts: no VirtualService delegates to this one, which has no hosts: it does nothing \
             (write hosts, or delegate to it)"
        ]
    );
    assert_eq!(
        with("leaf", &leaf("leaf", &format!("hosts: [a.example], http: [{{{to_order}}}]"))),
        ["spec.http[0].delegate: VirtualService shop/leaf has hosts, so nothing can be delegated to it \
          (remove its hosts and gateways)"]
    );
    assert_eq!(
        with("leaf", &leaf("leaf", &format!("exportTo: [team], http: [{{{to_order}}}]"))),
        [
            "spec.http[0].delegate: VirtualService shop/leaf is not exported to namespace shop (add shop to its exportTo)",
            "warning: spec.hosts: no VirtualService delegates to this one, which has no hosts: it does nothing \
             (write hosts, or delegate to it)"
        ]
    );
    assert_eq!(
        with("leaf", &leaf("leaf", &format!("http: [{{match: [{{uri: {{prefix: /b}}}}], {to_order}}}]"))),
        ["warning: spec.http[0].match: has a match that is not within those of VirtualService shop/v spec.http[0]: \
          this route is left out (narrow it to what x.yaml:9 hands on)"]
    );
}
