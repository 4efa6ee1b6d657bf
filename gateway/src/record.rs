//! Who serves now: a small file beside the upgrade socket.
//!
//! A successor must know whom to ask for the sockets, and how many workers that one has. A process
//! id alone can belong to a stranger by the time it is read, and `SIGQUIT` kills strangers; so the
//! record also holds when the process started.

use anyhow::Context;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One line: process id, start time in clock ticks since boot, workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    started: u64,
    pub(crate) workers: usize,
}

impl Record {
    /// Where the record of those who meet at `upgrade_socket` is.
    pub(crate) fn path(upgrade_socket: &Path) -> PathBuf {
        let mut path = upgrade_socket.as_os_str().to_owned();
        path.push(".owner");
        path.into()
    }

    /// This process's.
    pub(crate) fn own(workers: usize) -> anyhow::Result<Record> {
        let pid = std::process::id();
        let started = started(pid).context("/proc does not know this process: is /proc mounted?")?;
        Ok(Record { pid, started, workers })
    }

    /// The process that serves, if it still lives and is not this one.
    pub(crate) fn of_the_living(path: &Path) -> Option<Record> {
        Record::read(path)
            .filter(|record| record.pid != std::process::id() && started(record.pid) == Some(record.started))
    }

    fn read(path: &Path) -> Option<Record> {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_ascii_whitespace();
        let pid = words.next()?.parse().ok()?;
        let started = words.next()?.parse().ok()?;
        let workers = words.next()?.parse().ok()?;
        Some(Record { pid, started, workers })
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        replace(path, &format!("{} {} {}\n", self.pid, self.started, self.workers))
    }

    /// Removes the record, unless a successor has written its own.
    pub(crate) fn remove(&self, path: &Path) {
        if Record::read(path) == Some(*self) {
            remove(path);
        }
    }
}

/// Writes this process's id.
pub(crate) fn write_pid(path: &Path) -> anyhow::Result<()> {
    replace(path, &format!("{}\n", std::process::id()))
}

/// Removes the pid file, unless a successor has written its own.
pub(crate) fn remove_pid(path: &Path) {
    let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    if pid == Some(std::process::id()) {
        remove(path);
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the file");
        }
        _ => {}
    }
}

/// A reader sees the old text or the new, never half of one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// When a process started, in clock ticks since boot; `None` when it is dead.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the second field, the command in brackets, may itself hold spaces and brackets
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_living_are_found_and_the_dead_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = Record::path(&dir.path().join("upgrade.sock"));
        assert_eq!(Record::of_the_living(&path), None, "no record");

        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().expect("cat runs");
        let record = Record { pid: child.id(), started: started(child.id()).expect("it lives"), workers: 3 };
        record.write(&path).expect("the directory is writable");
        assert_eq!(Record::of_the_living(&path), Some(record));

        let stranger = Record { started: record.started + 1, ..record };
        stranger.write(&path).expect("the directory is writable");
        assert_eq!(Record::of_the_living(&path), None, "the id belongs to another process now");

        record.write(&path).expect("the directory is writable");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        assert_eq!(Record::of_the_living(&path), None, "dead");
    }

    #[test]
    fn a_successors_files_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let (record, pid) = (dir.path().join("upgrade.sock.owner"), dir.path().join("pid"));
        let own = Record::own(2).expect("/proc is there");
        let successor = Record { pid: 1, started: 1, workers: 2 };
        successor.write(&record).expect("the directory is writable");
        fs::write(&pid, "1\n").expect("the directory is writable");
        own.remove(&record);
        remove_pid(&pid);
        assert!(record.exists() && pid.exists());

        own.write(&record).expect("the directory is writable");
        write_pid(&pid).expect("the directory is writable");
        own.remove(&record);
        remove_pid(&pid);
        assert!(!record.exists() && !pid.exists());
    }

    #[test]
    fn rubbish_in_the_record_names_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("record");
        for text in ["", "12", "12 x 3", "\u{0}\u{0}"] {
            fs::write(&path, text).expect("the directory is writable");
            assert_eq!(Record::of_the_living(&path), None);
        }
    }
}
