//! An append-only journal that several processes share: the state is what its entries add up to.
//!
//! Each process folds the journal into memory and, before it answers or decides, reads what others
//! have appended since. One transaction is one frame (length, CRC-32, JSON), appended under an exclusive
//! `flock` that the kernel takes from a killed process, and on the disk before the lock is given back.
//!
//! - A process killed while it appends leaves a torn frame at the end. The next writer, which
//!   holds the lock and so knows that nobody is still writing, cuts it off. A bad frame with more behind it is
//!   no torn one: that is reported and never cut, because what follows was promised.
//! - Readers take no lock; a frame whose checksum does not hold is not there yet.
//! - When the journal is several times as long as its state, the writer replaces it, by a rename,
//!   with one that begins with a snapshot; others notice that the file is another one and read that.

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Shorter journals are left alone, …
const COMPACT_BYTES: u64 = 4 << 20;
/// … and so are those not this many times as long as the snapshot they begin with.
const COMPACT_FACTOR: u64 = 4;
const HEAD_BYTES: usize = 8;

/// A state that is the sum of entries.
pub(super) trait Fold: Default + Serialize + DeserializeOwned + Send + 'static {
    type Entry: Serialize + DeserializeOwned;

    fn fold(&mut self, entry: Self::Entry);
}

#[derive(Serialize, Deserialize)]
enum Frame<S, E> {
    Snapshot(S),
    Entries(Vec<E>),
}

pub(super) struct Journal<S> {
    folder: PathBuf,
    /// Whoever holds its lock may append. Not the journal itself, which gets replaced.
    gate: File,
    compact_bytes: u64,
    seen: Mutex<Option<Seen<S>>>,
}

/// The journal as far as this process has read it.
struct Seen<S> {
    file: File,
    /// Device and inode: tells a replaced journal.
    identity: (u64, u64),
    upto: u64,
    /// Length of the snapshot that the file begins with.
    snapshot_bytes: u64,
    state: S,
}

/// A transaction being made: entries count at once, and all or none are kept.
pub(super) struct Draft<'a, S: Fold> {
    state: &'a mut S,
    entries: Vec<S::Entry>,
}

impl<S: Fold> Draft<'_, S>
where
    S::Entry: Clone,
{
    pub(super) fn state(&self) -> &S {
        self.state
    }

    pub(super) fn write(&mut self, entry: S::Entry) {
        self.state.fold(entry.clone());
        self.entries.push(entry);
    }
}

impl<S: Fold> Journal<S> {
    /// Opens the journal in `folder`, creating it if need be.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Journal<S>> {
        Journal::open_with(folder, COMPACT_BYTES)
    }

    fn open_with(folder: &Path, compact_bytes: u64) -> anyhow::Result<Journal<S>> {
        std::fs::create_dir_all(folder)?;
        let gate = File::create(folder.join("journal.lock"))?;
        let journal = Journal { folder: folder.to_owned(), gate, compact_bytes, seen: Mutex::new(None) };
        journal.settled(|_| ())?;
        Ok(journal)
    }

    /// Looks at the state as of now.
    pub(super) fn read<R>(&self, look: impl FnOnce(&S) -> R) -> anyhow::Result<R> {
        let mut seen = self.seen.lock();
        Ok(look(&self.catch_up(&mut seen)?.state))
    }

    /// Looks at the state, of which no power cut can take anything back.
    pub(super) fn settled<R>(&self, look: impl FnOnce(&S) -> R) -> anyhow::Result<R> {
        let mut seen = self.seen.lock();
        let _lock = Locked::new(&self.gate)?;
        Ok(look(&self.catch_up_locked(&mut seen)?.state))
    }

    /// One transaction: `decide` writes entries; they are kept, all, or if anything fails none.
    pub(super) fn transact<R>(&self, decide: impl FnOnce(&mut Draft<'_, S>) -> R) -> anyhow::Result<R>
    where
        S::Entry: Clone,
    {
        let mut seen = self.seen.lock();
        let _lock = Locked::new(&self.gate)?;
        let now = self.catch_up_locked(&mut seen)?;
        let mut draft = Draft { state: &mut now.state, entries: Vec::new() };
        let result = decide(&mut draft);
        let entries = draft.entries;
        if entries.is_empty() {
            return Ok(result);
        }
        let kept = self.append(now, &Frame::Entries(entries)).and_then(|()| self.compact(now));
        if let Err(error) = kept {
            // What was folded is not, or not surely, in the file: forget it all and read again.
            *seen = None;
            return Err(error);
        }
        Ok(result)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("journal")
    }

    fn append(&self, seen: &mut Seen<S>, frame: &Frame<S, S::Entry>) -> anyhow::Result<()> {
        let bytes = encode(frame)?;
        let written = seen.file.write_all_at(&bytes, seen.upto).and_then(|()| seen.file.sync_data());
        if let Err(error) = written {
            // If this fails too, the next writer cuts the torn frame off.
            let _ = seen.file.set_len(seen.upto);
            return Err(error).with_context(|| format!("writing to {}", self.path().display()));
        }
        seen.upto += bytes.len() as u64;
        Ok(())
    }

    fn compact(&self, seen: &mut Seen<S>) -> anyhow::Result<()> {
        if seen.upto < self.compact_bytes.max(seen.snapshot_bytes * COMPACT_FACTOR) {
            return Ok(());
        }
        // The state goes into a frame by value, and comes back.
        let frame: Frame<S, S::Entry> = Frame::Snapshot(std::mem::take(&mut seen.state));
        let bytes = encode(&frame)?;
        if let Frame::Snapshot(state) = frame {
            seen.state = state;
        }
        let new = self.folder.join("journal.new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, self.path())?;
        File::open(&self.folder)?.sync_all()?;
        let file = self.open_file()?;
        seen.identity = identity(&file.metadata()?);
        seen.file = file;
        seen.upto = bytes.len() as u64;
        seen.snapshot_bytes = seen.upto;
        Ok(())
    }

    fn open_file(&self) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path())
    }

    /// Reads what is new, and leaves what is not whole yet.
    fn catch_up<'a>(&self, seen: &'a mut Option<Seen<S>>) -> anyhow::Result<&'a mut Seen<S>> {
        let place = || format!("reading {}", self.path().display());
        let current = std::fs::metadata(self.path()).ok().map(|m| identity(&m));
        if seen.as_ref().is_none_or(|s| Some(s.identity) != current) {
            let file = self.open_file().with_context(place)?;
            let identity = identity(&file.metadata().with_context(place)?);
            *seen = Some(Seen { file, identity, upto: 0, snapshot_bytes: 0, state: S::default() });
        }
        let seen = seen.as_mut().expect("it was just filled");
        let rest = rest(seen).with_context(place)?;
        let mut at = 0;
        while let Some((payload, length)) = next(&rest[at..]) {
            match serde_json::from_slice(payload).with_context(place)? {
                Frame::Snapshot(state) => {
                    seen.state = state;
                    seen.snapshot_bytes = length as u64;
                }
                Frame::Entries(entries) => entries.into_iter().for_each(|e| seen.state.fold(e)),
            }
            at += length;
            seen.upto += length as u64;
        }
        Ok(seen)
    }

    /// As `catch_up`, by the only writer: settles what a killed one left behind.
    fn catch_up_locked<'a>(&self, seen: &'a mut Option<Seen<S>>) -> anyhow::Result<&'a mut Seen<S>> {
        let before = seen.as_ref().map(|s| (s.identity, s.upto));
        let seen = self.catch_up(seen)?;
        if before != Some((seen.identity, seen.upto)) {
            seen.file.sync_data()?;
        }
        let rest = rest(seen)?;
        if !rest.is_empty() {
            let (path, upto) = (self.path(), seen.upto);
            if !torn(&rest) {
                bail!("{} is damaged at byte {upto}: restore it from a copy; nothing was changed", path.display());
            }
            tracing::warn!(journal = %path.display(), at = upto, bytes = rest.len(), "cutting off a torn frame");
            seen.file.set_len(upto)?;
            seen.file.sync_all()?;
        }
        Ok(seen)
    }
}

/// Holds the gate's lock; gives it back by going out of scope.
struct Locked<'a>(&'a File);

impl<'a> Locked<'a> {
    fn new(gate: &'a File) -> std::io::Result<Locked<'a>> {
        gate.lock()?;
        Ok(Locked(gate))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Unlocking what is locked does not fail.
        let _ = self.0.unlock();
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn encode<S: Serialize, E: Serialize>(frame: &Frame<S, E>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD_BYTES];
    serde_json::to_writer(&mut bytes, frame)?;
    let length = u32::try_from(bytes.len() - HEAD_BYTES).context("a transaction of more than 4 GiB")?;
    let crc = crc32fast::hash(&bytes[HEAD_BYTES..]);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// The file's bytes behind what has been seen.
fn rest<S>(seen: &Seen<S>) -> std::io::Result<Vec<u8>> {
    let length = seen.file.metadata()?.len().saturating_sub(seen.upto);
    let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    let mut filled = 0;
    // A writer may cut a torn frame off meanwhile: then there is less.
    while filled < bytes.len() {
        match seen.file.read_at(&mut bytes[filled..], seen.upto + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The length and checksum that `bytes` begin with.
fn head(bytes: &[u8]) -> Option<(usize, u32)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes are four bytes"));
    Some((number(0) as usize, number(4)))
}

/// The first frame's payload, and the frame's whole length, if it is whole and sound.
fn next(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, crc) = head(bytes)?;
    let payload = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
    // No frame is empty; a hole of zeros would pass for one.
    (length > 0 && crc32fast::hash(payload) == crc).then_some((payload, HEAD_BYTES + length))
}

/// Whether `bytes`, which begin with no sound frame, can be what a writer left that was stopped while appending:
/// a frame that reaches to the file's end or beyond, or zeros of a file that was grown and not filled.
fn torn(bytes: &[u8]) -> bool {
    head(bytes).is_none_or(|(length, _)| HEAD_BYTES + length >= bytes.len()) || bytes.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests;
