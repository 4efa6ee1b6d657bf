//! An HTTP upstream that does as its script says, over HTTP/1.1 and HTTP/2, with or without TLS.
//!
//! The script sees a request's head and chooses an [`Act`]. Everything that came is recorded.

mod answer;

pub use answer::Answer;

use answer::{End, Zeros, full};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type ResponseBody = UnsyncBoxBody<Bytes, Broken>;

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    /// Empty where the act reads no body, or passes it on.
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    /// Counts this upstream's connections from 0.
    pub connection: usize,
    pub tls: Option<Handshake>,
}

/// What a caller said when it opened a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    pub server_name: Option<String>,
    /// The DER of its certificate.
    pub certificate: Option<Vec<u8>>,
}

impl Seen {
    /// A header's value as text, `None` when it is absent.
    ///
    /// # Panics
    /// When it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header value of visible ASCII"))
    }
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Reads the whole request, then answers.
    Answer(Answer),
    /// Answers with the same body, bytes passed back as they come, trailers too.
    Echo,
    /// Reads the whole request and never answers.
    Never,
    /// Ends the exchange without an answer: HTTP/1 closes the connection, HTTP/2 resets the stream.
    Reset,
    /// Sends the answer's head and body, then resets as above instead of ending it. An HTTP/1 head
    /// announces more bytes than come.
    Half(Answer),
    /// Sends the answer's head and body, and resets as above when the gate opens.
    Tear(Answer, Gate),
    /// Sends the answer's head and body, and then nothing, not even an end. An HTTP/1 head announces more bytes than come.
    Stall(Answer),
    /// Reads none of the body until the gate opens, then all of it, and answers with the number of bytes.
    Reluctant(Gate),
    /// Answers with so many zero bytes, as fast as they are taken. [`Upstream::sent`] counts them.
    Zeros(u64),
}

/// Holds whoever comes until it is opened, then no one.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn closed() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn passed(&self) {
        self.0.subscribe().wait_for(|open| *open).await.expect("self holds the sender");
    }
}

/// A running upstream. Dropped, it stops and closes its connections.
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct State {
    script: Box<dyn Fn(&Parts) -> Act + Send + Sync>,
    seen: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    now: AtomicUsize,
    most: AtomicUsize,
    sent: Arc<AtomicU64>,
}

impl Upstream {
    /// On a free port of 127.0.0.1.
    pub async fn start(script: impl Fn(&Parts) -> Act + Send + Sync + 'static) -> Upstream {
        Upstream::at("127.0.0.1:0".parse().expect("an address"), script).await
    }

    /// Answers every request alike.
    pub async fn answering(answer: Answer) -> Upstream {
        Upstream::start(move |_| Act::Answer(answer.clone())).await
    }

    /// On an address of the test's choice.
    ///
    /// # Panics
    /// When it is taken.
    pub async fn at(address: SocketAddr, script: impl Fn(&Parts) -> Act + Send + Sync + 'static) -> Upstream {
        Upstream::run(address, None, script).await
    }

    /// Over TLS, on a free port of 127.0.0.1.
    pub async fn over_tls(
        config: rustls::ServerConfig,
        script: impl Fn(&Parts) -> Act + Send + Sync + 'static,
    ) -> Upstream {
        let address = "127.0.0.1:0".parse().expect("an address");
        Upstream::run(address, Some(TlsAcceptor::from(Arc::new(config))), script).await
    }

    async fn run(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Parts) -> Act + Send + Sync + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            count: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            sent: Arc::default(),
        });
        let upstream = Upstream {
            address: listener.local_addr().expect("a bound socket has an address"),
            state,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (state, stop, tasks) = (upstream.state.clone(), upstream.stop.clone(), upstream.tasks.clone());
        upstream.tasks.spawn(upstream.stop.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn(stop.clone().run_until_cancelled_owned(greet(state.clone(), stream, tls.clone())));
            }
        }));
        upstream
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that came so far, in the order in which the acts had read it.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The newest request.
    ///
    /// # Panics
    /// When none has come.
    pub fn last(&self) -> Seen {
        self.state.seen.lock().unwrap().last().cloned().expect("a request has come")
    }

    /// Waits until so many requests have come in all.
    pub async fn has_seen(&self, requests: usize) {
        let mut count = self.state.count.subscribe();
        let wait = count.wait_for(|count| *count >= requests);
        crate::in_time("requests at the upstream", wait).await.expect("the upstream lives");
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many connections are open.
    pub async fn has_open(&self, connections: usize) {
        let mut open = self.state.open.subscribe();
        let wait = open.wait_for(|open| *open == connections);
        crate::in_time("open connections at the upstream", wait).await.expect("the upstream lives");
    }

    /// The most requests that were in progress at once.
    pub fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    /// Body bytes that were taken of [`Act::Zeros`].
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Stops listening and closes every connection.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn greet(state: Arc<State>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    let Some(tls) = tls else { return serve(state, stream, None).await };
    // a handshake that failed is what the other end of the test looks at
    let Ok(stream) = tls.accept(stream).await else { return };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|der| der.to_vec());
    let handshake = Handshake { server_name: session.server_name().map(str::to_owned), certificate };
    serve(state, stream, Some(handshake)).await;
}

async fn serve<S>(state: Arc<State>, stream: S, tls: Option<Handshake>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = state.connections.fetch_add(1, Ordering::SeqCst);
    let _open = Open::count(&state);
    let service = hyper::service::service_fn(|request| answer(state.clone(), (connection, tls.clone()), request));
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // how a connection ended is what the other end of the test looks at
    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

struct Open(Arc<State>);

impl Open {
    fn count(state: &Arc<State>) -> Open {
        state.open.send_modify(|open| *open += 1);
        Open(state.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// A request in progress.
struct Busy(Arc<State>);

impl Busy {
    fn count(state: &Arc<State>) -> Busy {
        let now = state.now.fetch_add(1, Ordering::SeqCst) + 1;
        state.most.fetch_max(now, Ordering::SeqCst);
        Busy(state.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why a body or an exchange ended early.
#[derive(Debug)]
pub struct Broken(&'static str);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

async fn answer(
    state: Arc<State>,
    (connection, tls): (usize, Option<Handshake>),
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Broken> {
    let _busy = Busy::count(&state);
    let (parts, body) = request.into_parts();
    let act = (state.script)(&parts);
    let mut seen = Seen {
        method: parts.method,
        uri: parts.uri,
        version: parts.version,
        headers: parts.headers,
        body: Bytes::new(),
        trailers: None,
        connection,
        tls,
    };
    match act {
        Act::Echo => {
            state.record(seen);
            Ok(Response::new(body.map_err(|_| Broken("the caller ended early")).boxed_unsync()))
        }
        Act::Reset => {
            state.record(seen);
            Err(Broken("told to reset"))
        }
        Act::Zeros(length) => {
            state.record(seen);
            Ok(Response::new(Zeros { left: length, sent: state.sent.clone() }.boxed_unsync()))
        }
        Act::Reluctant(gate) => {
            state.record(seen);
            gate.passed().await;
            let length = count(body).await?;
            Ok(Response::new(full(Bytes::from(length.to_string()))))
        }
        Act::Never => {
            read(&mut seen, body).await?;
            state.record(seen);
            std::future::pending().await
        }
        Act::Answer(answer) => {
            read(&mut seen, body).await?;
            state.record(seen);
            Ok(answer.respond(End::Proper).await)
        }
        Act::Half(answer) => {
            read(&mut seen, body).await?;
            state.record(seen);
            Ok(answer.respond(End::Reset).await)
        }
        Act::Tear(answer, gate) => {
            read(&mut seen, body).await?;
            state.record(seen);
            Ok(answer.respond(End::ResetAfter(gate)).await)
        }
        Act::Stall(answer) => {
            read(&mut seen, body).await?;
            state.record(seen);
            Ok(answer.respond(End::Never).await)
        }
    }
}

impl State {
    fn record(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
        self.count.send_modify(|count| *count += 1);
    }
}

async fn read(seen: &mut Seen, body: Incoming) -> Result<(), Broken> {
    let whole = body.collect().await.map_err(|_| Broken("the caller ended early"))?;
    seen.trailers = whole.trailers().cloned();
    seen.body = whole.to_bytes();
    Ok(())
}

async fn count(mut body: Incoming) -> Result<u64, Broken> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Broken("the caller ended early"))?;
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}
