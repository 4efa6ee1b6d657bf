//! `networking.istio.io` DestinationRule: how callers treat a host. Typed whole; what Weft does not
//! act on yet (TLS to the upstream, tunnels, PROXY protocol, who may see the rule) is a warning at its line, given by the reader.

mod read;
#[cfg(test)]
mod tests;

use super::Selector;
use crate::{At, Place};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use read::read_destination_rule;

#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// As written: a short name is a Service in the rule's own namespace; may begin with `*.`.
    pub host: At<String>,
    pub traffic_policy: Box<TrafficPolicy>,
    pub subsets: Vec<Subset>,
    /// `.`, `*` or namespaces. Empty: every namespace.
    pub export_to: Vec<String>,
    /// Callers that it is for; `None`: all.
    pub workload_selector: Option<Selector>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    pub place: Place,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub traffic_policy: Option<TrafficPolicy>,
}

/// What is absent takes Istio's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    pub settings: PortPolicy,
    /// A port that has its own inherits nothing from `settings`.
    pub ports: Vec<(u16, PortPolicy)>,
    pub tunnel: Option<Tunnel>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub retry_budget: Option<RetryBudget>,
}

impl TrafficPolicy {
    /// What holds for a port of the host.
    pub fn for_port(&self, port: u16) -> &PortPolicy {
        self.ports.iter().find(|(number, _)| *number == port).map_or(&self.settings, |(_, policy)| policy)
    }
}

/// The part of a policy that a single port may have for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortPolicy {
    /// `None` only in a policy that nobody wrote.
    pub place: Option<Place>,
    pub load_balancer: Option<LoadBalancer>,
    pub connection_pool: Option<ConnectionPool>,
    pub outlier_detection: Option<OutlierDetection>,
    pub tls: Option<ClientTls>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancer {
    pub policy: Option<LbPolicy>,
    pub locality: Option<LocalityLb>,
    /// `warmup`, or the older `warmupDurationSecs`.
    pub warmup: Option<Warmup>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LbPolicy {
    RoundRobin,
    /// `LEAST_REQUEST` and the older `LEAST_CONN`; also what `UNSPECIFIED` means.
    LeastRequest,
    Random,
    /// To the address that the caller connected to.
    Passthrough,
    ConsistentHash(ConsistentHash),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ConsistentHash {
    pub key: HashKey,
    pub algorithm: HashAlgorithm,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// Lower case.
    Header(String),
    Cookie {
        name: String,
        path: Option<String>,
        ttl: Option<Duration>,
    },
    SourceIp,
    QueryParameter(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// Default 1024 points at least; at most 8,388,608.
    RingHash { minimum_ring_size: u64 },
    /// A prime, default 65,537; at most 5,000,011.
    Maglev { table_size: u64 },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalityLb {
    /// `None`: as the mesh says.
    pub enabled: Option<bool>,
    pub distribute: Vec<LocalityDistribute>,
    pub failover: Vec<LocalityFailover>,
    pub failover_priority: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LocalityDistribute {
    pub from: String,
    /// Shares in percent, 100 together.
    pub to: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityFailover {
    pub from: String,
    pub to: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    pub duration: Duration,
    /// Default 10 (percent).
    pub minimum_percent: f64,
    /// Default 1.
    pub aggression: f64,
}

/// `None`: Istio's default, which is unlimited but for the times: connect 10 s, idle 1 h.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionPool {
    pub tcp: TcpPool,
    pub http: HttpPool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpPool {
    pub max_connections: Option<u32>,
    pub connect_timeout: Option<Duration>,
    pub keepalive: Option<TcpKeepalive>,
    pub max_connection_duration: Option<Duration>,
    /// Zero: none.
    pub idle_timeout: Option<Duration>,
}

/// `None`: the operating system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// `Some(0)` is never there in a count: 0 is what Istio takes for "not written", and it is read as `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpPool {
    pub http1_max_pending_requests: Option<u32>,
    /// For HTTP/1.1 too, in spite of its name.
    pub http2_max_requests: Option<u32>,
    pub max_requests_per_connection: Option<u32>,
    pub max_retries: Option<u32>,
    /// Zero: none.
    pub idle_timeout: Option<Duration>,
    pub h2_upgrade_policy: H2Upgrade,
    pub use_client_protocol: bool,
    pub max_concurrent_streams: Option<u32>,
    pub http2_keepalive: Option<Http2Keepalive>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum H2Upgrade {
    /// As the mesh says.
    #[default]
    Default,
    DoNotUpgrade,
    Upgrade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Keepalive {
    /// `None`: no pings.
    pub interval: Option<Duration>,
    /// Default 20 s, gRPC's keep-alive timeout.
    pub timeout: Option<Duration>,
}

/// `None`: Istio's default, said at each field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutlierDetection {
    pub place: Option<Place>,
    /// Default false.
    pub split_external_local_origin_errors: bool,
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503, 504; 0 turns it off.
    pub consecutive_gateway_errors: Option<u32>,
    /// Default 5; 0 turns it off. Also written with its old name, `consecutiveErrors`.
    pub consecutive_5xx_errors: Option<u32>,
    /// Default 10 s.
    pub interval: Option<Duration>,
    /// Default 30 s, grows with each ejection.
    pub base_ejection_time: Option<Duration>,
    /// Default 10; 0 is the default too, as in Istio.
    pub max_ejection_percent: Option<u32>,
    /// Default 0.
    pub min_health_percent: Option<u32>,
    /// Replaces "every 5xx"; 100 to 599.
    pub http_error_codes: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    pub place: Place,
    pub mode: ClientTlsMode,
    pub sni: Option<String>,
    pub subject_alt_names: Vec<String>,
    pub credential_name: Option<String>,
    pub client_certificate: Option<String>,
    pub private_key: Option<String>,
    pub ca_certificates: Option<String>,
    pub ca_crl: Option<String>,
    pub insecure_skip_verify: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// `CONNECT` (the default) or `POST`.
    pub protocol: String,
    pub target_host: String,
    pub target_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Default 20.
    pub percent: f64,
    /// Default 3.
    pub min_retry_concurrency: u32,
    /// Default none: of what is in flight now.
    pub interval: Option<Duration>,
}
