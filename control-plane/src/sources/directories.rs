//! Directories that people, tools and clusters write to.
//!
//! Everybody saves differently. Some write in place, so that half a file can be read; some remove the old one and
//! rename the new one into its place, so that for a moment there is none; a cluster's kubelet swaps a whole directory
//! behind a symbolic link; a checkout writes a thousand files. Whoever believed each moment would take routes out of
//! force that nobody meant to remove. So:
//!
//! - a file is read when its writer has closed it (or has been silent for [`PATIENCE`]);
//! - a file that is gone is only weaker ([`Change::Vanished`]) until it has been gone for [`GRACE`];
//! - a directory that is gone or unreadable takes nothing out of force;
//! - events are hints, never the truth: every [`RESCAN`] everything is looked at by size, time and inode, so a lost
//!   event costs seconds and not a wrong mesh.
//!
//! All of it is synchronous, and runs on the one thread that asks for [`super::Sources::next`].

mod load;
mod root;
mod scan;

use super::inbox::{Batch, Heard, Inbox, News};
use super::{Change, Changes};
use load::{Failure, Loaded};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use root::{Meaning, Root};
use scan::{Fingerprint, Identity, Scan};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};
use weft_config::{MAX_FILE_BYTES, Place, Problem};

/// A file that is open for writing is read after so long without a write.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// A file that is absent for so long is removed.
pub(crate) const GRACE: Duration = Duration::from_millis(100);
/// How often everything is looked at without being asked.
pub(crate) const RESCAN: Duration = Duration::from_secs(3);

/// The watched directories and what is known of them.
pub(crate) struct Directories {
    roots: Vec<Root>,
    inbox: Arc<Inbox>,
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Identity>,
    files: BTreeMap<PathBuf, Known>,
    /// Files to look at, and when.
    due: BTreeMap<PathBuf, Due>,
    next_scan: Instant,
    /// Of the watcher and of the last scan.
    problems: Vec<Problem>,
    no_watcher: Option<Problem>,
    is_there: bool,
    patience: Duration,
    grace: Duration,
}

/// A file as it was read last.
struct Known {
    name: Arc<str>,
    fingerprint: Option<Fingerprint>,
    /// Of the text that is in force; `None` when the file has vanished or cannot be used.
    digest: Option<[u8; 32]>,
    vanished: bool,
    /// Why it cannot be used.
    trouble: Option<Problem>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    /// It was absent when it was looked at before.
    absent: bool,
}

impl Directories {
    /// `directories` need not exist yet. Errors: the working directory, to which they may be relative, is unknown.
    pub(crate) fn new(directories: Vec<PathBuf>, inbox: Arc<Inbox>) -> io::Result<Directories> {
        let roots = directories.into_iter().map(Root::new).collect::<io::Result<Vec<_>>>()?;
        let hearing = inbox.clone();
        let watcher = notify::recommended_watcher(move |event| hearing.receive(event, Instant::now()));
        let (watcher, no_watcher) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => {
                let place = Place::new(roots.first().map(|root| root.name(&root.path)).unwrap_or_default(), 1, 1);
                let message =
                    format!("nothing can be watched: {error}; changes are found by looking every few seconds");
                (None, Some(Problem::warning(place, "", message).hint("raise fs.inotify.max_user_instances")))
            }
        };
        Ok(Directories {
            roots,
            inbox,
            watcher,
            watched: HashMap::new(),
            files: BTreeMap::new(),
            due: BTreeMap::new(),
            next_scan: Instant::now(),
            problems: Vec::new(),
            no_watcher,
            is_there: false,
            patience: PATIENCE,
            grace: GRACE,
        })
    }

    /// Whether any of the directories exists, or none was asked for. While none does, nobody can tell an empty mesh from a mistake.
    pub(crate) fn is_there(&self) -> bool {
        self.is_there || self.roots.is_empty()
    }

    /// Looks at what was heard, and at everything when it is time for that.
    pub(crate) fn step(&mut self, batch: Batch, now: Instant, changes: &mut Changes) {
        let asked = self.hear(batch, now);
        let routine = now >= self.next_scan;
        if asked || routine {
            self.scan(routine, now, changes);
        }
        self.look(now, changes);
    }

    /// When to look without having heard anything.
    pub(crate) fn wake_at(&self) -> Instant {
        self.due.values().map(|due| due.at).fold(self.next_scan, Instant::min)
    }

    /// Notes which files to look at. Returns whether everything has to be looked at.
    fn hear(&mut self, batch: Batch, now: Instant) -> bool {
        let mut everything = batch.lost;
        for (path, news) in batch.paths {
            if news.was_gone {
                // Its watch may have gone with it.
                everything |= self.forget_watches(&path);
            }
            let meaning = self.roots.iter().map(|root| root.meaning(&path)).max().unwrap_or(Meaning::Foreign);
            match meaning {
                Meaning::Root => everything |= self.is_about_root(&path),
                Meaning::Swap => everything = true,
                Meaning::Config if !path.is_dir() => self.note(path, news, now),
                Meaning::Config | Meaning::Other => everything |= path.is_dir(),
                Meaning::Hidden | Meaning::Foreign => {}
            }
        }
        everything
    }

    fn forget_watches(&mut self, gone: &Path) -> bool {
        let before = self.watched.len();
        self.watched.retain(|path, _| !path.starts_with(gone));
        self.watched.len() != before
    }

    /// A directory above a root speaks of its other children too, and of times and permissions of its own.
    fn is_about_root(&self, path: &Path) -> bool {
        match (fs::metadata(path), self.watched.get(path)) {
            (Ok(metadata), Some(watched)) => (metadata.dev(), metadata.ino()) != *watched,
            (Err(_), None) => false,
            _ => true,
        }
    }

    fn note(&mut self, path: PathBuf, news: News, now: Instant) {
        let at = match news.last {
            Heard::Writing if is_open_ended(&path) => now + self.patience,
            Heard::Writing | Heard::Whole | Heard::Gone => now,
        };
        self.due.insert(path, Due { at, absent: false });
    }

    fn scan(&mut self, routine: bool, now: Instant, changes: &mut Changes) {
        self.next_scan = now + RESCAN;
        let scan = self.watch_and_scan(routine);
        self.is_there = self.roots.iter().any(|root| scan.directories.contains_key(&root.path));
        for (path, fingerprint) in &scan.files {
            let same = self.files.get(path).is_some_and(|known| known.fingerprint == Some(*fingerprint));
            // What is being written this very moment is heard of.
            if !same && !self.due.contains_key(path) && !self.inbox.mentions(path) {
                self.due.insert(path.clone(), Due { at: now, absent: false });
            }
        }
        for (path, known) in &mut self.files {
            if scan.files.contains_key(path) {
                continue;
            }
            if scan.unseen.iter().any(|unseen| path.starts_with(unseen)) {
                self.due.remove(path);
                vanish(known, changes);
            } else if !self.due.contains_key(path) {
                self.due.insert(path.clone(), Due { at: now, absent: false });
            }
        }
        let problems: Vec<Problem> = self.no_watcher.iter().cloned().chain(scan.problems).collect();
        if problems != self.problems {
            self.problems.clone_from(&problems);
            changes.directories = Some(problems);
        }
    }

    /// Routinely every directory is watched anew: a watch can be lost without a word.
    fn watch_and_scan(&mut self, routine: bool) -> Scan {
        let (watcher, watched) = (&mut self.watcher, &mut self.watched);
        let scan = Scan::run(&self.roots, &mut |path, identity| {
            let Some(watcher) = watcher else { return Ok(()) };
            match watched.get(path) {
                Some(before) if *before == identity && !routine => return Ok(()),
                // Fails when the other directory is gone, and its watch with it.
                Some(before) if *before != identity => drop(watcher.unwatch(path)),
                _ => {}
            }
            watcher.watch(path, RecursiveMode::NonRecursive).map_err(io_error)?;
            watched.insert(path.to_owned(), identity);
            Ok(())
        });
        watched.retain(|path, _| {
            let keep = scan.directories.contains_key(path);
            if let (false, Some(watcher)) = (keep, watcher.as_mut()) {
                // Fails when the directory is gone, and its watch with it.
                drop(watcher.unwatch(path));
            }
            keep
        });
        scan
    }

    /// Reads the files whose time has come.
    fn look(&mut self, now: Instant, changes: &mut Changes) {
        let ripe: Vec<(PathBuf, Due)> =
            self.due.iter().filter(|(_, due)| due.at <= now).map(|(path, due)| (path.clone(), *due)).collect();
        for (path, due) in ripe {
            self.due.remove(&path);
            match load::load(&path) {
                Ok(loaded) => self.take(path, loaded, changes),
                Err(Failure::Absent) => self.miss(path, due, now, changes),
                Err(failure) => self.refuse(path, &failure, changes),
            }
        }
    }

    fn known(&mut self, path: PathBuf) -> &mut Known {
        let roots = &self.roots;
        self.files.entry(path).or_insert_with_key(|path| {
            let name =
                root::of(roots, path).map_or_else(|| path.to_string_lossy().into_owned(), |root| root.name(path));
            Known { name: name.into(), fingerprint: None, digest: None, vanished: false, trouble: None }
        })
    }

    fn take(&mut self, path: PathBuf, loaded: Loaded, changes: &mut Changes) {
        let known = self.known(path);
        let digest = Sha256::digest(&loaded.text).into();
        known.fingerprint = (!loaded.young).then_some(loaded.fingerprint);
        known.vanished = false;
        known.trouble = None;
        if known.digest != Some(digest) {
            known.digest = Some(digest);
            changes.files.push((known.name.clone(), Change::Text(loaded.text)));
        }
    }

    /// The file is not there: perhaps for a moment, perhaps because its whole directory is away, perhaps for good.
    fn miss(&mut self, path: PathBuf, due: Due, now: Instant, changes: &mut Changes) {
        let root_is_there = root::of(&self.roots, &path).is_some_and(|root| root.path.is_dir());
        let Some(known) = self.files.get_mut(&path) else { return };
        if !root_is_there {
            vanish(known, changes);
        } else if due.absent {
            changes.files.push((known.name.clone(), Change::Removed));
            self.files.remove(&path);
        } else {
            vanish(known, changes);
            self.due.insert(path, Due { at: now + self.grace, absent: true });
        }
    }

    fn refuse(&mut self, path: PathBuf, failure: &Failure, changes: &mut Changes) {
        let fingerprint = fs::metadata(&path).ok().map(|metadata| Fingerprint::of(&metadata));
        let known = self.known(path);
        known.fingerprint = fingerprint;
        known.digest = None;
        known.vanished = false;
        let problem = problem(&known.name, failure);
        if known.trouble.as_ref() != Some(&problem) {
            known.trouble = Some(problem.clone());
            changes.files.push((known.name.clone(), Change::Unreadable(problem)));
        }
    }
}

fn vanish(known: &mut Known, changes: &mut Changes) {
    known.digest = None;
    known.fingerprint = None;
    known.trouble = None;
    if !std::mem::replace(&mut known.vanished, true) {
        changes.files.push((known.name.clone(), Change::Vanished));
    }
}

/// Whether a close will follow: a link is made and never opened.
fn is_open_ended(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

fn io_error(error: notify::Error) -> io::Error {
    match error.kind {
        notify::ErrorKind::Io(error) => error,
        notify::ErrorKind::PathNotFound => io::ErrorKind::NotFound.into(),
        notify::ErrorKind::MaxFilesWatch => io::Error::other("the limit of watches is reached"),
        other => io::Error::other(format!("{other:?}")),
    }
}

fn problem(name: &str, failure: &Failure) -> Problem {
    let at = |line, message: String| Problem::error(Place::new(name, line, 1), "", message);
    match failure {
        Failure::Absent => at(1, "the file is not there".into()),
        Failure::TooLarge => at(1, format!("the file is larger than {} KiB and was not read", MAX_FILE_BYTES / 1024))
            .hint("split it into several files"),
        Failure::NotUtf8 { byte, line } => {
            at(*line, format!("byte {byte} is not UTF-8, so the file was not read")).hint("save it as UTF-8")
        }
        Failure::Io(error) => at(1, format!("the file cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests;
