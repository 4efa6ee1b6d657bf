//! Bodies on their way through, unboxed.
//!
//! A [`RequestBody`] goes upstream, a `ResponseBody` (with the exchange that it ends) goes back.
//! Neither holds more than the frame that it passes on.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Frames that a mirror may lag behind.
const MIRROR_FRAMES: usize = 64;

/// What passed in the caller's direction and against it, shared by an exchange and its request's body.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Body bytes from the caller.
    pub(crate) received: Cell<u64>,
    /// The caller's body ended in an error.
    pub(crate) broken: Cell<bool>,
    /// Bumped by everything that moves, so that an observer can tell a quiet stream.
    moves: Cell<u32>,
    seen: Cell<(u32, Option<Instant>)>,
    /// When the answer must be complete.
    deadline: Cell<Option<Instant>>,
    expired: Cell<Option<Expiry>>,
    waker: RefCell<Option<Waker>>,
}

/// What a stream has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Nothing moved for too long.
    Idle,
    /// The route's timeout passed.
    Deadline,
}

impl Meter {
    pub(crate) fn due(&self, deadline: Instant) {
        self.deadline.set(Some(deadline));
    }

    /// What the stream has run out of by now, as far as calls of this now and then can tell.
    pub(crate) fn expiry(&self, now: Instant, idle_limit: Option<Duration>) -> Option<Expiry> {
        if self.deadline.get().is_some_and(|deadline| now >= deadline) {
            return Some(Expiry::Deadline);
        }
        idle_limit.is_some_and(|limit| self.is_quiet(now, limit)).then_some(Expiry::Idle)
    }

    pub(crate) fn moved(&self) {
        self.moves.set(self.moves.get().wrapping_add(1));
    }

    fn is_quiet(&self, now: Instant, limit: Duration) -> bool {
        match self.seen.get() {
            (moves, Some(since)) if moves == self.moves.get() => now.saturating_duration_since(since) >= limit,
            _ => {
                self.seen.set((self.moves.get(), Some(now)));
                false
            }
        }
    }

    /// The stream is over; whoever waits on it is woken.
    pub(crate) fn expire(&self, expiry: Expiry) {
        self.expired.set(Some(expiry));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn expired(&self) -> Option<Expiry> {
        self.expired.get()
    }

    /// Whether the stream has expired; if not, who is to be woken when it does.
    pub(crate) fn poll_expired(&self, cx: &Context<'_>) -> Option<Expiry> {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.expired.get()
    }
}

/// The body that goes upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Streaming(Box<Streaming>),
    /// The copy that a mirror is sent.
    Copied(mpsc::Receiver<Bytes>),
}

/// A caller's body on its way. Boxed, so that requests without one stay small: they are moved a lot.
#[derive(Debug)]
pub(crate) struct Streaming {
    body: Incoming,
    meter: Rc<Meter>,
    mirrors: Vec<mpsc::Sender<Bytes>>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, meter: &Rc<Meter>) -> Self {
        match body.is_end_stream() {
            true => RequestBody::Empty,
            false => RequestBody::Streaming(Box::new(Streaming { body, meter: meter.clone(), mirrors: Vec::new() })),
        }
    }

    /// A copy of what this body will carry. A reader who falls behind loses the rest: the original never waits for it.
    pub(crate) fn copied(&mut self) -> RequestBody {
        match self {
            RequestBody::Streaming(streaming) => {
                let (sender, receiver) = mpsc::channel(MIRROR_FRAMES);
                streaming.mirrors.push(sender);
                RequestBody::Copied(receiver)
            }
            RequestBody::Empty | RequestBody::Copied(_) => RequestBody::Empty,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Copied(data) => data.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data)))),
            RequestBody::Streaming(streaming) => {
                let Streaming { body, meter, mirrors } = &mut **streaming;
                let frame = ready!(Pin::new(body).poll_frame(cx));
                meter.moved();
                match &frame {
                    Some(Ok(frame)) => {
                        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                        meter.received.set(meter.received.get() + bytes);
                        if let Some(data) = frame.data_ref() {
                            mirrors.retain(|mirror| mirror.try_send(data.clone()).is_ok());
                        }
                    }
                    Some(Err(_)) => meter.broken.set(true),
                    None => {}
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streaming(streaming) => streaming.body.is_end_stream(),
            RequestBody::Copied(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Streaming(streaming) => streaming.body.size_hint(),
            RequestBody::Copied(_) => SizeHint::default(),
        }
    }
}
