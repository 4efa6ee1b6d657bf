//! The core of HTTPRoute: feature `HTTPRoute` of profile GATEWAY-HTTP, and `ReferenceGrant`.

use crate::kit::{Edge, HTTP, grant, http_route, to};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn http_route_simple_same_namespace() {
    let edge = Edge::open(&["v1"], &[http_route("r", &format!("rules: [{{{}}}]", to(&["v1"])))]).await;
    assert_eq!(edge.who("any.example", "GET /").await, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_cross_namespace() {
    let edge = Edge::open(&["web/v1"], &[http_route("web/r", &format!("rules: [{{{}}}]", to(&["v1"])))]).await;
    assert_eq!(edge.who("any.example", "GET /").await, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_exact_path_matching() {
    let rules = format!(
        "rules: [{{matches: [{{path: {{type: Exact, value: /one}}}}], {}}}, {{matches: [{{path: {{type: Exact, value: /two}}}}], {}}}]",
        to(&["v1"]),
        to(&["v2"])
    );
    let edge = Edge::open(&["v1", "v2"], &[http_route("r", &rules)]).await;
    for (path, expected) in [
        ("/one", "v1"),
        ("/one?q=1", "v1"),
        ("/two", "v2"),
        ("/", "404"),
        ("/one/", "404"),
        ("/one/example", "404"),
        ("/Two", "404"),
    ] {
        assert_eq!(edge.who("a", &format!("GET {path}")).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_header_matching() {
    let header = |fields: &str, service: &str| format!("{{matches: [{{headers: [{fields}]}}], {}}}", to(&[service]));
    let rules = [
        header("{name: version, value: one}", "v1"),
        header("{name: version, value: two}", "v2"),
        header("{name: version, value: two}, {name: color, value: orange}", "v1"),
        format!(
            "{{matches: [{{headers: [{{name: color, value: blue}}]}}, {{headers: [{{name: color, value: green}}]}}], {}}}",
            to(&["v1"])
        ),
        header("{name: color, value: red}", "v2"),
    ];
    let edge = Edge::open(&["v1", "v2"], &[http_route("r", &format!("rules: [{}]", rules.join(", ")))]).await;
    for (headers, expected) in [
        ("version: one", "v1"),
        ("VERSION: two", "v2"),
        ("version: two\ncolor: orange", "v1"),
        ("color: blue", "v1"),
        ("color: green", "v1"),
        ("color: red", "v2"),
        ("version: two\ncolor: blue", "v2"),
        ("color: orange", "404"),
        ("version: One", "404"),
        ("some-other: one", "404"),
    ] {
        assert_eq!(edge.who("a", &format!("GET /\n{headers}")).await, expected, "{headers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_matching() {
    let rules = format!(
        "rules: [{{matches: [{{path: {{value: /}}}}, {{headers: [{{name: version, value: one}}]}}], {}}}, \
         {{matches: [{{path: {{value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {}}}]",
        to(&["v1"]),
        to(&["v2"])
    );
    let edge = Edge::open(&["v1", "v2"], &[http_route("r", &rules)]).await;
    for (head, expected) in [
        ("GET /", "v1"),
        ("GET /example", "v1"),
        ("GET /\nversion: one", "v1"),
        ("GET /v2", "v2"),
        ("GET /v2/", "v2"),
        ("GET /v2/example", "v2"),
        ("GET /\nversion: two", "v2"),
        ("GET /v2example", "v1"),
        ("GET /foo/v2/example", "v1"),
    ] {
        assert_eq!(edge.who("a", head).await, expected, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_matching_across_routes() {
    let one = format!(
        "hostnames: [example.com, example.net], rules: [{{matches: [{{path: {{value: /}}}}, {{headers: [{{name: version, value: one}}]}}], {}}}]",
        to(&["v1"])
    );
    let two = format!(
        "hostnames: [example.com], rules: [{{matches: [{{path: {{value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {}}}]",
        to(&["v2"])
    );
    let edge = Edge::open(&["v1", "v2"], &[http_route("one", &one), http_route("two", &two)]).await;
    for (host, head, expected) in [
        ("example.com", "GET /", "v1"),
        ("example.com", "GET /v2", "v2"),
        ("example.com", "GET /v2example", "v1"),
        ("example.com", "GET /\nversion: two", "v2"),
        ("example.net", "GET /v2", "v1"),
        ("example.net", "GET /\nversion: two", "v1"),
        ("example.org", "GET /", "404"),
    ] {
        assert_eq!(edge.who(host, head).await, expected, "{host} {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_path_match_order() {
    let rule = |kind: &str, path: &str, service: &str| {
        format!("{{matches: [{{path: {{type: {kind}, value: {path}}}}}], {}}}", to(&[service]))
    };
    let rules = [
        rule("PathPrefix", "/match", "v1"),
        rule("Exact", "/match/exact/one", "v2"),
        rule("PathPrefix", "/match/exact", "v1"),
        rule("PathPrefix", "/match/prefix/", "v2"),
        rule("PathPrefix", "/match/prefix/one", "v1"),
    ];
    let edge = Edge::open(&["v1", "v2"], &[http_route("r", &format!("rules: [{}]", rules.join(", ")))]).await;
    for (path, expected) in [
        ("/match/exact/one", "v2"),
        ("/match/exact/one/", "v1"),
        ("/match/exact", "v1"),
        ("/match", "v1"),
        ("/match/prefix/one/any", "v1"),
        ("/match/prefix/second", "v2"),
        ("/match/prefix", "v2"),
    ] {
        assert_eq!(edge.who("a", &format!("GET {path}")).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_hostname_intersection() {
    let listeners = format!(
        "{HTTP}  - {{name: exact, protocol: HTTP, port: 8081, hostname: very.specific.com}}\n  - {{name: wild, protocol: HTTP, port: 8081, hostname: \"*.wildcard.io\"}}\n"
    );
    let of = |section: &str, hostnames: &str, service: &str| {
        format!(
            "parentRefs: [{{name: edge, sectionName: {section}}}], hostnames: [{hostnames}], rules: [{{{}}}]",
            to(&[service])
        )
    };
    let objects = [
        http_route("a", &of("exact", "non.matching.com, \"*.specific.com\"", "v1")),
        http_route("b", &of("wild", "foo.wildcard.io, \"*.bar.wildcard.io\", other.io", "v2")),
    ];
    let edge = Edge::with_listeners(&listeners, &["v1", "v2"], &objects).await;
    for (host, expected) in [
        ("very.specific.com", "v1"),
        ("very.specific.com:1234", "v1"),
        ("non.matching.com", "404"),
        ("other.specific.com", "404"),
        ("foo.wildcard.io", "v2"),
        ("x.bar.wildcard.io", "v2"),
        ("x.y.bar.wildcard.io", "v2"),
        ("bar.wildcard.io", "404"),
        ("other.io", "404"),
    ] {
        assert_eq!(edge.who_at(8081, host, "/").await, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_listener_hostname_matching() {
    let listeners = format!(
        "{HTTP}  - {{name: l1, protocol: HTTP, port: 8081, hostname: bar.com}}\n  - {{name: l2, protocol: HTTP, port: 8081, hostname: foo.bar.com}}\n  - {{name: l3, protocol: HTTP, port: 8081, hostname: \"*.bar.com\"}}\n  - {{name: l4, protocol: HTTP, port: 8081, hostname: \"*.foo.com\"}}\n"
    );
    let of = |sections: &[&str], service: &str| {
        let parents: Vec<String> =
            sections.iter().map(|section| format!("{{name: edge, sectionName: {section}}}")).collect();
        format!("parentRefs: [{}], rules: [{{{}}}]", parents.join(", "), to(&[service]))
    };
    let objects = [
        http_route("a", &of(&["l1"], "v1")),
        http_route("b", &of(&["l2"], "v2")),
        http_route("c", &of(&["l3", "l4"], "v3")),
    ];
    let edge = Edge::with_listeners(&listeners, &["v1", "v2", "v3"], &objects).await;
    for (host, expected) in [
        ("bar.com", "v1"),
        ("foo.bar.com", "v2"),
        ("baz.bar.com", "v3"),
        ("boo.bar.com", "v3"),
        ("multiple.prefixes.bar.com", "v3"),
        ("multiple.prefixes.foo.com", "v3"),
        ("foo.com", "404"),
        ("no.matching.host", "404"),
    ] {
        assert_eq!(edge.who_at(8081, host, "/").await, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_invalid_backend_ref() {
    let rule =
        |path: &str, backend: &str| format!("{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{{backend}}}]}}");
    let rules = [
        rule("/unknown-kind", "group: unknown.example, kind: Nonsense, name: v1"),
        rule("/nonexistent", "name: nobody, port: 8080"),
        rule("/cross-namespace", "name: v1, namespace: web, port: 8080"),
        rule("/good", "name: v1, port: 8080"),
    ];
    let objects = [http_route("r", &format!("rules: [{}]", rules.join(", ")))];
    let edge = Edge::open(&["v1", "web/v1"], &objects).await;
    for (path, expected) in
        [("/unknown-kind", "500"), ("/nonexistent", "500"), ("/cross-namespace", "500"), ("/good", "v1")]
    {
        assert_eq!(edge.who("a", &format!("GET {path}")).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_invalid_parent_ref() {
    let listeners = format!("{HTTP}  - {{name: same, protocol: HTTP, port: 8081}}\n");
    let of = |parent: &str, host: &str| {
        format!("parentRefs: [{{name: edge, {parent}}}], hostnames: [{host}], rules: [{{{}}}]", to(&["v1"]))
    };
    let objects = [
        http_route("no-section", &of("sectionName: nobody", "no-section.example")),
        http_route("no-port", &of("port: 81", "no-port.example")),
        http_route("no-both", &of("sectionName: http, port: 8081", "no-both.example")),
        http_route("web/not-same", &of("namespace: default, sectionName: same", "not-same.example")),
        http_route("good", &of("sectionName: same, port: 8081", "good.example")),
    ];
    let edge = Edge::with_listeners(&listeners, &["v1", "web/v1"], &objects).await;
    for host in ["no-section", "no-port", "no-both", "not-same"] {
        for port in [8080, 8081] {
            assert_eq!(edge.who_at(port, &format!("{host}.example"), "/").await, "404", "{host} {port}");
        }
    }
    assert_eq!(edge.who_at(8081, "good.example", "/").await, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_reference_grant() {
    let route = http_route("r", &format!("rules: [{{{}}}]", to(&["web/v1"])));
    let granted = grant("web/g", "HTTPRoute", "default", "kind: Service, name: v1");
    let edge = Edge::open(&["web/v1"], &[route.clone(), granted]).await;
    assert_eq!(edge.who("a", "GET /").await, "v1");
    edge.edit(std::slice::from_ref(&route)).await;
    assert_eq!(edge.who("a", "GET /").await, "500", "the grant is gone");
    edge.edit(&[route, grant("web/g", "HTTPRoute", "default", "kind: Service")]).await;
    assert_eq!(edge.who("a", "GET /").await, "v1", "a grant of every Service");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_invalid_reference_grant() {
    let route = http_route("r", &format!("rules: [{{{}}}]", to(&["web/v1"])));
    let edge = Edge::open(&["web/v1"], std::slice::from_ref(&route)).await;
    for wrong in [
        grant("default/g", "HTTPRoute", "default", "kind: Service"),
        grant("web/g", "Gateway", "default", "kind: Service"),
        grant("web/g", "HTTPRoute", "web", "kind: Service"),
        grant("web/g", "HTTPRoute", "default", "kind: Secret"),
        grant("web/g", "HTTPRoute", "default", "kind: Service, name: v2"),
    ] {
        edge.edit(&[route.clone(), wrong.clone()]).await;
        assert_eq!(edge.who("a", "GET /").await, "500", "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_partially_invalid_via_invalid_reference_grant() {
    let rules = format!(
        "rules: [{{matches: [{{path: {{value: /v1}}}}], {}}}, {{matches: [{{path: {{value: /v2}}}}], {}}}]",
        to(&["web/v1"]),
        to(&["v2"])
    );
    let edge = Edge::open(&["web/v1", "v2"], &[http_route("r", &rules)]).await;
    assert_eq!(edge.who("a", "GET /v1").await, "500");
    assert_eq!(edge.who("a", "GET /v2").await, "v2");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_redirect_host_and_status() {
    let rules = "rules: [{matches: [{path: {value: /hostname-redirect}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org}}]}, \
                 {matches: [{path: {value: /host-and-status}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 301}}]}]";
    let edge = Edge::open(&[], &[http_route("r", rules)]).await;
    for (path, status) in [("/hostname-redirect", 302), ("/host-and-status", 301)] {
        let reply = edge.ask("a", &format!("GET {path}")).await;
        let location = reply.header("location").expect("a place to go");
        assert_eq!(reply.status, status);
        assert_eq!(location, format!("http://example.org:8080{path}"), "the port of the listener is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_request_header_modifier() {
    let filter = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: set}], \
                  add: [{name: X-Header-Add, value: add}, {name: X-Header-Add-Append, value: append}], remove: [X-Header-Remove]}}]";
    let edge = Edge::open(&["v1"], &[http_route("r", &format!("rules: [{{{filter}, {}}}]", to(&["v1"])))]).await;
    let head = "GET /\nx-header-set: was\nx-header-add-append: was\nx-header-remove: was\nx-other: was";
    assert_eq!(edge.who("a", head).await, "v1");
    let seen = edge.backend("v1").last();
    let all = |name: &str| {
        let values = seen.headers.get_all(name).iter().map(|value| value.to_str().expect("text"));
        values.flat_map(|value| value.split(',')).map(str::trim).collect::<Vec<_>>().join(",")
    };
    assert_eq!(all("x-header-set"), "set");
    assert_eq!(all("x-header-add"), "add");
    assert_eq!(all("x-header-add-append"), "was,append");
    assert_eq!(all("x-header-remove"), "");
    assert_eq!(all("x-other"), "was");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_weight() {
    let backends = "backendRefs: [{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}, {name: v3, port: 8080, weight: 0}]";
    let objects = [http_route("r", &format!("rules: [{{{backends}}}]"))];
    let edge = Edge::open(&["v1", "v2", "v3"], &objects).await;
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..500 {
        *counts.entry(edge.who("a", "GET /").await).or_default() += 1;
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["v1", "v2"], "{counts:?}");
    // six standard deviations of a binomial of 500 at 0.3
    assert!((88..=212).contains(&counts["v2"]), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_service_types() {
    // a headless Service, one whose slices were written by hand, and one of which nobody is ready
    let rule = |path: &str, service: &str| format!("{{matches: [{{path: {{value: {path}}}}}], {}}}", to(&[service]));
    let rules = [rule("/v1", "v1"), rule("/headless", "headless"), rule("/empty", "empty")];
    let edge = Edge::open(&["v1"], &[http_route("r", &format!("rules: [{}]", rules.join(", ")))]).await;
    let at = edge.backend("v1").address();
    let slice = |service: &str, ready: bool| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-by-hand, namespace: default, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {}}}]\nendpoints: [{{addresses: [{}], conditions: {{ready: {ready}}}}}]\n",
            at.port(),
            at.ip()
        )
    };
    let service = |name: &str, more: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{{more}ports: [{{name: http, port: 8080}}]}}\n"
        )
    };
    let more = [
        service("headless", "clusterIP: None, "),
        slice("headless", true),
        service("empty", ""),
        slice("empty", false),
    ];
    edge.mesh.write("more.yaml", &more.concat());
    edge.mesh.live(&edge.gateway).await;
    for (path, expected) in [("/v1", "v1"), ("/headless", "v1"), ("/empty", "503")] {
        assert_eq!(edge.who("a", &format!("GET {path}")).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_disallowed_kind() {
    // a TLSRoute at an HTTP listener does nothing, and harms nobody
    let objects = [
        crate::kit::route("TLSRoute", "t", &format!("hostnames: [a.example], rules: [{{{}}}]", to(&["v2"]))),
        http_route("r", &format!("rules: [{{{}}}]", to(&["v1"]))),
    ];
    let edge = Edge::open(&["v1", "v2"], &objects).await;
    assert_eq!(edge.who("a.example", "GET /").await, "v1");
    assert!(edge.backend("v2").seen().is_empty());
}
