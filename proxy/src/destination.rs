//! Where the caller of a connection wanted to go.
//!
//! In a pod whose connections are redirected to this proxy, the address that a connection arrives at says nothing: the kernel
//! remembers the one that it was meant for. Without that, a database's connection could not be told from a web page's, and
//! what is in no configuration could not simply be let through.

use socket2::{SockAddr, SockRef};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The address that the connection was made to before it was redirected here; `None` for one that was made to this very socket.
pub(crate) fn original(stream: &TcpStream) -> io::Result<Option<SocketAddr>> {
    let here = canonical(stream.local_addr()?);
    let socket = SockRef::from(stream);
    let asked = match here {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // The kernel knows nothing of a connection that no rule has touched, or has no rules at all.
    let original = asked.ok().as_ref().and_then(SockAddr::as_socket).map(canonical);
    Ok(original.filter(|original| *original != here))
}

/// A socket for both families shows IPv4 addresses inside IPv6 ones.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
