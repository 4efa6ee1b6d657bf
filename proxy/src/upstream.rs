//! Connections to endpoints, kept by each worker for itself, limited for the whole process.
//!
//! An HTTP/1 connection is lent to one exchange at a time, which drives it ([`crate::http1`]). That the upstream closed
//! a kept one is learnt at the next send, which then leaves the request unsent. HTTP/2 connections are shared by many
//! exchanges and have a task of their own.
//!
//! A request that finds no connection is pending, until one is made for it or given back (Envoy's meaning of
//! `max_pending_requests`). Where no more may be made it queues, over all workers ([`crate::live::Queue`]).

use crate::body::RequestBody;
use crate::connect::{ConnectError, Speaks, open};
use crate::http1::Lease;
use crate::live::{ClusterState, LiveCluster, LiveEndpoint};
use crate::telemetry::metrics::{ConnectionCounter, OpenConnection};
use crate::worker::Worker;
use hyper::client::conn::http2;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::breaker::Priority;
use weft_policy::breaker::{ConnectionPermit, Overflow, Permit};

/// Streams on one HTTP/2 connection before another is opened, where the cluster says nothing.
const STREAMS_PER_CONNECTION: u32 = 100;
/// Flow-control windows towards upstreams, bytes: a stream's bounds what one slow reader can make us hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Spawns hyper's HTTP/2 tasks on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F> hyper::rt::Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// The cluster's limits.
    Overflow(Overflow),
    Connect(ConnectError),
}

impl From<Overflow> for Unavailable {
    fn from(overflow: Overflow) -> Self {
        Unavailable::Overflow(overflow)
    }
}

impl From<ConnectError> for Unavailable {
    fn from(error: ConnectError) -> Self {
        Unavailable::Connect(error)
    }
}

/// A connection that counts: in metrics, and against the cluster's limits. Its end calls whoever waits for one.
pub(crate) struct Counted {
    permit: Option<ConnectionPermit>,
    state: Arc<ClusterState>,
    _open: Option<OpenConnection>,
}

impl Counted {
    /// Takes the place of one more connection.
    pub(crate) fn take(
        cluster: &LiveCluster,
        endpoint: &LiveEndpoint,
        priority: Priority,
    ) -> Result<Counted, Overflow> {
        let permit = cluster.breaker.connection(priority, &endpoint.experience.connections)?;
        Ok(Counted { permit: Some(permit), state: cluster.state.clone(), _open: None })
    }

    /// It stands.
    fn opened(mut self, counter: &ConnectionCounter) -> Counted {
        self._open = Some(counter.opened());
        self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.permit = None;
        self.state.queue.call();
    }
}

/// One HTTP/2 connection.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<u32>>,
    served: Rc<Cell<u32>>,
    idle_since: Rc<Cell<Instant>>,
    opened: Instant,
    _counted: Rc<Counted>,
}

/// A place for one stream on a shared connection, given back on drop.
pub(crate) struct Stream {
    shared: Shared,
    state: Arc<ClusterState>,
}

impl Stream {
    /// Sends a request. After an error it is in its place again if not one byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<RequestBody>>)> {
        let sent = self.shared.sender.try_send_request(request);
        sent.await.map_err(|mut failed| {
            let unsent = failed.take_message();
            (failed.into_error(), unsent)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let streams = self.shared.streams.get() - 1;
        self.shared.streams.set(streams);
        if streams == 0 {
            self.shared.idle_since.set(Instant::now());
        }
        self.state.queue.call();
    }
}

/// For whom a connection is wanted.
pub(crate) struct Wanted<'w> {
    pub(crate) worker: &'w Worker,
    pub(crate) cluster: &'w LiveCluster,
    pub(crate) endpoint: &'w LiveEndpoint,
    pub(crate) priority: Priority,
    /// When the try began.
    pub(crate) now: Instant,
    /// It is not the first.
    pub(crate) again: bool,
}

impl Wanted<'_> {
    /// While there is no connection.
    fn pending(&self) -> Result<Permit, Overflow> {
        let breaker = &self.cluster.breaker;
        if self.again { breaker.pending_again(self.priority) } else { breaker.pending(self.priority) }
    }

    /// From when there is one until the answer is complete.
    pub(crate) fn in_flight(&self) -> Result<Permit, Overflow> {
        let breaker = &self.cluster.breaker;
        if self.again { breaker.again(self.priority) } else { breaker.request(self.priority, self.now) }
    }
}

/// One worker's connections to one endpoint.
pub(crate) struct Pool {
    counter: ConnectionCounter,
    #[expect(
        clippy::vec_box,
        reason = "a lease is large, and goes from the pool to an exchange and back at every request"
    )]
    idle: RefCell<Vec<Box<Lease>>>,
    shared: RefCell<Vec<Shared>>,
    /// Held while an HTTP/2 connection is being made, so that a burst makes one and not many.
    making: tokio::sync::Mutex<()>,
}

impl Pool {
    pub(crate) fn new(counter: ConnectionCounter) -> Pool {
        Pool { counter, idle: RefCell::default(), shared: RefCell::default(), making: tokio::sync::Mutex::new(()) }
    }

    /// An HTTP/1 connection, a kept one if there is one (then it is true, and it may turn out that the upstream has closed it).
    pub(crate) async fn lease(&self, wanted: &Wanted<'_>) -> Result<(Box<Lease>, bool), Unavailable> {
        let queue = &wanted.cluster.state.queue;
        if queue.is_empty()
            && let Some(lease) = self.idle()
        {
            return Ok((lease, true));
        }
        let _pending = wanted.pending()?;
        let made = |counted| async { self.connect(wanted, counted).await.map(|lease| (lease, false)) };
        if queue.is_empty() {
            match Counted::take(wanted.cluster, wanted.endpoint, wanted.priority) {
                Ok(counted) => return made(counted).await,
                Err(overflow) => tracing::debug!(cluster = wanted.cluster.spec.name, "{overflow}"),
            }
        }
        let turn = queue.enter(wanted.worker.number);
        loop {
            // Whoever is not first would take away what was just given back for the one who is.
            if turn.is_first() {
                wanted.worker.ask_for_connection(&wanted.cluster.spec.name);
            }
            turn.comes().await;
            if let Some(lease) = self.idle() {
                return Ok((lease, true));
            }
            if let Ok(counted) = Counted::take(wanted.cluster, wanted.endpoint, wanted.priority) {
                drop(turn);
                return made(counted).await;
            }
        }
    }

    /// A new HTTP/1 connection, which the pool will not see again (an upgrade).
    pub(crate) async fn fresh(&self, wanted: &Wanted<'_>) -> Result<Box<Lease>, Unavailable> {
        let _pending = wanted.pending()?;
        let counted = Counted::take(wanted.cluster, wanted.endpoint, wanted.priority)?;
        self.connect(wanted, counted).await
    }

    async fn connect(&self, wanted: &Wanted<'_>, counted: Counted) -> Result<Box<Lease>, Unavailable> {
        let stream = open(wanted.cluster, wanted.endpoint.address, Speaks::Http1).await;
        let stream = stream.inspect_err(|_| self.counter.failed())?;
        Ok(Box::new(Lease::new(stream, counted.opened(&self.counter), Instant::now())))
    }

    fn idle(&self) -> Option<Box<Lease>> {
        self.idle.borrow_mut().pop()
    }

    /// Takes a connection back when its exchange has ended well. It is closed when a request of another worker waits for one.
    pub(crate) fn give_back(&self, mut lease: Box<Lease>, cluster: &LiveCluster, worker: usize, now: Instant) {
        let pool = &cluster.spec.pool;
        let worn = pool.max_requests_per_connection.is_some_and(|limit| lease.served >= limit)
            || pool.max_connection_duration.is_some_and(|limit| now.saturating_duration_since(lease.opened) >= limit);
        if worn || !lease.is_reusable() {
            return;
        }
        match cluster.state.queue.first() {
            Some(other) if other != worker => return,
            _ => {}
        }
        lease.idle_since = now;
        self.idle.borrow_mut().push(lease);
        cluster.state.queue.call();
    }

    /// Closes a connection that nobody uses; false when there is none.
    pub(crate) fn close_idle(&self) -> bool {
        if self.idle().is_some() {
            return true;
        }
        let mut shared = self.shared.borrow_mut();
        let unused = shared.iter().position(|one| one.streams.get() == 0);
        let closed = unused.map(|unused| shared.swap_remove(unused));
        drop(shared);
        closed.is_some()
    }

    /// A place on an HTTP/2 connection, made when there is none.
    pub(crate) async fn stream(&self, wanted: &Wanted<'_>) -> Result<Stream, Unavailable> {
        if let Some(stream) = self.place(wanted) {
            return Ok(stream);
        }
        let _pending = wanted.pending()?;
        let _making = self.making.lock().await;
        if let Some(stream) = self.place(wanted) {
            return Ok(stream);
        }
        let queue = &wanted.cluster.state.queue;
        if queue.is_empty()
            && let Ok(counted) = Counted::take(wanted.cluster, wanted.endpoint, wanted.priority)
        {
            return self.share(wanted, counted).await;
        }
        let turn = queue.enter(wanted.worker.number);
        loop {
            // Whoever is not first would take away what was just given back for the one who is.
            if turn.is_first() {
                wanted.worker.ask_for_connection(&wanted.cluster.spec.name);
            }
            turn.comes().await;
            if let Some(stream) = self.place(wanted) {
                return Ok(stream);
            }
            if let Ok(counted) = Counted::take(wanted.cluster, wanted.endpoint, wanted.priority) {
                drop(turn);
                return self.share(wanted, counted).await;
            }
        }
    }

    async fn share(&self, wanted: &Wanted<'_>, counted: Counted) -> Result<Stream, Unavailable> {
        let spec = &wanted.cluster.spec;
        let socket = open(wanted.cluster, wanted.endpoint.address, Speaks::Http2).await;
        let socket = socket.inspect_err(|_| self.counter.failed())?;
        let mut builder = http2::Builder::new(Local);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        if let Some(keepalive) = spec.pool.http2_keepalive {
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(true);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(ConnectError::Handshake)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
            }
        });
        let now = Instant::now();
        let shared = Shared {
            sender,
            streams: Rc::default(),
            served: Rc::default(),
            idle_since: Rc::new(Cell::new(now)),
            opened: now,
            _counted: Rc::new(counted.opened(&self.counter)),
        };
        self.shared.borrow_mut().push(shared.clone());
        // A connection that was closed the moment it was made is found closed by the send.
        Ok(Stream::on(shared, wanted.cluster))
    }

    fn place(&self, wanted: &Wanted<'_>) -> Option<Stream> {
        let pool = &wanted.cluster.spec.pool;
        let mut shared = self.shared.borrow_mut();
        shared.retain(|one| !one.sender.is_closed());
        let served = pool.max_requests_per_connection.unwrap_or(u32::MAX);
        let streams = pool.max_concurrent_streams.unwrap_or(STREAMS_PER_CONNECTION);
        let one = shared.iter().find(|one| one.streams.get() < streams && one.served.get() < served)?;
        Some(Stream::on(one.clone(), wanted.cluster))
    }

    /// Closes what has been idle or open for longer than the cluster allows.
    pub(crate) fn sweep(&self, cluster: &LiveCluster, now: Instant) {
        let pool = &cluster.spec.pool;
        let within = |limit: Option<Duration>, since: Instant| {
            limit.is_none_or(|limit| now.saturating_duration_since(since) < limit)
        };
        let fresh = |idle_since: Instant, opened: Instant| {
            within(pool.idle_timeout, idle_since) && within(pool.max_connection_duration, opened)
        };
        self.idle.borrow_mut().retain_mut(|lease| fresh(lease.idle_since, lease.opened) && lease.is_open());
        let worn = pool.max_requests_per_connection.unwrap_or(u32::MAX);
        self.shared.borrow_mut().retain(|one| {
            !one.sender.is_closed()
                && (one.streams.get() > 0 || (fresh(one.idle_since.get(), one.opened) && one.served.get() < worn))
        });
    }
}

impl Stream {
    fn on(shared: Shared, cluster: &LiveCluster) -> Stream {
        shared.streams.set(shared.streams.get() + 1);
        shared.served.set(shared.served.get().saturating_add(1));
        Stream { shared, state: cluster.state.clone() }
    }
}
