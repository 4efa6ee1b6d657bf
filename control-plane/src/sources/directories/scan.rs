//! One look at everything: which files there are, and whether they are the ones of the last look.
//!
//! A directory is watched *before* it is read, so a file that comes in between is either read or heard of, never
//! missed. Invariants: symbolic links are followed; each directory is watched and read by one path only, the first (so a
//! loop ends, and no file is read twice); no more than [`MOST_FILES`] files are taken.

use super::root::{Root, is_config, is_hidden};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use weft_config::{Place, Problem};

/// More files than this are a mistake (somebody's whole disk), not configuration.
pub(crate) const MOST_FILES: usize = 50_000;
const DEEPEST: usize = 32;

/// What tells a file from the one that was there before, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Fingerprint {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A directory's identity: device and inode.
pub(crate) type Identity = (u64, u64);

/// Asked before a directory is read.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&Path, Identity) -> io::Result<()>;

/// What a look found.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) files: BTreeMap<PathBuf, Fingerprint>,
    pub(crate) directories: BTreeMap<PathBuf, Identity>,
    /// What lies in here could not be seen; it may well be there still.
    pub(crate) unseen: BTreeSet<PathBuf>,
    pub(crate) problems: Vec<Problem>,
    /// By which path a directory was entered first.
    entered: HashMap<Identity, PathBuf>,
    full: bool,
}

impl Scan {
    pub(crate) fn run(roots: &[Root], watch: Watch<'_>) -> Scan {
        let mut scan = Scan::default();
        let (present, absent): (Vec<&Root>, Vec<&Root>) = roots.iter().partition(|root| root.path.is_dir());
        for root in present {
            scan.root(root, watch);
        }
        for root in roots {
            if let Some(above) = root.ancestor()
                && let Err(error) = scan.enter(root, above, watch)
            {
                scan.trouble(root, above, &error);
            }
        }
        // One that came before the directory above was watched is found here; one that comes later is heard of.
        for root in absent {
            scan.root(root, watch);
        }
        scan
    }

    fn root(&mut self, root: &Root, watch: Watch<'_>) {
        if let Err(error) = self.directory(root, &root.path, 0, watch) {
            self.trouble(root, &root.path, &error);
        }
    }

    /// Watches a directory. Returns whether it is entered for the first time.
    fn enter(&mut self, root: &Root, path: &Path, watch: Watch<'_>) -> io::Result<bool> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let identity = (metadata.dev(), metadata.ino());
        let first = self.entered.entry(identity).or_insert_with(|| path.to_owned());
        self.directories.insert(path.to_owned(), identity);
        if first != path {
            return Ok(false);
        }
        match watch(path, identity) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let place = Place::new(root.name(path), 1, 1);
                let message =
                    format!("the directory cannot be watched: {error}; changes are found by looking every few seconds");
                let hint = "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances";
                self.problems.push(Problem::warning(place, "", message).hint(hint));
            }
            _ => {}
        }
        Ok(true)
    }

    fn directory(&mut self, root: &Root, path: &Path, depth: usize, watch: Watch<'_>) -> io::Result<()> {
        if !self.enter(root, path, watch)? || depth > DEEPEST {
            return Ok(());
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            if is_hidden(&name) {
                continue;
            }
            let path = entry.path();
            // Follows links; what is gone by now was heard of.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                match self.directory(root, &path, depth + 1, watch) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => self.trouble(root, &path, &error),
                    _ => {}
                }
            } else if metadata.is_file() && is_config(&name) {
                self.file(root, path, &metadata);
            }
        }
        Ok(())
    }

    fn file(&mut self, root: &Root, path: PathBuf, metadata: &Metadata) {
        if self.files.len() < MOST_FILES {
            self.files.insert(path, Fingerprint::of(metadata));
        } else if !std::mem::replace(&mut self.full, true) {
            let place = Place::new(root.name(&path), 1, 1);
            let message = format!("more than {MOST_FILES} files are in the watched directories; the rest is not read");
            self.problems
                .push(Problem::error(place, "", message).hint("watch a directory that holds configuration only"));
        }
    }

    fn trouble(&mut self, root: &Root, path: &Path, error: &io::Error) {
        self.unseen.insert(path.to_owned());
        let place = Place::new(root.name(path), 1, 1);
        let problem = match error.kind() {
            io::ErrorKind::NotFound => {
                Problem::warning(place, "", "the directory is not there; what was read from it before stays in force")
                    .hint("make it; an empty directory takes its objects out of force")
            }
            io::ErrorKind::NotADirectory => {
                Problem::error(place, "", "this is not a directory").hint("give the directory that the file is in")
            }
            _ => Problem::error(
                place,
                "",
                format!("the directory cannot be read: {error}; what was read from it before stays in force"),
            ),
        };
        self.problems.push(problem);
    }
}
