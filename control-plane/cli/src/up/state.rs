//! The state directory: one `weft up` at a time, and never somebody's other files.
//!
//! Starting afresh deletes, so it deletes only by name and only in a directory that carries our mark.

use super::endpoints::replace;
use super::view::View;
use anyhow::{Context as _, bail};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Marks the directory as ours, and is locked while `weft up` runs.
const MARK: &str = "weft.lock";
/// What runs; see [`View`].
const VIEW: &str = "up.json";
/// What a fresh start does without.
const OLD: [&str; 6] = ["data", "logs", "proxies", "run", "numbers.json", VIEW];

pub(crate) struct State {
    path: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the directory, or takes the one that is there; unless `keep`, without what the last run left.
    pub(crate) fn open(path: &Path, keep: bool) -> anyhow::Result<State> {
        let name = path.display();
        fs::create_dir_all(path).with_context(|| format!("cannot create the state directory {name}"))?;
        let mark = path.join(MARK);
        let foreign = !mark.exists() && fs::read_dir(path)?.next().is_some();
        if foreign {
            bail!("{name} has files in it that are not of `weft up`: name an empty or new directory with --state");
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&mark);
        let lock = lock.with_context(|| format!("cannot write {}", mark.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "`weft up` already runs with the state directory {name}: stop that one, or give this one another --state, --pod-cidr and --bind"
                )
            }
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock {}", mark.display())),
        }
        if !keep {
            OLD.iter().try_for_each(|old| remove(&path.join(old)))?;
        }
        Ok(State { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says what runs, for programs.
    pub(crate) fn publish(&self, view: &View) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(view).expect("a view is plain data");
        let path = self.path.join(VIEW);
        replace(&path, &text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Nothing runs any more.
    pub(crate) fn close(self) {
        // What cannot be removed is replaced by the next run.
        let _ = remove(&self.path.join(VIEW));
        let _ = remove(&self.path.join("up.sock"));
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_start_forgets_and_keep_remembers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        drop(State::open(&path, false).unwrap());
        fs::create_dir_all(path.join("data/order")).unwrap();
        fs::write(path.join("numbers.json"), "{}").unwrap();
        drop(State::open(&path, true).unwrap());
        assert!(path.join("data/order").exists());
        drop(State::open(&path, false).unwrap());
        assert!(!path.join("data").exists() && !path.join("numbers.json").exists());
    }

    #[test]
    fn somebodys_files_are_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        let error = State::open(directory.path(), false).err().unwrap().to_string();
        assert!(error.contains("not of `weft up`") && directory.path().join("data").exists(), "{error}");
    }

    #[test]
    fn only_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = State::open(&path, false).unwrap();
        assert!(State::open(&path, false).err().unwrap().to_string().contains("already runs"));
        first.close();
        State::open(&path, false).unwrap();
    }
}
