//! Reading one file, without trusting it.

use super::scan::Fingerprint;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};
use weft_config::MAX_FILE_BYTES;

/// A file system's clock may tick so coarsely that two writes within a tick look the same.
const TICK: Duration = Duration::from_millis(100);

/// What a file says, and which file said so.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) text: String,
    pub(crate) fingerprint: Fingerprint,
    /// The file was so young when it was read that a later write may leave the same fingerprint.
    pub(crate) young: bool,
}

#[derive(Debug)]
pub(crate) enum Failure {
    /// Not there, or not a file.
    Absent,
    TooLarge,
    /// The first byte that is not UTF-8, and its line, from 1.
    NotUtf8 {
        byte: usize,
        line: u32,
    },
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::Absent,
            _ => Failure::Io(error),
        }
    }
}

pub(crate) fn load(path: &Path) -> Result<Loaded, Failure> {
    // Asked first: to open a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Failure::Absent);
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    if metadata.len() > limit {
        return Err(Failure::TooLarge);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Failure::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let byte = error.utf8_error().valid_up_to();
        let lines_before = error.as_bytes()[..byte].iter().filter(|b| **b == b'\n').count();
        Failure::NotUtf8 { byte, line: u32::try_from(lines_before + 1).unwrap_or(u32::MAX) }
    })?;
    let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    let young = age.is_none_or(|age| age < TICK);
    Ok(Loaded { text, fingerprint: Fingerprint::of(&metadata), young })
}
