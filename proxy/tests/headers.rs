//! What the proxy adds to a request, what it takes away, and what it leaves alone.

use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::raw::RawUpstream;
use weft_testkit::{Act, Answer, RawClient, Upstream};

async fn edge(upstream: &Upstream) -> (Mesh, Plane) {
    let mut mesh = Mesh::start().await;
    mesh.service("order", ("http", 8080), &[upstream.address()]);
    mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    let gateway = mesh.gateway("edge").await;
    (mesh, gateway)
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// Version, trace id, parent id, flags of a W3C `traceparent`.
fn traceparent(text: &str) -> (String, String, String) {
    let parts: Vec<&str> = text.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{text}");
    assert!(text.chars().all(|c| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c)), "{text}");
    assert!(parts[1].chars().any(|c| c != '0') && parts[2].chars().any(|c| c != '0'), "{text}");
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_an_id_a_trace_and_who_sent_it() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&upstream).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        client.send("GET /a HTTP/1.1\r\nhost: shop.example:8080\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.header("host"), Some("shop.example:8080"), "the host stays the caller's");
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
        let id = seen.header("x-request-id").expect("an id").to_owned();
        assert!(is_uuid(&id), "{id}");
        let (trace, parent, _) = traceparent(seen.header("traceparent").expect("a trace"));
        ids.extend([id, trace, parent]);
    }
    assert_eq!(ids.len(), 9, "every request has its own: {ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_believes_no_caller_about_where_the_request_came_from() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&upstream).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send("GET /a HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let seen = upstream.last();
    let forwarded = seen.header("x-forwarded-for").expect("an address");
    assert_eq!(forwarded.rsplit(',').next().map(str::trim), Some("127.0.0.1"), "the last hop is the true one");
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_the_caller_goes_on_with_its_state_and_its_flags() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&upstream).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    client
        .send(format!("GET /a HTTP/1.1\r\nhost: a\r\ntraceparent: 00-{trace}-{parent}-01\r\ntracestate: v=1\r\n\r\n"))
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = upstream.last();
    let (continued, _, flags) = traceparent(seen.header("traceparent").expect("a trace"));
    assert_eq!((continued.as_str(), flags.as_str()), (trace, "01"));
    assert_eq!(seen.header("tracestate"), Some("v=1"));

    client.send("GET /a HTTP/1.1\r\nhost: a\r\ntraceparent: 00-rubbish-01\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    traceparent(upstream.last().header("traceparent").expect("a new one, for the caller's is no trace"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_one_hop_goes_no_further_in_either_direction() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8(head).expect("a head of text").to_ascii_lowercase();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nconnection: x-up\r\nx-up: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: x\r\nx-end: 1\r\ncontent-length: {}\r\n\r\n{head}",
            head.len()
        );
        stream.write_all(answer.as_bytes()).await.expect("the proxy reads");
    })
    .await;
    let mut mesh = Mesh::start().await;
    mesh.service("order", ("http", 8080), &[upstream.address()]);
    mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    let gateway = mesh.gateway("edge").await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client
        .send("GET /a HTTP/1.1\r\nhost: a\r\nconnection: x-down, keep-alive\r\nx-down: 1\r\nkeep-alive: 5\r\nproxy-connection: keep-alive\r\nte: gzip\r\nx-end: 1\r\n\r\n")
        .await;
    let reply = client.response().await;
    let seen = reply.text();
    for gone in ["\r\nx-down:", "\r\nkeep-alive:", "\r\nproxy-connection:", "gzip"] {
        assert!(!seen.contains(gone), "{gone:?} reached the upstream: {seen}");
    }
    assert!(seen.contains("\r\nx-end: 1\r\n"), "{seen}");
    for gone in ["x-up", "keep-alive"] {
        assert_eq!(reply.header(gone), None, "{:?}", reply.headers);
    }
    assert_eq!(reply.header("x-end"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_has_one_id_and_one_trace_in_every_log_on_its_way() {
    let mut mesh = Mesh::start().await;
    let pod = mesh.pod("order", &[("http", 8080)]);
    let app = Upstream::at(pod.app(8080), |_| Act::Answer(Answer::ok("done"))).await;
    mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    let sidecar = mesh.sidecar(&pod).await;
    let gateway = mesh.gateway("edge").await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send("GET /through HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "done");

    let at_edge = gateway.logged("/through", 1).await.remove(0);
    let at_sidecar = sidecar.logged("/through", 1).await.remove(0);
    let seen = app.last();
    for record in [&at_edge, &at_sidecar] {
        assert_eq!(record["request_id"].as_str(), seen.header("x-request-id"));
        assert_eq!(record["response_code"], 200);
        assert_eq!(record["response_code_details"], "via_upstream");
        assert_eq!(record["response_flags"], "-");
        assert_eq!((&record["method"], &record["protocol"]), (&"GET".into(), &"HTTP/1.1".into()));
        assert_eq!(record["bytes_sent"], 4);
    }
    let (trace, _, _) = traceparent(seen.header("traceparent").expect("a trace"));
    assert_eq!(at_edge["trace_id"], trace.as_str());
    assert_eq!(at_sidecar["trace_id"], trace.as_str());
    assert_eq!(at_edge["upstream_host"], format!("{}:8080", pod.address));
}
