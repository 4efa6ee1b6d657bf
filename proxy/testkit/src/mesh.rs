//! A whole mesh in one process: a control plane on a directory of its own, and as many data planes as
//! a test asks for.
//!
//! The ports are the real ones (8080, 15001, …), so each mesh takes a block of 256 loopback addresses
//! for itself, which no other mesh of this machine has as long as this process lives: a data plane that drains goes on
//! accepting for a moment, and would take connections from whoever has its addresses next. Configuration goes the way
//! that people's goes: as YAML files, written whole and renamed into place.

mod plane;
mod yaml;

pub use plane::Plane;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::Node;
use weft_model::node::Role;

/// A port of a service: its name, by which the protocol is known (`http`, `grpc`, `tcp-echo`), and its
/// number, which is also the pod's.
pub type Port = (&'static str, u16);

/// The control plane, its configuration, and addresses for the rest.
pub struct Mesh {
    block: Block,
    dir: TempDir,
    control_plane: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
    pods: u8,
    gateways: Vec<String>,
    generation: AtomicU32,
}

/// A workload's address and its program's.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    /// Where its sidecar listens, and where others find it.
    pub address: Ipv4Addr,
    /// Where its own program listens, on the same ports.
    pub app: Ipv4Addr,
    workload: String,
    ports: Vec<u16>,
}

impl Pod {
    /// Where the program of this workload listens.
    pub fn app(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.app.into(), port)
    }
}

impl Mesh {
    /// A control plane with nothing to say yet.
    pub async fn start() -> Mesh {
        log();
        let dir = tempfile::tempdir().expect("a directory for the test");
        fs::create_dir(dir.path().join("manifests")).expect("it is ours");
        let mut mesh = Mesh {
            block: Block::take(),
            dir,
            control_plane: None,
            pods: 0,
            gateways: Vec::new(),
            generation: AtomicU32::new(0),
        };
        mesh.start_control_plane().await;
        mesh
    }

    /// Where the control plane speaks xDS.
    pub fn control_plane(&self) -> SocketAddr {
        self.block.address(1, 15010)
    }

    pub async fn start_control_plane(&mut self) {
        let settings = weft_control_plane::Settings {
            dirs: vec![self.manifests()],
            kubernetes: None,
            xds: self.control_plane(),
            monitoring: self.block.address(1, 15014),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(weft_control_plane::ControlPlane::new(settings).run(shutdown.clone()));
        let address = self.control_plane();
        crate::eventually(
            "the control plane listens",
            || async move { tokio::net::TcpStream::connect(address).await.ok() },
        )
        .await;
        self.control_plane = Some((shutdown, running));
    }

    pub async fn stop_control_plane(&mut self) {
        let (shutdown, running) = self.control_plane.take().expect("it runs");
        shutdown.cancel();
        crate::in_time("the control plane's end", running).await.expect("no panic").expect("no error");
    }

    /// The directory that the control plane watches.
    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    /// A directory for whatever else a test wants to keep.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes one file of configuration. It is live some time later; see [`Mesh::live`].
    pub fn write(&self, file: &str, text: &str) {
        let draft = self.dir.path().join("draft");
        fs::write(&draft, text).expect("it is ours");
        fs::rename(&draft, self.manifests().join(file)).expect("it is ours");
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.manifests().join(file)).expect("a file that was written");
    }

    /// A service whose members are these addresses, without sidecars. Its port is called `port.0`.
    pub fn service(&self, name: &str, port: Port, members: &[SocketAddr]) {
        let mut documents = vec![yaml::service(name, &[port])];
        documents.extend(
            members.iter().enumerate().map(|(i, at)| yaml::endpoints(&format!("{name}-{i}"), name, *at, port.0, None)),
        );
        self.write(&format!("service-{name}.yaml"), &documents.join("---\n"));
    }

    /// One more pod of the service `name` (made with it), with addresses of its own. Start its
    /// program on [`Pod::app`] and its sidecar with [`Mesh::sidecar`].
    pub fn pod(&mut self, name: &str, ports: &[Port]) -> Pod {
        let number = self.pods;
        self.pods += 1;
        let pod = Pod {
            name: format!("{name}-{number}"),
            address: self.block.ip(20 + number),
            app: self.block.ip(130 + number),
            workload: name.to_owned(),
            ports: ports.iter().map(|(_, port)| *port).collect(),
        };
        self.write(&format!("service-{name}.yaml"), &yaml::service(name, ports));
        let mut documents = vec![yaml::pod(&pod, ports)];
        documents.extend(ports.iter().map(|(port_name, port)| {
            let slice = format!("{}-{port}", pod.name);
            yaml::endpoints(&slice, name, SocketAddr::new(pod.address.into(), *port), port_name, Some(&pod.name))
        }));
        self.write(&format!("pod-{}.yaml", pod.name), &documents.join("---\n"));
        pod
    }

    /// A Gateway `name` with one HTTP listener on port 8080, and its data plane.
    pub async fn gateway(&mut self, name: &str) -> Plane {
        self.gateway_with(name, "  - {name: http, protocol: HTTP, port: 8080}\n").await
    }

    /// As [`Mesh::gateway`], with these `listeners` (YAML, indented by two). One of them must be called
    /// `http` and listen on port 8080.
    pub async fn gateway_with(&mut self, name: &str, listeners: &str) -> Plane {
        self.write(&format!("gateway-{name}.yaml"), &yaml::gateway(name, listeners));
        self.gateways.push(name.to_owned());
        let plane = Plane::start(self.gateway_node(name), self.control_plane(), self.dir.path()).await;
        self.live(&plane).await;
        let address = plane.at(8080);
        crate::eventually("the gateway listens", || async move { tokio::net::TcpStream::connect(address).await.ok() })
            .await;
        plane
    }

    /// What the data plane of a gateway says of itself, for a test that runs one in its own way.
    pub fn gateway_node(&self, name: &str) -> Node {
        let number = self.gateways.iter().position(|known| known == name).unwrap_or(self.gateways.len());
        Node {
            role: Role::Gateway,
            address: IpAddr::V4(self.block.ip(2 + u8::try_from(number).expect("a few gateways"))),
            pod: format!("{name}-0"),
            namespace: "default".into(),
            workload: name.to_owned(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            app_address: None,
            interception: false,
            locality: Default::default(),
        }
    }

    /// The sidecar of a pod, in step with what was written before.
    pub async fn sidecar(&self, pod: &Pod) -> Plane {
        let node = Node {
            role: Role::Sidecar,
            address: pod.address.into(),
            pod: pod.name.clone(),
            namespace: "default".into(),
            workload: pod.workload.clone(),
            labels: [("app".to_owned(), pod.workload.clone()), ("version".to_owned(), "v1".to_owned())].into(),
            app_address: Some(pod.app.into()),
            interception: false,
            locality: Default::default(),
        };
        let plane = Plane::start(node, self.control_plane(), self.dir.path()).await;
        self.live(&plane).await;
        // the marker's table may come before those that the inbound listeners wait for
        crate::eventually("the inbound listeners", || async {
            let dump = plane.admin("/config_dump").await.text();
            pod.ports.iter().all(|port| dump.contains(&format!("\"inbound|{port}\""))).then_some(())
        })
        .await;
        plane
    }

    /// An HTTPRoute of that name, attached to a gateway; `rules` is YAML, a list indented by two. For
    /// all that a route may say besides rules, see [`Mesh::write`].
    pub fn route(&self, name: &str, gateway: &str, rules: &str) {
        self.write(&format!("route-{name}.yaml"), &yaml::route(name, gateway, rules));
    }

    /// Waits until a data plane obeys everything that was written before: a marker with a number of its
    /// own is written last, and the data plane asked what it obeys until that has come. Twice, because a
    /// control plane that is just reading the directory may see the marker and have passed by an
    /// earlier file's old version; it has read that again before it reads the second marker.
    pub async fn live(&self, plane: &Plane) {
        for _ in 0..2 {
            let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
            self.write("testkit-marker.yaml", &yaml::marker(&self.gateways, generation));
            // only route tables, which come last, name a service with its port or a redirect's host
            let (service, host) =
                (format!("\"generation-{generation}:80\""), format!("generation-{generation}.testkit"));
            crate::eventually("the newest configuration", || async {
                let dump = plane.admin("/config_dump").await.text();
                (dump.contains(&service) || dump.contains(&host)).then_some(())
            })
            .await;
        }
    }
}

/// What the control plane and the data planes log is shown with a failing test, as `RUST_LOG` says (errors when it
/// says nothing).
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // every mesh of the process comes here, and the first one is enough
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some((shutdown, _)) = &self.control_plane {
            shutdown.cancel();
        }
    }
}

/// `127.x.y.0/24`.
struct Block {
    x: u8,
    y: u8,
}

/// Whoever listens on the claim's port of a block has it; kept to the end of the process.
static CLAIMS: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());

impl Block {
    const CLAIM: u16 = 15999;

    /// A block that nobody has, beginning to look at one that depends on the process.
    fn take() -> Block {
        let start = std::process::id().wrapping_mul(251);
        let blocks = (0..200 * 256).map(|i| start.wrapping_add(i) % (200 * 256));
        for block in blocks {
            let (x, y) = (50 + (block / 256) as u8, (block % 256) as u8);
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, x, y, 1), Block::CLAIM)) {
                CLAIMS.lock().expect("nobody panics while holding it").push(claim);
                return Block { x, y };
            }
        }
        panic!("no block of loopback addresses is free: does this system route 127.0.0.0/8 to loopback?");
    }

    fn ip(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.x, self.y, host)
    }

    fn address(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host).into(), port)
    }
}
