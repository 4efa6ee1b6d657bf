//! Carries log lines from workers to a file.
//!
//! A disk or a pipe may stall, and a worker must not stall with it. So each worker fills a buffer
//! and hands it over whole, to a queue of [`QUEUED_BUFFERS`]; a thread writes. When the queue is full,
//! the lines are dropped and counted: traffic goes first.

use super::Record;
use crate::settings::AccessLog;
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

/// A buffer that has so many bytes is handed over at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers that may wait for the disk: with full ones, 8 MiB.
const QUEUED_BUFFERS: usize = 128;
/// How long the end waits for what is queued.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The access log of a process. Its last lines are written when it is dropped.
#[derive(Debug)]
pub struct AccessLogger {
    queue: SyncSender<Message>,
    state: Arc<State>,
    /// Yields an error, "disconnected", when the writing thread has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct State {
    reopen: AtomicBool,
    ending: AtomicBool,
    dropped_lines: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Lines {
        bytes: Vec<u8>,
        lines: u64,
    },
    /// Look at the state.
    Wake,
}

impl AccessLogger {
    /// Opens what the settings say; `None` when they say to write none.
    pub fn open(setting: &AccessLog) -> io::Result<Option<AccessLogger>> {
        match setting {
            AccessLog::Off => Ok(None),
            AccessLog::Stdout => AccessLogger::start(Output::Stream(Box::new(io::stdout()))).map(Some),
            AccessLog::File(path) => {
                let file = append(path)?;
                AccessLogger::start(Output::File { path: path.clone(), file }).map(Some)
            }
        }
    }

    /// Writes to anything; [`AccessLogger::reopen`] does nothing then.
    pub fn to(output: impl Write + Send + 'static) -> io::Result<AccessLogger> {
        AccessLogger::start(Output::Stream(Box::new(output)))
    }

    fn start(output: Output) -> io::Result<AccessLogger> {
        let (queue, messages) = sync_channel(QUEUED_BUFFERS);
        let (ending, ended) = sync_channel(0);
        let state = Arc::<State>::default();
        let thread_state = state.clone();
        let thread = thread::Builder::new().name("access-log".into());
        thread.spawn(move || {
            let _ending = ending;
            write_all(output, messages, &thread_state);
        })?;
        Ok(AccessLogger { queue, state, ended: Mutex::new(ended) })
    }

    /// A worker's end of the log.
    pub fn writer(&self) -> LogWriter {
        LogWriter {
            queue: self.queue.clone(),
            state: self.state.clone(),
            buffer: RefCell::default(),
            lines: Cell::new(0),
        }
    }

    /// Opens the file anew, after somebody has moved it away. What is queued may go to either.
    pub fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Release);
        // A full queue wakes the thread as well.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Lines that were lost because the file or the pipe was too slow, full or gone.
    pub fn dropped_lines(&self) -> u64 {
        self.state.dropped_lines.load(Ordering::Relaxed)
    }

    /// The same, for as long as the reader lives.
    pub fn dropped_lines_reader(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let state = self.state.clone();
        move || state.dropped_lines.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLogger {
    fn drop(&mut self) {
        self.state.ending.store(true, Ordering::Release);
        let _ = self.queue.try_send(Message::Wake);
        // Nothing is ever sent: this waits for the thread's end, or gives a stalled disk up.
        let _ = self.ended.get_mut().recv_timeout(LAST_WORDS);
    }
}

/// One worker's buffer. It stays on its thread.
#[derive(Debug)]
pub struct LogWriter {
    queue: SyncSender<Message>,
    state: Arc<State>,
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u64>,
}

impl LogWriter {
    /// Appends a line; never blocks.
    pub fn write(&self, record: &Record<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        record.write(&mut buffer);
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= BUFFER_BYTES {
            drop(buffer);
            self.flush();
        }
    }

    /// Hands over what there is. Call it every tenth of a second or so; it never blocks.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return;
        }
        let lines = self.lines.replace(0);
        let bytes = std::mem::take(&mut *buffer);
        match self.queue.try_send(Message::Lines { bytes, lines }) {
            Ok(()) => {}
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => {
                self.state.dropped_lines.fetch_add(lines, Ordering::Relaxed);
                // The buffer itself is still good.
                if let Message::Lines { bytes, .. } = refused {
                    *buffer = bytes;
                    buffer.clear();
                }
            }
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

enum Output {
    Stream(Box<dyn Write + Send>),
    File { path: PathBuf, file: File },
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::Stream(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Output::File { file, .. } => file.write_all(bytes),
        }
    }

    fn reopen(&mut self) {
        let Output::File { path, file } = self else { return };
        match append(path) {
            Ok(new) => *file = new,
            Err(error) => tracing::error!(%error, "access log: the old file stays open"),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| {
        let why = format!("access log {}: {error}; is the directory there and writable?", path.display());
        io::Error::new(error.kind(), why)
    })
}

/// The writing thread.
fn write_all(mut output: Output, messages: Receiver<Message>, state: &State) {
    let mut failing = false;
    while let Some(message) = next(&messages, state) {
        if state.reopen.swap(false, Ordering::Acquire) {
            output.reopen();
        }
        let Message::Lines { bytes, lines } = message else { continue };
        let result = output.write(&bytes);
        if let Err(error) = &result {
            state.dropped_lines.fetch_add(lines, Ordering::Relaxed);
            if !failing {
                tracing::error!(%error, "access log: lines are lost until it can be written again");
            }
        }
        failing = result.is_err();
    }
}

/// Waits for a message; at the end, takes only what is queued already.
fn next(messages: &Receiver<Message>, state: &State) -> Option<Message> {
    if state.ending.load(Ordering::Acquire) { messages.try_recv().ok() } else { messages.recv().ok() }
}
