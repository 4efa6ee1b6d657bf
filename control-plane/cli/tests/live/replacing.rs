//! A proxy is replaced, stopped or scaled away under load, and nobody notices.

use crate::mesh::{Mesh, alive, binary, kill};
use crate::shop::{address, knob, load, rate, shop_with_stock};
use rustix::process::Signal;
use std::process::{Command, ExitStatus, Stdio};
use weft_testkit::load::Load;
use weft_testkit::{Act, Answer, Gate, RawClient, Upstream, eventually, in_time};

/// A proxy that the test starts itself, beside those of `weft up`.
struct Proxy(tokio::process::Child);

impl Proxy {
    fn start(mesh: &Mesh, name: &str, third: u8, args: &[&str]) -> Proxy {
        let at = |port| address(mesh, third, 1, port);
        let file = |what: &str| mesh.state().join(format!("{name}.{what}"));
        let mut command = Command::new(binary());
        command.args(args).args(["--pod", name, "--address", &at(0).ip().to_string(), "--drain", "10s"]);
        command.args(["--control-plane", &address(mesh, 0, 1, 15010).to_string()]);
        command.args(["--admin", &at(15000).to_string(), "--metrics", &at(15090).to_string()]);
        command.arg("--state-file").arg(file("state")).arg("--access-log").arg(file("access.log"));
        let log = std::fs::File::options().create(true).append(true).open(file("log")).unwrap();
        let mut command = tokio::process::Command::from(command);
        Proxy(command.stdin(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id().expect("nobody has waited for it")
    }

    async fn ended(&mut self) -> ExitStatus {
        in_time("the process's end", self.0.wait()).await.unwrap()
    }
}

/// Another process of the shop's gateway, once it serves.
async fn gateway(mesh: &Mesh, upgrade: bool) -> Proxy {
    let (socket, pid_file) = (mesh.state().join("front.sock"), mesh.state().join("front.pid"));
    let (socket, pid_path) = (socket.display().to_string(), pid_file.display().to_string());
    let mut args = vec!["gateway", "shop", "--workers", "2", "--upgrade-socket", &socket, "--pid-file", &pid_path];
    args.extend(upgrade.then_some("--upgrade"));
    let process = Proxy::start(mesh, "front", 9, &args);
    eventually("the gateway serves", || async {
        (std::fs::read_to_string(&pid_file).ok()?.trim() == process.pid().to_string()).then_some(())
    })
    .await;
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_binary_is_replaced_under_load() {
    let mesh = shop_with_stock(37, 100);
    let mut serving = gateway(&mesh, false).await;
    let front = address(&mesh, 9, 1, 8080);
    eventually("its listener", || async { tokio::net::TcpStream::connect(front).await.ok() }).await;
    let load = Load::get(front, "shop.example", "/inventories/1", rate()).start().await;
    for _ in 0..knob("WEFT_LIVE_HANDOVERS", 1) {
        load.more(u64::from(rate())).await;
        let next = gateway(&mesh, true).await;
        assert!(serving.ended().await.success(), "the old process ends well");
        serving = next;
    }
    load.more(u64::from(rate())).await;
    let report = load.stop().await;
    println!("hand-overs: {report:?}");
    report.assert_flawless();
}

/// A Service of one pod that the test itself is, and a route to it.
fn slow(mesh: &Mesh) -> String {
    let pod = address(mesh, 4, 1, 8080).ip();
    format!(
        "apiVersion: v1
kind: Service
metadata: {{ name: slow }}
spec:
  selector: {{ app: slow }}
  ports: [{{ name: http, port: 8080 }}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: slow-here, labels: {{ kubernetes.io/service-name: slow }} }}
addressType: IPv4
ports: [{{ name: http, port: 8080 }}]
endpoints: [{{ addresses: [{pod}], conditions: {{ ready: true }} }}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: slow }}
spec:
  parentRefs: [{{ name: shop }}]
  rules:
    - matches: [{{ path: {{ type: PathPrefix, value: /slow }} }}]
      backendRefs: [{{ name: slow, port: 8080 }}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_told_to_stop_finishes_what_is_in_flight() {
    const IN_FLIGHT: usize = 20;
    let mesh = shop_with_stock(38, 100);
    mesh.save("slow.yaml", &slow(&mesh));
    let gate = Gate::closed();
    let app = Upstream::at(address(&mesh, 5, 1, 8080), {
        let gate = gate.clone();
        move |_| Act::Answer(Answer::ok("at last").behind(&gate))
    })
    .await;
    let app_address = app.address().ip().to_string();
    let args = ["proxy", "--workload", "slow", "--label", "app=slow", "--app-address", &app_address];
    let mut sidecar = Proxy::start(&mesh, "slow-0", 4, &args);
    let inbound = address(&mesh, 4, 1, 8080);
    eventually("it listens", || async { tokio::net::TcpStream::connect(inbound).await.ok() }).await;
    mesh.until("the route is live", |mesh| (mesh.get("/inventories/1").status == 200).then_some(()));
    let load = load(&mesh).await;

    let request = "GET /slow HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    let mut clients = Vec::new();
    while clients.len() < IN_FLIGHT {
        let mut client = RawClient::connect(mesh.gateway(8080)).await;
        client.send(request).await;
        clients.push(client);
    }
    app.has_seen(IN_FLIGHT).await;
    kill(sidecar.pid(), Signal::TERM);
    eventually("it takes no more", || async { tokio::net::TcpStream::connect(inbound).await.err() }).await;
    assert!(alive(sidecar.pid()), "it waits for what is in flight");
    gate.open();
    for client in &mut clients {
        let reply = client.response().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "at last"));
    }
    assert!(sidecar.ended().await.success());
    load.stop().await.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_come_and_go_under_load() {
    let mesh = shop_with_stock(39, 100);
    let load = load(&mesh).await;
    for replicas in ["2", "1", "3", "1"] {
        assert!(mesh.weft(&["scale", "product", replicas]).status.success());
        mesh.until(&format!("there are {replicas}"), |mesh| {
            let fleet = mesh.fleet();
            let pods = fleet["pods"].as_array()?.iter().filter(|pod| pod["deployment"] == "product");
            let (ready, others): (Vec<_>, Vec<_>) = pods.partition(|pod| pod["ready"] == true);
            (ready.len().to_string() == replicas && others.is_empty()).then_some(())
        });
        load.more(u64::from(rate())).await;
    }
    let report = load.stop().await;
    println!("scaled up and down: {report:?}");
    if report.statuses.keys().any(|status| *status != 200) {
        print_refusals(&mesh);
    }
    report.assert_flawless();
}

/// What every hop says of the requests that it did not answer with success.
fn print_refusals(mesh: &Mesh) {
    for entry in std::fs::read_dir(mesh.state().join("logs")).unwrap().flatten() {
        let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let refused = log.lines().filter(|line| line.contains("\"response_code\":5") || line.contains("\"DC\""));
        refused.for_each(|line| println!("{}: {line}", entry.file_name().display()));
    }
}
