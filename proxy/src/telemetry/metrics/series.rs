//! One series: what requests of one kind between two workloads came to.
//!
//! Nearly all of them end alike, so that outcome has its place in the series itself; every other
//! outcome gets one when it first happens. Places are few: past [`MAX_OUTCOMES`] an outcome is
//! counted under the first status of its class (`500` for `507`), so errors stay errors.

use super::Shared;
use super::histogram::{Histogram, add};
use super::key::SeriesKey;
use crate::telemetry::flags::Flags;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Different outcomes that a series tells apart.
pub(crate) const MAX_OUTCOMES: usize = 48;
/// One per class of status, and one for none.
const CLASSES: usize = 6;

/// How a request ended, as far as metrics tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Outcome {
    /// 0: there was no response.
    pub(crate) status: u16,
    /// As in `grpc-status`; codes past 16 are 2, "unknown".
    pub(crate) grpc_status: Option<u8>,
    pub(crate) flags: Flags,
}

impl Outcome {
    #[inline]
    fn new(status: u16, grpc_status: Option<u8>, flags: Flags) -> Outcome {
        let status = if (100..600).contains(&status) { status } else { 0 };
        let grpc_status = grpc_status.map(|code| if code > 16 { 2 } else { code });
        Outcome { status, grpc_status, flags }
    }

    /// All of it in one word, to be compared at once.
    #[inline]
    fn word(self) -> u64 {
        let grpc = self.grpc_status.map_or(0xff, u64::from);
        u64::from(self.flags.bits()) | u64::from(self.status) << 32 | grpc << 48
    }

    /// What stands for it where there is no room.
    fn class(self) -> Outcome {
        Outcome { status: self.status / 100 * 100, grpc_status: None, flags: Flags::NONE }
    }
}

/// Requests of one outcome.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) duration: Histogram,
    pub(crate) request_bytes: Histogram,
    pub(crate) response_bytes: Histogram,
}

impl Requests {
    #[inline]
    fn observe(&self, duration: Duration, request_bytes: u64, response_bytes: u64) {
        self.duration.observe_duration(duration);
        self.request_bytes.observe_bytes(request_bytes);
        self.response_bytes.observe_bytes(response_bytes);
    }
}

#[derive(Debug)]
struct Place {
    word: u64,
    outcome: Outcome,
    requests: Box<Requests>,
}

/// Opaque connections.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) opened: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

/// The numbers of one worker's series; written by that worker, read by any.
#[derive(Debug)]
pub(crate) struct Cells {
    usual: Outcome,
    usual_word: u64,
    usual_requests: Requests,
    others: [OnceLock<Place>; MAX_OUTCOMES + CLASSES],
    pub(crate) tcp: Connections,
}

impl Cells {
    pub(crate) fn new(usual: Outcome) -> Cells {
        Cells {
            usual,
            usual_word: usual.word(),
            usual_requests: Requests::default(),
            others: std::array::from_fn(|_| OnceLock::new()),
            tcp: Connections::default(),
        }
    }

    /// Every outcome that happened.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = (Outcome, &Requests)> {
        let others = self.others.iter().map_while(OnceLock::get).map(|place| (place.outcome, &*place.requests));
        std::iter::once((self.usual, &self.usual_requests)).chain(others)
    }

    #[cold]
    fn find(&self, outcome: Outcome, shared: &Shared) -> &Requests {
        if let Some(requests) = self.place(outcome, MAX_OUTCOMES) {
            return requests;
        }
        shared.overflowed.fetch_add(1, Ordering::Relaxed);
        self.place(outcome.class(), MAX_OUTCOMES + CLASSES).expect("a place is kept for each class")
    }

    /// The place of an outcome, a new one if it has none and there is one among the first `room`.
    fn place(&self, outcome: Outcome, room: usize) -> Option<&Requests> {
        let word = outcome.word();
        let fitting = self.others.iter().enumerate().find_map(|(index, place)| match place.get() {
            Some(taken) => (taken.word == word).then_some(place),
            None if index < room => Some(place),
            None => None,
        })?;
        Some(&fitting.get_or_init(|| Place { word, outcome, requests: Box::default() }).requests)
    }
}

/// A worker's own handle on a series. Cheap to clone; stays on its thread.
#[derive(Clone, Debug)]
pub struct Series {
    cells: Arc<Cells>,
    shared: Arc<Shared>,
    /// One writer: it may not leave its thread.
    _here: PhantomData<Rc<()>>,
}

impl Series {
    pub(crate) fn new(cells: Arc<Cells>, shared: Arc<Shared>) -> Series {
        Series { cells, shared, _here: PhantomData }
    }

    /// A request has ended. `status` is 0 when there was no response; bytes are those of bodies.
    #[inline]
    pub fn request(
        &self,
        status: u16,
        grpc_status: Option<u8>,
        flags: Flags,
        duration: Duration,
        request_bytes: u64,
        response_bytes: u64,
    ) {
        let outcome = Outcome::new(status, grpc_status, flags);
        let requests = match outcome.word() == self.cells.usual_word {
            true => &self.cells.usual_requests,
            false => self.cells.find(outcome, &self.shared),
        };
        requests.observe(duration, request_bytes, response_bytes);
    }

    /// An opaque connection began.
    pub fn tcp_opened(&self) {
        add(&self.cells.tcp.opened, 1);
    }

    /// An opaque connection ended.
    pub fn tcp_closed(&self) {
        add(&self.cells.tcp.closed, 1);
    }

    /// Bytes that went to the caller of an opaque connection, since the last call.
    pub fn tcp_sent(&self, bytes: u64) {
        add(&self.cells.tcp.sent, bytes);
    }

    /// Bytes that came from the caller of an opaque connection, since the last call.
    pub fn tcp_received(&self, bytes: u64) {
        add(&self.cells.tcp.received, bytes);
    }
}

/// The outcome that a series expects most.
pub(crate) fn usual(key: &SeriesKey) -> Outcome {
    let grpc_status = (key.protocol == super::key::Protocol::Grpc).then_some(0);
    Outcome { status: 200, grpc_status, flags: Flags::NONE }
}
