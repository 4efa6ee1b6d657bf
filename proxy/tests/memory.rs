//! A body of any size passes in constant memory. Alone in its program, because it is about the
//! memory of the whole process, both ends and both proxies included.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use weft_testkit::client::{body, boxed};
use weft_testkit::mesh::Mesh;
use weft_testkit::{Act, Client, Gate, Upstream};

const WHOLE: u64 = 256 << 20;
const ROOM: u64 = 48 << 20;

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel says it");
    let kib: u64 = line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    kib << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarter_of_a_gigabyte_passes_up_and_down_in_constant_memory() {
    let mut mesh = Mesh::start().await;
    let pod = mesh.pod("order", &[("http", 8080)]);
    let gate = Gate::closed();
    gate.open();
    let _app = Upstream::at(pod.app(8080), move |head| match head.uri.path() {
        "/down" => Act::Zeros(WHOLE),
        "/warm" => Act::Echo,
        _ => Act::Reluctant(gate.clone()),
    })
    .await;
    mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    let _sidecar = mesh.sidecar(&pod).await;
    let gateway = mesh.gateway("edge").await;

    for mut client in [Client::http1(gateway.at(8080)).await, Client::http2(gateway.at(8080)).await] {
        assert_eq!(client.get("a", "/warm").await.status, 200);
        let before = peak();
        let request = client.request("GET", "a", "/down").body(body("")).expect("a request");
        let mut response = client.start(request).await.expect("a head");
        let mut length = 0;
        while let Some(frame) = response.frame().await {
            length += frame.expect("no error").into_data().expect("data").len() as u64;
        }
        assert_eq!(length, WHOLE);

        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        let chunks =
            (0..WHOLE / ZEROS.len() as u64).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(&ZEROS))));
        let upload = boxed(StreamBody::new(futures_util::stream::iter(chunks)));
        let request = client.request("POST", "a", "/up").body(upload).expect("a request");
        assert_eq!(client.send(request).await.text(), WHOLE.to_string());
        let grown = peak() - before;
        assert!(grown < ROOM, "the process grew by {grown} bytes for a body of {WHOLE}");
    }
}
