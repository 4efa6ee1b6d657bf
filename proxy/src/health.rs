//! Health, for the kubelet: whether this sidecar is ready (port 15021), and whether its app is well (port 15020).
//!
//! The kubelet has no identity in the mesh, so what it asks the app comes here instead, by paths that the injector
//! wrote into the pod (`/app-health/order/livez`), and is asked on as the kubelet would have. The kubelet hears what the app
//! said: a status, a refused connection, no answer in time.
//!
//! A thread of its own answers, so that a busy worker never fails a probe and gets its pod restarted. Only paths that are in the
//! pod's spec lead anywhere, with connections and time bounded: nobody can use this door to reach something else.

mod ask;
mod probes;
#[cfg(test)]
mod tests;

pub(crate) use ask::App;
pub use probes::AppProbes;

use crate::admin::Inspect;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
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
/// For a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than a hook may take; the kubelet makes a connection for each probe.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where health is told. Nowhere, unless it is said.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// `/healthz/ready` of the sidecar. Istio's port is 15021.
    pub ready: Option<SocketAddr>,
    /// The app's probes. Istio's port is 15020.
    pub app: Option<SocketAddr>,
    /// What they were, by the path they have here.
    pub probes: AppProbes,
}

pub(crate) struct Sockets {
    pub(crate) ready: Option<std::net::TcpListener>,
    pub(crate) app: Option<std::net::TcpListener>,
}

/// What one of the two listeners answers.
enum Door {
    Ready(Arc<dyn Inspect>),
    App(App),
}

/// Serves on a thread of its own until `shutdown`; without sockets there is none.
pub(crate) fn spawn(
    sockets: Sockets,
    inspect: Arc<dyn Inspect>,
    app: App,
    shutdown: CancellationToken,
) -> io::Result<Option<JoinHandle<()>>> {
    if sockets.ready.is_none() && sockets.app.is_none() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut doors = Vec::new();
    for (socket, door) in [(sockets.ready, Door::Ready(inspect)), (sockets.app, Door::App(app))] {
        let Some(socket) = socket else { continue };
        let _entered = runtime.enter();
        socket.set_nonblocking(true)?;
        doors.push((TcpListener::from_std(socket)?, Arc::new(door)));
    }
    let thread = thread::Builder::new().name("health".into()).spawn(move || {
        runtime.block_on(async {
            let connections = TaskTracker::new();
            let accepting = doors.into_iter().map(|(socket, door)| accept(socket, door, &connections, &shutdown));
            futures_util::future::join_all(accepting).await;
            connections.close();
            connections.wait().await;
        });
    })?;
    Ok(Some(thread))
}

async fn accept(listener: TcpListener, door: Arc<Door>, connections: &TaskTracker, shutdown: &CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let Some((place, accepted)) = shutdown.run_until_cancelled(next).await else { return };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, door.clone());
                let shutdown = shutdown.clone();
                connections.spawn(async move {
                    shutdown.run_until_cancelled(serving).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a health port cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, door: Arc<Door>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(door.answer(request.uri().path(), request.headers()).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // Who breaks HTTP, or goes away, hears of it by the closed connection.
    let _ = tokio::time::timeout(CONNECTION_LIFE, connection).await;
}

impl Door {
    async fn answer(&self, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let (status, words) = match self {
            Door::Ready(inspect) if ["/healthz/ready", "/ready"].contains(&path) => match inspect.ready() {
                Ok(()) => (StatusCode::OK, "ready".to_owned()),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            },
            Door::Ready(_) => (StatusCode::NOT_FOUND, "here is /healthz/ready".to_owned()),
            Door::App(app) => app.answer(path, headers).await,
        };
        let mut response = Response::new(Full::new(Bytes::from(words + "\n")));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}
