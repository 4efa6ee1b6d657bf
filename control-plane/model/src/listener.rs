//! A listener: a socket, and by what arrives on it, who serves the connection.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Which way traffic flows through a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// To the workload beside this proxy.
    Inbound,
    /// From the workload beside this proxy.
    Outbound,
    /// From outside the mesh, at a gateway.
    Edge,
}

/// How connections come to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Binding {
    /// By a socket of its own.
    #[default]
    Socket,
    /// By a socket to which connections to other addresses were redirected: each goes to the [`Binding::Handed`] listener of
    /// its original destination, and without one to this listener's own chains (Envoy's `use_original_dst`).
    OriginalDestination,
    /// Only from an [`Binding::OriginalDestination`] listener of the same direction (Envoy's `bind_to_port: false`). An unspecified
    /// address stands for every address, of either family, that no other listener has.
    Handed,
}

/// One listening socket. The first chain whose [`ChainMatch`] fits best serves the connection
/// (most specific server name first, as Envoy's filter chain match); with none it is closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    pub name: String,
    pub address: SocketAddr,
    pub binding: Binding,
    pub direction: Direction,
    pub chains: Vec<FilterChain>,
    /// How long to wait for the bytes that tell the protocol before treating the connection as
    /// opaque; `None` waits for ever. Read only when a chain needs detection (server names or
    /// [`ApplicationProtocol::Http`]).
    pub detect_timeout: Option<Duration>,
}

/// One way of serving a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterChain {
    pub name: String,
    pub matches: ChainMatch,
    /// Terminates TLS when set.
    pub tls: Option<TlsTermination>,
    pub handler: Handler,
}

/// What a connection must look like. Empty matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainMatch {
    /// SNI names: exact (`shop.example`) or wildcard (`*.example`). Empty: any, or no SNI at all.
    pub server_names: Vec<String>,
    /// Whether the bytes look like TLS. `None`: either.
    pub tls: Option<bool>,
    /// What detection found. `None`: anything.
    pub application: Option<ApplicationProtocol>,
}

/// What protocol detection can tell of cleartext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApplicationProtocol {
    /// An HTTP/1 request line or the HTTP/2 preface.
    Http,
}

/// How TLS from the caller is terminated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsTermination {
    /// Names of [`crate::Secret`]s; by SNI the one whose certificate fits, else the first.
    pub secrets: Vec<String>,
    /// Offered by ALPN, in order of preference: `h2`, `http/1.1`.
    pub alpn: Vec<String>,
    /// `None`: callers are not asked for a certificate.
    pub clients: Option<ClientValidation>,
}

/// Callers are asked for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientValidation {
    /// Whose signature is believed, PEM.
    pub authorities: String,
    /// Whether a caller that shows none, or one that no authority vouches for, is turned away in the handshake. If not, it is
    /// served like all others, and what it showed proves nothing.
    pub required: bool,
}

/// Who serves the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Handler {
    Http(HttpHandler),
    Tcp(TcpHandler),
}

/// An HTTP connection manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpHandler {
    /// The [`crate::RouteTable`] that routes its requests.
    pub route_table: String,
    pub codec: Codec,
    /// Whether this proxy is an edge: it then trusts no forwarded headers of its callers (Envoy's `use_remote_address`).
    pub edge: bool,
    /// Proxies in front of an edge whose `x-forwarded-for` entries are trusted (Envoy's `xff_num_trusted_hops`).
    pub trusted_hops: u32,
    /// A connection without a request for so long is closed. Envoy's default is one hour.
    pub idle_timeout: Option<Duration>,
    /// From the first byte of a request head to its end; past it: 408. `None` is off.
    pub request_headers_timeout: Option<Duration>,
    /// A stream without a byte either way for so long is reset (408 `SI` before the response started). Envoy's default is five minutes.
    pub stream_idle_timeout: Option<Duration>,
    /// The largest request head, past it: 431. Envoy's default is 60 KiB.
    pub max_request_head_bytes: u32,
    /// The most request headers, past it: 431. Envoy's default is 100.
    pub max_request_headers: u32,
    /// Upgrades that are passed through: `websocket`, and `CONNECT` at an explicit proxy.
    pub upgrades: Vec<String>,
}

impl HttpHandler {
    /// Envoy's defaults, with header read bounded: 10 s.
    pub fn new(route_table: impl Into<String>) -> Self {
        HttpHandler {
            route_table: route_table.into(),
            codec: Codec::Auto,
            edge: false,
            trusted_hops: 0,
            idle_timeout: Some(Duration::from_secs(3600)),
            request_headers_timeout: Some(Duration::from_secs(10)),
            stream_idle_timeout: Some(Duration::from_secs(300)),
            max_request_head_bytes: 60 * 1024,
            max_request_headers: 100,
            upgrades: vec!["websocket".into()],
        }
    }
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codec {
    /// By ALPN, or by the HTTP/2 preface.
    Auto,
    Http1,
    Http2,
}

/// An opaque TCP proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpHandler {
    /// Chosen for each connection in proportion to weight; at least one.
    pub clusters: Vec<WeightedCluster>,
    /// Without a byte either way for so long the connection is closed. Envoy's default is one hour.
    pub idle_timeout: Option<Duration>,
}

impl TcpHandler {
    /// Everything to one cluster.
    pub fn to(cluster: impl Into<String>, idle_timeout: Option<Duration>) -> Self {
        TcpHandler { clusters: vec![WeightedCluster { name: cluster.into(), weight: 1 }], idle_timeout }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedCluster {
    pub name: String,
    /// At least 1.
    pub weight: u32,
}
