//! `weft run-app -- cmd…`: keeps a program that knows nothing of Weft from outliving `weft up`.
//!
//! Such a program would not notice that its parent is gone. This wrapper watches stdin for it, in
//! the same process group, and ends the whole group: first politely, then not.

use super::parent;
use anyhow::Context as _;
use clap::Args;
use rustix::process::{Signal, kill_current_process_group, setpgid};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Args, Debug)]
pub(crate) struct RunAppArgs {
    /// How long the program may take to end once asked, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    grace: u64,
    /// The program and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the program; its exit code becomes this one's.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: RunAppArgs) -> anyhow::Result<ExitCode> {
    setpgid(None, None).context("cannot lead a process group of its own")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (program, arguments) = args.command.split_first().expect("clap requires at least one word");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let (gone, parent_gone) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        parent::wait_for_end();
        let _ = gone.send(());
    });
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        _ = parent_gone => None,
    };
    let status = match status {
        Some(status) => status,
        None => {
            // To ourselves too; it is already asked for, so it changes nothing here.
            let _ = kill_current_process_group(Signal::TERM);
            match tokio::time::timeout(Duration::from_secs(args.grace), child.wait()).await {
                Ok(status) => status?,
                Err(_) => {
                    let _ = kill_current_process_group(Signal::KILL);
                    child.wait().await?
                }
            }
        }
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
