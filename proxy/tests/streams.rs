//! Bodies pass through as they come, both ways, with their trailers, and only as fast as they are read.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use weft_testkit::client::{body, boxed};
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::raw::RawUpstream;
use weft_testkit::{Act, Answer, Client, Gate, RawClient, Reply, Upstream, in_time};

/// client → gateway → sidecar → app; `protocol` is the port's name.
struct Shop {
    _mesh: Mesh,
    gateway: Plane,
    _sidecar: Plane,
    app: Upstream,
}

impl Shop {
    async fn open(
        protocol: &'static str,
        script: impl Fn(&http::request::Parts) -> Act + Send + Sync + 'static,
    ) -> Shop {
        let mut mesh = Mesh::start().await;
        let pod = mesh.pod("order", &[(protocol, 8080)]);
        let app = Upstream::at(pod.app(8080), script).await;
        mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
        let sidecar = mesh.sidecar(&pod).await;
        let gateway = mesh.gateway("edge").await;
        Shop { _mesh: mesh, gateway, _sidecar: sidecar, app }
    }

    /// One client of each version.
    async fn clients(&self) -> [Client; 2] {
        [Client::http1(self.gateway.at(8080)).await, Client::http2(self.gateway.at(8080)).await]
    }
}

type Frames = mpsc::UnboundedReceiver<Frame<Bytes>>;

/// A body that the test feeds frame by frame.
fn fed() -> (mpsc::UnboundedSender<Frame<Bytes>>, weft_testkit::client::RequestBody) {
    let (feed, mut frames): (_, Frames) = mpsc::unbounded_channel();
    let stream =
        futures_util::stream::poll_fn(move |cx| frames.poll_recv(cx).map(|frame| frame.map(Ok::<_, Infallible>)));
    (feed, boxed(StreamBody::new(stream)))
}

async fn ping_pong(shop: &Shop) {
    for mut client in shop.clients().await {
        let (feed, request_body) = fed();
        let request = client.request("POST", "a", "/echo").body(request_body).expect("a request");
        feed.send(Frame::data("ping 0".into())).expect("the request lives");
        let mut response = in_time("a head before the request has ended", client.start(request)).await.expect("a head");
        for turn in 0..20 {
            let mut heard = Vec::new();
            let expected = format!("ping {turn}");
            while heard.len() < expected.len() {
                let frame = in_time("an echo", response.frame()).await.expect("not the end").expect("no error");
                heard.extend_from_slice(frame.data_ref().expect("data"));
            }
            assert_eq!(String::from_utf8(heard).expect("text"), expected);
            feed.send(Frame::data(format!("ping {}", turn + 1).into())).expect("the request lives");
        }
        drop(feed);
        let rest = in_time("the end", response.collect()).await.expect("a whole body").to_bytes();
        assert_eq!(rest, "ping 20");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_stream_at_the_same_time_over_http1() {
    ping_pong(&Shop::open("http", |_| Act::Echo).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_stream_at_the_same_time_over_http2() {
    ping_pong(&Shop::open("http2", |_| Act::Echo).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_in_both_directions() {
    let shop = Shop::open("http2", |head| match head.uri.path() {
        "/echo" => Act::Echo,
        _ => Act::Answer(Answer::ok("body").trailer("x-checksum", "1234")),
    })
    .await;
    let mut client = Client::http2(shop.gateway.at(8080)).await;
    let reply = client.get("a", "/answer").await;
    assert_eq!(
        (reply.text().as_str(), &reply.trailers.expect("trailers")["x-checksum"]),
        ("body", &"1234".parse().expect("a value"))
    );

    let (feed, request_body) = fed();
    let request = client.request("POST", "a", "/echo").body(request_body).expect("a request");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-up", "5".parse().expect("a value"));
    feed.send(Frame::data("up".into())).expect("the request lives");
    feed.send(Frame::trailers(trailers)).expect("the request lives");
    drop(feed);
    let reply = client.send(request).await;
    assert_eq!(
        (reply.text().as_str(), &reply.trailers.expect("trailers")["x-up"]),
        ("up", &"5".parse().expect("a value"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_request_reaches_the_caller() {
    let shop = Shop::open("http", |_| Act::Zeros(1000)).await;
    for mut client in shop.clients().await {
        let (feed, request_body) = fed();
        feed.send(Frame::data("first".into())).expect("the request lives");
        let request = client.request("POST", "a", "/early").body(request_body).expect("a request");
        let reply = Reply::read(in_time("an early head", client.start(request)).await.expect("a head"));
        assert_eq!(in_time("an early answer", reply).await.expect("a whole body").body.len(), 1000);
        drop(feed);
    }
}

/// Waits until `counter` has not moved for a while, and gives it.
async fn settled(counter: impl Fn() -> u64) -> u64 {
    const LOOKS: usize = 40;
    let mut same = 0;
    let mut last = counter();
    let mut look = tokio::time::interval(Duration::from_millis(25));
    while same < LOOKS {
        look.tick().await;
        let now = counter();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

const WHOLE: u64 = 256 << 20;
/// What the kernel's and the proxies' buffers of two hops may hold together.
const BUFFERS: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_read_stops_the_upstream() {
    let shop = Shop::open("http", |_| Act::Zeros(WHOLE)).await;
    for mut client in shop.clients().await {
        let before = shop.app.sent();
        let request = client.request("GET", "a", "/zeros").body(body("")).expect("a request");
        let mut response = client.start(request).await.expect("a head");
        let stalled = settled(|| shop.app.sent()).await - before;
        assert!(
            stalled < BUFFERS,
            "{stalled} bytes were taken from the upstream over {:?}, though nobody reads them",
            response.version()
        );
        let mut length = 0;
        while let Some(frame) = response.frame().await {
            length += frame.expect("no error").into_data().expect("data").len() as u64;
        }
        assert_eq!(length, WHOLE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_read_stops_the_caller() {
    let gates = Arc::new(std::sync::Mutex::new(vec![Gate::closed(), Gate::closed()]));
    let handed = gates.clone();
    let shop =
        Shop::open("http", move |_| Act::Reluctant(handed.lock().expect("no panic").pop().expect("two requests")))
            .await;
    for mut client in shop.clients().await {
        let gate = gates.lock().expect("no panic").last().expect("one is left").clone();
        let given = Arc::new(AtomicU64::new(0));
        let stream = {
            let given = given.clone();
            let mut left = WHOLE;
            futures_util::stream::poll_fn(move |_| {
                static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
                let some = left.min(ZEROS.len() as u64);
                left -= some;
                given.fetch_add(some, Ordering::SeqCst);
                let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&ZEROS[..some as usize])));
                std::task::Poll::Ready((some > 0).then(frame))
            })
        };
        let request = client.request("POST", "a", "/up").body(boxed(StreamBody::new(stream))).expect("a request");
        let upload = tokio::spawn(async move { client.try_send(request).await });
        let stalled = settled(|| given.load(Ordering::SeqCst)).await;
        assert!(stalled < BUFFERS, "{stalled} bytes were taken from the caller, though nobody reads them");
        gate.open();
        let reply = in_time("the upload's end", upload).await.expect("no panic").expect("a whole reply");
        assert_eq!(reply.text(), WHOLE.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_carries_any_bytes_from_the_first_on_and_ends_side_by_side() {
    let mut mesh = Mesh::start().await;
    let pod = mesh.pod("chat", &[("http", 8080)]);
    let _app = RawUpstream::at(pod.app(8080), |mut stream, _| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8(head).expect("a head of text").to_ascii_lowercase();
        assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nfirst";
        stream.write_all(switch).await.expect("the proxy reads");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("the caller ends its side");
        rest.reverse();
        stream.write_all(&rest).await.expect("the caller reads on");
    })
    .await;
    mesh.route("chat", "edge", "  - backendRefs: [{name: chat, port: 8080}]\n");
    let sidecar = mesh.sidecar(&pod).await;
    let gateway = mesh.gateway("edge").await;
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client
        .send("GET /chat HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n\r\n\x00early")
        .await;
    let head = in_time("an answer", client.head()).await.expect("a head");
    assert_eq!(head.status, 101, "{:?} {:?}", gateway.logged("/chat", 1).await, sidecar.log());
    assert_eq!(in_time("the first bytes", client.exactly(5)).await.expect("bytes"), b"first");
    client.send(b"\xff\r\n").await;
    let (mut stream, ahead) = client.into_stream();
    assert!(ahead.is_empty());
    stream.shutdown().await.expect("half closing works");
    let mut rest = Vec::new();
    in_time("the rest", stream.read_to_end(&mut rest)).await.expect("an orderly end");
    assert_eq!(rest, b"\n\r\xffylrae\0");
}
