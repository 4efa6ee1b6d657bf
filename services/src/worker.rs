//! Threads that a service keeps beside its HTTP server: consumers and relays. They wait for files
//! and locks, which an async runtime must not, and whoever starts them waits for their end.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Tells threads to end. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    set: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    pub(crate) fn set(&self) {
        *self.set.0.lock() = true;
        self.set.1.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.set.0.lock()
    }

    /// Waits for `limit` or until set.
    pub(crate) fn wait(&self, limit: Duration) {
        let mut set = self.set.0.lock();
        if !*set {
            self.set.1.wait_for(&mut set, limit);
        }
    }
}

/// Wakes a thread that has work. A call while it is busy is not lost.
#[derive(Clone, Default)]
pub(crate) struct Wake {
    called: Arc<(Mutex<bool>, Condvar)>,
}

impl Wake {
    pub(crate) fn call(&self) {
        *self.called.0.lock() = true;
        self.called.1.notify_one();
    }

    /// Returns when called, since the last return, or after `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let mut called = self.called.0.lock();
        if !*called {
            self.called.1.wait_for(&mut called, limit);
        }
        *called = false;
    }
}

/// The threads of one service.
#[derive(Default)]
pub(crate) struct Workers {
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a thread that ends soon after its [`Stop`] is set.
    pub(crate) fn start(&mut self, name: &str, run: impl FnOnce(&Stop) + Send + 'static) -> std::io::Result<()> {
        let stop = self.stop.clone();
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(move || run(&stop))?);
        Ok(())
    }

    /// The first that has ended though nobody told it to: it panicked.
    pub(crate) fn dead(&self) -> Option<&str> {
        self.threads.iter().find(|t| t.is_finished()).map(|t| t.thread().name().unwrap_or("unnamed"))
    }

    /// Tells all to end, and waits for them.
    pub(crate) fn stop(self) {
        self.stop.set();
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or("unnamed").to_owned();
            if thread.join().is_err() {
                tracing::error!(thread = name, "a thread of the service had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than any test may take.
    const FOREVER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_call_before_the_wait_is_not_lost() {
        let wake = Wake::default();
        wake.call();
        wake.wait(FOREVER);
    }

    #[test]
    fn stop_ends_waiting_threads_and_waits_for_them() {
        let mut workers = Workers::default();
        let ended = Arc::new(Mutex::new(false));
        let theirs = ended.clone();
        workers
            .start("sleeper", move |stop| {
                stop.wait(FOREVER);
                *theirs.lock() = true;
            })
            .unwrap();
        assert_eq!(workers.dead(), None);
        workers.stop();
        assert!(*ended.lock());
    }
}
