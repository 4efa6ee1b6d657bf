//! The filters of a backendRef: what holds only for the requests that this backend is chosen for.

use crate::kit::{Edge, http_route};
use std::collections::BTreeSet;

/// Requests after which every backend of three was chosen, but once in 10^34.
const ENOUGH: usize = 200;

fn rules(rules: &[String]) -> [String; 1] {
    [http_route("r", &format!("rules: [{}]", rules.join(", ")))]
}

/// A rule for this prefix with these backends, each a Service, its weight and its filters.
fn weighted(prefix: &str, backends: &[(&str, u32, &str)]) -> String {
    let references = backends
        .iter()
        .map(|(name, weight, filters)| format!("{{name: {name}, port: 8080, weight: {weight}, filters: [{filters}]}}"));
    let references = references.collect::<Vec<_>>().join(", ");
    format!("{{matches: [{{path: {{value: {prefix}}}}}], backendRefs: [{references}]}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_backend_request_header_modification() {
    let filter = |value: &str| {
        format!(
            "filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-for, value: {value}}}]}}}}]"
        )
    };
    let backends = format!(
        "backendRefs: [{{name: v1, port: 8080, {}}}, {{name: v2, port: 8080, {}}}]",
        filter("one"),
        filter("two")
    );
    let edge = Edge::open(&["v1", "v2"], &rules(&[format!("{{{backends}}}")])).await;
    while edge.backend("v1").seen().is_empty() || edge.backend("v2").seen().is_empty() {
        edge.who("a", "GET /").await;
    }
    assert_eq!(edge.backend("v1").last().header("x-for"), Some("one"));
    assert_eq!(edge.backend("v2").last().header("x-for"), Some("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_backend_url_rewrite() {
    let rewrite = |fields: &str| format!("{{type: URLRewrite, urlRewrite: {{{fields}}}}}");
    let full = rewrite("path: {type: ReplaceFullPath, replaceFullPath: /rewritten}");
    let prefix = rewrite("path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}");
    let host = rewrite("hostname: one.example.org");
    let objects = rules(&[
        weighted("/full", &[("v1", 1, &full)]),
        weighted("/prefix", &[("v1", 1, &prefix)]),
        weighted("/host", &[("v1", 1, &host)]),
        weighted("/split", &[("v1", 1, &prefix), ("v2", 1, &host), ("v3", 1, "")]),
    ]);
    let edge = Edge::open(&["v1", "v2", "v3"], &objects).await;
    for (path, host, sent_on) in [
        ("/full/original?q=1", "a.example", "/rewritten?q=1"),
        ("/prefix/original?q=1", "a.example", "/new/original?q=1"),
        ("/prefix", "a.example", "/new"),
        ("/host/original", "one.example.org", "/host/original"),
    ] {
        assert_eq!(edge.who("a.example", &format!("GET {path}")).await, "v1", "{path}");
        let seen = edge.backend("v1").last();
        assert_eq!((seen.header("host"), seen.uri.to_string().as_str()), (Some(host), sent_on), "{path}");
    }
    let mut met = BTreeSet::new();
    for _ in 0..ENOUGH {
        let name = edge.who("a.example", "GET /split/x").await;
        let seen = edge.backend(&name).last();
        met.insert((name, seen.header("host").unwrap_or_default().to_owned(), seen.uri.to_string()));
    }
    let expected =
        [("v1", "a.example", "/new/x"), ("v2", "one.example.org", "/split/x"), ("v3", "a.example", "/split/x")];
    assert_eq!(met, expected.map(|(name, host, path)| (name.into(), host.into(), path.into())).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_backend_request_redirect() {
    let redirect = |fields: &str| format!("{{type: RequestRedirect, requestRedirect: {{{fields}}}}}");
    let full = redirect("path: {type: ReplaceFullPath, replaceFullPath: /all}");
    let prefix = redirect("path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301");
    let secure = redirect("scheme: https, hostname: example.org, statusCode: 308");
    let plain = redirect("scheme: http, hostname: example.org, port: 81, statusCode: 307");
    let objects = rules(&[
        weighted("/full", &[("v1", 1, &full)]),
        weighted("/prefix", &[("v1", 1, &prefix)]),
        weighted("/split", &[("v1", 1, &secure), ("v1", 1, &plain), ("v2", 1, "")]),
        weighted("/none", &[("v1", 0, &secure), ("v2", 1, "")]),
        weighted("/invalid", &[("nobody", 1, &secure)]),
    ]);
    let edge = Edge::open(&["v1", "v2"], &objects).await;
    let told = async |path: &str| {
        let reply = edge.ask("example.com:8080", &format!("GET {path}")).await;
        (reply.status, reply.header("location").map(str::to_owned))
    };
    let to = |status, place: &str| (status, Some(place.to_owned()));
    assert_eq!(told("/full/original?q=1").await, to(302, "http://example.com:8080/all?q=1"));
    assert_eq!(told("/prefix/original?q=1").await, to(301, "http://example.com:8080/new/original?q=1"));
    assert_eq!(told("/none").await, (200, None), "a backend of weight 0 is not chosen");
    assert_eq!(told("/invalid").await, (500, None), "what would have gone to an invalid backend");
    let mut met = BTreeSet::new();
    for _ in 0..ENOUGH {
        met.insert(told("/split").await);
    }
    assert_eq!(met, [to(308, "https://example.org/split"), to(307, "http://example.org:81/split"), (200, None)].into());
    assert!(edge.backend("v1").seen().is_empty(), "who is sent elsewhere does not come here");
}
