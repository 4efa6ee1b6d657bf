//! How endpoints are asked.

use crate::kit::{Driven, NEVER, check, cluster, http};
use http::{StatusCode, Version};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_model::cluster::{PeerName, Trust, UpstreamTls};
use weft_model::health_check::{HealthCheck, Probe};
use weft_testkit::raw::RawUpstream;
use weft_testkit::tls::Ca;
use weft_testkit::{Act, Answer, Seen, Upstream};

fn checks_of(upstream: &Upstream) -> Vec<Seen> {
    upstream.seen().into_iter().filter(|seen| seen.header("user-agent") == Some("weft-health-check")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_check_asks_for_its_host_path_and_method() {
    let upstream = Upstream::answering(Answer::status(204)).await;
    let probe = Probe::Http {
        host: "health.example".into(),
        path: "/live?full=1".into(),
        method: "OPTIONS".into(),
        expected: vec![200..=204],
        retriable: vec![],
        http2: false,
    };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check(probe)])).await;
    plane.answers(204).await;
    let asked = &checks_of(&upstream)[0];
    assert_eq!((asked.version, asked.method.as_str()), (Version::HTTP_11, "OPTIONS"));
    assert_eq!((asked.uri.to_string().as_str(), asked.header("host")), ("/live?full=1", Some("health.example")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_check_without_a_host_asks_for_the_cluster_over_http2_too() {
    for http2 in [false, true] {
        let upstream = Upstream::answering(Answer::ok("")).await;
        let Probe::Http { path, method, expected, retriable, .. } = http() else { unreachable!() };
        let probe = Probe::Http { host: String::new(), path, method, expected, retriable, http2 };
        let plane = Driven::by(cluster(&[upstream.address()], vec![check(probe)])).await;
        plane.answers(200).await;
        let asked = &checks_of(&upstream)[0];
        let host = asked.header("host").or(asked.uri.authority().map(|authority| authority.as_str()));
        assert_eq!((asked.version == Version::HTTP_2, host), (http2, Some("shop")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_between_checks_unless_that_is_forbidden() {
    for reuse_connection in [true, false] {
        let upstream = Upstream::answering(Answer::ok("well")).await;
        let check = HealthCheck { reuse_connection, ..check(http()) };
        let _plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
        upstream.has_seen(4).await;
        let mut connections: Vec<usize> = checks_of(&upstream).iter().map(|seen| seen.connection).collect();
        connections.dedup();
        assert_eq!(connections.len() == 1, reuse_connection, "{connections:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_the_endpoint_closed_is_no_failure() {
    // Each connection carries one answer, and says nothing of its end.
    let upstream = RawUpstream::start(|mut stream, _| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let plane = Driven::by(cluster(&[upstream.address()], vec![check(http())])).await;
    plane.answers(200).await;
    for _ in 0..50 {
        assert_eq!(plane.get("/").await.status, 200);
    }
}

/// A gRPC answer of this serving status.
fn grpc(status: u8) -> Act {
    let message = vec![0, 0, 0, 0, 2, 8, status];
    Act::Answer(Answer::ok(message).header("content-type", "application/grpc").trailer("grpc-status", "0"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_check_believes_serving_and_nothing_else() {
    let serving = Arc::new(AtomicBool::new(true));
    let status = serving.clone();
    let upstream = Upstream::start(move |head| match head.uri.path() {
        "/grpc.health.v1.Health/Check" => grpc(if status.load(Ordering::SeqCst) { 1 } else { 2 }),
        _ => Act::Answer(Answer::ok("")),
    })
    .await;
    let probe = Probe::Grpc { service: "order".into(), authority: "order.example".into() };
    let check = HealthCheck { unhealthy_threshold: u32::MAX, ..check(probe) };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    plane.answers(200).await;
    let asked = &checks_of(&upstream)[0];
    assert_eq!((asked.version, asked.header("content-type")), (Version::HTTP_2, Some("application/grpc")));
    assert_eq!(asked.uri, "http://order.example/grpc.health.v1.Health/Check");
    assert_eq!(&asked.body[..], b"\0\0\0\0\x07\x0a\x05order");
    serving.store(false, Ordering::SeqCst);
    plane.answers(503).await;
    serving.store(true, Ordering::SeqCst);
    plane.answers(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_check_of_a_service_that_is_not_there_fails() {
    let unimplemented = Answer::ok("").header("content-type", "application/grpc").header("grpc-status", "12");
    let upstream = Upstream::answering(unimplemented).await;
    let probe = Probe::Grpc { service: String::new(), authority: String::new() };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check(probe)])).await;
    upstream.has_seen(2).await;
    assert_eq!(plane.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// Speaks a protocol of its own with those who send PING, and HTTP with all others.
async fn own_protocol(pong: &'static str, pings: &Arc<AtomicUsize>) -> RawUpstream {
    let pings = pings.clone();
    RawUpstream::start(move |mut stream, _| {
        let pings = pings.clone();
        async move {
            let mut chunk = [0; 1024];
            while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                let answer = match &chunk[..length] {
                    b"PING" => {
                        pings.fetch_add(1, Ordering::SeqCst);
                        pong
                    }
                    _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_check_expects_its_bytes_in_order() {
    let receive = vec![b"+PO".to_vec(), b"ready".to_vec()];
    let probe = Probe::Tcp { send: b"PING".to_vec(), receive };
    let check = HealthCheck { timeout: Duration::from_millis(100), ..check(probe) };
    let pings = Arc::new(AtomicUsize::new(0));
    let well = own_protocol("hello +PONG, ready\n", &Arc::default()).await;
    let ill = own_protocol("ready +PONG\n", &pings).await;
    let mut plane = Driven::by(cluster(&[well.address()], vec![check.clone()])).await;
    plane.answers(200).await;
    plane.put(cluster(&[ill.address()], vec![check])).await;
    let asked_again = || async { (pings.load(Ordering::SeqCst) >= 2).then_some(()) };
    weft_testkit::eventually("a second question after a wrong answer", asked_again).await;
    assert_eq!(plane.get("/").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_check_that_expects_nothing_asks_only_whether_it_connects() {
    let upstream = Upstream::answering(Answer::ok("")).await;
    let check = check(Probe::Tcp { send: vec![], receive: vec![] });
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    plane.answers(200).await;
    upstream.stop().await;
    let unhealthy = || async { (plane.get("/").await.text().contains("healthy")).then_some(()) };
    weft_testkit::eventually("a refusal for want of a healthy endpoint", unhealthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_want_tls_are_asked_over_tls() {
    let http2 = |probe| match probe {
        Probe::Http { host, path, method, expected, retriable, .. } => {
            Probe::Http { host, path, method, expected, retriable, http2: true }
        }
        other => other,
    };
    let tcp = Probe::Tcp {
        send: b"GET /healthz HTTP/1.1\r\nhost: shop\r\nuser-agent: weft-health-check\r\n\r\n".to_vec(),
        receive: vec![b"200 OK".to_vec()],
    };
    let grpc_probe = Probe::Grpc { service: String::new(), authority: String::new() };
    for probe in [http(), http2(http()), grpc_probe, tcp] {
        let ca = Ca::new();
        let config = ca.issue(&["shop.example"]).server_config(&["h2", "http/1.1"], None);
        let upstream = Upstream::over_tls(config, |head| match head.uri.path() {
            "/grpc.health.v1.Health/Check" => grpc(1),
            _ => Act::Answer(Answer::ok("")),
        })
        .await;
        let mut shop = cluster(&[upstream.address()], vec![check(probe.clone())]);
        shop.tls = Some(UpstreamTls {
            server_name: "shop.example".into(),
            trust: Trust::Authorities(ca.pem()),
            names: vec![PeerName::Dns("shop.example".into())],
            certificate: None,
        });
        let plane = Driven::by(shop).await;
        plane.answers(200).await;
        let asked = &checks_of(&upstream)[0];
        let asked_for = asked.tls.as_ref().and_then(|handshake| handshake.server_name.as_deref());
        assert_eq!(asked_for, Some("shop.example"), "{probe:?}");
        let scheme = (asked.version == Version::HTTP_2).then_some("https");
        assert_eq!(asked.uri.scheme_str(), scheme, "{probe:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_stays_well_when_it_is_spoken_to_with_other_keys() {
    let ca = Ca::new();
    let config = ca.issue(&["shop.example"]).server_config(&["http/1.1"], None);
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::over_tls(config, move |head| match head.uri.path() {
        "/healthz" if asked.fetch_add(1, Ordering::SeqCst) > 0 => Act::Never,
        _ => Act::Answer(Answer::ok("")),
    })
    .await;
    let slow = HealthCheck { interval: NEVER, no_traffic_interval: NEVER, timeout: NEVER, ..check(http()) };
    let mut shop = cluster(&[upstream.address()], vec![slow]);
    let tls = |authorities: String| UpstreamTls {
        server_name: "shop.example".into(),
        trust: Trust::Authorities(authorities),
        names: vec![PeerName::Dns("shop.example".into())],
        certificate: None,
    };
    shop.tls = Some(tls(ca.pem()));
    let mut plane = Driven::by(shop.clone()).await;
    plane.answers(200).await;
    shop.tls = Some(tls(ca.pem() + &Ca::new().pem()));
    plane.put(shop).await;
    let reply = plane.get("/").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let requests = upstream.seen().into_iter().filter(|seen| seen.uri.path() == "/");
    let connections: BTreeSet<usize> = requests.map(|seen| seen.connection).collect();
    assert_eq!(connections.len(), 2, "over a connection of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_does_not_answer_in_time_fails() {
    let ill = Arc::new(AtomicBool::new(false));
    let silent = ill.clone();
    let upstream = Upstream::start(move |head| match head.uri.path() {
        "/healthz" if silent.load(Ordering::SeqCst) => Act::Never,
        _ => Act::Answer(Answer::ok("")),
    })
    .await;
    let check = HealthCheck { timeout: Duration::from_millis(300), ..check(http()) };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    plane.answers(200).await;
    ill.store(true, Ordering::SeqCst);
    plane.answers(503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checks_of_an_endpoint_that_is_gone_end() {
    let (gone, stays) = (Upstream::answering(Answer::ok("")).await, Upstream::answering(Answer::ok("")).await);
    let slow = HealthCheck { interval: NEVER, no_traffic_interval: NEVER, ..check(http()) };
    let mut plane = Driven::by(cluster(&[gone.address(), stays.address()], vec![slow.clone()])).await;
    gone.has_open(1).await;
    stays.has_open(1).await;
    plane.put(cluster(&[stays.address()], vec![slow])).await;
    gone.has_open(0).await;
    assert_eq!(stays.connections(), 1, "whoever stays is not asked anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_are_counted_by_what_became_of_them() {
    let upstream = Upstream::start(|head| match head.uri.path() {
        "/healthz" => Act::Answer(Answer::status(503)),
        _ => Act::Answer(Answer::ok("")),
    })
    .await;
    let probe = Probe::Http {
        host: String::new(),
        path: "/healthz".into(),
        method: "GET".into(),
        expected: vec![],
        retriable: vec![],
        http2: false,
    };
    let mut plane = Driven::by(cluster(&[upstream.address()], vec![check(probe)])).await;
    upstream.has_seen(3).await;
    assert!(plane.stat("health_check.attempt").await >= 2);
    assert_eq!(plane.stat("health_check.success").await, 0);
    assert_eq!(plane.stat("health_check.network_failure").await, 0, "each was answered");
    assert!(plane.stat("health_check.failure").await >= 2);

    plane.put(cluster(&[weft_testkit::nobody()], vec![check(http())])).await;
    let unanswered = || async { (plane.stat("health_check.network_failure").await > 0).then_some(()) };
    weft_testkit::eventually("a check that nobody answers", unanswered).await;
    assert_eq!(plane.stat("health_check.success").await, 0);
    assert!(plane.stat("health_check.failure").await > plane.stat("health_check.network_failure").await);

    let well = Upstream::answering(Answer::ok("")).await;
    plane.put(cluster(&[well.address()], vec![check(http())])).await;
    plane.answers(200).await;
    assert!(plane.stat("health_check.success").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_ready_when_its_endpoints_had_their_first_check() {
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |mut stream, _| {
        let asked = asked.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
            // Answered when the test has looked, in a stream of its own.
            let (answer, go) = tokio::sync::oneshot::channel::<()>();
            let _ = asked.send(answer);
            let _ = go.await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let plane = Driven::by(cluster(&[upstream.address()], vec![check(http())])).await;
    let answer = questions.recv().await.unwrap();
    let waits = || async { (plane.admin("/ready").await.1.contains("health check of 1 endpoints")).then_some(()) };
    weft_testkit::eventually("to be told what is waited for", waits).await;
    assert_eq!(plane.admin("/ready").await.0, 503);
    answer.send(()).unwrap();
    let ready = || async { (plane.admin("/ready").await.0 == 200).then_some(()) };
    weft_testkit::eventually("to be ready", ready).await;
    assert!(plane.stat("health_check.success").await >= 1);
}
