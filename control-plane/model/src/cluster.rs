//! A cluster: a group of endpoints that answer for one service, and how to talk to them.

use crate::Origin;
pub use crate::balancer::Balancer;
use crate::balancer::Balancing;
use crate::breaker::CircuitBreakers;
use crate::endpoint::Endpoint;
use crate::health_check::HealthCheck;
use crate::outlier::OutlierDetection;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Istio's form: `outbound|8080||order.default.svc.cluster.local`, `inbound|8080||`.
    pub name: String,
    pub discovery: Discovery,
    pub balancer: Balancer,
    pub balancing: Balancing,
    pub protocol: Protocol,
    /// `None`: without TLS.
    pub tls: Option<UpstreamTls>,
    /// Istio's default is 10 s, Envoy's 5 s.
    pub connect_timeout: Duration,
    /// Where connections come from, as whoever accepts or redirects them sees it: the first of the endpoint's family. Empty: as
    /// the system chooses.
    pub bind_source: Vec<IpAddr>,
    pub pool: Pool,
    pub breakers: CircuitBreakers,
    /// `None`: nobody is ejected.
    pub outlier: Option<OutlierDetection>,
    pub health_checks: Vec<HealthCheck>,
    /// Which service this is, for metrics.
    pub service: Service,
    pub origin: Origin,
}

impl Cluster {
    /// A cluster with Istio's defaults whose endpoints come by EDS.
    pub fn new(name: impl Into<String>) -> Self {
        Cluster {
            name: name.into(),
            discovery: Discovery::Eds,
            balancer: Balancer::default(),
            balancing: Balancing::default(),
            protocol: Protocol::Http1,
            tls: None,
            connect_timeout: Duration::from_secs(10),
            bind_source: Vec::new(),
            pool: Pool::default(),
            breakers: CircuitBreakers::default(),
            outlier: None,
            health_checks: Vec::new(),
            service: Service::default(),
            origin: Origin::default(),
        }
    }
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discovery {
    /// [`crate::Endpoints`] of the cluster's name.
    Eds,
    Static(Vec<Endpoint>),
    /// A DNS name, resolved by the proxy; every address is an endpoint (Envoy's STRICT_DNS).
    Dns {
        host: String,
        port: u16,
    },
    /// Whatever authority the request itself names (Envoy's dynamic forward proxy): pass-through.
    Forward,
    /// Wherever the caller's connection was going before it was redirected here (Envoy's ORIGINAL_DST).
    OriginalDestination,
}

/// How endpoints are spoken to over TLS, and what they must prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// Asked for in the handshake.
    pub server_name: String,
    pub trust: Trust,
    /// The certificate must be for one of these; at least one.
    pub names: Vec<PeerName>,
    /// The [`crate::Secret`] that is shown to an endpoint that asks.
    pub certificate: Option<String>,
}

/// Whose signature is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// The authorities of the machine that the data plane runs on.
    System,
    /// These, PEM.
    Authorities(String),
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerName {
    /// Exact, or `*.example` for any name below.
    Dns(String),
    Uri(String),
}

/// Which HTTP the upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    Http1,
    Http2,
    /// The one that the caller used (Istio's `useClientProtocol`, Envoy's `use_downstream_protocol_config`).
    Downstream,
}

/// Limits of the connections to a cluster. `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// A connection is closed after so many requests (`maxRequestsPerConnection`).
    pub max_requests_per_connection: Option<u32>,
    /// An upstream connection without a request for so long is closed. Default one hour.
    pub idle_timeout: Option<Duration>,
    /// A connection is closed when it is so old, once it is idle.
    pub max_connection_duration: Option<Duration>,
    /// Streams at once on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// TCP keep-alive probes; `None`: off.
    pub keepalive: Option<Keepalive>,
    /// An HTTP/2 connection is asked for a sign of life.
    pub http2_keepalive: Option<Http2Keepalive>,
}

impl Default for Pool {
    fn default() -> Self {
        Pool {
            max_requests_per_connection: None,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_concurrent_streams: None,
            keepalive: None,
            http2_keepalive: None,
        }
    }
}

/// `None`: the operating system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// A ping every `interval`; without an answer within `timeout` the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http2Keepalive {
    pub interval: Duration,
    pub timeout: Duration,
}

/// The service a cluster stands for: Istio's `destination_service*` labels. Empty fields are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    /// Full host name, `order.default.svc.cluster.local`.
    pub host: String,
    pub name: String,
    pub namespace: String,
}
