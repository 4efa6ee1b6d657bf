//! How a pod is, as its status says it.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};
use tokio::sync::watch;

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Runs to its end before what comes after it begins.
    Init,
    /// Runs beside the app, begins before it and ends after it.
    Sidecar,
    App,
}

/// How far a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting(String),
    Running,
    /// With the exit code.
    Terminated(i32),
}

/// One container, now.
#[derive(Clone, Debug)]
pub(super) struct ContainerReport {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) part: Part,
    pub(super) phase: Phase,
    pub(super) started: bool,
    pub(super) ready: bool,
    pub(super) restarts: u32,
    since: Timestamp,
}

/// A whole pod, now.
#[derive(Clone, Debug)]
pub(super) struct PodReport {
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
    pub(super) host: Ipv4Addr,
    pub(super) containers: Vec<ContainerReport>,
    pub(super) ended: Option<Ended>,
    pub(super) start: Timestamp,
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Succeeded,
    /// With the reason in words.
    Failed(String),
}

/// Who tells about one container.
#[derive(Clone)]
pub(super) struct Reporter {
    all: watch::Sender<PodReport>,
    index: usize,
}

impl Reporter {
    pub(super) fn new(all: watch::Sender<PodReport>, index: usize) -> Reporter {
        Reporter { all, index }
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut ContainerReport)) {
        self.all.send_modify(|report| {
            let container = &mut report.containers[self.index];
            let before = container.phase.clone();
            change(container);
            if container.phase != before {
                container.since = Timestamp::now();
            }
        });
    }

    /// Until `done` holds for this container.
    pub(super) async fn wait(&self, done: impl Fn(&ContainerReport) -> bool) {
        let mut changes = self.all.subscribe();
        let found = changes.wait_for(|report| done(&report.containers[self.index])).await;
        assert!(found.is_ok(), "this reporter keeps the sender");
    }
}

impl PodReport {
    pub(super) fn new(pod: &Pod, v4: Ipv4Addr, v6: Ipv6Addr, host: Ipv4Addr) -> PodReport {
        let spec = pod.spec.as_ref();
        let start = Timestamp::now();
        let inits = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let apps = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let part = |container: &k8s_openapi::api::core::v1::Container| {
            if container.restart_policy.as_deref() == Some("Always") { Part::Sidecar } else { Part::Init }
        };
        let inits = inits.iter().map(|container| (container, part(container)));
        let all = inits.chain(apps.iter().map(|container| (container, Part::App)));
        let containers = all.map(|(container, part)| ContainerReport {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            part,
            phase: Phase::Waiting("PodInitializing".to_owned()),
            started: false,
            ready: false,
            restarts: 0,
            since: start,
        });
        PodReport { v4, v6, host, containers: containers.collect(), ended: None, start }
    }

    fn initialized(&self) -> bool {
        self.containers.iter().all(|container| match container.part {
            Part::Init => container.phase == Phase::Terminated(0),
            Part::Sidecar => container.started,
            Part::App => true,
        })
    }

    pub(super) fn ready(&self) -> bool {
        let lasting = |container: &&ContainerReport| container.part != Part::Init;
        self.ended.is_none() && self.initialized() && self.containers.iter().filter(lasting).all(|c| c.ready)
    }

    fn phase(&self) -> &'static str {
        match &self.ended {
            Some(Ended::Succeeded) => "Succeeded",
            Some(Ended::Failed(_)) => "Failed",
            None if self.containers.iter().any(|c| c.part == Part::App && !matches!(c.phase, Phase::Waiting(_))) => {
                "Running"
            }
            None => "Pending",
        }
    }

    /// The `status` of the Pod.
    pub(super) fn status(&self) -> Value {
        let condition =
            |kind: &str, holds: bool| json!({ "type": kind, "status": if holds { "True" } else { "False" } });
        let of = |app: bool| -> Vec<Value> {
            self.containers.iter().filter(|c| (c.part == Part::App) == app).map(ContainerReport::status).collect()
        };
        let mut status = json!({
            "phase": self.phase(),
            "hostIP": self.host.to_string(),
            "podIP": self.v4.to_string(),
            "podIPs": [{ "ip": self.v4.to_string() }, { "ip": self.v6.to_string() }],
            "startTime": self.start.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "conditions": [
                condition("PodScheduled", true),
                condition("Initialized", self.initialized()),
                condition("ContainersReady", self.ready()),
                condition("Ready", self.ready()),
            ],
            "initContainerStatuses": of(false),
            "containerStatuses": of(true),
        });
        if let Some(Ended::Failed(reason)) = &self.ended {
            status["message"] = json!(reason);
        }
        status
    }
}

impl ContainerReport {
    fn status(&self) -> Value {
        let at = self.since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let state = match &self.phase {
            Phase::Waiting(reason) => json!({ "waiting": { "reason": reason } }),
            Phase::Running => json!({ "running": { "startedAt": at } }),
            Phase::Terminated(code) => {
                let reason = if *code == 0 { "Completed" } else { "Error" };
                json!({ "terminated": { "exitCode": code, "reason": reason, "finishedAt": at } })
            }
        };
        let ready = self.ready || self.part == Part::Init && self.phase == Phase::Terminated(0);
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": "",
            "ready": ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": state,
        })
    }
}
