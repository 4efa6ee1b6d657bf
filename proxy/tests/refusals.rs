//! Every refusal has its status for the caller and its flag and details in the access log, and a
//! request that ends, however it ends, leaves exactly one record.

use serde_json::Value;
use weft_testkit::client::body;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::{Act, Answer, Client, RawClient, Upstream, nobody};

/// A gateway whose route `/x` leads to the service `x`, each made by the test.
async fn edge(services: &[(&str, &[std::net::SocketAddr])]) -> (Mesh, Plane) {
    let mut mesh = Mesh::start().await;
    let mut rules = String::new();
    for (name, members) in services {
        mesh.service(name, ("http", 8080), members);
        rules += &format!(
            "  - matches: [{{path: {{type: PathPrefix, value: /{name}}}}}]\n    backendRefs: [{{name: {name}, port: 8080}}]\n"
        );
    }
    mesh.route("all", "edge", &rules);
    let gateway = mesh.gateway("edge").await;
    (mesh, gateway)
}

/// Asks once, on a new connection; gives the status and the one record.
async fn ask(gateway: &Plane, path: &str) -> (u16, Value) {
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let status = client.response().await.status;
    (status, the_record(gateway, path).await)
}

async fn the_record(gateway: &Plane, path: &str) -> Value {
    let mut records = gateway.logged(path, 1).await;
    assert_eq!(records.len(), 1, "one request, one record: {records:?}");
    records.remove(0)
}

fn assert_record(record: &Value, status: u16, flags: &str, details: &str) {
    assert_eq!(record["response_code"], status, "{record}");
    assert_eq!(record["response_flags"], flags, "{record}");
    let found = record["response_code_details"].as_str().expect("details are text");
    assert!(found.starts_with(details), "{details} in {record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_404_nr() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    let (status, record) = ask(&gateway, "/elsewhere").await;
    assert_eq!(status, 404);
    assert_record(&record, 404, "NR", "route_not_found");
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint_is_503_uh_and_a_dead_one_is_503_uf() {
    let (_mesh, gateway) = edge(&[("empty", &[]), ("dead", &[nobody()])]).await;
    let (status, record) = ask(&gateway, "/empty").await;
    assert_eq!(status, 503);
    assert_record(&record, 503, "UH", "no_healthy_upstream");
    // the default retries are used up too, as with Istio
    let (status, record) = ask(&gateway, "/dead").await;
    assert_eq!(status, 503);
    assert_record(&record, 503, "UF,URX", "upstream_reset_before_response_started");
    assert!(record["upstream_host"].as_str().is_some_and(|host| host.starts_with("127.0.0.1:")), "{record}");
    // every try at the only endpoint failed, and none left a connection behind
    weft_testkit::eventually("failed connections in the metrics", || async {
        let page = gateway.metrics().await;
        let value = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let failures = value("weft_upstream_connect_failures_total ")?;
        (failures > 0 && value("weft_upstream_connections_active ") == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_exist_is_500_and_only_its_own_route_suffers() {
    let upstream = Upstream::answering(Answer::ok("fine")).await;
    let (mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    mesh.route(
        "bad",
        "edge",
        "  - matches: [{path: {type: PathPrefix, value: /bad}}]\n    backendRefs: [{name: missing, port: 8080}]\n",
    );
    mesh.live(&gateway).await;
    let (status, record) = ask(&gateway, "/bad").await;
    assert_eq!(status, 500);
    assert_eq!(record["response_code"], 500);
    assert_eq!(ask(&gateway, "/order").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_closes_instead_of_answering_is_503_uc() {
    let upstream = Upstream::start(|_| Act::Reset).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    let (status, record) = ask(&gateway, "/order").await;
    assert_eq!(status, 503);
    assert_record(&record, 503, "UC", "upstream_reset_before_response_started");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_is_never_passed_on_as_a_whole_one() {
    let upstream = Upstream::start(|_| Act::Half(Answer::ok("half"))).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send("GET /order HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(client.try_response().await.is_err(), "the caller must see that it is not whole");
    let record = the_record(&gateway, "/order").await;
    assert_record(&record, 200, "UC", "upstream_reset_after_response_started");

    let mut client = Client::http2(gateway.at(8080)).await;
    let request = client.request("GET", "a", "/order/h2").body(body("")).expect("a request");
    assert!(client.try_send(request).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn timeouts_of_request_and_backend_are_504_ut() {
    let upstream = Upstream::start(|_| Act::Never).await;
    let (mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    mesh.route(
        "slow",
        "edge",
        "  - matches: [{path: {type: Exact, value: /request}}]\n    timeouts: {request: 200ms}\n    backendRefs: [{name: order, port: 8080}]\n  - matches: [{path: {type: Exact, value: /backend}}]\n    timeouts: {request: 20s, backendRequest: 200ms}\n    backendRefs: [{name: order, port: 8080}]\n",
    );
    mesh.live(&gateway).await;
    let (status, record) = ask(&gateway, "/request").await;
    assert_eq!(status, 504);
    assert_record(&record, 504, "UT", "response_timeout");
    let (status, record) = ask(&gateway, "/backend").await;
    assert_eq!(status, 504);
    assert_record(&record, 504, "UT", "upstream_per_try_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_after_the_response_began_cuts_it() {
    let upstream = Upstream::start(|_| Act::Zeros(1 << 40)).await;
    let (mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    mesh.route(
        "slow",
        "edge",
        "  - matches: [{path: {type: Exact, value: /cut}}]\n    timeouts: {request: 500ms}\n    backendRefs: [{name: order, port: 8080}]\n",
    );
    mesh.live(&gateway).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send("GET /cut HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    // not reading any more: neither side will ever finish
    let record = the_record(&gateway, "/cut").await;
    assert_eq!(record["response_code"], 200, "{record}");
    assert!(record["response_flags"].as_str().is_some_and(|flags| flags.contains("UT")), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_is_one_record_with_dc_and_the_upstream_is_let_go() {
    let upstream = Upstream::start(|_| Act::Never).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send("GET /order/h1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    upstream.has_seen(1).await;
    drop(client);
    let record = the_record(&gateway, "/order/h1").await;
    assert!(record["response_flags"].as_str().is_some_and(|flags| flags.contains("DC")), "{record}");
    upstream.has_open(0).await;

    let mut client = Client::http2(gateway.at(8080)).await;
    let request = client.request("GET", "a", "/order/h2").body(body("")).expect("a request");
    let asking = tokio::spawn(async move { client.try_send(request).await.is_err() });
    upstream.has_seen(2).await;
    asking.abort();
    let record = the_record(&gateway, "/order/h2").await;
    let flags = record["response_flags"].as_str().expect("flags are text");
    assert!(flags.contains("DC") || flags.contains("DR"), "{record}");
    upstream.has_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_framings_at_once_are_400_and_reach_nobody() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: identity, chunked\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n",
        "transfer-encoding: gzip\r\n",
        "content-length: +4\r\n",
    ] {
        let mut client = RawClient::connect(gateway.at(8080)).await;
        client
            .send(format!("POST /order HTTP/1.1\r\nhost: a\r\n{framing}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"))
            .await;
        assert_eq!(client.try_response().await.expect(framing).status, 400, "{framing}");
        client.closed().await;
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_no_http_are_400() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    for head in [
        "GET /order HTTP/1.1\r\n\r\n",
        "GET /order HTTP/1.1\r\nhost: a\r\nbad header: 1\r\n\r\n",
        "GET /order HTTP/1.1\r\nhost: a\r\nx: \u{1}\r\n\r\n",
        "GET /order HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ] {
        let mut client = RawClient::connect(gateway.at(8080)).await;
        client.send(head).await;
        assert_eq!(client.try_response().await.expect(head).status, 400, "{head:?}");
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_too_large_is_431_and_one_that_fits_is_served() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    let many: String = (0..101).map(|i| format!("x-{i}: 1\r\n")).collect();
    for (what, header) in [("61 KiB", format!("x: {}\r\n", "a".repeat(61 << 10))), ("101 headers", many)] {
        let mut client = RawClient::connect(gateway.at(8080)).await;
        // the server may answer and close before it has read everything
        let _ = client.try_send(format!("GET /order HTTP/1.1\r\nhost: a\r\n{header}\r\n")).await;
        assert_eq!(client.try_response().await.expect(what).status, 431, "{what}");
    }
    assert!(upstream.seen().is_empty());
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send(format!("GET /order HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(50 << 10))).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_is_408() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send("GET /order HTTP/1.1\r\nhost: a\r\n").await;
    // one byte now and then is no progress: the limit is on the whole head
    let (stream, _) = client.into_stream();
    let (read, mut write) = stream.into_split();
    let dribble = tokio::spawn(async move {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(500));
        loop {
            every.tick().await;
            if tokio::io::AsyncWriteExt::write_all(&mut write, b"x").await.is_err() {
                return;
            }
        }
    });
    let mut read = tokio::io::BufReader::new(read);
    let mut line = String::new();
    weft_testkit::in_time("an answer", tokio::io::AsyncBufReadExt::read_line(&mut read, &mut line))
        .await
        .expect("the server answers before it closes");
    assert!(line.starts_with("HTTP/1.1 408 "), "{line}");
    dribble.abort();
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_caller_gets_its_refusal_as_grpc() {
    let (_mesh, gateway) = edge(&[("empty", &[])]).await;
    let mut client = Client::http2(gateway.at(8080)).await;
    let request = client.request("POST", "a", "/empty/Method").header("content-type", "application/grpc");
    let reply = client.send(request.body(body("")).expect("a request")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/grpc"));
    let status = reply.header("grpc-status").map(str::to_owned);
    let status = status.or_else(|| Some(reply.trailers?.get("grpc-status")?.to_str().ok()?.to_owned()));
    assert_eq!(status.as_deref(), Some("14"), "UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_without_waiting_are_answered_in_order_and_stray_line_ends_between_them_do_no_harm() {
    let upstream = Upstream::answering(Answer::ok("ok")).await;
    let (_mesh, gateway) = edge(&[("order", &[upstream.address()])]).await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    let request = |n| format!("POST /order/{n} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    client.send([request(1), request(2), request(3)].concat()).await;
    for _ in 0..3 {
        assert_eq!(client.response().await.status, 200);
    }
    let paths: Vec<String> = upstream.seen().iter().map(|seen| seen.uri.to_string()).collect();
    assert_eq!(paths, ["/order/1", "/order/2", "/order/3"]);
    // RFC 9112 2.2: an empty line before a request line is ignored
    client.send(request(4) + "\r\n").await;
    assert_eq!(client.response().await.status, 200, "it must not wait for what comes after");
    client.send(request(5)).await;
    assert_eq!(client.response().await.status, 200);
}
