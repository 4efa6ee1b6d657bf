//! One connection from a caller: which chain serves it, and for how long.

use crate::body::Meter;
use crate::destination::{self, canonical};
use crate::detect::{self, Protocol};
use crate::head::{self, Found};
use crate::quiet::Quiet;
use crate::snapshot::{LiveChain, LiveListener};
use crate::wire::{Phase, Watch, Wire};
use crate::worker::{LocalTable, Worker};
use crate::{session, tcp, tls};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue};
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use weft_model::listener::{ApplicationProtocol, Binding, Direction, Handler, HttpHandler};

/// How long an idle HTTP/1 connection stays open once its end is wanted: a caller may be sending a request in this
/// very moment, and closing would lose it. Until then each answer says `connection: close`.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// What somebody else wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Finish what is in progress, then close. HTTP/2 tells its caller at once.
    Drain,
    /// The time for leaving in peace is over: close as soon as nothing is in progress.
    Close,
    /// Close: idle for too long.
    Idle,
    /// Answer 408 and close: a head that does not end.
    HeadTimeout,
    /// Cut it: its request is over, and the caller does not take the answer.
    Abort,
}

/// A connection that is being served, as its requests and the sweeper see it.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Arc<LiveListener>,
    pub(crate) chain: Arc<LiveChain>,
    pub(crate) peer: SocketAddr,
    /// Where it arrived, as its caller sees it: where it was going, if it was redirected here.
    pub(crate) local: SocketAddr,
    /// Where it was going when it was redirected here.
    pub(crate) destination: Option<SocketAddr>,
    /// The peer's address as a header says it.
    pub(crate) peer_ip: HeaderValue,
    pub(crate) server_name: Option<String>,
    /// Present on HTTP/1.
    pub(crate) watch: Option<Arc<Watch>>,
    pub(crate) streams: RefCell<Vec<Option<Rc<Meter>>>>,
    table: RefCell<Option<(u64, Rc<LocalTable>)>>,
    waker: RefCell<Option<Waker>>,
    wish: Cell<Option<Wish>>,
    leaving: Cell<Option<Instant>>,
    seen: Cell<Seen>,
}

/// What the sweeper saw last, and since when it is so.
#[derive(Clone, Copy)]
struct Seen {
    phase: Phase,
    turn: u32,
    since: Instant,
}

/// How a connection came in.
pub(crate) struct Arrival {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) server_name: Option<String>,
}

impl Arrival {
    fn of(stream: &TcpStream, peer: SocketAddr, is_redirected: bool) -> std::io::Result<Arrival> {
        let destination = if is_redirected { destination::original(stream)? } else { None };
        let local = match destination {
            Some(destination) => destination,
            None => canonical(stream.local_addr()?),
        };
        Ok(Arrival { peer: canonical(peer), local, destination, server_name: None })
    }
}

impl Connection {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        listener: &Arc<LiveListener>,
        chain: &Arc<LiveChain>,
        arrival: Arrival,
        watch: Option<Arc<Watch>>,
    ) -> Rc<Connection> {
        let peer_ip = HeaderValue::from_str(&arrival.peer.ip().to_canonical().to_string());
        let connection = Rc::new(Connection {
            worker: worker.clone(),
            listener: listener.clone(),
            chain: chain.clone(),
            peer: arrival.peer,
            local: arrival.local,
            destination: arrival.destination,
            peer_ip: peer_ip.expect("an IP address is a header value"),
            server_name: arrival.server_name,
            watch,
            streams: RefCell::default(),
            table: RefCell::default(),
            waker: RefCell::default(),
            wish: Cell::new(None),
            leaving: Cell::new(None),
            seen: Cell::new(Seen { phase: Phase::Idle, turn: 0, since: Instant::now() }),
        });
        worker.register(&connection);
        connection
    }

    pub(crate) fn direction(&self) -> Direction {
        self.listener.spec.direction
    }

    pub(crate) fn handler(&self) -> &HttpHandler {
        match &self.chain.spec.handler {
            Handler::Http(handler) => handler,
            Handler::Tcp(_) => unreachable!("only HTTP chains have HTTP connections"),
        }
    }

    /// The route table in force. Looked up by name only when the configuration has changed.
    pub(crate) fn table(&self) -> Option<Rc<LocalTable>> {
        let newest = self.worker.number();
        let mut known = self.table.borrow_mut();
        match &*known {
            Some((number, table)) if *number == newest => Some(table.clone()),
            _ => {
                // One that has gone, because nobody new goes there, serves its last connections to their end.
                let last = known.as_ref().map(|(_, table)| table.clone());
                let table = self.worker.table(&self.handler().route_table).or(last)?;
                *known = Some((newest, table.clone()));
                Some(table)
            }
        }
    }

    /// Who asked with these headers: at an edge behind trusted proxies not the peer, but whom they name.
    pub(crate) fn client(&self, headers: &HeaderMap) -> IpAddr {
        let handler = self.handler();
        let trusted_hops = if handler.edge { handler.trusted_hops } else { 0 };
        head::client(headers, self.peer.ip(), trusted_hops)
    }

    /// A request's head has been read: whether its framing is ambiguous (HTTP/1: both `content-length` and
    /// `transfer-encoding`).
    pub(crate) fn head_is_ambiguous(&self, found: Found) -> bool {
        let Some(watch) = &self.watch else { return false };
        watch.enter(Phase::Busy);
        found.transfer_encoding && watch.head_is_ambiguous()
    }

    /// The scheme that the caller used.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.chain.tls.is_some() { "https" } else { "http" }
    }

    /// Takes note of whom to wake when there is a wish; gives the wish.
    pub(crate) fn attend(&self, waker: &Waker) -> Option<Wish> {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        self.wish.take()
    }

    /// Asks this connection to end once it may.
    pub(crate) fn drain(&self) {
        if self.leaving.get().is_none() {
            self.leaving.set(Some(Instant::now()));
            self.wish(Wish::Drain);
        }
    }

    /// Whether answers tell the caller to use another connection from now on.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get().is_some()
    }

    fn wish(&self, wish: Wish) {
        self.wish.set(Some(wish));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// A stream begins; its place is given back with [`Connection::stream_ended`].
    pub(crate) fn stream_began(&self, meter: &Rc<Meter>) -> usize {
        let mut streams = self.streams.borrow_mut();
        match streams.iter_mut().position(|place| place.is_none()) {
            Some(place) => {
                streams[place] = Some(meter.clone());
                place
            }
            None => {
                streams.push(Some(meter.clone()));
                streams.len() - 1
            }
        }
    }

    pub(crate) fn stream_ended(&self, place: usize) {
        self.streams.borrow_mut()[place] = None;
        if let Some(watch) = &self.watch {
            watch.enter(Phase::Idle);
        }
    }

    /// Looks at the timeouts.
    pub(crate) fn sweep(&self, now: Instant) {
        let handler = match &self.chain.spec.handler {
            Handler::Http(handler) => handler,
            Handler::Tcp(_) => return,
        };
        let busy = self.streams.borrow().iter().any(Option::is_some);
        let (phase, turn) = match &self.watch {
            Some(watch) => (watch.phase(), watch.turn()),
            None if busy => (Phase::Busy, 0),
            None => (Phase::Idle, 0),
        };
        let seen = self.seen.get();
        let mut age = now.saturating_duration_since(seen.since);
        if (phase, turn) != (seen.phase, seen.turn) {
            self.seen.set(Seen { phase, turn, since: now });
            age = Duration::ZERO;
        }
        if self.leaving.get().is_some_and(|since| now.saturating_duration_since(since) >= FAREWELL) {
            self.wish(Wish::Close);
        }
        let over = |limit: Option<Duration>| limit.is_some_and(|limit| age >= limit);
        match phase {
            Phase::Idle if !busy && over(handler.idle_timeout) => self.wish(Wish::Idle),
            Phase::Head if over(handler.request_headers_timeout) => self.wish(Wish::HeadTimeout),
            Phase::Idle | Phase::Head | Phase::Busy => {}
        }
        self.sweep_streams(now, handler.stream_idle_timeout);
    }

    fn sweep_streams(&self, now: Instant, idle_limit: Option<Duration>) {
        let streams: Vec<Rc<Meter>> = self.streams.borrow().iter().flatten().cloned().collect();
        for meter in streams {
            let Some(expiry) = meter.expiry(now, idle_limit) else { continue };
            // Told once already, and still there: its caller does not read, so nobody listens.
            if meter.expired().is_some() && self.watch.is_some() {
                self.wish(Wish::Abort);
            }
            meter.expire(expiry);
        }
    }
}

/// Serves one accepted connection to its end. A panic ends this connection alone, and is counted.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Arc<LiveListener>, stream: TcpStream, peer: SocketAddr) {
    let _open = worker.opened();
    let served = AssertUnwindSafe(choose_and_serve(&worker, &listener, stream, peer)).catch_unwind().await;
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, %peer, listener = listener.spec.name, "a connection broke"),
        Err(_) => worker.telemetry.counters().panics.one(),
    }
}

async fn choose_and_serve(
    worker: &Rc<Worker>,
    listener: &Arc<LiveListener>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let is_redirected =
        worker.shared.settings.node.interception || listener.spec.binding == Binding::OriginalDestination;
    let mut arrival = Arrival::of(&stream, peer, is_redirected)?;
    let listener = &receiver(worker, listener, arrival.destination).await;
    let (protocol, ahead) = match listener.detects {
        false => (None, Vec::new()),
        true => match detect::detect(&mut stream, listener.spec.detect_timeout).await? {
            None => return Ok(()),
            Some((protocol, ahead)) => (Some(protocol), ahead),
        },
    };
    let mut wire = Wire::new(Quiet::new(stream), ahead);
    if protocol == Some(Protocol::Tls) && listener.asks_for_names {
        arrival.server_name = tokio::time::timeout(tls::HANDSHAKE_TIMEOUT, wire.server_name()).await??;
    }
    let Some(chain) = choose(listener, protocol, arrival.server_name.as_deref()) else { return Ok(()) };
    if let Some(config) = chain.tls.clone() {
        let stream = tls::accept(config, wire, worker.telemetry.counters()).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        return handle(worker, listener, chain, Wire::new(stream, Vec::new()), arrival, Some(http2)).await;
    }
    let http2 = protocol.map(|protocol| protocol == Protocol::Http2);
    handle(worker, listener, chain, wire, arrival, http2).await
}

/// Who serves a connection: the listener that it was accepted by, or the one of the address that it was going to. Of the many
/// outbound ones only those are held that somebody has gone to.
async fn receiver(
    worker: &Rc<Worker>,
    listener: &Arc<LiveListener>,
    destination: Option<SocketAddr>,
) -> Arc<LiveListener> {
    let Some(destination) = destination.filter(|_| listener.spec.binding == Binding::OriginalDestination) else {
        return listener.clone();
    };
    if listener.spec.direction == Direction::Outbound {
        let name = format!("{}_{}", destination.ip(), destination.port());
        worker.shared.demand.want(&name).await;
    }
    let snapshot = worker.snapshot();
    snapshot.handed.find(listener.spec.direction, destination).unwrap_or(listener).clone()
}

async fn handle<S>(
    worker: &Rc<Worker>,
    listener: &Arc<LiveListener>,
    chain: &Arc<LiveChain>,
    wire: Wire<S>,
    arrival: Arrival,
    http2: Option<bool>,
) -> std::io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    match &chain.spec.handler {
        Handler::Http(_) => session::serve(worker, listener, chain, wire, arrival, http2).await,
        Handler::Tcp(handler) => {
            tcp::proxy(worker, listener, handler, wire, arrival).await;
            Ok(())
        }
    }
}

/// The chain that fits best: by server name first (exact, then the longest wildcard, then none), then by what was
/// detected.
fn choose<'a>(
    listener: &'a LiveListener,
    protocol: Option<Protocol>,
    server_name: Option<&str>,
) -> Option<&'a Arc<LiveChain>> {
    let fits = |chain: &LiveChain| {
        let matches = &chain.spec.matches;
        let tls = protocol == Some(Protocol::Tls);
        let http = matches!(protocol, Some(Protocol::Http1 | Protocol::Http2));
        let wants_tls = matches.tls.or(chain.tls.is_some().then_some(true));
        wants_tls.is_none_or(|wanted| wanted == tls)
            && match matches.application {
                None => true,
                Some(ApplicationProtocol::Http) => http,
            }
    };
    let rank = |chain: &LiveChain| {
        let by_name = name_rank(&chain.spec.matches.server_names, server_name)?;
        Some((by_name, chain.spec.matches.application.is_some(), chain.spec.matches.tls.is_some()))
    };
    let fitting = listener.chains.iter().filter(|chain| fits(chain)).filter_map(|chain| Some((rank(chain)?, chain)));
    // The first of the best: `max_by_key` would give the last.
    fitting.rev().max_by_key(|(rank, _)| *rank).map(|(_, chain)| chain)
}

/// `None`: does not fit. Longer names are better; exact ones best.
fn name_rank(names: &[String], asked: Option<&str>) -> Option<usize> {
    if names.is_empty() {
        return Some(0);
    }
    let asked = asked?;
    let rank = |name: &String| match name.strip_prefix('*') {
        None => (name == asked).then_some(usize::MAX),
        Some("") => Some(1),
        Some(suffix) => (asked.len() > suffix.len() && asked.ends_with(suffix)).then_some(suffix.len() + 1),
    };
    names.iter().filter_map(rank).max()
}
