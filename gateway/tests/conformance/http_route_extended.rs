//! The extended features of HTTPRoute.

use crate::kit::{Edge, HTTP, http_route, service, to};
use std::sync::atomic::{AtomicUsize, Ordering};
use weft_testkit::{Act, Answer, RawClient, Upstream, nobody};

fn rule(matches: &str, service: &str) -> String {
    format!("{{matches: [{matches}], {}}}", to(&[service]))
}

fn rules(rules: &[String]) -> [String; 1] {
    [http_route("r", &format!("rules: [{}]", rules.join(", ")))]
}

/// One rule with these filters before `v1`.
fn filtered(filters: &str) -> [String; 1] {
    rules(&[format!("{{filters: [{filters}], {}}}", to(&["v1"]))])
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_query_param_matching() {
    let objects = rules(&[
        rule("{queryParams: [{name: animal, value: whale}]}", "v1"),
        rule("{queryParams: [{name: animal, value: dolphin}]}", "v2"),
        rule("{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}", "v3"),
        rule(
            "{queryParams: [{name: animal, type: RegularExpression, value: \"w.*e\"}], headers: [{name: version, value: one}]}",
            "v2",
        ),
    ]);
    let edge = Edge::open(&["v1", "v2", "v3"], &objects).await;
    for (head, expected) in [
        ("GET /?animal=whale", "v1"),
        ("GET /?other=1&animal=whale", "v1"),
        ("GET /path?animal=dolphin", "v2"),
        ("GET /?animal=dolphin&color=blue", "v3"),
        ("GET /?color=blue", "404"),
        ("GET /?animal=Whale", "404"),
        ("GET /?animal=whole\nversion: one", "v2"),
        ("GET /?animal=%77hale", "v1"),
        ("GET /?animal=whale&animal=dolphin", "v1"),
    ] {
        assert_eq!(edge.who("a", head).await, expected, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_method_matching() {
    let objects = rules(&[
        rule("{method: POST}", "v1"),
        rule("{method: GET}", "v2"),
        rule("{path: {value: /path}, method: GET, headers: [{name: version, value: one}]}", "v3"),
    ]);
    let edge = Edge::open(&["v1", "v2", "v3"], &objects).await;
    for (head, expected) in [
        ("POST /\ncontent-length: 0", "v1"),
        ("GET /", "v2"),
        ("GET /path\nversion: one", "v3"),
        ("GET /path", "v2"),
        ("PUT /\ncontent-length: 0", "404"),
    ] {
        assert_eq!(edge.who("a", head).await, expected, "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_response_header_modification() {
    let backend =
        Upstream::answering(Answer::ok("").header("x-set", "was").header("x-append", "was").header("x-gone", "was"))
            .await;
    let filter = "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Set, value: set}], \
                  add: [{name: x-append, value: more}, {name: x-new, value: new}], remove: [X-Gone]}}";
    let [route] = filtered(filter);
    let edge = Edge::open(&[], &[service("v1", "http", &backend), route]).await;
    let reply = edge.ask("a", "GET /").await;
    let all = |name: &str| {
        let values = reply.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        values.flat_map(|value| value.split(',')).map(str::trim).collect::<Vec<_>>().join(",")
    };
    assert_eq!([all("x-set"), all("x-append"), all("x-new"), all("x-gone")], ["set", "was,more", "new", ""]);
}

/// Where a redirect leads a caller of `http://example.com:8080/old/x?q=1`, and with which status.
async fn redirected(redirect: &str) -> (u16, String) {
    let spec = format!(
        "{{matches: [{{path: {{value: /old}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}"
    );
    let edge = Edge::open(&[], &rules(&[spec])).await;
    let reply = edge.ask("example.com:8080", "GET /old/x?q=1").await;
    (reply.status, reply.header("location").expect("a place to go").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_port_redirect() {
    assert_eq!(redirected("port: 8083").await, (302, "http://example.com:8083/old/x?q=1".into()));
    assert_eq!(redirected("port: 80").await, (302, "http://example.com/old/x?q=1".into()));
    assert_eq!(redirected("port: 443, scheme: https").await, (302, "https://example.com/old/x?q=1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_scheme_redirect() {
    assert_eq!(redirected("scheme: https").await, (302, "https://example.com/old/x?q=1".into()));
    assert_eq!(
        redirected("scheme: https, port: 8443, statusCode: 301").await,
        (301, "https://example.com:8443/old/x?q=1".into())
    );
    assert_eq!(redirected("scheme: http").await, (302, "http://example.com/old/x?q=1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_path_redirect() {
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}";
    assert_eq!(redirected(prefix).await, (302, "http://example.com:8080/new/x?q=1".into()));
    let full = "path: {type: ReplaceFullPath, replaceFullPath: /all}, hostname: example.org";
    assert_eq!(redirected(full).await, (302, "http://example.org:8080/all?q=1".into()));
    let nothing = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}";
    assert_eq!(redirected(nothing).await, (302, "http://example.com:8080/x?q=1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_303_redirect_status_code() {
    assert_eq!(redirected("statusCode: 303, port: 80").await.0, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_307_redirect_status_code() {
    assert_eq!(redirected("statusCode: 307, port: 80").await.0, 307);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_308_redirect_status_code() {
    assert_eq!(redirected("statusCode: 308, port: 80").await.0, 308);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_host_rewrite() {
    let edge = Edge::open(&["v1"], &filtered("{type: URLRewrite, urlRewrite: {hostname: one.example.org}}")).await;
    assert_eq!(edge.who("rewrite.example", "GET /one?q=1").await, "v1");
    let seen = edge.backend("v1").last();
    assert_eq!((seen.header("host"), seen.uri.to_string().as_str()), (Some("one.example.org"), "/one?q=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_path_rewrite() {
    let rewritten = |path: &str, kind: &str, field: &str, value: &str| {
        format!(
            "{{matches: [{{path: {{value: {path}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: {kind}, {field}: {value}}}}}}}], {}}}",
            to(&["v1"])
        )
    };
    let objects = rules(&[
        rewritten("/prefix/one", "ReplacePrefixMatch", "replacePrefixMatch", "/one"),
        rewritten("/strip-prefix", "ReplacePrefixMatch", "replacePrefixMatch", "/"),
        rewritten("/full/one", "ReplaceFullPath", "replaceFullPath", "/one"),
    ]);
    let edge = Edge::open(&["v1"], &objects).await;
    for (path, expected) in [
        ("/prefix/one/two", "/one/two"),
        ("/prefix/one", "/one"),
        ("/strip-prefix/three", "/three"),
        ("/strip-prefix", "/"),
        ("/full/one/two?q=1", "/one?q=1"),
    ] {
        assert_eq!(edge.who("a", &format!("GET {path}")).await, "v1", "{path}");
        assert_eq!(edge.backend("v1").last().uri.to_string(), expected, "{path}");
    }
}

fn mirror(service: &str, more: &str) -> String {
    format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {service}, port: 8080}}{more}}}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_request_mirror() {
    let edge = Edge::open(&["v1", "v2"], &filtered(&mirror("v2", ""))).await;
    assert_eq!(edge.who("a", "GET /mirror?q=1").await, "v1");
    edge.backend("v2").has_seen(1).await;
    assert_eq!(edge.backend("v2").last().uri.to_string(), "/mirror?q=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_request_multiple_mirrors() {
    let objects = filtered(&format!("{}, {}", mirror("v2", ""), mirror("v3", "")));
    let edge = Edge::open(&["v1", "v2", "v3"], &objects).await;
    assert_eq!(edge.who("a", "GET /").await, "v1");
    edge.backend("v2").has_seen(1).await;
    edge.backend("v3").has_seen(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_request_percentage_mirror() {
    let some = format!(
        "{}, {}, {}",
        mirror("v2", ", percent: 20"),
        mirror("v3", ", fraction: {numerator: 1, denominator: 2}"),
        mirror("v4", ", percent: 0")
    );
    let edge = Edge::open(&["v1", "v2", "v3", "v4"], &filtered(&some)).await;
    for _ in 0..500 {
        assert_eq!(edge.who("a", "GET /").await, "v1");
    }
    // six standard deviations of a binomial of 500, and what is still on its way
    weft_testkit::eventually("a fifth and a half of all", || async {
        let (fifth, half) = (edge.backend("v2").seen().len(), edge.backend("v3").seen().len());
        ((46..=154).contains(&fifth) && (182..=318).contains(&half)).then_some(())
    })
    .await;
    assert!(edge.backend("v4").seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_request_timeout() {
    let silent = Upstream::start(|_| Act::Never).await;
    let timed = |path: &str, timeout: &str, service: &str| {
        format!("{{matches: [{{path: {{value: {path}}}}}], timeouts: {{request: {timeout}}}, {}}}", to(&[service]))
    };
    let [route] =
        rules(&[timed("/silent", "300ms", "silent"), timed("/quick", "300ms", "v1"), timed("/off", "0s", "v1")]);
    let edge = Edge::open(&["v1"], &[service("silent", "http", &silent), route]).await;
    for (path, expected) in [("/silent", "504"), ("/quick", "v1"), ("/off", "v1")] {
        assert_eq!(edge.who("a", &format!("GET {path}")).await, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_backend_timeout() {
    let silent = Upstream::start(|_| Act::Never).await;
    let [route] = rules(&[format!("{{timeouts: {{backendRequest: 300ms}}, {}}}", to(&["silent"]))]);
    let edge = Edge::open(&[], &[service("silent", "http", &silent), route]).await;
    assert_eq!(edge.who("a", "GET /").await, "504");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_parent_ref_port() {
    let listeners = format!("{HTTP}  - {{name: other, protocol: HTTP, port: 8081}}\n");
    let of = |name: &str, port: u16| {
        http_route(name, &format!("parentRefs: [{{name: edge, port: {port}}}], rules: [{{{}}}]", to(&[name])))
    };
    let edge = Edge::with_listeners(&listeners, &["v1", "v2"], &[of("v1", 8080), of("v2", 8081)]).await;
    assert_eq!((edge.who_at(8080, "a", "/").await, edge.who_at(8081, "a", "/").await), ("v1".into(), "v2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_backend_protocol_h2c() {
    let edge = Edge::open(&["v1"], &rules(&[format!("{{{}}}", to(&["h2c"]))])).await;
    let backend = service("h2c", "http", edge.backend("v1"))
        .replace("port: 8080}", "port: 8080, appProtocol: kubernetes.io/h2c}");
    edge.mesh.write("h2c.yaml", &backend);
    edge.mesh.live(&edge.gateway).await;
    assert_eq!(edge.who("a", "GET /").await, "v1");
    assert_eq!(edge.backend("v1").last().version, http::Version::HTTP_2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_backend_protocol_web_socket() {
    let backend = weft_testkit::raw::RawUpstream::start(|mut stream, _| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(text.contains("upgrade: websocket"), "{text}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")
            .await
            .expect("the gateway reads");
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.expect("a frame");
        stream.write_all(&bytes).await.expect("the gateway reads");
    })
    .await;
    let at = backend.address();
    let objects = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: ws, namespace: default}}\nspec: {{ports: [{{name: a, port: 8080, appProtocol: kubernetes.io/ws}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: ws-0, namespace: default, labels: {{kubernetes.io/service-name: ws}}}}\n\
         addressType: IPv4\nports: [{{name: a, port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n",
        at.port(),
        at.ip()
    );
    let [route] = rules(&[format!("{{{}}}", to(&["ws"]))]);
    let edge = Edge::open(&[], &[objects, route]).await;
    let mut client = RawClient::connect(edge.gateway.at(8080)).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n").await;
    assert_eq!(client.response().await.status, 101);
    client.send("ping").await;
    assert_eq!(weft_testkit::in_time("the frame", client.exactly(4)).await.expect("it comes back"), b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_named_route_rule() {
    let edge = Edge::open(&["v1"], &rules(&[format!("{{name: named-rule, {}}}", to(&["v1"]))])).await;
    assert_eq!(edge.who("a", "GET /named").await, "v1");
    assert_eq!(edge.gateway.logged("/named", 1).await[0]["route_name"], "named-rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_cors() {
    let cors = "{type: CORS, cors: {allowOrigins: [\"https://www.foo.com\", \"https://*.bar.com\"], allowMethods: [GET, OPTIONS], \
                allowHeaders: [x-header-1], exposeHeaders: [x-header-2], allowCredentials: true, maxAge: 3600}}";
    let edge = Edge::open(&["v1"], &filtered(cors)).await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /\norigin: {origin}\naccess-control-request-method: GET\naccess-control-request-headers: x-header-1"
        )
    };
    for origin in ["https://www.foo.com", "https://a.b.bar.com"] {
        let reply = edge.ask("a", &preflight(origin)).await;
        assert!(matches!(reply.status, 200 | 204), "{origin}: {reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(reply.header("access-control-max-age"), Some("3600"));
        assert!(reply.header("access-control-allow-methods").is_some_and(|methods| methods.contains("GET")));
    }
    for origin in ["https://foo.com", "http://www.foo.com", "https://bar.com"] {
        assert_eq!(edge.ask("a", &preflight(origin)).await.header("access-control-allow-origin"), None, "{origin}");
    }
    let reply = edge.ask("a", "GET /\norigin: https://www.foo.com").await;
    assert_eq!(reply.header("access-control-expose-headers"), Some("x-header-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_retry() {
    let tries = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let flaky = Upstream::start(move |_| match counted.fetch_add(1, Ordering::SeqCst) % 3 {
        2 => Act::Answer(Answer::ok("third").header("x-backend", "yes")),
        _ => Act::Answer(Answer::status(500)),
    })
    .await;
    let retried = |path: &str, retry: &str| {
        format!("{{matches: [{{path: {{value: {path}}}}}], retry: {{{retry}}}, {}}}", to(&["flaky"]))
    };
    let [route] = rules(&[
        retried("/twice", "codes: [500], attempts: 2, backoff: 1ms"),
        retried("/other", "codes: [503], attempts: 2, backoff: 1ms"),
    ]);
    let edge = Edge::open(&[], &[service("flaky", "http", &flaky), route]).await;
    assert_eq!(edge.who("a", "GET /twice").await, "third");
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(edge.who("a", "GET /other").await, "500");
    assert_eq!(tries.load(Ordering::SeqCst), 4, "another status is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_retry_backend_timeout() {
    let tries = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let slow_once = Upstream::start(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Act::Never,
        _ => Act::Answer(Answer::ok("second").header("x-backend", "yes")),
    })
    .await;
    let [route] = rules(&[format!(
        "{{timeouts: {{request: 10s, backendRequest: 300ms}}, retry: {{codes: [504], attempts: 2, backoff: 1ms}}, {}}}",
        to(&["slow"])
    )]);
    let edge = Edge::open(&[], &[service("slow", "http", &slow_once), route]).await;
    assert_eq!(edge.who("a", "GET /").await, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_route_retry_connection_error() {
    let [route] = rules(&[format!("{{retry: {{attempts: 3, backoff: 1ms}}, {}}}", to(&["v1"]))]);
    let edge = Edge::open(&["v1"], &[route]).await;
    let dead = nobody();
    // beside the one that answers there is an endpoint that nobody listens on
    edge.mesh.write(
        "dead.yaml",
        &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: v1-dead, namespace: default, labels: {{kubernetes.io/service-name: v1}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n",
            dead.port(),
            dead.ip()
        ),
    );
    edge.mesh.live(&edge.gateway).await;
    for _ in 0..20 {
        assert_eq!(edge.who("a", "GET /").await, "v1");
    }
}
