//! How a port's connections are served, by the protocol that its Service says it speaks.

use super::protocol::PortProtocol;
use std::time::Duration;
use weft_model::listener::{ApplicationProtocol, ChainMatch, FilterChain, Handler, HttpHandler, TcpHandler};

/// How long a caller may stay silent on a port of unknown protocol before it is taken for one that waits for the server to
/// speak. Long enough for a slow client's first byte, short enough for people not to notice a database.
pub(crate) const DETECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Istio's default of `connectionPool.tcp.idleTimeout`.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Requests go by the route table, opaque connections to the cluster. Only a port of unknown protocol waits for the caller's
/// first bytes: on one that is said to be TCP the server may speak first.
pub(crate) fn by_protocol(
    protocol: PortProtocol,
    table: &str,
    cluster: &str,
    tcp_idle_timeout: Option<Duration>,
) -> Vec<FilterChain> {
    let idle_timeout = Some(tcp_idle_timeout.unwrap_or(TCP_IDLE_TIMEOUT)).filter(|timeout| !timeout.is_zero());
    let chain =
        |name: &str, handler| FilterChain { name: name.to_owned(), matches: ChainMatch::default(), tls: None, handler };
    let http = chain("http", Handler::Http(HttpHandler::new(table)));
    let tcp = chain("tcp", Handler::Tcp(TcpHandler::to(cluster, idle_timeout)));
    match protocol {
        PortProtocol::Http | PortProtocol::Http2 => vec![http],
        PortProtocol::Tcp => vec![tcp],
        PortProtocol::Unknown => {
            let detected = ChainMatch { application: Some(ApplicationProtocol::Http), ..ChainMatch::default() };
            vec![FilterChain { matches: detected, ..http }, tcp]
        }
    }
}
