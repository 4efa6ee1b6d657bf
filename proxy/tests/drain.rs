//! A data plane that is asked to stop finishes what it has begun.

use std::sync::Arc;
use tokio::sync::Mutex;
use weft_testkit::load::Load;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::{Act, Answer, Client, Gate, RawClient, Upstream, eventually};

/// client → sidecar → app.
async fn sidecar(script: impl Fn(&http::request::Parts) -> Act + Send + Sync + 'static) -> (Mesh, Plane, Upstream) {
    let mut mesh = Mesh::start().await;
    let pod = mesh.pod("order", &[("http", 8080)]);
    let app = Upstream::at(pod.app(8080), script).await;
    let sidecar = mesh.sidecar(&pod).await;
    let address = sidecar.at(8080);
    eventually("the inbound listener", || async move { tokio::net::TcpStream::connect(address).await.ok() }).await;
    (mesh, sidecar, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_and_nothing_new_is_taken() {
    const HELD: usize = 40;
    let gate = Gate::closed();
    let held = gate.clone();
    let (_mesh, mut sidecar, app) = sidecar(move |_| Act::Answer(Answer::ok("finished").behind(&held))).await;
    let address = sidecar.at(8080);
    let mut asking = Vec::new();
    for turn in 0..HELD {
        asking.push(tokio::spawn(async move {
            let mut client = if turn % 2 == 0 { Client::http1(address).await } else { Client::http2(address).await };
            client.get("order", "/held").await
        }));
    }
    app.has_seen(HELD).await;
    let stopping = tokio::spawn(async move {
        sidecar.stop().await;
        sidecar
    });
    eventually("the listener's end", || async move { tokio::net::TcpStream::connect(address).await.err() }).await;
    assert!(!stopping.is_finished(), "requests are still in flight");
    gate.open();
    for asked in asking {
        let reply = asked.await.expect("a whole reply");
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, "finished"));
    }
    let sidecar = stopping.await.expect("it stops");
    assert_eq!(sidecar.logged("/held", HELD).await.len(), HELD, "every request has its record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_is_told_to_close_with_its_last_response() {
    let gate = Gate::closed();
    let held = gate.clone();
    let (_mesh, mut sidecar, app) = sidecar(move |_| Act::Answer(Answer::ok("last").behind(&held))).await;
    let address = sidecar.at(8080);
    let mut client = RawClient::connect(address).await;
    client.send("GET /x HTTP/1.1\r\nhost: order\r\n\r\n").await;
    app.has_seen(1).await;
    let stopping = tokio::spawn(async move { sidecar.stop().await });
    eventually("the listener's end", || async move { tokio::net::TcpStream::connect(address).await.err() }).await;
    gate.open();
    let reply = client.response().await;
    assert_eq!(reply.text(), "last");
    assert!(reply.closes(), "{reply:?}");
    client.closed().await;
    stopping.await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_hold_a_sidecar_that_stops() {
    let (_mesh, mut sidecar, _app) = sidecar(|_| Act::Answer(Answer::ok(""))).await;
    let mut idle = RawClient::connect(sidecar.at(8080)).await;
    idle.send("GET /x HTTP/1.1\r\nhost: order\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    let _never_used = RawClient::connect(sidecar.at(8080)).await;
    sidecar.stop().await;
    idle.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_stops_under_load_loses_nothing_that_it_has_taken() {
    let (_mesh, sidecar, app) = sidecar(|_| Act::Answer(Answer::ok(""))).await;
    let load = Load::get(sidecar.at(8080), "order", "/load", 1000).start().await;
    load.more(500).await;
    let sidecar = Arc::new(Mutex::new(sidecar));
    sidecar.lock().await.stop().await;
    let report = load.stop().await;
    // a new connection is refused, as it must be; a response that has begun, or was due, is never cut
    let cut: Vec<_> = report.failures.iter().filter(|(what, _)| !what.contains("ConnectionRefused")).collect();
    let taken = report.statuses.get(&200).copied().unwrap_or_default();
    assert_eq!(app.seen().len() as u64, taken, "what reached the app was answered: {report:?}");
    assert_eq!(sidecar.lock().await.log().iter().filter(|r| r["path"] == "/load").count() as u64, taken, "{cut:?}");
}
