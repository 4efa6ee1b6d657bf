//! Kubernetes' probes, for pods that are processes: whether a pod may get traffic (readiness) and
//! whether it has to be started again (liveness).
//!
//! One thing is not as in Kubernetes: until a pod is ready for the first time it is asked every
//! 100 ms, whatever its period and initial delay say, because here somebody is waiting for it.

use crate::fetch::{self, Ask};
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;

/// A probe with Kubernetes' defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) check: Check,
    pub(crate) initial_delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    /// So many failures in a row make a good one bad.
    pub(crate) failures: u32,
    /// So many successes in a row make a bad one good.
    pub(crate) successes: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Good: 200 to 399.
    Http {
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        port: u16,
    },
    /// Good: exit code 0.
    Exec {
        command: Vec<String>,
    },
}

impl Probe {
    pub(crate) fn new(check: Check) -> Probe {
        Probe {
            check,
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: 3,
            successes: 1,
        }
    }
}

/// How often one that has never been ready is asked.
pub(crate) const EAGER_PERIOD: Duration = Duration::from_millis(100);

/// Probes for ever and tells each change, `Ok` when it has become good, or why it is bad now. `eager` is for readiness.
pub(crate) async fn watch(probe: Probe, address: IpAddr, eager: bool, tell: impl Fn(Result<(), String>)) {
    let mut tally = Tally::new(&probe, !eager);
    let mut never = eager;
    if !eager {
        tokio::time::sleep(probe.initial_delay).await;
    }
    loop {
        let result = look(&probe, address).await;
        if let Some(good) = tally.count(result.is_ok()) {
            never &= !good;
            tell(result);
        }
        tokio::time::sleep(if never { EAGER_PERIOD.min(probe.period) } else { probe.period }).await;
    }
}

/// Asks once; says what was wrong.
pub(crate) async fn look(probe: &Probe, address: IpAddr) -> Result<(), String> {
    match &probe.check {
        Check::Http { port, path, headers } => {
            let target = format!("{address}:{port}");
            let ask = Ask { headers, ..Ask::get(&target, path) };
            match fetch::tcp(&target, ask, probe.timeout).await {
                Ok(answer) if (200..400).contains(&answer.status.as_u16()) => Ok(()),
                Ok(answer) => Err(format!("GET http://{target}{path} answered {}", answer.status)),
                Err(e) => Err(format!("GET http://{target}{path}: {e:#}")),
            }
        }
        Check::Tcp { port } => match tokio::time::timeout(probe.timeout, TcpStream::connect((address, *port))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(format!("connecting to {address}:{port}: {e}")),
            Err(_) => Err(format!("connecting to {address}:{port}: no answer within {:?}", probe.timeout)),
        },
        Check::Exec { command } => exec(command, probe.timeout).await,
    }
}

async fn exec(command: &[String], within: Duration) -> Result<(), String> {
    let Some((program, args)) = command.split_first() else {
        return Err("the probe's command is empty".to_owned());
    };
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("{program}: {e}"))?;
    match tokio::time::timeout(within, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{program}: {status}")),
        Ok(Err(e)) => Err(format!("{program}: {e}")),
        Err(_) => Err(format!("{program}: not done within {within:?}")),
    }
}

/// Counts results in a row.
struct Tally {
    good: bool,
    told: bool,
    row: u32,
    failures: u32,
    successes: u32,
}

impl Tally {
    fn new(probe: &Probe, good: bool) -> Tally {
        Tally { good, told: good, row: 0, failures: probe.failures.max(1), successes: probe.successes.max(1) }
    }

    /// `Some` when this result changes what is believed. What is bad from the start is told once too.
    fn count(&mut self, ok: bool) -> Option<bool> {
        if ok == self.good {
            self.row = 0;
            let first = !self.told;
            self.told = true;
            return first.then_some(ok);
        }
        self.row += 1;
        if self.row < if ok { self.successes } else { self.failures } {
            return None;
        }
        *self = Tally { good: ok, told: true, row: 0, ..*self };
        Some(ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn it_takes_failures_in_a_row_to_turn_and_a_success_to_return() {
        let mut tally = Tally::new(&Probe::new(Check::Tcp { port: 1 }), false);
        assert_eq!(tally.count(false), Some(false), "bad from the start is told once");
        assert_eq!(tally.count(false), None);
        assert_eq!(tally.count(true), Some(true));
        assert_eq!([tally.count(false), tally.count(false), tally.count(true)], [None; 3], "not in a row");
        assert_eq!([tally.count(false), tally.count(false)], [None; 2]);
        assert_eq!(tally.count(false), Some(false));
        assert_eq!(tally.count(true), Some(true));
    }

    #[tokio::test]
    async fn tcp_is_good_when_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let probe = Probe::new(Check::Tcp { port: listener.local_addr().unwrap().port() });
        assert_eq!(look(&probe, HERE).await, Ok(()));
        drop(listener);
        assert!(look(&probe, HERE).await.unwrap_err().contains("connecting to 127.0.0.1:"));
    }

    #[tokio::test]
    async fn exec_is_good_by_its_exit_code() {
        let command =
            |script: &str| Probe::new(Check::Exec { command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec() });
        assert_eq!(look(&command("exit 0"), HERE).await, Ok(()));
        assert!(look(&command("exit 4"), HERE).await.unwrap_err().contains("exit status: 4"));
    }

    #[tokio::test]
    async fn readiness_is_told_at_its_changes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let probe = Probe { period: Duration::from_millis(1), ..Probe::new(Check::Tcp { port }) };
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let watching = tokio::spawn(async move { watch(probe, HERE, true, |r| _ = tell.send(r.is_ok())).await });
        assert_eq!(told.recv().await, Some(false));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        assert_eq!(told.recv().await, Some(true));
        drop(listener);
        assert_eq!(told.recv().await, Some(false));
        watching.abort();
    }
}
