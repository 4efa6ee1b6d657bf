//! Making a connection to an endpoint, within its deadline.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use weft_model::cluster::Keepalive;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Timeout,
    Io(io::Error),
    /// The transport stands, but HTTP/2's preface failed.
    Handshake(hyper::Error),
}

/// A TCP connection without Nagle's delay.
pub(crate) async fn connect(
    address: SocketAddr,
    timeout: Duration,
    keepalive: Option<Keepalive>,
) -> Result<TcpStream, ConnectError> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Err(_) => Err(ConnectError::Timeout),
        Ok(Err(error)) => Err(ConnectError::Io(error)),
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(ConnectError::Io)?;
            if let Some(keepalive) = keepalive {
                SockRef::from(&stream).set_tcp_keepalive(&probes(keepalive)).map_err(ConnectError::Io)?;
            }
            Ok(stream)
        }
    }
}

fn probes(keepalive: Keepalive) -> TcpKeepalive {
    let mut probes = TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        probes = probes.with_time(time);
    }
    if let Some(interval) = keepalive.interval {
        probes = probes.with_interval(interval);
    }
    if let Some(count) = keepalive.probes {
        probes = probes.with_retries(count);
    }
    probes
}
