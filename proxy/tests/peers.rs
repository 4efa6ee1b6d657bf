//! Programs of other makes, which know nothing of the mesh, talk to each other through it: gRPC's own
//! Python implementation and a WebSocket library.
//!
//! The longest way here is the one of a request in the shop: gateway, then the first pod's sidecar and
//! program, which asks a second service through its own sidecar, which reaches that one's sidecar. The
//! first pod's program is a relay of bytes, so that what comes out is what went in.

use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use weft_testkit::mesh::{Mesh, Plane, Pod};
use weft_testkit::peers::{Peer, Script};
use weft_testkit::raw::RawUpstream;

const GRPC_SERVER: &str = include_str!("peers/grpc_server.py");
const GRPC_CLIENT: &str = include_str!("peers/grpc_client.py");
const WEBSOCKET_SERVER: &str = include_str!("peers/websocket_server.py");
const WEBSOCKET_CLIENT: &str = include_str!("peers/websocket_client.py");

/// gateway → sidecar of `relay` → relay → sidecar of `relay` → sidecar of `order` → its program.
struct Chain {
    _mesh: Mesh,
    gateway: Plane,
    caller: Plane,
    callee: Plane,
    order: Pod,
    _relay: RawUpstream,
    _program: Script,
}

impl Chain {
    async fn of(port: (&'static str, u16), peer: &'static [Peer], program: &str) -> Chain {
        let mut mesh = Mesh::start().await;
        let order = mesh.pod("order", &[port]);
        let relay = mesh.pod("relay", &[port]);
        mesh.route("relay", "edge", &format!("  - backendRefs: [{{name: relay, port: {}}}]\n", port.1));
        let mut program = Script::run(peer, program, &[&order.app(port.1).to_string()]).await;
        assert_eq!(program.line().await, "ready");
        let (caller, callee) = (mesh.sidecar(&relay).await, mesh.sidecar(&order).await);
        let outbound = caller.outbound();
        let relay = RawUpstream::at(relay.app(port.1), move |mut stream, _| async move {
            let mut onward = TcpStream::connect(outbound).await.expect("its own sidecar listens");
            // how a connection ended is what its ends look at
            let _ = copy_bidirectional(&mut stream, &mut onward).await;
        })
        .await;
        let gateway = mesh.gateway("edge").await;
        Chain { _mesh: mesh, gateway, caller, callee, order, _relay: relay, _program: program }
    }
}

async fn grpc(target: SocketAddr, authority: &str) {
    let mut client = Script::run(&[Peer::Grpc], GRPC_CLIENT, &[&target.to_string(), authority]).await;
    assert_eq!(client.line().await, "olleh please yes 0001ff");
    assert_eq!(client.line().await, "3000000");
    assert_eq!(client.line().await, "FAILED_PRECONDITION not now: 100% sure");
    assert_eq!(client.line().await, "UNIMPLEMENTED");
    assert_eq!(client.line().await, "OK yes");
    client.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_unary_and_bidirectional_through_gateway_and_both_sidecars() {
    let chain = Chain::of(("grpc", 9090), &[Peer::Grpc], GRPC_SERVER).await;
    grpc(chain.order.app(9090), "order:9090").await;
    grpc(chain.caller.outbound(), "order:9090").await;
    grpc(chain.gateway.at(8080), "order:9090").await;

    let path = "/shop.Orders/Fail";
    for plane in [&chain.gateway, &chain.caller, &chain.callee] {
        let record = plane.logged(path, 1).await.remove(0);
        assert_eq!((&record["response_code"], &record["protocol"]), (&200.into(), &"HTTP/2".into()), "{record}");
        assert_eq!(record["grpc_status"], 9, "{record}");
    }
}

async fn websocket(address: &str, uri: &str, proxy: &str) {
    let mut client = Script::run(&[Peer::Websockets], WEBSOCKET_CLIENT, &[address, uri, proxy]).await;
    assert_eq!(client.line().await, "welcome to /talk chat");
    assert_eq!(client.line().await, "echoed");
    assert_eq!(client.line().await, "4321 done");
    client.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_through_gateway_and_both_sidecars() {
    let chain = Chain::of(("http", 8080), &[Peer::Websockets], WEBSOCKET_SERVER).await;
    websocket(&chain.order.app(8080).to_string(), "ws://order:8080/talk", "").await;
    websocket(&chain.caller.outbound().to_string(), "ws://order:8080/talk", "").await;
    websocket(&chain.gateway.at(8080).to_string(), "ws://order:8080/talk", "").await;
    for plane in [&chain.gateway, &chain.caller, &chain.callee] {
        let record = plane.logged("/talk", 1).await.remove(0);
        assert_eq!(record["response_code"], 101, "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_its_client_tunnels_through_its_sidecar() {
    let chain = Chain::of(("http", 8080), &[Peer::Websockets], WEBSOCKET_SERVER).await;
    let proxy = format!("http://{}", chain.caller.outbound());
    websocket("", "ws://order:8080/talk", &proxy).await;
}
