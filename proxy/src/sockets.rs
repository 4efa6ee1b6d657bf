//! Where listening sockets come from.
//!
//! Every worker thread accepts on its own `SO_REUSEPORT` socket, so that the kernel spreads
//! connections and a request never changes thread. A sidecar binds them; a gateway that takes over
//! from an older process finds them among the descriptors that were handed to it.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Lends listening sockets, one for each address and worker.
pub trait Sockets: Send + Sync + 'static {
    /// A listening, non-blocking socket on `address` for worker number `worker`.
    fn listen(&self, address: SocketAddr, worker: usize) -> io::Result<TcpListener>;

    /// The listener on `address` has gone from the configuration for good.
    fn release(&self, _address: SocketAddr, _worker: usize) {}
}

/// Binds a new socket each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bind;

impl Sockets for Bind {
    fn listen(&self, address: SocketAddr, _worker: usize) -> io::Result<TcpListener> {
        bind(address)
    }
}

/// A new listening socket with `SO_REUSEPORT`, as each worker wants one.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
