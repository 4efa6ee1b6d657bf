//! What VirtualServices become.

use super::*;
use std::time::Duration;
use weft_model::fault::{Abort, AbortWith};
use weft_model::route::{OriginMatch, PathMatch, PathRewrite, Redirect, StringMatch};

pub(super) const TABLE: &str = "outbound";
const ORDER: &str = "outbound|8080||order.shop.svc.cluster.local";
const CANARY: &str = "outbound|8080||canary.shop.svc.cluster.local";

pub(super) fn services() -> String {
    format!("{}{}", service("shop/order", PORT_8080), service("shop/canary", PORT_8080))
}

pub(super) const TO_CANARY: &str = "route: [{destination: {host: canary}}]";

/// The routes, but for the tunnel, of the callers of `order` with one VirtualService of these entries.
fn mesh(http: &str) -> Vec<Route> {
    let yaml = format!("{}{}", services(), virtual_service("shop/v", &format!("hosts: [order], http: [{http}]")));
    let routes = sidecar(&yaml, "shop").routes(TABLE, "order").to_vec();
    assert_eq!(routes[0].name, "connect");
    routes[1..].to_vec()
}

pub(super) fn one(fields: &str) -> Route {
    let mut routes = mesh(&format!("{{{fields}}}"));
    assert_eq!(routes.len(), 1);
    routes.remove(0)
}

fn found(yaml: &str, namespace: &str, domain: &str) -> Vec<String> {
    names(sidecar(yaml, namespace).routes(TABLE, domain)).into_iter().map(str::to_owned).collect()
}

#[test]
fn it_takes_the_place_of_the_default_route_and_keeps_its_order_and_origin() {
    let routes = mesh(&format!(
        "{{name: a, match: [{{uri: {{prefix: /}}, headers: {{x: {{}}}}}}, {{name: m, uri: {{exact: /a}}}}], {TO_CANARY}}}, \
         {{route: [{{destination: {{host: order}}}}]}}, {{name: unreached, {TO_CANARY}}}"
    ));
    assert_eq!(names(&routes), ["a", "a.m", "shop/v/1"], "nothing comes after what takes every request");
    assert_eq!((targets(&routes[0]), targets(&routes[2])), (vec![CANARY], vec![ORDER]));
    assert_eq!(routes[0].origin.object, "VirtualService shop/v http[0]");
    assert!(routes[0].origin.place.starts_with("test.yaml:"), "{}", routes[0].origin.place);
}

#[test]
fn paths_are_matched_by_characters_and_without_case_by_expression() {
    let path = |fields: &str| one(&format!("match: [{{{fields}}}], {TO_CANARY}")).matches.path;
    assert_eq!(path("uri: {prefix: /ord}"), PathMatch::Prefix("/ord".into()));
    assert_eq!(path("uri: {exact: /ord}"), PathMatch::Exact("/ord".into()));
    assert_eq!(path("uri: {regex: \"/o.*\"}"), PathMatch::Regex("/o.*".into()));
    assert_eq!(path("uri: {prefix: /a.b}, ignoreUriCase: true"), PathMatch::Regex("(?i)/a\\.b.*".into()));
    assert_eq!(path("uri: {exact: /a}, ignoreUriCase: true"), PathMatch::Regex("(?i)/a".into()));
    assert_eq!(path("headers: {x: {}}"), PathMatch::Any);
}

#[test]
fn the_other_parts_of_a_match_keep_their_values() {
    let matches = one(&format!(
        "match: [{{method: {{exact: GET}}, authority: {{prefix: o}}, headers: {{X-A: {{regex: b.*}}}}, \
         withoutHeaders: {{x-c: {{exact: d}}}}, queryParams: {{q: {{exact: e}}}}}}], {TO_CANARY}"
    ))
    .matches;
    assert_eq!(matches.methods, ["GET"]);
    let headers: Vec<_> = matches.headers.iter().map(|of| (of.name.as_str(), of.value.clone(), of.invert)).collect();
    let expected = [
        (":authority", StringMatch::Prefix("o".into()), false),
        ("x-a", StringMatch::Regex("b.*".into()), false),
        ("x-c", StringMatch::Exact("d".into()), true),
    ];
    assert_eq!(headers, expected);
    assert_eq!((matches.query[0].name.as_str(), &matches.query[0].value), ("q", &StringMatch::Exact("e".into())));
}

#[test]
fn what_never_fits_here_is_left_out() {
    for (fields, fits) in [
        ("port: 8080", true),
        ("port: 8081", false),
        ("sourceNamespace: shop", true),
        ("sourceNamespace: team", false),
        ("gateways: [mesh]", true),
        ("gateways: [infra/edge]", false),
        ("scheme: {exact: http}", true),
        ("scheme: {exact: https}", false),
    ] {
        let routes = mesh(&format!("{{name: it, match: [{{{fields}}}], {TO_CANARY}}}, {{name: rest, {TO_CANARY}}}"));
        assert_eq!(names(&routes).contains(&"it"), fits, "{fields}");
    }
}

#[test]
fn source_labels_are_compared_with_the_callers() {
    let spec = format!(
        "hosts: [order, api.example], http: [{{name: web, match: [{{sourceLabels: {{app: web}}}}], {TO_CANARY}}}]"
    );
    let mesh = Mesh::compile(&world(&format!("{}{}", services(), virtual_service("shop/v", &spec))));
    let mut caller = node(Role::Sidecar, "shop", "order");
    let unlabelled = Held(mesh.for_node(&caller));
    assert_eq!(names(unlabelled.routes(TABLE, "order")), ["default"]);
    assert!(!unlabelled.domains(TABLE).contains(&"api.example"), "nothing there is for this caller");
    caller.labels = BTreeMap::from([("app".into(), "web".into()), ("version".into(), "v1".into())]);
    let labelled = Held(mesh.for_node(&caller));
    assert_eq!(names(labelled.routes(TABLE, "order")), ["connect", "web"]);
    assert_eq!(names(labelled.routes(TABLE, "api.example")), ["connect", "web"]);
}

#[test]
fn weights_headers_and_rewrites_go_along() {
    let route = one("match: [{uri: {prefix: /a}}], rewrite: {uri: /b, authority: c.example}, timeout: 3s, \
         headers: {request: {set: {x-r: '1'}}, response: {remove: [server]}}, \
         route: [{destination: {host: order}, weight: 90, headers: {request: {add: {x-d: '2'}}}}, \
         {destination: {host: canary}, weight: 10}]");
    let sent = forward(&route);
    assert_eq!(targets(&route), [ORDER, CANARY]);
    assert_eq!((sent.backends[0].weight, sent.backends[1].weight), (90, 10));
    assert_eq!(sent.backends[0].request_headers.add, [("x-d".into(), "2".into())]);
    assert_eq!(route.request_headers.set, [("x-r".into(), "1".into())]);
    assert_eq!(route.response_headers.remove, ["server"]);
    assert_eq!(sent.rewrite.host.as_deref(), Some("c.example"));
    assert_eq!(sent.rewrite.path, Some(PathRewrite::Prefix("/b".into())));
    assert_eq!(sent.request_timeout, Some(Duration::from_secs(3)));
    assert_eq!(forward(&one(&format!("timeout: 0s, {TO_CANARY}"))).request_timeout, None);
}

#[test]
fn a_rewrite_replaces_what_was_matched() {
    let rewrite = |entry: &str| {
        let route = one(&format!("match: [{{{entry}}}], rewrite: {{uri: /new}}, {TO_CANARY}"));
        forward(&route).rewrite.path.clone().unwrap()
    };
    assert_eq!(rewrite("uri: {exact: /a}"), PathRewrite::Full("/new".into()));
    assert_eq!(rewrite("uri: {regex: /a.*}"), PathRewrite::Full("/new".into()));
    let without_case = PathRewrite::Regex { pattern: "^(?i)/a".into(), substitution: "/new".into() };
    assert_eq!(rewrite("uri: {prefix: /a}, ignoreUriCase: true"), without_case);
}

#[test]
fn a_host_that_is_set_is_the_host_that_is_sent() {
    let set = "headers: {request: {set: {Host: a.example}}}";
    let route = one(&format!("{set}, rewrite: {{authority: b.example}}, {TO_CANARY}"));
    assert_eq!(forward(&route).rewrite.host.as_deref(), Some("a.example"));
    assert!(route.request_headers.is_empty());
    let of_destination = one(&format!("route: [{{destination: {{host: canary}}, {set}}}]"));
    assert_eq!(forward(&of_destination).rewrite.host.as_deref(), Some("a.example"));
}

#[test]
fn redirects_and_answers_are_the_proxys_own() {
    let redirect = |fields: &str| match one(&format!("redirect: {{{fields}}}")).action {
        Action::Redirect(redirect) => redirect,
        other => panic!("{other:?}"),
    };
    let expected = Redirect {
        scheme: None,
        host: Some("b.example".into()),
        port: Some(80),
        path: Some(PathRewrite::Full("/new".into())),
        status: 301,
    };
    assert_eq!(redirect("uri: /new, authority: b.example"), expected);
    assert_eq!(redirect("uri: /new").port, Some(8080), "the same host at the same port");
    assert_eq!(redirect("scheme: https, redirectCode: 307").port, None, "the scheme's own");
    assert_eq!(redirect("authority: b.example, derivePort: FROM_REQUEST_PORT").port, Some(8080));
    assert_eq!(redirect("authority: b.example, port: 81").port, Some(81));
    let Action::Respond(answer) = one("directResponse: {status: 503, body: {string: closed}}").action else { panic!() };
    assert_eq!((answer.status, answer.body.as_str()), (503, "closed"));
}

#[test]
fn faults_mirrors_and_cors_go_along() {
    let route = one(&format!(
        "{TO_CANARY}, fault: {{abort: {{httpStatus: 418, percentage: {{value: 25}}}}}}, mirror: {{host: order}}, \
         mirrorPercentage: {{value: 10}}, corsPolicy: {{allowOrigins: [{{exact: 'https://a.example'}}, {{prefix: 'https://b.'}}, {{regex: 'https://c.+'}}], maxAge: 1h}}"
    ));
    let share = weft_model::route::Share::ratio(1, 4).unwrap();
    assert_eq!(route.fault.as_ref().unwrap().abort, Some(Abort { with: AbortWith::Http(418), share }));
    let mirror = &forward(&route).mirrors[0];
    assert_eq!((&mirror.target, mirror.share.millionths()), (&Target::Cluster(ORDER.into()), 100_000));
    let cors = route.cors.unwrap();
    let origins = [
        OriginMatch::pattern("https://a.example"),
        OriginMatch::Prefix("https://b.".into()),
        OriginMatch::Regex("https://c.+".into()),
    ];
    assert_eq!((cors.allow_origins.as_slice(), cors.max_age), (&origins[..], Some(Duration::from_secs(3600))));
}

pub(super) fn destination_rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: d, namespace: shop}}\nspec: {{{spec}}}\n---\n"
    )
}

#[test]
fn destinations_that_are_not_there_get_their_share_with_the_reason() {
    for (destination, expected) in [
        ("host: order, port: {number: 8080}", ORDER),
        ("host: order.shop.svc.cluster.local", ORDER),
        ("host: ordr", "there is no Service ordr.shop.svc.cluster.local"),
        ("host: order, port: {number: 81}", "order has no port 81; it has 8080"),
        ("host: canary, subset: v2", "outbound|8080|v2|canary.shop.svc.cluster.local"),
        ("host: canary, subset: v3", "canary has no subset v3; DestinationRule shop/d has v1, v2"),
        ("host: order, subset: v1", "order has no subset v1: no DestinationRule is for it"),
    ] {
        let rule = destination_rule("host: canary, subsets: [{name: v1}, {name: v2}]");
        let spec = format!("hosts: [order], http: [{{route: [{{destination: {{{destination}}}}}]}}]");
        let held = sidecar(&format!("{}{rule}{}", services(), virtual_service("shop/v", &spec)), "shop");
        assert_eq!(targets(&held.routes(TABLE, "order")[1]), [expected], "{destination}");
    }
}

#[test]
fn a_port_that_is_left_out_is_the_one_that_was_asked_for() {
    let two = "ports: [{name: a, port: 80}, {name: b, port: 9090}]";
    let spec = "hosts: [order], http: [{route: [{destination: {host: order}}]}]";
    let held = sidecar(&format!("{}{}", service("shop/order", two), virtual_service("shop/v", spec)), "shop");
    for port in [80, 9090] {
        let expected = format!("outbound|{port}||order.shop.svc.cluster.local");
        assert_eq!(targets(&held.routes(TABLE, &format!("order:{port}"))[1]), [expected.as_str()]);
    }
}

#[test]
fn a_host_that_is_no_service_has_a_virtual_host_of_its_own() {
    let spec = format!(
        "hosts: [api.example, \"*.wild.example\", legacy], http: [\
         {{name: tls, match: [{{port: 8443}}], {TO_CANARY}}}, {{name: rest, match: [{{port: 80}}], {TO_CANARY}}}]"
    );
    let held = sidecar(&format!("{}{}", services(), virtual_service("shop/v", &spec)), "shop");
    for host in ["api.example", "*.wild.example", "legacy", "legacy.shop.svc.cluster.local"] {
        assert_eq!(names(held.routes(TABLE, host)), ["connect", "rest"], "{host}");
        assert_eq!(names(held.routes(TABLE, &format!("{host}:8443"))), ["connect", "tls"], "{host}");
    }
    assert_eq!(
        targets(&held.routes(TABLE, "api.example")[0]),
        ["PassthroughCluster"],
        "a tunnel goes to the host itself"
    );
}

#[test]
fn no_domain_is_twice() {
    let spec = |name: &str, host: &str| virtual_service(name, &format!("hosts: [{host}], http: [{{{TO_CANARY}}}]"));
    let hosts =
        ["gone.shop", "gone", "order", "order.shop", "order.shop.svc.cluster.local", "\"*.shop.svc.cluster.local\""];
    let all: String = hosts.iter().enumerate().map(|(at, host)| spec(&format!("shop/v{at}"), host)).collect();
    let held = sidecar(&format!("{}{all}", services()), "shop");
    let mut domains = held.domains(TABLE);
    let all = domains.len();
    domains.sort_unstable();
    domains.dedup();
    assert_eq!(domains.len(), all);
}

#[test]
fn one_virtual_service_has_a_host_in_the_mesh() {
    let of = |name: &str, fields: &str| virtual_service(name, &format!("{fields}, http: [{{{TO_CANARY}}}]"));
    let host = "hosts: [order.shop.svc.cluster.local]";
    let both = format!("{}{}{}", services(), of("team/b", host), of("shop/c", host));
    assert_eq!(found(&both, "shop", "order")[1], "team/b/0", "the first by name");
    let created = of("shop/c", host).replace("name: c", "creationTimestamp: \"2026-01-01T00:00:00Z\", name: c");
    assert_eq!(
        found(&format!("{}{}{created}", services(), of("team/b", host)), "shop", "order")[1],
        "shop/c/0",
        "the oldest"
    );
    let private = of("shop/z", &format!("{host}, exportTo: [.]"));
    assert_eq!(found(&format!("{both}{private}"), "shop", "order")[1], "shop/z/0", "the caller's own");
    assert_eq!(found(&format!("{both}{private}"), "team", "order.shop")[1], "team/b/0", "it is not exported");
    let named = of("shop/y", &format!("{host}, exportTo: [team]"));
    assert_eq!(found(&format!("{both}{named}"), "team", "order.shop")[1], "shop/y/0", "exported by name");
    let wild = of("shop/a", "hosts: [\"*.shop.svc.cluster.local\"]");
    let yaml = format!("{both}{wild}");
    assert_eq!(
        (found(&yaml, "shop", "order")[1].as_str(), found(&yaml, "shop", "canary")[1].as_str()),
        ("team/b/0", "shop/a/0")
    );
}

#[test]
fn httproutes_of_a_service_come_first() {
    let parent = "parentRefs: [{group: \"\", kind: Service, name: order}]";
    let http_route = route("shop/r", &format!("{parent}, {TO_ORDER}"));
    let yaml = format!(
        "{}{http_route}{}",
        services(),
        virtual_service("shop/v", &format!("hosts: [order], http: [{{{TO_CANARY}}}]"))
    );
    assert_eq!(found(&yaml, "shop", "order"), ["connect", "shop/r/0", "shop/v/0"]);
}

const EDGE: &str = "name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}";

fn at_edge(listeners: &[&str], more: &str) -> Held {
    edge(&format!("{}{}{more}", gateway(listeners), services()))
}

#[test]
fn a_gateway_has_the_routes_of_those_that_name_it() {
    let of = |name: &str, gateways: &str, host: &str| {
        virtual_service(name, &format!("hosts: [\"{host}\"], gateways: [{gateways}], http: [{{{TO_CANARY}}}]"))
    };
    let all = [
        of("shop/a", "infra/edge", "a.example"),
        of("shop/b", "infra/edge, mesh", "a.example"),
        of("shop/w", "infra/edge", "*.example"),
        of("shop/other", "infra/other", "a.example"),
        of("shop/mesh", "mesh", "a.example"),
    ];
    let held = at_edge(&[EDGE], &all.concat());
    let table = "infra/edge|80";
    assert_eq!(held.domains(table), ["*", "*.example", "a.example"]);
    assert_eq!(names(held.routes(table, "a.example")), ["shop/a/0", "shop/b/0"], "joined, the oldest first");
    held.cluster(CANARY);
}

#[test]
fn a_listener_takes_the_hosts_that_fit_its_own_and_the_namespaces_that_it_allows() {
    let v = virtual_service("shop/v", &format!("hosts: [\"*\"], gateways: [infra/edge], http: [{{{TO_CANARY}}}]"));
    let narrow = format!("{EDGE}, hostname: \"*.example\"");
    assert_eq!(names(at_edge(&[&narrow], &v).routes("infra/edge|80", "*.example")), ["shop/v/0"]);
    let same = "name: http, port: 80, protocol: HTTP";
    assert_eq!(names(at_edge(&[same], &v).routes("infra/edge|80", "*")), [""; 0]);
}

#[test]
fn at_a_gateway_httproutes_of_a_domain_come_first() {
    let http_route = route("shop/r", &format!("hostnames: [a.example], {TO_ORDER}"));
    let v =
        virtual_service("shop/v", &format!("hosts: [\"*.example\"], gateways: [infra/edge], http: [{{{TO_CANARY}}}]"));
    let held = at_edge(&[EDGE], &format!("{http_route}{v}"));
    assert_eq!(names(held.routes("infra/edge|80", "a.example")), ["shop/r/0", "shop/v/0"]);
    assert_eq!(names(held.routes("infra/edge|80", "*.example")), ["shop/v/0"]);
}

#[test]
fn every_host_and_all_addresses_are_hosts_as_they_are_written() {
    let hosts = "hosts: [\"*\", \"::1\", 10.0.0.7], gateways: [infra/edge]";
    let held = at_edge(&[EDGE], &virtual_service("shop/v", &format!("{hosts}, http: [{{{TO_CANARY}}}]")));
    assert_eq!(held.domains("infra/edge|80"), ["*", "10.0.0.7", "[::1]"]);
}

#[test]
fn at_an_https_listener_the_scheme_and_the_ports_are_its_own() {
    let secret = super::edge::secret("infra/c");
    let spec = "hosts: [a.example], gateways: [infra/edge], http: [\
                {name: secure, match: [{scheme: {exact: https}, uri: {prefix: /a}}], redirect: {authority: b.example}}, \
                {name: plain, match: [{scheme: {exact: http}}], route: [{destination: {host: canary}}]}]";
    let listeners = [
        EDGE,
        "name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}, allowedRoutes: {namespaces: {from: All}}",
    ];
    let held = at_edge(&listeners, &format!("{secret}{}", virtual_service("shop/v", spec)));
    assert_eq!(names(held.routes("infra/edge|80", "a.example")), ["plain"]);
    let secure = held.routes("infra/edge|443|https", "a.example");
    assert_eq!(names(secure), ["secure"]);
    assert!(matches!(&secure[0].action, Action::Redirect(Redirect { port: Some(443), .. })), "{secure:?}");
}

#[test]
fn a_data_plane_takes_all_that_was_read() {
    let whole = include_str!("../../kinds/virtual_service/tests/whole.yaml");
    let held = sidecar(&format!("{}{whole}", services()), "shop");
    let table = held.table(TABLE);
    weft_policy::route::Table::compile(table).unwrap();
    for route in table.virtual_hosts.iter().flat_map(|host| &host.routes) {
        weft_policy::edits::Edits::compile(&route.request_headers).unwrap();
        if let Some(cors) = &route.cors {
            weft_policy::cors::Policy::compile(cors).unwrap();
        }
        match &route.action {
            Action::Forward(Forward { rewrite, .. }) => {
                let path = rewrite.path.as_ref();
                path.map(|path| weft_policy::rewrite::Rewrite::compile(path, &route.matches.path)).transpose().unwrap();
            }
            Action::Redirect(redirect) => {
                weft_policy::redirect::Redirection::compile(redirect, &route.matches.path).unwrap();
            }
            Action::Respond(_) => {}
        }
    }
}
