//! A pod's life: what starts when, what ends when, and what is told of it.

use super::Shared;
use super::container::{Restart, Supervised};
use super::report::{Ended, Part, PodReport, Reporter};
use super::sandbox::Sandbox;
use crate::netns::{NODE_V4, Namespace};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// What a sidecar has at least, when the app took all the grace.
const SIDECAR_GRACE: Duration = Duration::from_secs(2);

/// Says when to end, and until when at the latest.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<Option<Instant>>);

/// A pod on this node. Dropped, it is ended without grace.
pub struct RunningPod {
    sandbox: Arc<Sandbox>,
    report: watch::Receiver<PodReport>,
    stop: watch::Sender<Option<Instant>>,
    life: JoinHandle<()>,
}

struct Life {
    sandbox: Arc<Sandbox>,
    report: watch::Sender<PodReport>,
    stop: Stop,
}

struct RunningSidecar {
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<i32>,
}

impl Stop {
    /// Returns with the deadline once it is asked for; never when who could ask is gone.
    pub(super) async fn asked(&mut self) -> Instant {
        if let Ok(deadline) = self.0.wait_for(Option::is_some).await {
            return deadline.expect("it was waited for");
        }
        std::future::pending().await
    }
}

impl RunningPod {
    pub(super) fn start(shared: Arc<Shared>, pod: Pod) -> RunningPod {
        let sandbox = Arc::new(Sandbox::new(shared, pod));
        let (report, reports) = watch::channel(PodReport::new(&sandbox.pod, sandbox.v4, sandbox.v6, NODE_V4));
        let (stop, stops) = watch::channel(None);
        let life = Life { sandbox: sandbox.clone(), report, stop: Stop(stops) };
        RunningPod { sandbox, report: reports, stop, life: tokio::spawn(life.run()) }
    }

    pub fn v4(&self) -> Ipv4Addr {
        self.sandbox.v4
    }

    pub fn v6(&self) -> Ipv6Addr {
        self.sandbox.v6
    }

    /// Its network.
    pub fn namespace(&self) -> &Namespace {
        self.sandbox.network_namespace()
    }

    /// Its `status`, now.
    pub fn status(&self) -> Value {
        self.report.borrow().status()
    }

    /// Returns its `status` when it changes.
    pub(super) fn changes(&self) -> watch::Receiver<PodReport> {
        self.report.clone()
    }

    /// What a container printed, so far.
    pub fn log(&self, container: &str) -> String {
        std::fs::read_to_string(self.sandbox.log(container)).unwrap_or_default()
    }

    /// Until all of it is ready.
    ///
    /// # Panics
    /// When it is not after [`crate::PATIENCE`]; with its status and what it printed.
    pub async fn ready(&self) {
        self.becomes("ready", PodReport::ready).await;
    }

    /// Until it ended by itself; returns its phase.
    ///
    /// # Panics
    /// As [`RunningPod::ready`].
    pub async fn ended(&self) -> Value {
        self.becomes("ended", |report| report.ended.is_some()).await;
        self.status()["phase"].clone()
    }

    async fn becomes(&self, what: &str, is: impl Fn(&PodReport) -> bool) {
        let mut report = self.report.clone();
        let waited = timeout(crate::PATIENCE, report.wait_for(is)).await;
        if !matches!(waited, Ok(Ok(_))) {
            let names = self.report.borrow().containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
            let logs: String = names.iter().map(|name| format!("--- {name}\n{}\n", self.log(name))).collect();
            panic!("the pod is not {what}: {:#}\n{logs}", self.status());
        }
    }

    /// Asks it to end, as a deletion does, with the grace that it wishes.
    pub fn delete(&self) {
        let seconds = self.sandbox.spec().termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
        self.delete_within(Duration::from_secs(seconds.unwrap_or(30)));
    }

    /// The same with a grace of the caller's.
    pub fn delete_within(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.stop.send_if_modified(|asked| {
            let sooner = asked.is_none_or(|before| deadline < before);
            if sooner {
                *asked = Some(deadline);
            }
            sooner
        });
    }

    pub(super) async fn gone_now(self) {
        self.delete_within(Duration::ZERO);
        self.gone().await;
    }

    /// Until nothing of it runs.
    ///
    /// # Panics
    /// When that takes longer than its grace and [`crate::PATIENCE`].
    pub async fn gone(mut self) {
        let grace = self.stop.borrow().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let ended = timeout(grace.unwrap_or_default() + crate::PATIENCE, &mut self.life).await;
        ended.expect("it ends within its grace").expect("a pod's life does not panic");
    }
}

impl Drop for RunningPod {
    fn drop(&mut self) {
        self.stop.send_modify(|asked| *asked = Some(Instant::now()));
    }
}

impl Life {
    async fn run(mut self) {
        let mut sidecars = Vec::new();
        let ended = match self.sandbox.prepare().await {
            Ok(()) => match self.inits(&mut sidecars).await {
                Some(ended) => ended,
                None => self.apps().await,
            },
            Err(error) => Ended::Failed(error),
        };
        if let Ended::Failed(reason) = &ended {
            eprintln!("pod {}: {reason}", super::sandbox::name(&self.sandbox.pod));
        }
        let deadline = *self.stop.0.borrow();
        let least = Instant::now() + SIDECAR_GRACE;
        for sidecar in sidecars.into_iter().rev() {
            sidecar.stop.send_replace(Some(deadline.map_or(least, |deadline| deadline.max(least))));
            let _ = sidecar.task.await;
        }
        self.report.send_modify(|report| report.ended = Some(ended));
    }

    /// `Some` when it ends here already.
    async fn inits(&mut self, sidecars: &mut Vec<RunningSidecar>) -> Option<Ended> {
        let sandbox = self.sandbox.clone();
        let restart = if self.restart() == Restart::Never { Restart::Never } else { Restart::OnFailure };
        for (index, container) in sandbox.spec().init_containers.iter().flatten().enumerate() {
            if self.report.borrow().containers[index].part == Part::Sidecar {
                sidecars.push(self.sidecar(index, container));
                let reporter = Reporter::new(self.report.clone(), index);
                tokio::select! {
                    () = reporter.wait(|c| c.started) => {}
                    _ = self.stop.asked() => return Some(Ended::Failed("deleted before it ran".to_owned())),
                }
                continue;
            }
            let code = self.supervised(index, container, restart, self.stop.clone()).run().await;
            if self.stop.0.borrow().is_some() {
                return Some(Ended::Failed("deleted before it ran".to_owned()));
            }
            if code != 0 {
                return Some(Ended::Failed(format!("init container {} ended with {code}", container.name)));
            }
        }
        None
    }

    fn sidecar(&self, index: usize, container: &Container) -> RunningSidecar {
        let (stop, stops) = watch::channel(None);
        let supervised = self.supervised(index, container, Restart::Always, Stop(stops));
        RunningSidecar { stop, task: tokio::spawn(supervised.run()) }
    }

    /// Runs all until the last has ended.
    async fn apps(&mut self) -> Ended {
        let spec = self.sandbox.spec();
        let first = spec.init_containers.iter().flatten().count();
        let restart = self.restart();
        let all = spec.containers.iter().enumerate().map(|(index, container)| {
            let supervised = self.supervised(first + index, container, restart, self.stop.clone());
            (container.name.clone(), tokio::spawn(supervised.run()))
        });
        let mut ended = Ended::Succeeded;
        for (name, task) in all.collect::<Vec<_>>() {
            match task.await {
                Ok(0) => {}
                Ok(code) => ended = Ended::Failed(format!("container {name} ended with {code}")),
                Err(error) => ended = Ended::Failed(format!("container {name}: {error}")),
            }
        }
        ended
    }

    fn supervised(&self, index: usize, container: &Container, restart: Restart, stop: Stop) -> Supervised {
        let report = Reporter::new(self.report.clone(), index);
        Supervised { sandbox: self.sandbox.clone(), container: container.clone(), restart, report, stop }
    }

    fn restart(&self) -> Restart {
        match self.sandbox.spec().restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        }
    }
}
