//! Making a connection to an endpoint, within its deadline.

use crate::live::LiveCluster;
use crate::originate::Originator;
use crate::transport::Transport;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};
use weft_model::Cluster;
use weft_model::cluster::Keepalive;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Timeout,
    Io(io::Error),
    /// The endpoint was reached, but it did not prove who it is, or would not speak to us.
    Tls(io::Error),
    /// The transport stands, but HTTP/2's preface failed.
    Handshake(hyper::Error),
}

/// What a connection is for: TLS tells the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    Anything,
}

/// A connection to an endpoint of a cluster as the cluster says, TLS included, within its connect timeout.
pub(crate) async fn open(
    cluster: &LiveCluster,
    address: SocketAddr,
    speaks: Speaks,
) -> Result<Transport, ConnectError> {
    open_as(&cluster.spec, cluster.tls.as_deref(), address, speaks).await
}

/// As [`open`], for who outlives what is live of the cluster.
pub(crate) async fn open_as(
    cluster: &Cluster,
    tls: Option<&Originator>,
    address: SocketAddr,
    speaks: Speaks,
) -> Result<Transport, ConnectError> {
    let connecting = connect(address, cluster);
    let Some(tls) = tls else { return connecting.await.map(Transport::Plain) };
    let opening = async {
        let stream = tls.handshake(connecting.await?, speaks).await.map_err(ConnectError::Tls)?;
        Ok(Transport::Tls(Box::new(stream)))
    };
    tokio::time::timeout(cluster.connect_timeout, opening).await.unwrap_or(Err(ConnectError::Timeout))
}

/// A TCP connection of a cluster, without Nagle's delay.
pub(crate) async fn connect(address: SocketAddr, cluster: &Cluster) -> Result<TcpStream, ConnectError> {
    match tokio::time::timeout(cluster.connect_timeout, from_source(address, &cluster.bind_source)).await {
        Err(_) => Err(ConnectError::Timeout),
        Ok(Err(error)) => Err(ConnectError::Io(error)),
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(ConnectError::Io)?;
            if let Some(keepalive) = cluster.pool.keepalive {
                SockRef::from(&stream).set_tcp_keepalive(&probes(keepalive)).map_err(ConnectError::Io)?;
            }
            Ok(stream)
        }
    }
}

/// From the source of the address's family, if there is one.
async fn from_source(address: SocketAddr, sources: &[IpAddr]) -> io::Result<TcpStream> {
    let Some(source) = sources.iter().find(|source| source.is_ipv4() == address.is_ipv4()) else {
        return TcpStream::connect(address).await;
    };
    let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let bound = socket.bind(SocketAddr::new(*source, 0));
    bound.map_err(|error| io::Error::new(error.kind(), format!("cannot come from {source}: {error}")))?;
    socket.connect(address).await
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
