//! The sidecar as an explicit proxy: `CONNECT`, absolute URIs, opaque TCP.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::raw::RawUpstream;
use weft_testkit::{Act, Answer, RawClient, Upstream, in_time};

/// The sidecar of a pod that offers nothing itself.
async fn caller(mesh: &mut Mesh) -> Plane {
    let pod = mesh.pod("caller", &[("http", 8080)]);
    mesh.sidecar(&pod).await
}

async fn connect(caller: &Plane, authority: &str) -> (u16, RawClient) {
    let mut client = RawClient::connect(caller.outbound()).await;
    client.send(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n")).await;
    let head = in_time("an answer to CONNECT", client.head()).await.expect("a head");
    (head.status, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_reaches_an_opaque_service_that_speaks_first_through_both_sidecars() {
    let mut mesh = Mesh::start().await;
    let pod = mesh.pod("ledger", &[("tcp-ledger", 9000)]);
    let _ledger = RawUpstream::at(pod.app(9000), |mut stream, _| async move {
        stream.write_all(b"220 ledger\n").await.expect("the caller reads");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("the caller ends");
        all.reverse();
        stream.write_all(&all).await.expect("the caller still reads after it ended its side");
    })
    .await;
    let callee = mesh.sidecar(&pod).await;
    let caller = caller(&mut mesh).await;
    let (status, mut client) = weft_testkit::eventually("the tunnel", || async {
        let (status, client) = connect(&caller, "ledger:9000").await;
        (status == 200).then_some((status, client))
    })
    .await;
    assert_eq!(status, 200);
    assert_eq!(in_time("the greeting", client.exactly(11)).await.expect("a greeting"), b"220 ledger\n");
    client.send([0, 1, 2, 255, b'\r', b'\n']).await;
    let (mut stream, ahead) = client.into_stream();
    assert!(ahead.is_empty());
    stream.shutdown().await.expect("half closing works");
    let mut echoed = Vec::new();
    in_time("the rest", stream.read_to_end(&mut echoed)).await.expect("an orderly end");
    assert_eq!(echoed, [b'\n', b'\r', 255, 2, 1, 0]);
    drop(callee);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_to_an_http_service_carries_http_and_to_nobody_is_refused_in_words() {
    let mut mesh = Mesh::start().await;
    let upstream = Upstream::answering(Answer::ok("inside")).await;
    mesh.service("order", ("http", 8080), &[upstream.address()]);
    mesh.service("empty", ("http", 8080), &[]);
    let caller = caller(&mut mesh).await;
    let (status, mut client) = connect(&caller, "order:8080").await;
    assert_eq!(status, 200);
    client.send("GET /in HTTP/1.1\r\nhost: order:8080\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "inside");
    let (status, _) = connect(&caller, "empty:8080").await;
    assert_eq!(status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_uri_names_the_service_by_any_of_its_names() {
    let mut mesh = Mesh::start().await;
    let upstream = Upstream::start(|_| Act::Answer(Answer::ok("found"))).await;
    mesh.service("order", ("http", 8080), &[upstream.address()]);
    let caller = caller(&mut mesh).await;
    for name in ["order", "order.default", "order.default.svc", "order.default.svc.cluster.local"] {
        let mut client = RawClient::connect(caller.outbound()).await;
        client.send(format!("GET http://{name}:8080/x?y=1 HTTP/1.1\r\nhost: other\r\n\r\n")).await;
        let reply = client.response().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "found"), "{name}");
        let seen = upstream.last();
        assert_eq!(seen.uri.to_string(), "/x?y=1", "the upstream is no proxy");
        assert_eq!(
            seen.header("host"),
            Some(format!("{name}:8080").as_str()),
            "the URI's authority wins (RFC 9112 3.2.2)"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_keeps_the_id_and_the_trace_that_its_program_sends() {
    let mut mesh = Mesh::start().await;
    let upstream = Upstream::answering(Answer::ok("")).await;
    mesh.service("order", ("http", 8080), &[upstream.address()]);
    let caller = caller(&mut mesh).await;
    let mut client = RawClient::connect(caller.outbound()).await;
    client
        .send("GET http://order:8080/x HTTP/1.1\r\nhost: order:8080\r\nx-request-id: mine\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.header("x-request-id"), Some("mine"));
    assert!(seen.header("traceparent").is_some_and(|t| t.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")));
}
