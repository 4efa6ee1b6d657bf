//! Making a connection to an endpoint, within its deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Timeout,
    Io(io::Error),
    /// The transport stands, but HTTP/2's preface failed.
    Handshake(hyper::Error),
}

/// A TCP connection without Nagle's delay.
pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, ConnectError> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Err(_) => Err(ConnectError::Timeout),
        Ok(Err(error)) => Err(ConnectError::Io(error)),
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(ConnectError::Io)?;
            Ok(stream)
        }
    }
}
