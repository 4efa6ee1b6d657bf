//! What is asked for only once traffic wants it.
//!
//! A mesh has thousands of Services and a workload calls a handful: a sidecar that held them all would pay for the cluster's size
//! with every change. So a connection that goes to an address that nothing is known of asks for it by name, and waits a
//! moment for the answer, "there is nothing" included; others that want the same share the wait. What nobody has wanted for long is
//! let go, and their number is bounded, whoever scans the network.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The most names at once.
const MAX_NAMES: usize = 4096;
/// What nobody has wanted for so long is let go.
const KEEP: Duration = Duration::from_secs(600);
/// How long a connection waits for the control plane's word.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shared by those who want and the client that asks.
#[derive(Debug, Default)]
pub struct Demand {
    names: Mutex<HashMap<String, Use>>,
    changed: Notify,
    answers: watch::Sender<Answers>,
}

#[derive(Debug)]
struct Use {
    last: Instant,
    /// Somebody has waited in vain: nobody waits again.
    late: bool,
}

#[derive(Clone, Debug, Default)]
struct Answers {
    /// There is somebody to ask.
    connected: bool,
    names: Arc<BTreeSet<String>>,
}

impl Demand {
    /// Comes back when what there is of that name is in service, and after a second at most. At once when it was
    /// answered before, or there is nobody to ask.
    pub async fn want(&self, name: &str) {
        let mut answers = self.answers.subscribe();
        let is_late = self.touch(name);
        let is_known = |answers: &Answers| !answers.connected || answers.names.contains(name);
        if is_late || is_known(&answers.borrow()) {
            return;
        }
        if tokio::time::timeout(PATIENCE, answers.wait_for(is_known)).await.is_err()
            && let Some(wanted) = self.names().get_mut(name)
        {
            wanted.late = true;
        }
    }

    /// Whether waiting for this name was in vain before.
    fn touch(&self, name: &str) -> bool {
        let (mut names, last) = (self.names(), Instant::now());
        if let Some(wanted) = names.get_mut(name) {
            wanted.last = last;
            return wanted.late;
        }
        if names.len() >= MAX_NAMES {
            let oldest = names.iter().min_by_key(|(_, wanted)| wanted.last).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| names.remove(&oldest));
        }
        names.insert(name.to_owned(), Use { last, late: false });
        self.changed.notify_one();
        false
    }

    /// Names that were wanted by who ran before.
    pub(super) fn restore(&self, names: impl Iterator<Item = String>) {
        let last = Instant::now();
        self.names().extend(names.take(MAX_NAMES).map(|name| (name, Use { last, late: false })));
    }

    /// Comes back when other names are wanted than before; it may be called again after it was not awaited to the end.
    pub(super) async fn changed(&self) {
        let next = self.names().values().map(|wanted| wanted.last + KEEP).min();
        let expiry = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.changed.notified() => {}
            () = expiry => {
                let now = Instant::now();
                self.names().retain(|_, wanted| now.saturating_duration_since(wanted.last) < KEEP);
            }
        }
    }

    pub(super) fn wanted(&self) -> BTreeSet<String> {
        self.names().keys().cloned().collect()
    }

    /// The control plane has spoken of these names, and whatever they need.
    pub(super) fn answer(&self, names: BTreeSet<String>) {
        self.answers.send_if_modified(|answers| {
            let is_news = !answers.connected || *answers.names != names;
            if is_news {
                *answers = Answers { connected: true, names: Arc::new(names) };
            }
            is_news
        });
    }

    /// Nobody will answer: who waits goes on with what there is.
    pub(super) fn disconnected(&self) {
        self.answers.send_modify(|answers| answers.connected = false);
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        // No change of the names can panic half-way.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_want_the_same_share_the_wait() {
        let demand = Arc::new(Demand::default());
        demand.answer(set(&[]));
        let began = Instant::now();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let demand = demand.clone();
                tokio::spawn(async move { demand.want("a").await })
            })
            .collect();
        demand.changed().await;
        assert_eq!(demand.wanted(), set(&["a"]));
        demand.answer(set(&["a"]));
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_in_vain_waits_once_and_without_a_control_plane_nobody_does() {
        let demand = Demand::default();
        let began = Instant::now();
        demand.want("away").await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        demand.answer(set(&[]));
        demand.want("a").await;
        assert_eq!(began.elapsed(), PATIENCE);
        demand.want("a").await;
        assert_eq!(began.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_bounded_and_the_unused_are_let_go() {
        let demand = Demand::default();
        for number in 0..MAX_NAMES + 10 {
            demand.want(&number.to_string()).await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let wanted = demand.wanted();
        assert_eq!(wanted.len(), MAX_NAMES);
        assert!(!wanted.contains("0") && wanted.contains("10"));
        demand.changed().await; // the news
        tokio::time::advance(KEEP / 2).await;
        demand.want("10").await;
        while demand.wanted().len() > 1 {
            demand.changed().await;
        }
        assert_eq!(demand.wanted(), set(&["10"]));
    }
}
