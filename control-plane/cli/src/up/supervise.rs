//! Keeps one process running: starts it, sees it end, starts it again with back-off, stops it.
//!
//! Each process leads a group of its own, so that Ctrl-C at the terminal reaches only `weft up`,
//! which then stops everything in its right order; and so that whatever a program leaves behind is
//! cleared away with its group. Its stdin is a pipe that ends when `weft up` does (`run::parent`).

use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How a process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Added to the environment of `weft up` itself.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) directory: Option<PathBuf>,
    /// Standard output and error are appended here.
    pub(crate) log: PathBuf,
}

/// What became of a process. `generation` counts its starts, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Started { generation: u32, pid: u32 },
    Ended { generation: u32, how: String, again_in: Duration },
}

/// One process that is kept running. Dropping it kills the process.
pub(crate) struct Process {
    orders: mpsc::Sender<Order>,
}

enum Order {
    Restart(String),
    Stop(oneshot::Sender<()>),
}

/// What all processes share: how they are stopped.
#[derive(Clone)]
pub(crate) struct Stopping {
    /// From SIGTERM to SIGKILL.
    pub(crate) grace: Duration,
    /// No more patience: SIGKILL at once.
    pub(crate) now: CancellationToken,
}

impl Process {
    /// Starts the process and calls `tell` with what becomes of it.
    pub(crate) fn start(launch: Launch, stopping: Stopping, tell: impl Fn(Event) + Send + 'static) -> Process {
        let (orders, inbox) = mpsc::channel(4);
        tokio::spawn(keep_running(launch, stopping, inbox, tell));
        Process { orders }
    }

    /// Ends the process, which is then started again as after a crash.
    pub(crate) fn restart(&self, why: &str) {
        // A full box means that it is being restarted or stopped already.
        let _ = self.orders.try_send(Order::Restart(why.to_owned()));
    }

    /// Ends the process for good; returns when it has gone.
    pub(crate) async fn stop(self) {
        let (done, gone) = oneshot::channel();
        if self.orders.send(Order::Stop(done)).await.is_ok() {
            let _ = gone.await;
        }
    }
}

async fn keep_running(
    launch: Launch,
    stopping: Stopping,
    mut orders: mpsc::Receiver<Order>,
    tell: impl Fn(Event) + Send + 'static,
) {
    let mut backoff = Backoff::default();
    for generation in 1.. {
        let began = Instant::now();
        let how = match launch.spawn() {
            Err(e) => format!("cannot start {}: {e}", launch.program.display()),
            Ok(mut child) => {
                tell(Event::Started { generation, pid: child.pid });
                match child.until_end_or_order(&mut orders, &stopping).await {
                    End::Itself(how) => how,
                    End::Stopped(done) => return drop(done),
                }
            }
        };
        let again_in = backoff.after(began.elapsed());
        tell(Event::Ended { generation, how, again_in });
        let rest = tokio::time::sleep(again_in);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => break,
                order = orders.recv() => match order {
                    Some(Order::Restart(_)) => {}
                    Some(Order::Stop(done)) => return drop(done),
                    None => return,
                },
            }
        }
    }
}

impl Launch {
    fn spawn(&self) -> io::Result<Running> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).process_group(0).spawn()?;
        let pid = child.id().expect("a child that nobody waited for has its id");
        // Waiting for a child would close the pipe that says we are here.
        let lifeline = child.stdin.take();
        Ok(Running { child, pid, _lifeline: lifeline })
    }
}

struct Running {
    child: Child,
    pid: u32,
    _lifeline: Option<tokio::process::ChildStdin>,
}

enum End {
    Itself(String),
    Stopped(Option<oneshot::Sender<()>>),
}

impl Running {
    async fn until_end_or_order(&mut self, orders: &mut mpsc::Receiver<Order>, stopping: &Stopping) -> End {
        tokio::select! {
            status = self.child.wait() => {
                self.signal(Signal::KILL); // the rest of its group
                End::Itself(describe(status))
            }
            order = orders.recv() => match order {
                Some(Order::Restart(why)) => {
                    self.end(stopping).await;
                    End::Itself(why)
                }
                Some(Order::Stop(done)) => {
                    self.end(stopping).await;
                    End::Stopped(Some(done))
                }
                None => {
                    self.signal(Signal::KILL);
                    End::Stopped(None)
                }
            },
        }
    }

    /// Politely, then not.
    async fn end(&mut self, stopping: &Stopping) {
        self.signal(Signal::TERM);
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(stopping.grace) => {}
                () = stopping.now.cancelled() => {}
            }
        };
        tokio::select! {
            _ = self.child.wait() => {}
            () = patience => {}
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // That the group has gone already is what is wanted.
        let _ = pid.map(|pid| kill_process_group(pid, signal));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Err(e) => format!("cannot be waited for: {e}"),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(9)) => "was killed (signal 9)".to_owned(),
            (None, signal) => format!("died of signal {}", signal.unwrap_or_default()),
        },
    }
}

/// 0.2 s, doubling to 10 s; from the start again after 10 s of health. Kubernetes' CrashLoopBackOff
/// starts with 10 s, which is for fleets; here somebody is watching.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(10);

    /// How long to wait before the next start of a process that ran for `uptime`.
    pub(crate) fn after(&mut self, uptime: Duration) -> Duration {
        if uptime >= Self::LONGEST {
            self.failures = 0;
        }
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// The last lines of a log, for who has to understand why a process ended.
pub(crate) fn last_words(log: &std::path::Path, lines: usize) -> Vec<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(8192)))?;
        let mut end = Vec::new();
        file.take(8192).read_to_end(&mut end)?;
        Ok(end)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let text = anstream::adapter::strip_str(&text).to_string();
    let mut last: Vec<String> =
        text.lines().rev().filter(|l| !l.trim().is_empty()).take(lines).map(str::to_owned).collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests;
