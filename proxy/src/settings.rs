//! What one data plane is told when it starts; everything else comes over xDS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use weft_model::Node;

#[derive(Clone, Debug)]
pub struct Settings {
    pub node: Node,
    /// The control plane's xDS address, `127.0.0.1:15010`.
    pub control_plane: String,
    /// Worker threads, each with its own runtime, sockets and pools.
    pub workers: usize,
    /// `/ready`, `/config_dump`, `/clusters`, `/stats`, `/drain`. Istio's port is 15000, loopback only.
    pub admin: SocketAddr,
    /// `/stats/prometheus`. Istio's port is 15090.
    pub metrics: SocketAddr,
    pub access_log: AccessLog,
    /// OTLP/gRPC collector for traces (`OTEL_EXPORTER_OTLP_ENDPOINT`), e.g. `http://127.0.0.1:4317`.
    pub otlp: Option<String>,
    /// Where the last good configuration is kept, to start from when the control plane is away.
    pub state_file: Option<PathBuf>,
    /// How long in-flight work may take after a stop was asked for. Istio's default is 45 s.
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stdout,
    File(PathBuf),
}
