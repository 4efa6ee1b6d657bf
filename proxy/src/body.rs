//! Bodies on their way through, unboxed.
//!
//! A [`RequestBody`] goes upstream, a `ResponseBody` (with the exchange that it ends) goes back.
//! Neither holds more than the frame that it passes on.

use bytes::Bytes;
use http::HeaderMap;
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
    /// All of the caller's body has come.
    pub(crate) complete: Cell<bool>,
    /// Bumped by everything that moves, so that an observer can tell a quiet stream.
    moves: Cell<u32>,
    seen: Cell<(u32, Option<Instant>)>,
    /// What the route says of quiet streams instead of the listener; zero: never too long.
    idle: Cell<Option<Duration>>,
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
        let idle_limit = self.idle.get().or(idle_limit).filter(|limit| !limit.is_zero());
        idle_limit.is_some_and(|limit| self.is_quiet(now, limit)).then_some(Expiry::Idle)
    }

    pub(crate) fn limit_idle(&self, idle: Option<Duration>) {
        self.idle.set(idle);
    }

    pub(crate) fn moved(&self) {
        self.moves.set(self.moves.get().wrapping_add(1));
    }

    /// How often anything has moved, modulo 2³².
    pub(crate) fn moves(&self) -> u32 {
        self.moves.get()
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
    /// One that is kept as it passes, from its beginning.
    Kept {
        kept: Rc<RefCell<Kept>>,
        at: usize,
    },
}

/// A body that is kept as it passes, so that another try may have it again; up to a limit.
#[derive(Debug)]
pub(crate) struct Kept {
    source: Box<Streaming>,
    pieces: Vec<Piece>,
    room: usize,
    ended: bool,
    /// It was longer than the limit: what is not there any more cannot be sent again.
    lost: bool,
}

#[derive(Clone, Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Kept {
    /// Whether all that has passed is still here.
    pub(crate) fn is_whole(&self) -> bool {
        !self.lost
    }

    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        let (piece, length) = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => (Piece::Data(data.clone()), data.len()),
            (None, Some(trailers)) => (Piece::Trailers(trailers.clone()), 0),
            (None, None) => return false,
        };
        if self.lost || length > self.room {
            self.lost = true;
            self.pieces = Vec::new();
            return false;
        }
        self.room -= length;
        self.pieces.push(piece);
        true
    }

    fn poll_frame(&mut self, at: &mut usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(piece) = self.pieces.get(*at) {
            *at += 1;
            let frame = match piece.clone() {
                Piece::Data(data) => Frame::data(data),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            };
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(self.source.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => *at += usize::from(self.keep(frame)),
            Some(Err(_)) => self.lost = true,
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self, at: usize) -> SizeHint {
        let kept: u64 = self.pieces.iter().skip(at).map(Piece::length).sum();
        match self.source.body.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + kept),
            None => SizeHint::default(),
        }
    }
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Piece::Data(data) => data.len() as u64,
            Piece::Trailers(_) => 0,
        }
    }
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Streaming { body, meter, mirrors } = self;
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        meter.moved();
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    meter.received.set(meter.received.get() + data.len() as u64);
                    mirrors.retain(|mirror| mirror.try_send(data.clone()).is_ok());
                }
            }
            Some(Err(_)) => meter.broken.set(true),
            None => {}
        }
        meter.complete.set(frame.is_none() || body.is_end_stream());
        Poll::Ready(frame)
    }
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
        meter.complete.set(body.is_end_stream());
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
            RequestBody::Empty | RequestBody::Copied(_) | RequestBody::Kept { .. } => RequestBody::Empty,
        }
    }
}

/// What the tries of one request are given as its body.
pub(crate) enum Supply {
    /// There is none.
    Empty,
    /// Only one try can have it. `None`: it has.
    Once(Option<RequestBody>),
    /// Every try, as long as it is whole.
    Again(Rc<RefCell<Kept>>),
}

impl Supply {
    /// For one try, or for several that share at most so many bytes.
    pub(crate) fn of(body: RequestBody, keep_bytes: Option<usize>) -> Supply {
        match (body, keep_bytes) {
            (RequestBody::Empty, _) => Supply::Empty,
            (RequestBody::Streaming(source), Some(room)) => {
                let kept = Kept { source, pieces: Vec::new(), room, ended: false, lost: false };
                Supply::Again(Rc::new(RefCell::new(kept)))
            }
            (body, _) => Supply::Once(Some(body)),
        }
    }

    /// The body for the next try; `None` when it cannot be had again.
    pub(crate) fn take(&mut self) -> Option<RequestBody> {
        match self {
            Supply::Empty => Some(RequestBody::Empty),
            Supply::Once(body) => body.take(),
            Supply::Again(kept) => kept.borrow().is_whole().then(|| RequestBody::Kept { kept: kept.clone(), at: 0 }),
        }
    }

    /// A try did not send any of it.
    pub(crate) fn give_back(&mut self, unsent: RequestBody) {
        if let Supply::Once(body) = self {
            *body = Some(unsent);
        }
    }

    /// Whether the next try could have it.
    pub(crate) fn is_at_hand(&self) -> bool {
        match self {
            Supply::Empty => true,
            Supply::Once(body) => body.is_some(),
            Supply::Again(kept) => kept.borrow().is_whole(),
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
            RequestBody::Streaming(streaming) => streaming.poll_frame(cx),
            RequestBody::Kept { kept, at } => kept.borrow_mut().poll_frame(at, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streaming(streaming) => streaming.body.is_end_stream(),
            RequestBody::Copied(_) => false,
            RequestBody::Kept { kept, at } => {
                let kept = kept.borrow();
                kept.pieces.len() == *at && (kept.ended || kept.source.body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Streaming(streaming) => streaming.body.size_hint(),
            RequestBody::Copied(_) => SizeHint::default(),
            RequestBody::Kept { kept, at } => kept.borrow().size_hint(*at),
        }
    }
}
