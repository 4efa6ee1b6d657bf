//! A stock Envoy as a process, driven by one of our servers.
//!
//! It has one worker, so that limits which each worker counts for itself are the process's, and a base id of its own, so that tests
//! need not know of each other. What it serves comes over xDS; its listeners may come from a file instead.

use crate::{Client, eventually, peers};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Killed when it is dropped.
pub struct Envoy {
    /// Where its admin listens.
    pub admin: SocketAddr,
    process: Child,
    _directory: TempDir,
}

impl Envoy {
    /// The id by which it asks its control plane: a sidecar of the pod `envoy-0` of `default`.
    pub const POD: &'static str = "envoy-0";

    /// With these listeners, a `DiscoveryResponse` in a file, or with those that the control plane has.
    pub async fn start(control_plane: SocketAddr, listeners: Option<&Path>) -> Envoy {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let told = directory.path().join("admin");
        let binary = tokio::task::spawn_blocking(peers::envoy).await.expect("Envoy is had");
        let process = Command::new(binary)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "critical"])
            .args(["--file-flush-interval-msec", "10", "--config-yaml"])
            .arg(bootstrap(control_plane, listeners))
            .arg("--admin-address-path")
            .arg(&told)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Envoy starts");
        let admin = eventually("Envoy's admin address", async || fs::read_to_string(&told).ok()?.parse().ok()).await;
        Envoy { admin, process, _directory: directory }
    }

    /// A page of its admin.
    pub async fn page(&self, path: &str) -> String {
        Client::http1(self.admin).await.get("admin", path).await.text()
    }

    /// Where a listener listens: they are all bound to port 0.
    pub async fn listener(&self, name: &str) -> SocketAddr {
        eventually(name, async || {
            let all: Value = serde_json::from_str(&self.page("/listeners?format=json").await).ok()?;
            let found = all["listener_statuses"].as_array()?.iter().find(|listener| listener["name"] == name)?;
            let socket = &found["local_address"]["socket_address"];
            let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
            Some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
        })
        .await
    }

    pub async fn stop(mut self) {
        self.process.kill().await.expect("a child of ours can be killed");
    }
}

fn bootstrap(control_plane: SocketAddr, listeners: Option<&Path>) -> String {
    let pod = Envoy::POD;
    let source = match listeners {
        Some(file) => format!("path_config_source: {{path: \"{}\"}}", file.display()),
        None => "ads: {}".into(),
    };
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
node: {{id: "sidecar~127.0.1.9~{pod}.default~default.svc.cluster.local", cluster: envoy}}
dynamic_resources:
  ads_config: {{api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{{source}, resource_api_version: V3}}
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
