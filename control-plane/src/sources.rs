//! Where configuration comes from: directories, a cluster, or both.
//!
//! Everything downstream knows names and what became of them ([`Change`]); whether a name is a file's or a cluster's
//! object is nobody's business there. Two things hold for every source: a change is told when the source has paused, so that
//! a burst is compiled once; and nothing goes live before the source has told all that it has, so that a restart never takes
//! anything out of force.

mod directories;
mod inbox;
pub(crate) mod kubernetes;

use directories::Directories;
use inbox::Inbox;
use kubernetes::Cluster;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use weft_config::{Parsed, Problem};

/// What became of one file, or of one object of a cluster.
#[derive(Debug)]
pub(crate) enum Change {
    /// It says this now.
    Text(String),
    /// It says this now, and was read where it came in.
    Read(Parsed),
    /// It is there and cannot be used; what it said before stays.
    Unreadable(Problem),
    /// It is not there at the moment; what it said stays until another file says it, or until it is removed.
    Vanished,
    Removed,
}

/// What became of the sources since the last time.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// By the name for people.
    pub(crate) files: Vec<(Arc<str>, Change)>,
    /// Everything that is wrong with the directories themselves, when that changed.
    pub(crate) directories: Option<Vec<Problem>>,
    /// Everything that is wrong with the cluster itself, when that changed.
    pub(crate) cluster: Option<Vec<Problem>>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.directories.is_none() && self.cluster.is_none()
    }
}

/// Ends the wait of [`Sources::next`], from any thread.
#[derive(Clone)]
pub(crate) struct Stop(Arc<Inbox>);

impl Stop {
    pub(crate) fn stop(&self) {
        self.0.stop();
    }

    /// Stops when the guard is dropped.
    pub(crate) fn on_drop(self) -> StopOnDrop {
        StopOnDrop(self)
    }
}

pub(crate) struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// All of them together, for one thread to ask.
pub(crate) struct Sources {
    directories: Directories,
    inbox: Arc<Inbox>,
    /// Whether the cluster has told all that it has; without a cluster, true.
    is_listed: bool,
    started: bool,
}

impl Sources {
    /// `directories` need not exist yet. With `cluster`, what [`Sources::cluster`] makes has to run. Errors: the working
    /// directory, to which directories may be relative, is unknown.
    pub(crate) fn new(directories: Vec<PathBuf>, cluster: bool) -> io::Result<(Sources, Stop)> {
        let inbox = Arc::new(Inbox::default());
        let directories = Directories::new(directories, inbox.clone())?;
        let sources = Sources { directories, inbox: inbox.clone(), is_listed: !cluster, started: false };
        Ok((sources, Stop(inbox)))
    }

    /// What watches the cluster and tells these sources.
    pub(crate) fn cluster(&self, client: kube::Client, name: String) -> Cluster {
        Cluster::new(client, name, self.inbox.clone())
    }

    /// Whether everything that was asked for has been there once.
    pub(crate) fn is_there(&self) -> bool {
        self.is_listed && self.directories.is_there()
    }

    /// Waits until something has changed; the first time, all that is there has. `None` once stopped.
    pub(crate) fn next(&mut self) -> Option<Changes> {
        loop {
            let batch = self.inbox.take(self.directories.wake_at())?;
            let mut changes = Changes::default();
            let now = Instant::now();
            self.directories.step(batch, now, &mut changes);
            let news = self.inbox.take_cluster(now);
            let is_first_list = news.is_listed && !std::mem::replace(&mut self.is_listed, true);
            changes.files.extend(news.objects);
            changes.cluster = news.problems;
            if !std::mem::replace(&mut self.started, true) || is_first_list || !changes.is_empty() {
                return Some(changes);
            }
        }
    }
}
