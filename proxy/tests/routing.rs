//! Routes through the real path: what YAML says is what the caller and the backends see.

use std::collections::BTreeMap;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::raw::RawReply;
use weft_testkit::{Answer, RawClient, Upstream};

/// A gateway in front of `order` and `order-v2`, each of which answers with its name.
struct Shop {
    mesh: Mesh,
    gateway: Plane,
    order: Upstream,
    v2: Upstream,
}

impl Shop {
    async fn open(rules: &str) -> Shop {
        let (order, v2) = tokio::join!(
            Upstream::answering(Answer::ok("order").header("x-from", "order")),
            Upstream::answering(Answer::ok("v2"))
        );
        let mut mesh = Mesh::start().await;
        mesh.service("order", ("http", 8080), &[order.address()]);
        mesh.service("order-v2", ("http", 8080), &[v2.address()]);
        mesh.route("order", "edge", rules);
        let gateway = mesh.gateway("edge").await;
        Shop { mesh, gateway, order, v2 }
    }

    async fn ask(&self, head: &str) -> RawReply {
        self.send(&format!("{head}\r\n\r\n")).await
    }

    async fn send(&self, request: &str) -> RawReply {
        let mut client = RawClient::connect(self.gateway.at(8080)).await;
        client.send(request).await;
        client.response().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_sends_the_canary_elsewhere_and_the_more_exact_path_wins() {
    let shop = Shop::open(
        "  - matches: [{path: {type: PathPrefix, value: /orders}}]\n    backendRefs: [{name: order, port: 8080}]\n  - matches: [{path: {type: PathPrefix, value: /orders}, headers: [{name: x-canary, value: \"yes\"}]}]\n    backendRefs: [{name: order-v2, port: 8080}]\n  - matches: [{path: {type: Exact, value: /orders/new}}]\n    backendRefs: [{name: order-v2, port: 8080}]\n",
    )
    .await;
    assert_eq!(shop.ask("GET /orders/1 HTTP/1.1\r\nhost: a").await.text(), "order");
    assert_eq!(shop.ask("GET /orders/1 HTTP/1.1\r\nhost: a\r\nX-Canary: yes").await.text(), "v2");
    assert_eq!(shop.ask("GET /orders/1 HTTP/1.1\r\nhost: a\r\nx-canary: no").await.text(), "order");
    assert_eq!(shop.ask("GET /orders/new HTTP/1.1\r\nhost: a").await.text(), "v2");
    assert_eq!(shop.ask("GET /ordersx HTTP/1.1\r\nhost: a").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_split_and_weight_nought_gets_nothing() {
    let shop = Shop::open(
        "  - backendRefs: [{name: order, port: 8080, weight: 90}, {name: order-v2, port: 8080, weight: 10}]\n",
    )
    .await;
    let mut client = RawClient::connect(shop.gateway.at(8080)).await;
    let mut counts = BTreeMap::<String, u32>::new();
    const REQUESTS: u32 = 1000;
    for _ in 0..REQUESTS {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        *counts.entry(client.response().await.text()).or_default() += 1;
    }
    // six standard deviations of a binomial of 1000 at 0.1, or an exact split
    assert!((43..=157).contains(&counts["v2"]), "{counts:?}");
    assert_eq!(counts["v2"] + counts["order"], REQUESTS);

    shop.mesh.route(
        "order",
        "edge",
        "  - backendRefs: [{name: order, port: 8080, weight: 1}, {name: order-v2, port: 8080, weight: 0}]\n",
    );
    shop.mesh.live(&shop.gateway).await;
    for _ in 0..100 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_gets_a_copy_and_its_answer_goes_nowhere() {
    let shop = Shop::open(
        "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: order-v2, port: 8080}}}]\n    backendRefs: [{name: order, port: 8080}]\n",
    )
    .await;
    let reply = shop.send("POST /orders?x=1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").await;
    assert_eq!(reply.text(), "order");
    shop.v2.has_seen(1).await;
    for seen in [shop.order.last(), shop.v2.last()] {
        assert_eq!((seen.method.as_str(), seen.uri.to_string().as_str()), ("POST", "/orders?x=1"));
        assert_eq!(seen.body, "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_does_not_see_what_only_the_chosen_backend_is_told() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: order-v2, port: 8080}}}";
    let of_rule = "{type: URLRewrite, urlRewrite: {hostname: rule.example, path: {type: ReplaceFullPath, replaceFullPath: /rule}}}";
    let of_backend = "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /backend}}}";
    let shop = Shop::open(&format!(
        "  - filters: [{mirror}, {of_rule}]\n    backendRefs: [{{name: order, port: 8080, filters: [{of_backend}]}}]\n"
    ))
    .await;
    assert_eq!(shop.ask("GET /x?q=1 HTTP/1.1\r\nhost: a").await.text(), "order");
    shop.v2.has_seen(1).await;
    for (seen, path) in [(shop.order.last(), "/backend?q=1"), (shop.v2.last(), "/rule?q=1")] {
        assert_eq!((seen.header("host"), seen.uri.to_string().as_str()), (Some("rule.example"), path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_try_has_the_path_that_the_backend_knows() {
    let rewrite = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}";
    let shop = Shop::open(&format!(
        "  - retry: {{codes: [503], attempts: 2, backoff: 1ms}}\n    backendRefs: [{{name: full, port: 8080, filters: [{rewrite}]}}]\n"
    ))
    .await;
    let full = Upstream::answering(Answer::status(503)).await;
    shop.mesh.service("full", ("http", 8080), &[full.address()]);
    shop.mesh.live(&shop.gateway).await;
    assert_eq!(shop.ask("GET /x HTTP/1.1\r\nhost: a").await.status, 503);
    let paths: Vec<String> = full.seen().iter().map(|seen| seen.uri.to_string()).collect();
    assert_eq!(paths, ["/new/x"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_mirror_harms_nobody() {
    let shop = Shop::open(
        "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: dead, port: 8080}}}]\n    backendRefs: [{name: order, port: 8080}]\n",
    )
    .await;
    shop.mesh.service("dead", ("http", 8080), &[weft_testkit::nobody()]);
    shop.mesh.live(&shop.gateway).await;
    for _ in 0..20 {
        assert_eq!(shop.ask("GET / HTTP/1.1\r\nhost: a").await.text(), "order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_answer_with_the_place_to_go() {
    let shop = Shop::open(
        "  - matches: [{path: {type: PathPrefix, value: /old}}]\n    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.example, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]\n  - matches: [{path: {type: PathPrefix, value: /moved}}]\n    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /here}}}]\n",
    )
    .await;
    let reply = shop.ask("GET /old/things?q=1 HTTP/1.1\r\nhost: shop.example:8080").await;
    assert_eq!((reply.status, reply.header("location")), (301, Some("https://new.example/new/things?q=1")));
    let reply = shop.ask("GET /moved/x HTTP/1.1\r\nhost: shop.example:8080").await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("http://shop.example:8080/here")));
    assert!(shop.order.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrites_and_header_edits_reach_the_backend_and_the_caller() {
    let shop = Shop::open(
        "  - matches: [{path: {type: PathPrefix, value: /api}}]\n    filters:\n    - {type: URLRewrite, urlRewrite: {hostname: inner.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v1}}}\n    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: s}], add: [{name: x-add, value: b}], remove: [x-gone]}}\n    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-answer, value: \"1\"}], remove: [x-from]}}\n    backendRefs: [{name: order, port: 8080}]\n",
    )
    .await;
    let reply = shop.ask("GET /api/orders?x=1 HTTP/1.1\r\nhost: a\r\nx-set: was\r\nx-add: a\r\nx-gone: 1").await;
    assert_eq!((reply.header("x-answer"), reply.header("x-from")), (Some("1"), None));
    let seen = shop.order.last();
    assert_eq!(seen.uri.to_string(), "/v1/orders?x=1");
    assert_eq!(
        (seen.header("host"), seen.header("x-set"), seen.header("x-gone")),
        (Some("inner.example"), Some("s"), None)
    );
    let added: Vec<&str> =
        seen.headers.get_all("x-add").iter().flat_map(|v| v.to_str().expect("text").split(',')).collect();
    assert_eq!(added, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_preflight_is_answered_at_the_gateway_and_its_request_gets_the_headers() {
    let shop = Shop::open(
        "  - filters:\n    - {type: CORS, cors: {allowOrigins: [\"https://shop.example\"], allowMethods: [GET, PUT], allowHeaders: [x-token], exposeHeaders: [x-from], allowCredentials: true, maxAge: 600}}\n    backendRefs: [{name: order, port: 8080}]\n",
    )
    .await;
    let reply = shop
        .ask("OPTIONS /orders/1 HTTP/1.1\r\nhost: a\r\norigin: https://shop.example\r\naccess-control-request-method: PUT\r\naccess-control-request-headers: x-token")
        .await;
    assert!(matches!(reply.status, 200 | 204), "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://shop.example"));
    assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
    assert!(reply.header("access-control-allow-methods").is_some_and(|methods| methods.contains("PUT")));
    assert!(reply.header("access-control-allow-headers").is_some_and(|headers| headers.contains("x-token")));
    assert_eq!(reply.header("access-control-max-age"), Some("600"));
    assert!(shop.order.seen().is_empty(), "the backend is spared");

    let reply =
        shop.ask("PUT /orders/1 HTTP/1.1\r\nhost: a\r\norigin: https://shop.example\r\ncontent-length: 0").await;
    assert_eq!(reply.text(), "order");
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://shop.example"));
    assert_eq!(reply.header("access-control-expose-headers"), Some("x-from"));
    let reply = shop.ask("GET /orders/1 HTTP/1.1\r\nhost: a\r\norigin: https://evil.example").await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_visits_every_endpoint_alike_and_connections_are_kept() {
    let upstreams = [
        Upstream::answering(Answer::ok("")).await,
        Upstream::answering(Answer::ok("")).await,
        Upstream::answering(Answer::ok("")).await,
    ];
    let mut mesh = Mesh::start().await;
    mesh.service("order", ("http", 8080), &upstreams.each_ref().map(Upstream::address));
    mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    mesh.write(
        "balancing.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: order, namespace: default}\nspec:\n  host: order\n  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}\n",
    );
    let gateway = mesh.gateway("edge").await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    for _ in 0..30 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
    }
    let visits = upstreams.each_ref().map(|upstream| (upstream.seen().len(), upstream.connections()));
    assert_eq!(visits, [(10, 1); 3], "requests and connections of each");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_under_istios_names() {
    let shop = Shop::open("  - backendRefs: [{name: order, port: 8080}]\n").await;
    for _ in 0..3 {
        shop.ask("GET /counted HTTP/1.1\r\nhost: a").await;
    }
    let counted = weft_testkit::eventually("three requests in the metrics", || async {
        let page = shop.gateway.metrics().await;
        let fits = |line: &&str| {
            line.starts_with("istio_requests_total{")
                && line.contains("response_code=\"200\"")
                && line.contains("destination_service=\"order.default.svc.cluster.local\"")
        };

        page.lines().filter(fits).any(|line| line.ends_with(" 3")).then_some(page)
    })
    .await;
    for family in
        ["istio_request_duration_milliseconds_bucket", "istio_request_bytes_count", "istio_response_bytes_sum"]
    {
        assert!(counted.contains(family), "{family} is missing");
    }
}
