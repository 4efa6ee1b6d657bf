//! A gateway's binary is replaced while it serves: real processes, real signals, and a load that
//! counts every request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};
use weft_testkit::load::Load;
use weft_testkit::mesh::Mesh;
use weft_testkit::{Answer, RawClient, Upstream, eventually, in_time};

/// One gateway process: `examples/gateway.rs`.
struct Process(Child);

impl Process {
    fn start(control_plane: SocketAddr, address: SocketAddr, dir: &Path, workers: usize, upgrade: bool) -> Process {
        let arguments = [control_plane.to_string(), "edge".into(), address.ip().to_string()];
        let mut command = Command::new(program());
        command.args(arguments).arg(dir).arg(workers.to_string()).stdin(Stdio::null()).kill_on_drop(true);
        if upgrade {
            command.arg("--upgrade");
        }
        Process(command.spawn().expect("examples/gateway, which `cargo test -p weft-gateway` builds"))
    }

    fn id(&self) -> u32 {
        self.0.id().expect("not waited for yet")
    }

    /// Sends a signal, by the name that `kill` knows.
    async fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().await;
        assert!(kill.expect("kill is there").success());
    }

    async fn ended(&mut self) -> ExitStatus {
        in_time("the process's end", self.0.wait()).await.expect("it is our child")
    }
}

fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/debug/deps/test");
    profile.join("examples/gateway")
}

/// A mesh with a service `order`, a gateway `edge` without a process, and a directory for one.
async fn edge(upstream: &Upstream) -> (Mesh, SocketAddr, PathBuf) {
    let mesh = Mesh::start().await;
    mesh.service("order", ("http", 8080), &[upstream.address()]);
    mesh.write(
        "edge.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: weft}\nspec: {controllerName: weft.dev/gateway}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: default}\nspec:\n  gatewayClassName: weft\n  listeners: [{name: http, protocol: HTTP, port: 8080}]\n",
    );
    mesh.route("order", "edge", "  - backendRefs: [{name: order, port: 8080}]\n");
    let address = SocketAddr::new(mesh.gateway_node("edge").address, 8080);
    let dir = mesh.dir().join("gateway");
    std::fs::create_dir(&dir).expect("the mesh's directory is ours");
    (mesh, address, dir)
}

/// Waits until this process is the one that serves, by its pid file, and does: it says so as it begins to listen.
async fn serves(process: &Process, dir: &Path, address: SocketAddr) {
    let expected = process.id().to_string();
    let file = dir.join("pid");
    eventually("the process is the one that serves", || async {
        (std::fs::read_to_string(&file).ok()?.trim() == expected).then_some(())
    })
    .await;
    eventually("the listener", || async move { tokio::net::TcpStream::connect(address).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hand_overs_under_load_fail_no_request() {
    let upstream = Upstream::answering(Answer::ok("served")).await;
    let (mesh, address, dir) = edge(&upstream).await;
    let mut old = Process::start(mesh.control_plane(), address, &dir, 2, false);
    serves(&old, &dir, address).await;

    let load = Load::get(address, "shop.example", "/order", 1000).start().await;
    for workers in [2, 3, 1, 4, 2] {
        load.more(500).await;
        let new = Process::start(mesh.control_plane(), address, &dir, workers, true);
        serves(&new, &dir, address).await;
        let status = old.ended().await;
        assert!(status.success(), "the old process ends well: {status}");
        old = new;
    }
    load.more(500).await;
    load.stop().await.assert_flawless();
    old.signal("TERM").await;
    assert!(old.ended().await.success());
    assert!(!dir.join("pid").exists(), "the last one tidies up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_takes_over_while_the_control_plane_is_away() {
    let upstream = Upstream::answering(Answer::ok("served")).await;
    let (mut mesh, address, dir) = edge(&upstream).await;
    let mut old = Process::start(mesh.control_plane(), address, &dir, 1, false);
    serves(&old, &dir, address).await;
    eventually("the last good configuration on disk", || async { dir.join("state.json").exists().then_some(()) }).await;
    mesh.stop_control_plane().await;
    let new = Process::start(mesh.control_plane(), address, &dir, 1, true);
    serves(&new, &dir, address).await;
    assert!(old.ended().await.success());
    let mut client = RawClient::connect(address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_without_configuration_takes_nothing_and_the_old_one_serves_on() {
    let upstream = Upstream::answering(Answer::ok("served")).await;
    let (mesh, address, dir) = edge(&upstream).await;
    let mut old = Process::start(mesh.control_plane(), address, &dir, 1, false);
    serves(&old, &dir, address).await;
    let state = dir.join("state.json");
    eventually("the last good configuration on disk", || async { std::fs::remove_file(&state).ok() }).await;
    let mut new = Process::start(weft_testkit::nobody(), address, &dir, 1, true);
    let mut client = RawClient::connect(address).await;
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "served");
    }
    assert!(old.0.try_wait().expect("it is our child").is_none(), "nobody asked it to go");
    new.signal("KILL").await;
    new.ended().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "served");
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade_with_nobody_to_take_over_from_is_a_plain_start() {
    let upstream = Upstream::answering(Answer::ok("served")).await;
    let (mesh, address, dir) = edge(&upstream).await;
    // a process that died without tidying up
    std::fs::write(dir.join("upgrade.sock.owner"), format!("{} 1 2\n", u32::MAX)).expect("ours");
    let mut process = Process::start(mesh.control_plane(), address, &dir, 1, true);
    serves(&process, &dir, address).await;
    let mut client = RawClient::connect(address).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "served");
    process.signal("INT").await;
    assert!(process.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_that_cannot_start_is_a_failed_process() {
    let dir = tempfile::tempdir().expect("a directory");
    // an address for documentation (RFC 5737), which no machine has
    let elsewhere: SocketAddr = "203.0.113.1:8080".parse().expect("an address");
    let mut process = Process::start(weft_testkit::nobody(), elsewhere, dir.path(), 1, false);
    assert_eq!(process.ended().await.code(), Some(1));
    assert!(!dir.path().join("pid").exists());
}
