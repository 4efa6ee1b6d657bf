//! What the watchers heard, until somebody asks.
//!
//! The operating system tells of one save in several events and of a thousand saves in thousands. Read after
//! each, and a burst would be compiled over and over; wait too long, and a save is live late. So events gather here,
//! one entry per path, until they pause for [`QUIET`] or the first is [`LONGEST`] old.
//!
//! Memory is bounded: past [`MOST_PATHS`] the entries give way to one "look at everything".

mod cluster;

pub(crate) use cluster::ClusterNews;

use super::Change;
use cluster::ClusterInbox;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weft_config::Problem;

/// Events that pause for so long are a batch.
pub(crate) const QUIET: Duration = Duration::from_millis(5);
/// A batch is taken so long after its first event, however many follow.
pub(crate) const LONGEST: Duration = Duration::from_millis(50);
const MOST_PATHS: usize = 16_384;

/// What was heard last of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Written to; its writer has not closed it yet.
    Writing,
    /// Closed by its writer, or put there whole.
    Whole,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) last: Heard,
    /// It was gone at some moment of the batch, so what is there now may be another.
    pub(crate) was_gone: bool,
}

/// What was heard since the batch before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) paths: BTreeMap<PathBuf, News>,
    /// Events were lost: everything has to be looked at.
    pub(crate) lost: bool,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.lost
    }

    fn lose(&mut self) {
        self.paths.clear();
        self.lost = true;
    }

    fn hear(&mut self, path: &Path, heard: Heard) {
        if self.lost {
            return;
        }
        let news = self.paths.entry(path.to_owned()).or_insert(News { last: heard, was_gone: false });
        news.last = heard;
        news.was_gone |= heard == Heard::Gone;
        if self.paths.len() > MOST_PATHS {
            self.lose();
        }
    }

    /// A change of permissions or times says nothing of whether the writer is done.
    fn touch(&mut self, path: &Path) {
        let writing = self.paths.get(path).is_some_and(|news| news.last == Heard::Writing);
        if !writing {
            self.hear(path, Heard::Whole);
        }
    }
}

/// When the gathering batch began and was last added to.
#[derive(Clone, Copy, Debug)]
struct Gathering {
    first: Instant,
    last: Instant,
}

impl Gathering {
    fn ripe_at(self) -> Instant {
        self.ripe_after(QUIET, LONGEST)
    }

    fn ripe_after(self, quiet: Duration, longest: Duration) -> Instant {
        (self.last + quiet).min(self.first + longest)
    }
}

#[derive(Default)]
struct Inner {
    batch: Batch,
    gathering: Option<Gathering>,
    cluster: ClusterInbox,
    stopped: bool,
}

/// Shared by the watcher, which fills it, and the one who takes batches.
#[derive(Default)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Inbox {
    /// Called by the watcher's own thread.
    pub(crate) fn receive(&self, event: notify::Result<notify::Event>, now: Instant) {
        let mut inner = self.lock();
        match event {
            Ok(event) if event.need_rescan() => inner.batch.lose(),
            Ok(event) => hear(&mut inner.batch, &event),
            Err(_) => inner.batch.lose(),
        }
        if inner.batch.is_empty() {
            return;
        }
        let first = inner.gathering.map_or(now, |gathering| gathering.first);
        inner.gathering = Some(Gathering { first, last: now });
        self.changed.notify_one();
    }

    /// What became of an object of the cluster. The later word counts.
    pub(crate) fn hear_cluster(&self, name: Arc<str>, change: Change, now: Instant) {
        self.lock().cluster.hear(name, change, now);
        self.changed.notify_one();
    }

    /// The cluster has told all that it has. Before that nothing of it is taken.
    pub(crate) fn cluster_is_listed(&self, now: Instant) {
        self.lock().cluster.is_listed(now);
        self.changed.notify_one();
    }

    /// Everything that is wrong with the cluster; told at once.
    pub(crate) fn cluster_problems(&self, problems: Vec<Problem>) {
        self.lock().cluster.problems(problems);
        self.changed.notify_one();
    }

    /// What is ripe of the cluster, which may be nothing.
    pub(crate) fn take_cluster(&self, now: Instant) -> ClusterNews {
        self.lock().cluster.take(now)
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits for a batch or for news of the cluster, at most until `deadline`: then what is ripe, which may be nothing. `None` once stopped.
    pub(crate) fn take(&self, deadline: Instant) -> Option<Batch> {
        let mut inner = self.lock();
        loop {
            if inner.stopped {
                return None;
            }
            let now = Instant::now();
            let ripe_at = inner.gathering.map(Gathering::ripe_at);
            if ripe_at.is_some_and(|at| at <= now) {
                inner.gathering = None;
                return Some(std::mem::take(&mut inner.batch));
            }
            let cluster_at = inner.cluster.ripe_at(now);
            if deadline <= now || cluster_at.is_some_and(|at| at <= now) {
                return Some(Batch::default());
            }
            let wait = ripe_at.into_iter().chain(cluster_at).fold(deadline, Instant::min) - now;
            inner = self.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the batch that gathers speaks of that path.
    pub(crate) fn mentions(&self, path: &Path) -> bool {
        self.lock().batch.paths.contains_key(path)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change of `Inner` is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hear(batch: &mut Batch, event: &notify::Event) {
    let paths = event.paths.iter();
    match event.kind {
        EventKind::Create(notify::event::CreateKind::Folder)
        | EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            paths.for_each(|path| batch.hear(path, Heard::Whole));
        }
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => {
            paths.for_each(|path| batch.hear(path, written()));
        }
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            paths.for_each(|path| batch.hear(path, Heard::Gone));
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
            // Where the two halves are told apart they have been heard already.
            if let [from, to] = event.paths.as_slice() {
                batch.hear(from, Heard::Gone);
                batch.hear(to, Heard::Whole);
            }
        }
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Any | EventKind::Other => {
            paths.for_each(|path| batch.hear(path, Heard::Whole));
        }
        EventKind::Modify(_) => paths.for_each(|path| batch.touch(path)),
        EventKind::Access(_) => {}
    }
}

/// Only inotify says when a writer is done; elsewhere each event might be the last.
fn written() -> Heard {
    if cfg!(target_os = "linux") { Heard::Writing } else { Heard::Whole }
}

#[cfg(test)]
mod tests;
