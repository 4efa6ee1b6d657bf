//! Nothing that `weft up` started may outlive it, even if it was killed in a way that nobody can
//! handle. It keeps the writing end of a pipe that is its child's stdin: when it is gone, by
//! whatever cause, the kernel closes the pipe and the child reads the end of it.

use rustix::process::{Signal, getpid, kill_process};
use std::io::Read as _;
use std::time::Duration;

/// From now on the end of stdin is as a SIGTERM; if that has not ended the process after `grace`, it exits by itself.
pub(crate) fn exit_with_parent(grace: Duration) {
    let watch = move || {
        wait_for_end();
        tracing::warn!("the process that started this one is gone; stopping");
        // Failing to signal oneself leaves the exit below.
        let _ = kill_process(getpid(), Signal::TERM);
        std::thread::sleep(grace);
        std::process::exit(1);
    };
    std::thread::Builder::new()
        .name("parent".into())
        .spawn(watch)
        .expect("a process that just started has room for a thread");
}

/// Reads stdin until it ends.
pub(crate) fn wait_for_end() {
    let mut sink = [0u8; 256];
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut sink), Ok(n) if n > 0) {}
}
