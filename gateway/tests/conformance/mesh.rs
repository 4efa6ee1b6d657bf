//! HTTPRoutes between workloads (parentRef kind Service): profile MESH-HTTP, and its extended features.

use crate::kit::{grant, object, running, to};
use std::collections::BTreeMap;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::raw::RawReply;
use weft_testkit::{RawClient, Upstream};

/// A workload of namespace `default` with its sidecar, and Services that it may call.
struct Caller {
    _mesh: Mesh,
    sidecar: Plane,
    backends: BTreeMap<&'static str, Upstream>,
}

impl Caller {
    async fn open(backends: &[&'static str], objects: &[String]) -> Caller {
        let mut mesh = Mesh::start().await;
        let running = running(&mesh, backends).await;
        mesh.write("objects.yaml", &objects.join("---\n"));
        let pod = mesh.pod("caller", &[("http", 9000)]);
        let sidecar = mesh.sidecar(&pod).await;
        Caller { _mesh: mesh, sidecar, backends: running }
    }

    async fn ask(&self, host: &str, head: &str) -> RawReply {
        let (line, more) = head.split_once('\n').unwrap_or((head, ""));
        let more: String = more.lines().map(|line| format!("{line}\r\n")).collect();
        let mut client = RawClient::connect(self.sidecar.outbound()).await;
        client.send(&format!("{line} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n")).await;
        client.response().await
    }

    async fn who(&self, host: &str, head: &str) -> String {
        let reply = self.ask(host, head).await;
        if reply.header("x-backend").is_some() { reply.text() } else { reply.status.to_string() }
    }
}

/// Of the callers of Service `echo`.
fn mesh_route(rules: &str) -> String {
    object(
        "HTTPRoute",
        "r",
        &format!("parentRefs: [{{group: \"\", kind: Service, name: echo, port: 8080}}], rules: [{rules}]"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_basic() {
    let caller = Caller::open(&["echo"], &[]).await;
    for host in ["echo:8080", "echo", "echo.default", "echo.default.svc.cluster.local:8080"] {
        assert_eq!(caller.who(host, "GET /").await, "echo", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_frontend() {
    let set = "{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-header-set, value: set}]}}], ";
    let caller = Caller::open(&["echo", "v1"], &[mesh_route(&format!("{set}{}}}", to(&["echo"])))]).await;
    assert_eq!(caller.ask("echo:8080", "GET /").await.header("x-header-set"), Some("set"));
    assert_eq!(caller.ask("v1:8080", "GET /").await.header("x-header-set"), None, "another Service has no such route");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_simple_same_namespace() {
    let caller = Caller::open(&["echo", "v1"], &[mesh_route(&format!("{{{}}}", to(&["v1"])))]).await;
    assert_eq!(caller.who("echo:8080", "GET /").await, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_matching() {
    let rules = format!(
        "{{matches: [{{path: {{type: Exact, value: /}}}}, {{headers: [{{name: version, value: one}}]}}], {}}}, \
         {{matches: [{{path: {{value: /v2}}}}, {{headers: [{{name: version, value: two}}]}}], {}}}",
        to(&["v1"]),
        to(&["v2"])
    );
    let caller = Caller::open(&["echo", "v1", "v2"], &[mesh_route(&rules)]).await;
    for (head, expected) in [
        ("GET /", "v1"),
        ("GET /example\nversion: one", "v1"),
        ("GET /v2", "v2"),
        ("GET /v2/example", "v2"),
        ("GET /\nversion: two", "v2"),
        ("GET /v2example", "404"),
    ] {
        // "/" exactly is more specific than any header
        let expected = if head == "GET /\nversion: two" { "v1" } else { expected };
        assert_eq!(caller.who("echo:8080", head).await, expected, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_traffic_split() {
    let backends = "{backendRefs: [{name: v1, port: 8080, weight: 90}, {name: v2, port: 8080, weight: 10}]}";
    let caller = Caller::open(&["echo", "v1", "v2"], &[mesh_route(backends)]).await;
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..500 {
        *counts.entry(caller.who("echo:8080", "GET /").await).or_default() += 1;
    }
    // six standard deviations of a binomial of 500 at 0.1
    assert!((10..=90).contains(&counts["v2"]) && counts["v1"] + counts["v2"] == 500, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_ports() {
    // a route of one port leaves the other alone
    let caller = Caller::open(&["echo", "v1"], &[mesh_route(&format!("{{{}}}", to(&["v1"])))]).await;
    let at = caller.backends["echo"].address();
    let two = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: echo, namespace: default}}\nspec: {{ports: [{{name: http, port: 8080}}, {{name: http-other, port: 8090}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: echo-0, namespace: default, labels: {{kubernetes.io/service-name: echo}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: {0}}}, {{name: http-other, port: {0}}}]\nendpoints: [{{addresses: [{1}]}}]\n",
        at.port(),
        at.ip()
    );
    caller._mesh.write("backend-echo.yaml", &two);
    caller._mesh.live(&caller.sidecar).await;
    assert_eq!(caller.who("echo:8080", "GET /").await, "v1");
    assert_eq!(caller.who("echo:8090", "GET /").await, "echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_request_header_modifier() {
    let filter = "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: s}], remove: [x-gone]}}], ";
    let caller = Caller::open(&["echo"], &[mesh_route(&format!("{filter}{}}}", to(&["echo"])))]).await;
    assert_eq!(caller.who("echo:8080", "GET /\nx-set: was\nx-gone: was").await, "echo");
    let seen = caller.backends["echo"].last();
    assert_eq!((seen.header("x-set"), seen.header("x-gone")), (Some("s"), None));
}

/// What a caller of `http://echo:8080/old/x` is told.
async fn redirected(redirect: &str) -> (u16, String) {
    let rule = format!(
        "{{matches: [{{path: {{value: /old}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}"
    );
    let caller = Caller::open(&["echo"], &[mesh_route(&rule)]).await;
    let reply = caller.ask("echo:8080", "GET /old/x").await;
    (reply.status, reply.header("location").expect("a place to go").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_redirect_host_and_status() {
    assert_eq!(
        redirected("hostname: example.org, statusCode: 301").await,
        (301, "http://example.org:8080/old/x".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_scheme_redirect() {
    assert_eq!(redirected("scheme: https").await, (302, "https://echo/old/x".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_redirect_port() {
    assert_eq!(redirected("port: 8083").await, (302, "http://echo:8083/old/x".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_redirect_path() {
    let path = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}";
    assert_eq!(redirected(path).await, (302, "http://echo:8080/new/x".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_rewrite_path() {
    let rule = "{matches: [{path: {value: /prefix}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}], ";
    let caller = Caller::open(&["echo"], &[mesh_route(&format!("{rule}{}}}", to(&["echo"])))]).await;
    assert_eq!(caller.who("echo:8080", "GET /prefix/two").await, "echo");
    assert_eq!(caller.backends["echo"].last().uri.path(), "/one/two");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_backend_request_header_modification() {
    let rule = "{backendRefs: [{name: echo, port: 8080, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-for, value: echo}]}}]}]}";
    let caller = Caller::open(&["echo"], &[mesh_route(rule)]).await;
    assert_eq!(caller.who("echo:8080", "GET /").await, "echo");
    assert_eq!(caller.backends["echo"].last().header("x-for"), Some("echo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_backend_url_rewrite_and_request_redirect() {
    let rule = |path: &str, filter: &str| {
        format!(
            "{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: echo, port: 8080, filters: [{filter}]}}]}}"
        )
    };
    let path = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}";
    let rules = [
        rule("/old", &format!("{{type: URLRewrite, urlRewrite: {{{path}}}}}")),
        rule("/moved", &format!("{{type: RequestRedirect, requestRedirect: {{{path}}}}}")),
    ];
    let caller = Caller::open(&["echo"], &[mesh_route(&rules.join(", "))]).await;
    assert_eq!(caller.who("echo:8080", "GET /old/x").await, "echo");
    assert_eq!(caller.backends["echo"].last().uri.path(), "/new/x");
    let reply = caller.ask("echo:8080", "GET /moved/x").await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("http://echo:8080/new/x")));
    assert_eq!(caller.backends["echo"].seen().len(), 1, "who is sent elsewhere does not come here");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_query_param_matching() {
    let rules = format!(
        "{{matches: [{{queryParams: [{{name: animal, value: whale}}]}}], {}}}, {{matches: [{{queryParams: [{{name: animal, value: dolphin}}]}}], {}}}",
        to(&["v1"]),
        to(&["v2"])
    );
    let caller = Caller::open(&["echo", "v1", "v2"], &[mesh_route(&rules)]).await;
    for (path, expected) in [("/?animal=whale", "v1"), ("/?animal=dolphin", "v2"), ("/", "404")] {
        assert_eq!(caller.who("echo:8080", &format!("GET {path}")).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_http_route_named_route_rule() {
    let caller = Caller::open(&["echo"], &[mesh_route(&format!("{{name: named-rule, {}}}", to(&["echo"])))]).await;
    assert_eq!(caller.who("echo:8080", "GET /named").await, "echo");
    assert_eq!(caller.sidecar.logged("/named", 1).await[0]["route_name"], "named-rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_consumer_route() {
    let of = |namespace: &str, value: &str| {
        object(
            "HTTPRoute",
            &format!("{namespace}/r"),
            &format!(
                "parentRefs: [{{group: \"\", kind: Service, name: echo, namespace: web}}], rules: [{{filters: [{{type: ResponseHeaderModifier, \
                 responseHeaderModifier: {{set: [{{name: x-of, value: {value}}}]}}}}], {}}}]",
                to(&["web/echo"])
            ),
        )
    };
    let may = grant("web/g", "HTTPRoute", "default", "kind: Service");
    let consumer = Caller::open(&["web/echo"], &[of("default", "consumer"), of("web", "producer"), may]).await;
    assert_eq!(consumer.ask("echo.web:8080", "GET /").await.header("x-of"), Some("consumer"));
    let other = Caller::open(&["web/echo"], &[of("third", "consumer"), of("web", "producer")]).await;
    assert_eq!(other.ask("echo.web:8080", "GET /").await.header("x-of"), Some("producer"), "of another namespace");
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_grpc_route() {
    // profile MESH-GRPC: a GRPCRoute has the Service for itself
    let route = object(
        "GRPCRoute",
        "g",
        &format!(
            "parentRefs: [{{group: \"\", kind: Service, name: echo}}], rules: [{{matches: [{{method: {{service: shop.Orders, method: Place}}}}], {}}}]",
            to(&["v1"])
        ),
    );
    let caller = Caller::open(&["echo", "v1"], &[route, mesh_route(&format!("{{{}}}", to(&["echo"])))]).await;
    assert_eq!(caller.who("echo:8080", "POST /shop.Orders/Place\ncontent-length: 0").await, "v1");
    assert_eq!(caller.who("echo:8080", "POST /shop.Orders/Cancel\ncontent-length: 0").await, "404");
}
