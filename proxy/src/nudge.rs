//! A waker that is kept with a connection and passes wake-ups on to whoever uses the connection now, and remembers
//! that there was one.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// The connection's own waker.
pub(crate) struct Nudge {
    user: Arc<User>,
    waker: Waker,
}

#[derive(Default)]
struct User {
    task: Mutex<Option<Waker>>,
    woken: AtomicBool,
}

impl Nudge {
    pub(crate) fn new() -> Nudge {
        let user = Arc::<User>::default();
        Nudge { waker: Waker::from(user.clone()), user }
    }

    /// From now on this task is woken.
    pub(crate) fn user(&self, waker: &Waker) {
        let mut user = self.user.task.lock();
        if !user.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *user = Some(waker.clone());
        }
    }

    /// Whether it was woken since this was asked last.
    pub(crate) fn take_woken(&self) -> bool {
        // Most often it was not, and then nothing need be written.
        self.user.woken.load(Ordering::Relaxed) && self.user.woken.swap(false, Ordering::Acquire)
    }

    /// What the connection is polled with.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl Wake for User {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}
