//! Requests that wait for one of a limited number of connections: oldest first, over all workers.
//!
//! A connection belongs to one worker, the limit to the process. So whoever gives a connection back looks who is first:
//! a request of the same worker finds it in the pool; for a request of another worker it is closed, and that
//! request may make one of its own. Nobody overtakes: who comes while others wait, waits behind them.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// How many they are: looked at on every request, so without the lock.
    length: AtomicUsize,
    waiting: Mutex<VecDeque<Arc<Place>>>,
}

#[derive(Debug)]
struct Place {
    worker: usize,
    turn: Notify,
}

/// A place in the queue, given up on drop.
pub(crate) struct Turn<'q> {
    queue: &'q Queue,
    place: Arc<Place>,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }

    /// The worker whose request is first.
    pub(crate) fn first(&self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        self.waiting.lock().front().map(|place| place.worker)
    }

    /// The last place.
    pub(crate) fn enter(&self, worker: usize) -> Turn<'_> {
        let place = Arc::new(Place { worker, turn: Notify::new() });
        let mut waiting = self.waiting.lock();
        waiting.push_back(place.clone());
        self.length.store(waiting.len(), Ordering::Release);
        Turn { queue: self, place }
    }

    /// A connection was given back or closed: the first may look again.
    pub(crate) fn call(&self) {
        if self.is_empty() {
            return;
        }
        if let Some(first) = self.waiting.lock().front() {
            first.turn.notify_one();
        }
    }
}

impl Turn<'_> {
    pub(crate) fn is_first(&self) -> bool {
        self.queue.waiting.lock().front().is_some_and(|first| Arc::ptr_eq(first, &self.place))
    }

    /// Comes back when there may be something for this place. It may also be nothing.
    pub(crate) async fn comes(&self) {
        self.place.turn.notified().await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting.lock();
        waiting.retain(|place| !Arc::ptr_eq(place, &self.place));
        self.queue.length.store(waiting.len(), Ordering::Release);
        // There may be enough for the next one too.
        if let Some(first) = waiting.front() {
            first.turn.notify_one();
        }
    }
}
