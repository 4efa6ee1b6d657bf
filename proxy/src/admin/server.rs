//! The two listeners, bounded.

use super::Admin;
use super::routes::{self, Door};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections per listener; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// For a request's head to arrive, an idle connection's included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For one connection, whatever it does: a reader that never reads holds its place no longer.
const CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// How long a failing accept (too many open files) is left alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn spawn(
    admin: Admin,
    door: std::net::TcpListener,
    scrape: std::net::TcpListener,
    shutdown: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let adopt = |listener: std::net::TcpListener| {
        let _entered = runtime.enter();
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let (door, scrape) = (adopt(door)?, adopt(scrape)?);
    let admin = Arc::new(admin);
    thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async {
            let connections = TaskTracker::new();
            tokio::join!(
                accept(door, admin.clone(), Door::Admin, &connections, &shutdown),
                accept(scrape, admin.clone(), Door::Scrape, &connections, &shutdown),
            );
            connections.close();
            connections.wait().await;
        });
    })
}

async fn accept(
    listener: TcpListener,
    admin: Arc<Admin>,
    door: Door,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next => next,
        };
        match accepted {
            // Only who sits on this machine; the kernel says who that is.
            Ok((_, peer)) if door == Door::Admin && !peer.ip().to_canonical().is_loopback() => {
                tracing::warn!(%peer, "the admin port is for this machine only; the connection was closed");
            }
            Ok((stream, _)) => {
                let (admin, shutdown) = (admin.clone(), shutdown.clone());
                connections.spawn(async move {
                    serve(stream, admin, door, shutdown).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, admin: Arc<Admin>, door: Door, shutdown: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = routes::answer(&admin, door, &request);
        async move { Ok::<Response<Full<Bytes>>, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A caller that breaks HTTP or goes away hears of it by the closed connection.
    tokio::select! {
        _ = tokio::time::timeout(CONNECTION_LIFE, connection.as_mut()) => {}
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
        }
    }
}
