//! Configuration changes while traffic flows: nothing is lost, and what is wrong harms only itself.

use weft_testkit::load::Load;
use weft_testkit::mesh::{Mesh, Plane};
use weft_testkit::{Answer, RawClient, Upstream, eventually};

/// A gateway in front of `order` and `order-v2`, which answer with their names.
async fn shop() -> (Mesh, Plane, [Upstream; 2]) {
    let upstreams = [Upstream::answering(Answer::ok("order")).await, Upstream::answering(Answer::ok("v2")).await];
    let mut mesh = Mesh::start().await;
    mesh.service("order", ("http", 8080), &[upstreams[0].address()]);
    mesh.service("order-v2", ("http", 8080), &[upstreams[1].address()]);
    mesh.route("order", "edge", &to("order"));
    let gateway = mesh.gateway("edge").await;
    (mesh, gateway, upstreams)
}

fn to(service: &str) -> String {
    format!("  - backendRefs: [{{name: {service}, port: 8080}}]\n")
}

async fn ask(gateway: &Plane, path: &str) -> (u16, String) {
    let mut client = RawClient::connect(gateway.at(8080)).await;
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let reply = client.response().await;
    (reply.status, reply.text())
}

fn ok(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_edits_under_load_fail_no_request_and_drop_no_connection() {
    let (mesh, gateway, _upstreams) = shop().await;
    let load = Load::get(gateway.at(8080), "a", "/", 1000).start().await;
    load.more(500).await;
    for edit in 0..200 {
        let service = ["order", "order-v2"][edit % 2];
        // the path changes too, so that every edit differs from all before it
        mesh.route("order", "edge", &format!("{}  - matches: [{{path: {{type: Exact, value: /{edit}}}}}]\n    backendRefs: [{{name: {service}, port: 8080}}]\n", to(service)));
        load.more(20).await;
    }
    mesh.live(&gateway).await;
    assert_eq!(ask(&gateway, "/").await, ok("v2"), "the last edit holds");
    load.more(500).await;
    let report = load.stop().await;
    let lost: Vec<_> = gateway.log().into_iter().filter(|record| record["response_code"] != 200).take(3).collect();
    assert!(lost.is_empty(), "{report:?}; the first are {lost:#?}");
    report.assert_flawless();
    assert_eq!(report.closed, 0, "no connection was dropped: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_come_and_go_under_load() {
    let (mesh, gateway, [order, v2]) = shop().await;
    let third = Upstream::answering(Answer::ok("third")).await;
    let load = Load::get(gateway.at(8080), "a", "/", 500).start().await;
    for turn in 0..20 {
        let members = [&[order.address()][..], &[order.address(), third.address()], &[third.address(), v2.address()]];
        mesh.service("order", ("http", 8080), members[turn % 3]);
        mesh.live(&gateway).await;
        load.more(50).await;
    }
    load.stop().await.assert_flawless();
    assert!(!third.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_other_files_still_go_live() {
    let (mesh, gateway, _upstreams) = shop().await;
    mesh.write("route-order.yaml", "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: order}\nspec:\n  parentRefs: [{name: edge}\n  rules: nonsense\n");
    mesh.route(
        "other",
        "edge",
        "  - matches: [{path: {type: PathPrefix, value: /v2}}]\n    backendRefs: [{name: order-v2, port: 8080}]\n",
    );
    mesh.live(&gateway).await;
    assert_eq!(ask(&gateway, "/").await, ok("order"), "the last good version stays");
    assert_eq!(ask(&gateway, "/v2").await, ok("v2"), "the other file is live");
    mesh.route("order", "edge", &to("order-v2"));
    mesh.live(&gateway).await;
    assert_eq!(ask(&gateway, "/").await, ok("v2"), "mended, live again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_is_away_costs_nothing() {
    let (mut mesh, gateway, _upstreams) = shop().await;
    let load = Load::get(gateway.at(8080), "a", "/", 200).start().await;
    load.more(50).await;
    mesh.stop_control_plane().await;
    mesh.route("order", "edge", &to("order-v2"));
    load.more(200).await;
    assert_eq!(ask(&gateway, "/").await, ok("order"), "what it held, it holds");
    mesh.start_control_plane().await;
    mesh.live(&gateway).await;
    assert_eq!(ask(&gateway, "/").await, ok("v2"), "in step again");
    load.more(100).await;
    load.stop().await.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_restarted_while_the_control_plane_is_away_serves_its_last_good_configuration() {
    let (mut mesh, mut gateway, _upstreams) = shop().await;
    mesh.route("order", "edge", &to("order-v2"));
    mesh.live(&gateway).await;
    mesh.stop_control_plane().await;
    gateway.stop().await;
    assert!(tokio::net::TcpStream::connect(gateway.at(8080)).await.is_err(), "stopped");
    gateway.resume().await;
    let address = gateway.at(8080);
    eventually("the gateway listens", || async move { tokio::net::TcpStream::connect(address).await.ok() }).await;
    assert_eq!(ask(&gateway, "/").await, ok("v2"));
    mesh.start_control_plane().await;
    mesh.route("order", "edge", &to("order"));
    mesh.live(&gateway).await;
    assert_eq!(ask(&gateway, "/").await, ok("order"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_comes_and_goes_with_its_gateway() {
    let (mesh, gateway, _upstreams) = shop().await;
    let both = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: default}\nspec:\n  gatewayClassName: weft-edge\n  listeners:\n  - {name: http, protocol: HTTP, port: 8080}\n";
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: weft-edge}\nspec: {controllerName: weft.dev/gateway}\n---\n";
    mesh.write("gateway-edge.yaml", &format!("{class}{both}  - {{name: second, protocol: HTTP, port: 8081}}\n"));
    let second = gateway.at(8081);
    eventually("the second listener", || async move { tokio::net::TcpStream::connect(second).await.ok() }).await;
    let mut kept = RawClient::connect(second).await;
    kept.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(kept.response().await.status, 200);
    mesh.write("gateway-edge.yaml", &format!("{class}{both}"));
    eventually("the second listener's end", || async move { tokio::net::TcpStream::connect(second).await.err() }).await;
    assert_eq!(ask(&gateway, "/").await, ok("order"), "the first was not touched");
}
