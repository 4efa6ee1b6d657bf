//! Connections to endpoints, kept by each worker for itself.
//!
//! An HTTP/1 connection carries one exchange at a time, so its driver is not a task of its own: the
//! exchange that has leased it polls it, in the very wake-up that serves the caller. That saves a
//! task switch and a wake-up on every request. Between requests nobody polls it; that the upstream
//! closed it is learnt at the next send, which then gives the request back unsent.
//!
//! HTTP/2 connections are shared by many exchanges and do have a task.

use crate::body::RequestBody;
use crate::connect::{ConnectError, connect};
use crate::live::LiveCluster;
use crate::nudge::Nudge;
use crate::quiet::Quiet;
use crate::telemetry::metrics::{ConnectionCounter, OpenConnection};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

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

type Driver = http1::Connection<TokioIo<Quiet<TcpStream>>, RequestBody>;

/// One HTTP/1 connection, leased to one exchange at a time.
pub(crate) struct Lease {
    sender: http1::SendRequest<RequestBody>,
    /// `None` once it has ended.
    connection: Option<Driver>,
    /// What is left of it then: after an upgrade, the transport.
    ended: Option<Driver>,
    nudge: Nudge,
    served: u32,
    idle_since: Instant,
    _counted: OpenConnection,
}

impl Lease {
    async fn open(
        address: SocketAddr,
        timeout: Duration,
        now: Instant,
        counter: &ConnectionCounter,
    ) -> Result<Box<Lease>, ConnectError> {
        let stream = connect(address, timeout).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(Quiet::new(stream))).await.map_err(ConnectError::Handshake)?;
        let mut lease = Box::new(Lease {
            sender,
            connection: Some(connection),
            ended: None,
            nudge: Nudge::new(),
            served: 0,
            idle_since: now,
            _counted: counter.opened(),
        });
        // Its first turn makes it ask for a request.
        lease.is_ready();
        Ok(lease)
    }

    /// Polls the connection's driver.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.nudge.user(cx.waker());
        if let Some(connection) = &mut self.connection
            && connection.poll_without_shutdown(&mut Context::from_waker(self.nudge.waker())).is_ready()
        {
            self.ended = self.connection.take();
        }
    }

    /// Sends the request that is in this place. After an error it is there again if not one byte of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.served += 1;
        let mut response = pin!(self.sender.try_send_request(request.take().expect("a request waits in its place")));
        // The driver runs in this very task and was polled just now: it is what wakes us.
        let quiet = &mut Context::from_waker(Waker::noop());
        poll_fn(|cx| {
            self.drive(cx);
            let polled = match response.as_mut().poll(quiet) {
                Poll::Pending if self.connection.is_none() => {
                    // A driver that is dropped gives back what still waits in its queue, unsent.
                    self.ended = None;
                    response.as_mut().poll(quiet)
                }
                polled => polled,
            };
            polled.map_err(|mut failed| {
                *request = failed.take_message();
                failed.into_error()
            })
        })
        .await
    }

    /// The transport, after the upstream agreed to an upgrade, with what was already read from it.
    pub(crate) async fn upgraded(mut self: Box<Self>) -> Option<(TcpStream, Bytes)> {
        poll_fn(|cx| {
            self.drive(cx);
            if self.connection.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.ended.take()?.into_parts();
        Some((parts.io.into_inner().into_inner(), parts.read_buf))
    }

    /// Whether another exchange may follow. From now on nobody is woken.
    fn is_ready(&mut self) -> bool {
        self.nudge.nobody();
        if !self.sender.is_ready()
            && let Some(connection) = &mut self.connection
            && connection.poll_without_shutdown(&mut Context::from_waker(self.nudge.waker())).is_ready()
        {
            self.connection = None;
        }
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether the upstream has not closed it meanwhile.
    fn is_open(&mut self) -> bool {
        let polled = self.connection.as_mut().map(|connection| {
            connection.poll_without_shutdown(&mut Context::from_waker(self.nudge.waker())).is_pending()
        });
        polled == Some(true)
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
    /// As [`Lease::send`].
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
        let worn = cluster.spec.pool.max_requests_per_connection.is_some_and(|limit| lease.served >= limit);
        if !worn && lease.is_ready() {
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
        let fresh = |since: Instant| limit.is_none_or(|limit| now.saturating_duration_since(since) < limit);
        self.idle.borrow_mut().retain_mut(|lease| fresh(lease.idle_since) && lease.is_open());
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
