//! The connections of a small HTTP server: so many at once, and none outlives the control plane.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// More wait in the listener's queue.
const MOST_CONNECTIONS: usize = 256;
/// A tight loop over a failing accept would help nobody.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Answers that are being sent when the control plane ends may take so long.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Whoever is slower in saying what they want is not served.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Gives each connection to `serve` until `shutdown`; those that are open then have a moment to end. `what` is for the log.
pub(crate) async fn each<F>(
    listener: TcpListener,
    what: &str,
    shutdown: CancellationToken,
    mut serve: impl FnMut(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(serve(stream))),
            // Out of file descriptors, most likely: the next may fare better.
            Err(error) => {
                tracing::warn!("{what}: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // One who is still reading then is cut off.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORDS, all).await;
    connections.shutdown().await;
}

/// HTTP/1 over one connection, until its peer leaves, does not say what it wants in time, or `shutdown`.
pub(crate) async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: impl HttpService<Incoming, ResBody = Full<Bytes>, Error = Infallible>,
    shutdown: &CancellationToken,
) -> hyper::Result<()> {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
