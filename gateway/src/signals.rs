//! When to stop, and whether it is safe to.
//!
//! Left alone, pingora would on `SIGQUIT` try to send the sockets for five seconds, and then shut
//! down whether or not anybody took them. Here a process that nobody waits to succeed serves on.

use crate::host::HandOver;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long after `SIGQUIT` a successor may take to listen on the upgrade socket.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(10);

/// How often the kernel's table of unix sockets is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tells pingora what the signals, and the data plane's own end, ask for.
pub(crate) struct Signals {
    pub(crate) hand_over: Arc<HandOver>,
    /// Turns true when the data plane ends by itself.
    pub(crate) ended: watch::Receiver<bool>,
}

#[async_trait::async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut ended = self.ended.clone();
        let mut stop = Stop::new();
        let mut quit = handler(SignalKind::quit());
        loop {
            tokio::select! {
                signal = stop.recv() => return signal,
                _ = ended.wait_for(|ended| *ended) => return ShutdownSignal::FastShutdown,
                _ = quit.recv() => {}
            }
            tokio::select! {
                signal = stop.recv() => return signal,
                ready = self.ready_to_hand_over() => if ready { return ShutdownSignal::GracefulUpgrade },
            }
        }
    }
}

impl Signals {
    async fn ready_to_hand_over(&self) -> bool {
        let path = self.hand_over.upgrade_socket();
        if tokio::time::timeout(SUCCESSOR_WITHIN, successor(path)).await.is_err() {
            tracing::error!(
                upgrade_socket = %path.display(),
                "SIGQUIT, but no new process listens on the upgrade socket: serving on. Start the new binary with upgrade set and the same upgrade socket"
            );
            return false;
        }
        match self.hand_over.pack() {
            Ok(sockets) => {
                tracing::info!(sockets, "handing over to the new process");
                true
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "cannot hand over: serving on");
                false
            }
        }
    }
}

/// The signals that end the process.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Stop {
        Stop { terminate: handler(SignalKind::terminate()), interrupt: handler(SignalKind::interrupt()) }
    }

    async fn recv(&mut self) -> ShutdownSignal {
        tokio::select! {
            _ = self.terminate.recv() => ShutdownSignal::GracefulTerminate,
            _ = self.interrupt.recv() => ShutdownSignal::FastShutdown,
        }
    }
}

fn handler(kind: SignalKind) -> Signal {
    signal(kind).expect("none of these signals is forbidden to handle, and the runtime has its signal driver")
}

/// Returns when a process listens on the unix socket `path`.
async fn successor(path: &Path) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        if fs::read_to_string("/proc/net/unix").is_ok_and(|table| listens(&table, path)) {
            return;
        }
    }
}

/// Whether the kernel's table has a listening socket of that path. (To connect would use up the one
/// connection that the successor accepts; and a file may be left from a process long gone.)
fn listens(table: &str, path: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let Some(path) = path.to_str() else { return false };
    table.lines().any(|line| {
        line.split_ascii_whitespace().nth(3) == Some(ACCEPTS)
            && line.strip_suffix(path).is_some_and(|columns| columns.ends_with(' '))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn only_a_listening_socket_is_a_successor() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("upgrade.sock");
        let table = || fs::read_to_string("/proc/net/unix").expect("/proc is mounted");
        assert!(!listens(&table(), &path));

        let listener = UnixListener::bind(&path).expect("the directory is writable");
        assert!(listens(&table(), &path));

        let _connection = UnixStream::connect(&path).expect("it listens");
        drop(listener);
        assert!(path.exists() && !listens(&table(), &path), "the file is left, nobody listens");
    }
}
