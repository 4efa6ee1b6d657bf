//! VirtualServices that delegate to others.

use super::*;
use proptest::prelude::*;
use weft_model::route::{PathMatch, StringMatch};

/// The routes of `order`'s callers: one entry that delegates with these fields, to a delegate of these entries.
fn routes(root: &str, delegate: &str) -> Vec<Route> {
    let root = format!("hosts: [order], http: [{{{root}, delegate: {{name: d, namespace: team}}}}]");
    let yaml = format!(
        "{}{}{}{}",
        service("shop/order", PORT_8080),
        service("team/canary", PORT_8080),
        virtual_service("shop/v", &root),
        virtual_service("team/d", &format!("http: [{delegate}]"))
    );
    sidecar(&yaml, "shop").routes("outbound", "order").iter().filter(|route| route.name != "connect").cloned().collect()
}

const TO_CANARY: &str = "route: [{destination: {host: canary}}]";

#[test]
fn a_delegates_routes_stand_in_the_roots_place() {
    let found = routes("match: [{uri: {prefix: /a}}]", &format!("{{{TO_CANARY}}}"));
    assert_eq!(names(&found), ["team/d/0"]);
    assert_eq!(
        targets(&found[0]),
        ["outbound|8080||canary.team.svc.cluster.local"],
        "its names are of its own namespace"
    );
    assert_eq!(found[0].origin.object, "VirtualService team/d http[0]");
    assert_eq!(found[0].matches.path, PathMatch::Prefix("/a".into()), "the root's match");
}

#[test]
fn both_matches_must_fit() {
    let found = routes(
        "name: root, match: [{uri: {prefix: /a}, headers: {x: {exact: '1'}, y: {}}}, {uri: {prefix: /b}}]",
        &format!("{{name: leaf, match: [{{uri: {{prefix: /a/c}}, headers: {{y: {{exact: '2'}}}}}}], {TO_CANARY}}}"),
    );
    assert_eq!(names(&found), ["root-leaf"], "it is within the first of the root's alone");
    let matches = &found[0].matches;
    assert_eq!(matches.path, PathMatch::Prefix("/a/c".into()));
    let headers: Vec<_> = matches.headers.iter().map(|header| (header.name.as_str(), header.value.clone())).collect();
    assert_eq!(headers, [("y", StringMatch::Exact("2".into())), ("x", StringMatch::Exact("1".into()))]);
}

#[test]
fn a_route_that_reaches_beyond_the_root_is_left_out() {
    for (root, leaf, meets) in [
        ("uri: {prefix: /a}", "uri: {prefix: /a/b}", true),
        ("uri: {prefix: /a}", "uri: {exact: /a/b}", true),
        ("uri: {prefix: /a/b}", "uri: {prefix: /a}", false),
        ("uri: {exact: /a}", "uri: {exact: /a}", true),
        ("uri: {exact: /a}", "uri: {prefix: /a}", false),
        ("uri: {regex: /a.*}", "uri: {exact: /a}", false),
        ("uri: {prefix: /a}", "uri: {regex: /a.*}", false),
        ("uri: {regex: /a.*}", "method: {exact: GET}", true),
        ("method: {exact: GET}", "method: {exact: PUT}", false),
        ("headers: {x: {exact: a}}", "headers: {x: {exact: b}}", false),
        ("queryParams: {x: {prefix: a}}", "queryParams: {x: {exact: ab}}", true),
        ("withoutHeaders: {x: {exact: a}}", "withoutHeaders: {x: {exact: b}}", false),
        ("port: 8080", "port: 8081", false),
        ("sourceNamespace: shop", "sourceNamespace: team", false),
        ("gateways: [mesh]", "gateways: [infra/edge]", false),
        ("uri: {prefix: /a}, ignoreUriCase: true", "uri: {prefix: /a/b}", false),
    ] {
        let found =
            routes(&format!("match: [{{{root}}}]"), &format!("{{name: leaf, match: [{{{leaf}}}], {TO_CANARY}}}"));
        assert_eq!(names(&found) == ["leaf"], meets, "{root} and {leaf}: {:?}", names(&found));
    }
}

#[test]
fn what_the_delegate_does_not_say_the_root_says() {
    let root =
        "timeout: 3s, retries: {attempts: 7}, rewrite: {authority: a.example}, headers: {request: {set: {x: '1'}}}";
    let found = routes(root, &format!("{{{TO_CANARY}}}"));
    let sent = forward(&found[0]);
    assert_eq!((sent.request_timeout.unwrap().as_secs(), sent.retry.as_ref().unwrap().num_retries), (3, 7));
    assert_eq!((sent.rewrite.host.as_deref(), found[0].request_headers.set.len()), (Some("a.example"), 1));
    let own = routes(root, &format!("{{timeout: 4s, {TO_CANARY}}}"));
    assert_eq!(forward(&own[0]).request_timeout.unwrap().as_secs(), 4);
}

#[test]
fn a_delegate_that_is_not_there_has_no_routes() {
    let root = virtual_service("shop/v", "hosts: [order], http: [{delegate: {name: gone}}]");
    let held = sidecar(&format!("{}{root}", service("shop/order", PORT_8080)), "shop");
    assert_eq!(names(held.routes("outbound", "order")), ["default"]);
}

/// Entries of `match`, in flow style.
fn entry() -> impl Strategy<Value = String> {
    let uri =
        prop::sample::select(vec!["", "{prefix: /}", "{prefix: /a}", "{prefix: /a/b}", "{exact: /a}", "{exact: /a/b}"]);
    let method = prop::sample::select(vec!["", "{exact: GET}", "{exact: PUT}", "{regex: GET|PUT}"]);
    let header = prop::sample::select(vec!["", "{exact: '1'}", "{prefix: '1'}", "{}"]);
    (uri, any::<bool>(), method, header).prop_map(|(uri, ignore_case, method, header)| {
        let field =
            |name: &str, value: &str| if value.is_empty() { String::new() } else { format!("{name}: {value}, ") };
        let headers = if header.is_empty() { String::new() } else { format!("headers: {{x: {header}}}, ") };
        format!("{{{}{}{headers}ignoreUriCase: {ignore_case}}}", field("uri", uri), field("method", method))
    })
}

fn entries() -> impl Strategy<Value = String> {
    prop::collection::vec(entry(), 1..4).prop_map(|entries| format!("match: [{}]", entries.join(", ")))
}

/// Whether a rule with these matches takes the request.
fn takes(table: &RouteTable, path: &str, method: &str, header: Option<&str>) -> bool {
    let table = weft_policy::route::Table::compile(table).expect("what was read compiles");
    let value = |value: &str| http::HeaderValue::from_str(value).expect("a plain value");
    let headers = header.map(|text| (http::HeaderName::from_static("x"), value(text))).into_iter().collect();
    let method = http::Method::from_bytes(method.as_bytes()).expect("a method");
    let head = weft_policy::route::Head { host: "order", path, query: None, method: &method, headers: &headers };
    table.find(&head).is_ok_and(|at| table.routes()[at].name != "default")
}

proptest! {
    #[test]
    fn what_a_delegates_route_takes_both_sides_take(
        root in entries(),
        leaf in entries(),
        path in prop::sample::select(vec!["/", "/a", "/A", "/a/b", "/A/b", "/a/b/c", "/c"]),
        method in prop::sample::select(vec!["GET", "PUT", "POST"]),
        header in prop::option::of(prop::sample::select(vec!["1", "12", "2"])),
    ) {
        let alone = |entries: &str| {
            let spec = format!("hosts: [order], http: [{{{entries}, route: [{{destination: {{host: order}}}}]}}]");
            let yaml = format!("{}{}", service("shop/order", PORT_8080), virtual_service("shop/v", &spec));
            sidecar(&yaml, "shop").table("outbound").clone()
        };
        let joined = RouteTable {
            name: "joined".into(),
            virtual_hosts: vec![weft_model::route::VirtualHost {
                name: "order".into(),
                domains: vec!["order".into()],
                routes: routes(&root, &format!("{{{leaf}, {TO_CANARY}}}")),
            }],
        };
        if takes(&joined, path, method, header) {
            prop_assert!(takes(&alone(&root), path, method, header), "the root does not take {path}: {root}");
            prop_assert!(takes(&alone(&leaf), path, method, header), "the delegate does not take {path}: {leaf}");
        }
    }
}
