//! A stock Envoy beside our server.

use serde_json::Value;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_model::{Node, Resource};
use weft_testkit::{Client, eventually, peers};
use weft_xds::server::{self, Catalog, NodeStatus, ResourceSet, Settings, Status};

struct Shelf(watch::Sender<Arc<ResourceSet>>);

impl Catalog for Shelf {
    fn subscribe(&self, _: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        self.0.subscribe()
    }
}

pub(crate) struct Stock {
    shelf: Arc<Shelf>,
    status: Arc<Status>,
    admin: SocketAddr,
    envoy: Child,
    _directory: TempDir,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Stock {
    pub(crate) async fn start(resources: Vec<Resource>) -> Stock {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control_plane = listener.local_addr().unwrap();
        let shelf = Arc::new(Shelf(watch::Sender::new(Arc::new(ResourceSet::build(resources, None)))));
        let (status, shutdown) = (Arc::new(Status::new()), CancellationToken::new());
        let settings = Settings { shutdown: shutdown.clone(), ..Settings::default() };
        let serving = server::serve(listener, Arc::clone(&shelf) as _, Arc::clone(&status), settings);
        let server = tokio::spawn(async move { serving.await.unwrap() });
        let directory = tempfile::tempdir().unwrap();
        let admin = directory.path().join("admin");
        let binary = tokio::task::spawn_blocking(peers::envoy).await.unwrap();
        let envoy = Command::new(binary)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "critical", "--config-yaml"])
            .arg(bootstrap(control_plane))
            .arg("--admin-address-path")
            .arg(&admin)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let admin =
            eventually("Envoy's admin address", async || std::fs::read_to_string(&admin).ok()?.parse().ok()).await;
        Stock { shelf, status, admin, envoy, _directory: directory, shutdown, server }
    }

    pub(crate) fn publish(&self, resources: Vec<Resource>) {
        let next = ResourceSet::build(resources, Some(&self.shelf.0.borrow()));
        self.shelf.0.send_replace(Arc::new(next));
    }

    /// Looks until Envoy's status has something to tell.
    pub(crate) async fn status<T>(&self, tells: impl Fn(&NodeStatus) -> Option<T>) -> T {
        eventually("Envoy's status", async || tells(self.status.snapshot().first()?)).await
    }

    /// Its status once it holds all that it should.
    pub(crate) async fn in_step(&self) -> NodeStatus {
        let whole = |status: &NodeStatus| {
            status.in_sync && ["CDS", "EDS", "LDS", "RDS", "SDS"].iter().all(|kind| status.kinds.contains_key(*kind))
        };
        self.status(|status| whole(status).then(|| status.clone())).await
    }

    /// Where a listener listens: they are all bound to port 0.
    pub(crate) async fn listener(&self, name: &str) -> SocketAddr {
        eventually(name, async || {
            let reply = Client::http1(self.admin).await.get("admin", "/listeners?format=json").await;
            let all: Value = serde_json::from_slice(&reply.body).ok()?;
            let found = all["listener_statuses"].as_array()?.iter().find(|listener| listener["name"] == name)?;
            let socket = &found["local_address"]["socket_address"];
            let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
            Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
        })
        .await
    }

    pub(crate) async fn stop(mut self) {
        self.envoy.kill().await.unwrap();
        self.shutdown.cancel();
        self.server.await.unwrap();
    }
}

fn bootstrap(control_plane: SocketAddr) -> String {
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
node: {{id: "sidecar~127.0.1.9~envoy-0.default~default.svc.cluster.local", cluster: envoy}}
dynamic_resources:
  ads_config: {{api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
"#,
        control_plane.ip(),
        control_plane.port()
    )
}
