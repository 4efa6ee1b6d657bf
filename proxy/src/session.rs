//! An HTTP connection from a caller: hyper speaks, each request becomes an exchange.

use crate::connection::{Arrival, Connection, Wish};
use crate::forward;
use crate::rejection::Rejection;
use crate::snapshot::{LiveChain, LiveListener};
use crate::upstream::Local;
use crate::wire::{Watch, Wire};
use crate::worker::Worker;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weft_model::listener::{Codec, HttpHandler};

/// hyper's own limit of headers; another one costs an allocation per request.
const USUAL_MAX_HEADERS: u32 = 100;
/// hyper's smallest buffer.
const MIN_BUFFER_BYTES: usize = 8192;
/// Bytes of each head that are kept to judge its framing.
const WATCHED_HEAD_BYTES: usize = 16 * 1024;
/// Flow-control windows towards callers, bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Envoy's default.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// How long a caller who was refused may go on sending before the connection is cut, so that the refusal is not lost
/// in a reset (Envoy's delayed close).
const LINGER: Duration = Duration::from_secs(1);

const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
content-length: 45\r\nconnection: close\r\n\r\nthe request head did not arrive in time: 408\n";

/// Why hyper stopped.
enum Stop {
    Done,
    Broken(hyper::Error),
    Wish(Wish),
}

/// Serves an HTTP connection to its end. `http2` is what TLS or detection already found out.
pub(crate) async fn serve<S>(
    worker: &Rc<Worker>,
    listener: &Arc<LiveListener>,
    chain: &Arc<LiveChain>,
    mut wire: Wire<S>,
    arrival: Arrival,
    http2: Option<bool>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let codec = match &chain.spec.handler {
        weft_model::listener::Handler::Http(handler) => handler.codec,
        weft_model::listener::Handler::Tcp(_) => return Ok(()),
    };
    let http2 = match (codec, http2) {
        (Codec::Http1, _) => false,
        (Codec::Http2, _) | (Codec::Auto, Some(true)) => true,
        (Codec::Auto, Some(false)) => false,
        (Codec::Auto, None) => wire.begins_with_http2_preface().await?,
    };
    if http2 {
        let connection = Connection::new(worker, listener, chain, arrival, None);
        return serve_http2(&connection, wire).await;
    }
    let watch = Watch::new(WATCHED_HEAD_BYTES);
    let wire = wire.watched(watch.clone());
    let connection = Connection::new(worker, listener, chain, arrival, Some(watch));
    serve_http1(&connection, wire).await
}

async fn serve_http1<S>(connection: &Rc<Connection>, wire: Wire<S>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| forward::serve(connection.clone(), request));
    let mut serving = builder(connection.handler()).serve_connection(TokioIo::new(wire), service).with_upgrades();
    let stop = poll_fn(|cx| {
        match connection.attend(cx.waker()) {
            Some(Wish::Drain) | None => {}
            Some(Wish::Close) => Pin::new(&mut serving).graceful_shutdown(),
            Some(wish) => return Poll::Ready(Stop::Wish(wish)),
        }
        Pin::new(&mut serving).poll(cx).map(|served| match served {
            Ok(()) => Stop::Done,
            Err(error) => Stop::Broken(error),
        })
    })
    .await;
    let Some(io) = serving.into_parts().map(|parts| parts.io.into_inner()) else { return Ok(()) };
    match stop {
        Stop::Done | Stop::Wish(Wish::Idle | Wish::Drain | Wish::Close) => linger(io, b"").await,
        Stop::Wish(Wish::Abort) => Ok(()),
        Stop::Wish(Wish::HeadTimeout) => {
            connection.worker.telemetry.unparsed(connection, &Rejection::HeadTimeout);
            linger(io, REQUEST_TIMEOUT).await
        }
        Stop::Broken(error) => match refused_by_hyper(&error) {
            Some(rejection) => {
                connection.worker.telemetry.unparsed(connection, &rejection);
                linger(io, b"").await
            }
            None => Err(io::Error::other(error)),
        },
    }
}

/// Says the last word, then lets the caller finish: closing a socket with unread bytes would reset it, and the
/// answer would be lost.
async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin, last_word: &[u8]) -> io::Result<()> {
    let goodbye = async {
        io.write_all(last_word).await?;
        io.shutdown().await?;
        let mut unread = [0; 4096];
        while io.read(&mut unread).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(LINGER, goodbye).await.unwrap_or(Ok(()))
}

fn builder(handler: &HttpHandler) -> http1::Builder {
    let limit = handler.max_request_head_bytes as usize;
    let mut builder = http1::Builder::new();
    builder.max_header_size(limit).max_buf_size(limit.max(MIN_BUFFER_BYTES));
    if handler.max_request_headers != USUAL_MAX_HEADERS {
        builder.max_headers(handler.max_request_headers as usize);
    }
    builder
}

/// A head that hyper itself refused; it has answered 400 or 431 already.
fn refused_by_hyper(error: &hyper::Error) -> Option<Rejection> {
    match error {
        error if error.is_parse_too_large() => Some(Rejection::HeadTooLarge),
        error if error.is_parse() => Some(Rejection::BadRequest("the request head is not valid HTTP/1")),
        _ => None,
    }
}

async fn serve_http2<S>(connection: &Rc<Connection>, wire: Wire<S>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let handler = connection.handler();
    let service = service_fn(|request| forward::serve(connection.clone(), request));
    let mut serving = pin!(
        http2::Builder::new(Local)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_header_list_size(handler.max_request_head_bytes)
            .serve_connection(TokioIo::new(wire), service)
    );
    poll_fn(|cx| {
        if connection.attend(cx.waker()).is_some() {
            serving.as_mut().graceful_shutdown();
        }
        serving.as_mut().poll(cx)
    })
    .await
    .map_err(io::Error::other)
}
