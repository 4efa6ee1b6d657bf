//! One container, from its first start to its last end: hooks, probes, restarts with back-off.

use super::pod::Stop;
use super::probe::{self, Rhythm};
use super::report::{Phase, Reporter};
use super::sandbox::{Beside, Process, Sandbox};
use k8s_openapi::api::core::v1::{Container, Probe};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first wait before another start. Doubled each time, and far below Kubernetes' 10 s: tests wait for it.
const BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// What an unhealthy container has to end.
const UNHEALTHY_GRACE: Duration = Duration::from_secs(2);

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Always,
    OnFailure,
    Never,
}

/// A container to run.
pub(super) struct Supervised {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) container: Container,
    pub(super) restart: Restart,
    pub(super) report: Reporter,
    pub(super) stop: Stop,
}

enum Ended {
    /// By itself, or because a probe said so.
    Exited(i32),
    /// Because it was asked to.
    Stopped(i32),
}

impl Supervised {
    /// Runs it until it has ended for good, and returns the exit code.
    pub(super) async fn run(mut self) -> i32 {
        let mut back_off = BACK_OFF;
        loop {
            let ended = self.once().await;
            let (Ended::Exited(code) | Ended::Stopped(code)) = ended;
            self.report.tell(|c| {
                c.phase = Phase::Terminated(code);
                (c.started, c.ready) = (false, false);
            });
            let again = match self.restart {
                Restart::Always => true,
                Restart::OnFailure => code != 0,
                Restart::Never => false,
            };
            if !again || matches!(ended, Ended::Stopped(_)) {
                return code;
            }
            tokio::select! {
                () = sleep(back_off) => {}
                _ = self.stop.asked() => return code,
            }
            back_off = (2 * back_off).min(LONGEST_BACK_OFF);
            self.report.tell(|c| {
                c.phase = Phase::Waiting("CrashLoopBackOff".to_owned());
                c.restarts += 1;
            });
        }
    }

    async fn once(&mut self) -> Ended {
        let mut process = match self.sandbox.start(&self.container).await {
            Ok(process) => process,
            Err(error) => {
                eprintln!("container {}: {error}", self.container.name);
                return Ended::Exited(128);
            }
        };
        self.report.tell(|c| c.phase = Phase::Running);
        // The health is looked at while the process is waited for, so each needs its own hold of it.
        let beside = process.beside();
        let unhealthy = health(&self.container, &beside, &self.sandbox, &self.report);
        let stop = &mut self.stop;
        enum Next {
            Exited(i32),
            Unhealthy(String),
            Stop(Instant),
        }
        let next = tokio::select! {
            code = process.wait() => Next::Exited(code),
            why = unhealthy => Next::Unhealthy(why),
            deadline = stop.asked() => Next::Stop(deadline),
        };
        match next {
            Next::Exited(code) => Ended::Exited(code),
            Next::Unhealthy(why) => {
                eprintln!("container {}: {why}", self.container.name);
                Ended::Exited(process.end(Instant::now() + UNHEALTHY_GRACE).await)
            }
            Next::Stop(deadline) => Ended::Stopped(self.end(process, deadline).await),
        }
    }

    /// The app's own wish first, then SIGTERM, then at the deadline SIGKILL. A stop with its preStop counts against the
    /// same grace.
    async fn end(&self, mut process: Process, deadline: Instant) -> i32 {
        self.report.tell(|c| c.ready = false);
        if let Some(handler) = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) {
            let beside = process.beside();
            let hook = probe::hook(handler, &self.container, &beside, &self.sandbox);
            tokio::select! {
                told = tokio::time::timeout_at(deadline, hook) => {
                    if let Ok(Err(error)) = told {
                        eprintln!("container {}: preStop: {error}", self.container.name);
                    }
                }
                code = process.wait() => return code,
            }
        }
        process.end(deadline).await
    }
}

/// Returns with the reason when it must be started anew; never while it is well.
async fn health(container: &Container, beside: &Beside, sandbox: &Sandbox, report: &Reporter) -> String {
    if let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
        && let Err(error) = probe::hook(handler, container, beside, sandbox).await
    {
        return format!("postStart: {error}");
    }
    let look = |probe| Watch { probe, container, beside, sandbox };
    if let Some(startup) = &container.startup_probe
        && let Err(error) = look(startup).until_well().await
    {
        return format!("startupProbe: {error}");
    }
    report.tell(|c| {
        c.started = true;
        c.ready = container.readiness_probe.is_none();
    });
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => look(probe).tell(|ready| report.tell(|c| c.ready = ready)).await,
            None => pending().await,
        }
    };
    let liveness = async {
        match &container.liveness_probe {
            Some(probe) => look(probe).while_well().await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = readiness => String::new(),
        why = liveness => format!("livenessProbe: {why}"),
    }
}

struct Watch<'a> {
    probe: &'a Probe,
    container: &'a Container,
    beside: &'a Beside,
    sandbox: &'a Sandbox,
}

impl Watch<'_> {
    async fn ask(&self) -> Result<(), String> {
        probe::ask(self.probe, self.container, self.beside, self.sandbox).await
    }

    /// Until it succeeds; the last failure when it failed too often.
    async fn until_well(&self) -> Result<(), String> {
        let rhythm = Rhythm::of(self.probe);
        sleep(rhythm.first).await;
        let mut failures = 0;
        while let Err(error) = self.ask().await {
            failures += 1;
            if failures >= rhythm.failures {
                return Err(error);
            }
            sleep(rhythm.period).await;
        }
        Ok(())
    }

    /// Until it failed too often.
    async fn while_well(&self) -> String {
        let rhythm = Rhythm::of(self.probe);
        sleep(rhythm.first).await;
        let mut failures = 0;
        loop {
            match self.ask().await {
                Ok(()) => failures = 0,
                Err(error) if failures + 1 >= rhythm.failures => return error,
                Err(_) => failures += 1,
            }
            sleep(rhythm.period).await;
        }
    }

    /// For ever: tells each change.
    async fn tell(&self, tell: impl Fn(bool)) {
        let rhythm = Rhythm::of(self.probe);
        sleep(rhythm.first).await;
        let (mut ready, mut in_a_row) = (false, 0);
        loop {
            let well = self.ask().await.is_ok();
            in_a_row = if well == ready { 0 } else { in_a_row + 1 };
            let enough = if ready { rhythm.failures } else { rhythm.successes };
            if in_a_row >= enough {
                (ready, in_a_row) = (well, 0);
                tell(ready);
            }
            sleep(rhythm.period).await;
        }
    }
}
