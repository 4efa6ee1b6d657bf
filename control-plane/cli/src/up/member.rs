//! One process of the fleet as the fleet knows it: whether it runs, whether it is ready, how often
//! it was started again. A synchronous state machine; the events come from `supervise` and `probe`.

use super::probe::{self, Probe};
use super::supervise::{Event, Launch, Process, Stopping};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tokio::task::AbortHandle;

/// What happened to a member.
#[derive(Debug)]
pub(crate) enum News {
    Process(Event),
    /// By the readiness probe of that start.
    Ready {
        generation: u32,
        result: Result<(), String>,
    },
    /// By the liveness or startup probe of that start.
    Sick {
        generation: u32,
        why: String,
    },
}

/// How a member's health is learnt.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) address: IpAddr,
    pub(crate) startup: Option<Probe>,
    pub(crate) readiness: Option<Probe>,
    pub(crate) liveness: Option<Probe>,
    /// Without a readiness probe, a process counts as ready once somebody listens here, if anywhere.
    pub(crate) port: Option<u16>,
}

pub(crate) struct Member {
    process: Process,
    health: Health,
    log: PathBuf,
    generation: u32,
    pid: Option<u32>,
    ready: bool,
    restarts: u32,
    /// Why it is not ready.
    trouble: Option<String>,
    probes: Option<AbortHandle>,
}

/// A member for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberView {
    pub(crate) pid: Option<u32>,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    pub(crate) trouble: Option<String>,
    pub(crate) log: PathBuf,
}

/// What the screen says about a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Ready,
    /// Was ready, is no more.
    Unready(String),
    Crashed {
        how: String,
        again_in: std::time::Duration,
    },
}

impl Member {
    pub(crate) fn start(
        launch: Launch,
        stopping: Stopping,
        health: Health,
        tell: impl Fn(News) + Send + 'static,
    ) -> Member {
        let log = launch.log.clone();
        let process = Process::start(launch, stopping, move |event| tell(News::Process(event)));
        Member {
            process,
            health,
            log,
            generation: 0,
            pid: None,
            ready: false,
            restarts: 0,
            trouble: None,
            probes: None,
        }
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn view(&self) -> MemberView {
        MemberView {
            pid: self.pid,
            ready: self.ready,
            restarts: self.restarts,
            trouble: self.trouble.clone(),
            log: self.log.clone(),
        }
    }

    /// Takes news in. News of an earlier start are old and say nothing.
    pub(crate) fn on(&mut self, news: News, tell: impl Fn(News) + Clone + Send + Sync + 'static) -> Option<Change> {
        match news {
            News::Process(Event::Started { generation, pid }) => {
                self.restarts = generation - 1;
                self.generation = generation;
                self.pid = Some(pid);
                self.trouble = None;
                self.probes = Some(tokio::spawn(watch(self.health.clone(), generation, tell)).abort_handle());
                None
            }
            News::Process(Event::Ended { how, again_in, .. }) => {
                self.stop_probing();
                self.pid = None;
                self.ready = false;
                self.trouble = Some(how.clone());
                Some(Change::Crashed { how, again_in })
            }
            News::Ready { generation, result } if generation == self.generation && self.pid.is_some() => {
                let was = std::mem::replace(&mut self.ready, result.is_ok());
                self.trouble = result.clone().err();
                match (was, result) {
                    (false, Ok(())) => Some(Change::Ready),
                    (true, Err(why)) => Some(Change::Unready(why)),
                    _ => None,
                }
            }
            News::Sick { generation, why } if generation == self.generation => {
                self.process.restart(&why);
                None
            }
            News::Ready { .. } | News::Sick { .. } => None,
        }
    }

    /// Ends it for good; returns when it has gone.
    pub(crate) async fn stop(mut self) {
        self.stop_probing();
        self.process.stop().await;
    }

    fn stop_probing(&mut self) {
        if let Some(probes) = self.probes.take() {
            probes.abort();
        }
    }
}

/// First the startup probe, then readiness and liveness side by side.
async fn watch(health: Health, generation: u32, tell: impl Fn(News) + Send + Sync) {
    let address = health.address;
    if let Some(startup) = &health.startup {
        let mut failures = 0;
        while let Err(why) = probe::look(startup, address).await {
            failures += 1;
            if failures >= startup.failures {
                return tell(News::Sick { generation, why: format!("its startup probe failed: {why}") });
            }
            tokio::time::sleep(startup.period).await;
        }
    }
    let ready = |result| tell(News::Ready { generation, result });
    let readiness = async {
        match (&health.readiness, health.port) {
            (Some(probe), _) => probe::watch(probe.clone(), address, true, ready).await,
            (None, Some(port)) => {
                let probe = Probe::new(probe::Check::Tcp { port });
                while probe::look(&probe, address).await.is_err() {
                    tokio::time::sleep(probe::EAGER_PERIOD).await;
                }
                ready(Ok(()));
            }
            (None, None) => ready(Ok(())),
        }
    };
    let liveness = async {
        if let Some(probe) = &health.liveness {
            let tell = |result: Result<(), String>| {
                if let Err(why) = result {
                    tell(News::Sick { generation, why: format!("its liveness probe failed: {why}") });
                }
            };
            probe::watch(probe.clone(), address, false, tell).await;
        }
    };
    tokio::join!(readiness, liveness);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    fn start(directory: &std::path::Path) -> (Member, mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>) {
        let launch = Launch {
            program: "/bin/sleep".into(),
            args: vec!["1000".into()],
            env: Vec::new(),
            directory: None,
            log: directory.join("log"),
        };
        let health = Health {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            startup: None,
            readiness: None,
            liveness: None,
            port: None,
        };
        let stopping = Stopping { grace: Duration::from_secs(60), now: CancellationToken::new() };
        let (tell, news) = mpsc::unbounded_channel();
        let sender = tell.clone();
        (Member::start(launch, stopping, health, move |n| drop(sender.send(n))), tell, news)
    }

    #[tokio::test]
    async fn one_without_probes_and_ports_is_ready_when_it_runs_and_not_when_it_was_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut member, tell, mut news) = start(directory.path());
        let mut step = async |member: &mut Member| {
            let tell = tell.clone();
            member.on(news.recv().await.unwrap(), move |n| drop(tell.send(n)))
        };
        assert_eq!(step(&mut member).await, None, "started");
        assert_eq!(step(&mut member).await, Some(Change::Ready));
        let pid = member.view().pid.unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert!(matches!(step(&mut member).await, Some(Change::Crashed { .. })));
        assert!(!member.ready(), "unready at once, without waiting for a probe");
        step(&mut member).await;
        assert_eq!(step(&mut member).await, Some(Change::Ready));
        assert_eq!(member.view().restarts, 1);
        member.stop().await;
    }

    #[tokio::test]
    async fn news_of_an_earlier_start_say_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut member, _tell, _news) = start(directory.path());
        let ignore = |_| {};
        member.on(News::Process(Event::Started { generation: 2, pid: 1 }), ignore);
        assert_eq!(member.on(News::Ready { generation: 1, result: Ok(()) }, ignore), None);
        assert!(!member.ready());
        assert_eq!(member.on(News::Ready { generation: 2, result: Ok(()) }, ignore), Some(Change::Ready));
        let why = "GET / answered 503".to_owned();
        let change = member.on(News::Ready { generation: 2, result: Err(why.clone()) }, ignore);
        assert_eq!(change, Some(Change::Unready(why)));
        member.stop().await;
    }
}
