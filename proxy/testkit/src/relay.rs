//! A TCP relay that a test can cut: what a network does to a connection, on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Hands on bytes to one address. Dropped, it cuts all connections and listens no more.
pub struct Relay {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    cut: watch::Sender<u64>,
    _running: DropGuard,
}

impl Relay {
    /// Listens on a free port.
    pub async fn to(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (open, cut) = (Arc::new(AtomicBool::new(true)), watch::Sender::new(0));
        let running = CancellationToken::new();
        let accepts = accept(listener, target, open.clone(), cut.subscribe());
        tokio::spawn(running.clone().run_until_cancelled_owned(accepts));
        Relay { address, open, cut, _running: running.drop_guard() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection; new ones are let through.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Ends every connection, and every new one, until [`Relay::open`].
    pub fn close(&self) {
        self.open.store(false, Relaxed);
        self.cut();
    }

    pub fn open(&self) {
        self.open.store(true, Relaxed);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, open: Arc<AtomicBool>, cut: watch::Receiver<u64>) {
    while let Ok((mut near, _)) = listener.accept().await {
        if !open.load(Relaxed) {
            continue;
        }
        let mut cut = cut.clone();
        cut.mark_unchanged();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            tokio::select! {
                // Both ends see what became of it.
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = cut.changed() => {}
            }
        });
    }
}
