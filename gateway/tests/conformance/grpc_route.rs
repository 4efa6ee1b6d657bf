//! GRPCRoute: profile GATEWAY-GRPC, and its extended features.

use crate::kit::{Edge, HTTP, grant, route, service, to};
use weft_testkit::client::body;
use weft_testkit::{Answer, Client, Reply, Upstream};

fn grpc_route(name: &str, spec: &str) -> String {
    route("GRPCRoute", name, spec)
}

/// Backends that answer every call well; their Services say nothing of what they speak.
struct Grpc {
    edge: Edge,
    backends: Vec<Upstream>,
}

/// The listener of calls has a port of its own.
const LISTENERS: &str = "  - {name: grpc, protocol: HTTP, port: 8081, allowedRoutes: {namespaces: {from: All}}}\n";

impl Grpc {
    async fn open(names: &[&'static str], objects: &[String]) -> Grpc {
        let mut backends = Vec::new();
        let mut all = Vec::new();
        for name in names {
            let answer = Answer::ok(*name).header("content-type", "application/grpc").trailer("grpc-status", "0");
            let upstream = Upstream::answering(answer).await;
            all.push(service(name, "rpc", &upstream));
            backends.push(upstream);
        }
        all.extend_from_slice(objects);
        let edge = Edge::with_listeners(&format!("{HTTP}{LISTENERS}"), &[], &all).await;
        Grpc { edge, backends }
    }

    async fn call(&self, host: &str, method: &str, headers: &[(&str, &str)]) -> Reply {
        let mut client = Client::http2(self.edge.gateway.at(8081)).await;
        let mut request =
            client.request("POST", host, method).header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        client.send(request.body(body(&b"\0\0\0\0\0"[..])).expect("a request")).await
    }

    /// The backend that answers well, or else gRPC's status.
    async fn who(&self, host: &str, method: &str, headers: &[(&str, &str)]) -> String {
        let reply = self.call(host, method, headers).await;
        let of_trailers = reply.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        let status = of_trailers.or(reply.headers.get("grpc-status")).expect("a status of gRPC");
        match status.to_str().expect("a number") {
            "0" => reply.text(),
            other => other.to_owned(),
        }
    }
}

const UNIMPLEMENTED: &str = "12";
const UNAVAILABLE: &str = "14";

fn rule(matches: &str, service: &str) -> String {
    format!("{{matches: [{matches}], {}}}", to(&[service]))
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_exact_method_matching() {
    let rules = [
        rule("{method: {service: shop.v1.Orders, method: Place}}", "v1"),
        rule("{method: {service: shop.v1.Orders, method: Cancel}}", "v2"),
    ];
    let grpc = Grpc::open(
        &["v1", "v2"],
        &[grpc_route("r", &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{}]", rules.join(", ")))],
    )
    .await;
    assert_eq!(grpc.who("a", "/shop.v1.Orders/Place", &[]).await, "v1");
    assert_eq!(grpc.who("a", "/shop.v1.Orders/Cancel", &[]).await, "v2");
    assert_eq!(grpc.who("a", "/shop.v1.Orders/place", &[]).await, UNIMPLEMENTED);
    assert_eq!(grpc.who("a", "/shop.v1.Other/Place", &[]).await, UNIMPLEMENTED);
    assert_eq!(grpc.backends[0].last().version, http::Version::HTTP_2, "whatever its Service says, gRPC is HTTP/2");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_method_matching_by_service_by_method_and_by_expression() {
    let rules = [
        rule("{method: {method: Ping}}", "v3"),
        rule("{method: {service: shop.v1.Orders}}", "v1"),
        rule("{method: {type: RegularExpression, service: \"shop\\\\.v[2-9]\\\\..*\", method: \"Pla.*\"}}", "v2"),
    ];
    let objects =
        [grpc_route("r", &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{}]", rules.join(", ")))];
    let grpc = Grpc::open(&["v1", "v2", "v3"], &objects).await;
    for (method, expected) in [
        ("/shop.v1.Orders/Place", "v1"),
        ("/shop.v1.Orders/Ping", "v1"), // characters of the service come first
        ("/shop.v1.Other/Ping", "v3"),
        ("/shop.v2.Orders/Place", "v2"),
        ("/shop.v2.Orders/Cancel", UNIMPLEMENTED),
    ] {
        assert_eq!(grpc.who("a", method, &[]).await, expected, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_header_matching() {
    let rules = [
        rule("{headers: [{name: version, value: one}]}", "v1"),
        rule("{headers: [{name: version, value: two}]}", "v2"),
        rule("{headers: [{name: version, value: two}, {name: color, value: orange}]}", "v1"),
        rule("{headers: [{name: color, type: RegularExpression, value: \"(blue|green)\"}]}", "v2"),
    ];
    let objects =
        [grpc_route("r", &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{}]", rules.join(", ")))];
    let grpc = Grpc::open(&["v1", "v2"], &objects).await;
    for (headers, expected) in [
        (&[("version", "one")][..], "v1"),
        (&[("version", "two")], "v2"),
        (&[("version", "two"), ("color", "orange")], "v1"),
        (&[("color", "green")], "v2"),
        (&[("color", "orange")], UNIMPLEMENTED),
        (&[], UNIMPLEMENTED),
    ] {
        assert_eq!(grpc.who("a", "/s.S/M", headers).await, expected, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_listener_hostname_matching() {
    let of = |name: &str, hostname: &str, service: &str| {
        grpc_route(
            name,
            &format!(
                "parentRefs: [{{name: edge, sectionName: grpc}}], hostnames: [\"{hostname}\"], rules: [{{{}}}]",
                to(&[service])
            ),
        )
    };
    let objects = [of("a", "bar.com", "v1"), of("b", "foo.bar.com", "v2"), of("c", "*.bar.com", "v3")];
    let grpc = Grpc::open(&["v1", "v2", "v3"], &objects).await;
    for (host, expected) in
        [("bar.com", "v1"), ("foo.bar.com", "v2"), ("baz.bar.com", "v3"), ("foo.com", UNIMPLEMENTED)]
    {
        assert_eq!(grpc.who(host, "/s.S/M", &[]).await, expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_weight() {
    let backends = "backendRefs: [{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}, {name: v3, port: 8080, weight: 0}]";
    let objects =
        [grpc_route("r", &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{{{backends}}}]"))];
    let grpc = Grpc::open(&["v1", "v2", "v3"], &objects).await;
    let mut client = Client::http2(grpc.edge.gateway.at(8081)).await;
    for _ in 0..500 {
        let request = client.request("POST", "a", "/s.S/M").header("content-type", "application/grpc");
        assert_eq!(client.send(request.body(body("")).expect("a request")).await.status, 200);
    }
    let seen: Vec<usize> = grpc.backends.iter().map(|backend| backend.seen().len()).collect();
    assert!(seen[0] + seen[1] == 500 && (88..=212).contains(&seen[1]) && seen[2] == 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_invalid_backend_ref_is_unavailable() {
    let rules = [
        rule("{method: {method: Nobody}}", "nobody"),
        rule("{method: {method: NotGranted}}", "web/v1"),
        rule("{method: {method: Good}}", "v1"),
    ];
    let objects =
        [grpc_route("r", &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{}]", rules.join(", ")))];
    let grpc = Grpc::open(&["v1", "web/v1"], &objects).await;
    assert_eq!(grpc.who("a", "/s.S/Nobody", &[]).await, UNAVAILABLE);
    assert_eq!(grpc.who("a", "/s.S/NotGranted", &[]).await, UNAVAILABLE);
    assert_eq!(grpc.who("a", "/s.S/Good", &[]).await, "v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_reference_grant() {
    let objects = [
        grpc_route("r", &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{{{}}}]", to(&["web/v1"]))),
        grant("web/g", "GRPCRoute", "default", "kind: Service"),
    ];
    let grpc = Grpc::open(&["web/v1"], &objects).await;
    assert_eq!(grpc.who("a", "/s.S/M", &[]).await, "web/v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_and_http_route_with_one_host_name_are_not_served_together() {
    // both were written at no time, so the first by name has the host name
    let objects = [
        grpc_route(
            "a",
            &format!(
                "parentRefs: [{{name: edge, sectionName: grpc}}], hostnames: [both.example], rules: [{{{}}}]",
                to(&["v1"])
            ),
        ),
        route(
            "HTTPRoute",
            "b",
            &format!(
                "parentRefs: [{{name: edge, sectionName: grpc}}], hostnames: [\"*.example\"], rules: [{{{}}}]",
                to(&["v2"])
            ),
        ),
    ];
    let grpc = Grpc::open(&["v1", "v2"], &objects).await;
    assert_eq!(grpc.who("both.example", "/s.S/M", &[]).await, "v1");
    assert_eq!(grpc.who("other.example", "/s.S/M", &[]).await, UNIMPLEMENTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_request_header_modifier() {
    let filter = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: s}], remove: [x-gone]}}, \
                  {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-answer, value: a}]}}]";
    let objects = [grpc_route(
        "r",
        &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{{{filter}, {}}}]", to(&["v1"])),
    )];
    let grpc = Grpc::open(&["v1"], &objects).await;
    let reply = grpc.call("a", "/s.S/M", &[("x-set", "was"), ("x-gone", "was")]).await;
    assert_eq!(reply.header("x-answer"), Some("a"));
    let seen = grpc.backends[0].last();
    assert_eq!((seen.header("x-set"), seen.header("x-gone")), (Some("s"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_route_named_route_rule() {
    let objects = [grpc_route(
        "r",
        &format!("parentRefs: [{{name: edge, sectionName: grpc}}], rules: [{{name: place-orders, {}}}]", to(&["v1"])),
    )];
    let grpc = Grpc::open(&["v1"], &objects).await;
    assert_eq!(grpc.who("a", "/s.S/M", &[]).await, "v1");
    assert_eq!(grpc.edge.gateway.logged("/s.S/M", 1).await[0]["route_name"], "place-orders");
}
