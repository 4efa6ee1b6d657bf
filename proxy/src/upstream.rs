//! Connections to endpoints, kept by each worker for itself.
//!
//! An HTTP/1 connection is lent to one exchange at a time, which drives it ([`crate::http1`]). That the upstream closed
//! a kept one is learnt at the next send, which then leaves the request unsent.
//!
//! HTTP/2 connections are shared by many exchanges and have a task of their own.

use crate::body::RequestBody;
use crate::connect::{ConnectError, connect};
use crate::http1::Lease;
use crate::live::LiveCluster;
use crate::telemetry::metrics::{ConnectionCounter, OpenConnection};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Streams on one HTTP/2 connection before another is opened.
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

/// One HTTP/2 connection.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Rc<Cell<u32>>,
    served: Rc<Cell<u32>>,
    idle_since: Rc<Cell<Instant>>,
    _counted: Rc<OpenConnection>,
}

/// A place for one stream on a shared connection, given back on drop.
pub(crate) struct Stream {
    shared: Shared,
}

impl Stream {
    /// Sends the request that is in this place. After an error it is there again if not one byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let sent = self.shared.sender.try_send_request(request.take().expect("a request waits in its place"));
        sent.await.map_err(|mut failed| {
            *request = failed.take_message();
            failed.into_error()
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
    }
}

/// One worker's connections to one endpoint.
pub(crate) struct Pool {
    address: SocketAddr,
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
    pub(crate) fn new(address: SocketAddr, counter: ConnectionCounter) -> Pool {
        Pool {
            address,
            counter,
            idle: RefCell::default(),
            shared: RefCell::default(),
            making: tokio::sync::Mutex::new(()),
        }
    }

    /// An idle HTTP/1 connection. If the upstream has closed it meanwhile, sending gives the request back unsent.
    pub(crate) fn idle(&self) -> Option<Box<Lease>> {
        self.idle.borrow_mut().pop()
    }

    /// A new HTTP/1 connection.
    pub(crate) async fn fresh(&self, cluster: &LiveCluster, now: Instant) -> Result<Box<Lease>, ConnectError> {
        let opened = Lease::open(self.address, cluster.spec.connect_timeout, now, &self.counter).await;
        opened.inspect_err(|_| self.counter.failed())
    }

    /// Takes a connection back when its exchange has ended well.
    pub(crate) fn give_back(&self, mut lease: Box<Lease>, cluster: &LiveCluster, now: Instant) {
        let pool = &cluster.spec.pool;
        let worn = pool.max_requests_per_connection.is_some_and(|limit| lease.served >= limit)
            || pool.max_connection_duration.is_some_and(|limit| now.saturating_duration_since(lease.opened) >= limit);
        if !worn && lease.is_reusable() {
            lease.idle_since = now;
            self.idle.borrow_mut().push(lease);
        }
    }

    /// A place on an HTTP/2 connection, made when there is none.
    pub(crate) async fn stream(&self, cluster: &LiveCluster) -> Result<Stream, ConnectError> {
        if let Some(stream) = self.place(cluster) {
            return Ok(stream);
        }
        let _making = self.making.lock().await;
        if let Some(stream) = self.place(cluster) {
            return Ok(stream);
        }
        let socket =
            connect(self.address, cluster.spec.connect_timeout).await.inspect_err(|_| self.counter.failed())?;
        let (sender, connection) = http2::Builder::new(Local)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(ConnectError::Handshake)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
            }
        });
        let shared = Shared {
            sender,
            streams: Rc::default(),
            served: Rc::default(),
            idle_since: Rc::new(Cell::new(Instant::now())),
            _counted: Rc::new(self.counter.opened()),
        };
        self.shared.borrow_mut().push(shared);
        // A connection that was closed the moment it was made is found closed by the send.
        let made = self.shared.borrow().last().cloned();
        Ok(Stream::on(made.expect("pushed two lines above")))
    }

    fn place(&self, cluster: &LiveCluster) -> Option<Stream> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|one| !one.sender.is_closed());
        let limit = cluster.spec.pool.max_requests_per_connection.unwrap_or(u32::MAX);
        let one = shared.iter().find(|one| one.streams.get() < STREAMS_PER_CONNECTION && one.served.get() < limit)?;
        Some(Stream::on(one.clone()))
    }

    /// Closes what has been idle for longer than the cluster allows.
    pub(crate) fn sweep(&self, cluster: &LiveCluster, now: Instant) {
        let limit = cluster.spec.pool.idle_timeout;
        let lifetime = cluster.spec.pool.max_connection_duration;
        let within = |limit: Option<Duration>, since: Instant| {
            limit.is_none_or(|limit| now.saturating_duration_since(since) < limit)
        };
        let fresh = |since: Instant| within(limit, since);
        self.idle
            .borrow_mut()
            .retain(|lease| fresh(lease.idle_since) && within(lifetime, lease.opened) && lease.is_open());
        let worn = cluster.spec.pool.max_requests_per_connection.unwrap_or(u32::MAX);
        self.shared.borrow_mut().retain(|one| {
            !one.sender.is_closed()
                && (one.streams.get() > 0 || (fresh(one.idle_since.get()) && one.served.get() < worn))
        });
    }
}

impl Stream {
    fn on(shared: Shared) -> Stream {
        shared.streams.set(shared.streams.get() + 1);
        shared.served.set(shared.served.get().saturating_add(1));
        Stream { shared }
    }
}
