//! Our own data plane, in this process.

use super::{Control, Make, Side, admin};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::Node;
use weft_model::endpoint::Locality;
use weft_model::node::Role;
use weft_proxy::{AccessLog, Bind, DataPlane, Settings, Sockets};
use weft_testkit::eventually;

const POD: &str = "ours-0";
const LISTENER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// These differ only so that [`Ports`] can tell them apart.
const ADMIN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const METRICS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

pub(crate) struct Ours {
    pub(crate) side: Arc<Side>,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
    _directory: TempDir,
}

/// Remembers which port came of port 0.
#[derive(Default)]
struct Ports(Mutex<BTreeMap<SocketAddr, SocketAddr>>);

impl Sockets for Ports {
    fn listen(&self, address: SocketAddr, worker: usize) -> io::Result<TcpListener> {
        let socket = Bind.listen(address, worker)?;
        self.0.lock().unwrap().insert(address, socket.local_addr()?);
        Ok(socket)
    }
}

impl Ports {
    fn of(&self, address: Ipv4Addr) -> Option<SocketAddr> {
        self.0.lock().unwrap().get(&SocketAddr::new(address.into(), 0)).copied()
    }
}

impl Ours {
    pub(crate) async fn start(control: &Control) -> Ours {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("access.log");
        let settings = Settings {
            node: Node {
                role: Role::Gateway,
                address: LISTENER.into(),
                pod: POD.into(),
                namespace: "default".into(),
                workload: "ours".into(),
                labels: BTreeMap::new(),
                app_address: None,
                interception: false,
                locality: Locality::default(),
            },
            control_plane: control.address.to_string(),
            workers: 1,
            admin: SocketAddr::new(ADMIN.into(), 0),
            metrics: SocketAddr::new(METRICS.into(), 0),
            access_log: AccessLog::File(log.clone()),
            otlp: None,
            state_file: None,
            drain: Duration::from_secs(1),
        };
        let (ports, shutdown) = (Arc::new(Ports::default()), CancellationToken::new());
        let running = tokio::spawn(DataPlane::new(settings, ports.clone()).run(shutdown.clone()));
        control.in_step(POD).await;
        let address = eventually("our listener", async || ports.of(LISTENER)).await;
        let admin = eventually("our admin port", async || ports.of(ADMIN)).await;
        Ours {
            side: Arc::new(Side { address, log, admin, make: Make::Ours }),
            shutdown,
            running,
            _directory: directory,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic").expect("it ends in order");
    }
}

pub(super) async fn ejected(address: SocketAddr, cluster: &str) -> usize {
    let all: serde_json::Value = serde_json::from_str(&admin(address, "/clusters?format=json").await).unwrap();
    let clusters = all["clusters"].as_array().expect("a list of clusters");
    let found = clusters.iter().find(|found| found["name"] == cluster).expect("the cluster is configured");
    let endpoints = found["endpoints"].as_array().expect("a list of endpoints");
    endpoints
        .iter()
        .filter(|endpoint| {
            endpoint["health_flags"].as_str().is_some_and(|flags| flags.contains("failed_outlier_check"))
        })
        .count()
}
