//! Everything that runs, brought to what the plan says: the control plane, a gateway for each
//! Gateway, an app and a sidecar for each pod.
//!
//! One task owns the fleet and hands it what happens, one thing at a time: news of a process, a new
//! plan, a wish of `weft scale`. After each the fleet settles: starts what is missing, lets go what
//! is too much, and says in endpoints who may be asked. Invariants:
//!
//! - A pod gets traffic only while its app and its sidecar both run and answer their probes.
//! - A pod that has to go is first taken out of the endpoints, then drained, sidecar before app.
//! - Its name and number are free only when both its processes have gone.
//! - A changed deployment is replaced pod by pod, the next when the one before is ready.

mod settle;

use super::endpoints::{self, Condition, Mirror, PodView};
use super::known::Known;
use super::launch::{MONITORING_PORT, Site};
use super::member::{Change, Health, Member, News};
use super::network::Numbers;
use super::plan::{Id, Plan, Template};
use super::supervise::Stopping;
use super::view::{GatewayView, PodState, View};
use anyhow::Context as _;
use settle::ready_at;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// One process of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    ControlPlane,
    Gateway(Id),
    Sidecar(Id),
    App(Id),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::ControlPlane => f.write_str("control plane"),
            Part::Gateway(id) => write!(f, "gateway {id}"),
            Part::Sidecar(id) => write!(f, "{id}, its sidecar"),
            Part::App(id) => write!(f, "{id}"),
        }
    }
}

/// What the fleet is told by those it started.
#[derive(Debug)]
pub(crate) enum Told {
    News(Part, News),
    /// All of its processes have gone.
    PodGone(Id),
    GatewayGone(Id),
}

struct Pod {
    deployment: Id,
    template: Template,
    number: u8,
    /// `None` once it leaves: then somebody else is stopping them.
    running: Option<PodProcesses>,
}

struct PodProcesses {
    app: Member,
    sidecar: Member,
}

impl Pod {
    fn condition(&self) -> Condition {
        match &self.running {
            None => Condition::Leaving,
            Some(both) if both.app.ready() && both.sidecar.ready() => Condition::Ready,
            Some(_) => Condition::NotReady,
        }
    }
}

struct GatewayRun {
    number: u8,
    member: Option<Member>,
}

/// A wish of `weft scale`; it holds until the manifest says another number than it said then.
struct Scaled {
    replicas: u32,
    instead_of: u32,
}

pub(crate) struct Fleet {
    site: Site,
    stopping: Stopping,
    told: mpsc::UnboundedSender<Told>,
    plan: Plan,
    scaled: BTreeMap<Id, Scaled>,
    pod_numbers: Numbers,
    gateway_numbers: Numbers,
    control_plane: Option<Member>,
    gateways: BTreeMap<Id, GatewayRun>,
    pods: BTreeMap<Id, Pod>,
    mirror: Mirror,
    /// Those who are stopping what leaves.
    farewells: JoinSet<()>,
}

impl Fleet {
    /// Nothing runs yet. The control plane's endpoints directory is made, and empty.
    pub(crate) fn new(site: Site, stopping: Stopping, told: mpsc::UnboundedSender<Told>) -> anyhow::Result<Fleet> {
        for directory in ["logs", "proxies", "data"].map(|d| site.state.join(d)) {
            std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let runtime = site.runtime();
        let mirror = Mirror::new(runtime.clone()).with_context(|| format!("cannot write {}", runtime.display()))?;
        let mut pod_numbers = std::fs::read_to_string(site.state.join(NUMBERS))
            .ok()
            .and_then(|text| serde_json::from_str::<Numbers>(&text).ok())
            .unwrap_or_default();
        pod_numbers.give_back_all();
        Ok(Fleet {
            site,
            stopping,
            told,
            plan: Plan::default(),
            scaled: BTreeMap::new(),
            pod_numbers,
            gateway_numbers: Numbers::default(),
            control_plane: None,
            gateways: BTreeMap::new(),
            pods: BTreeMap::new(),
            mirror,
            farewells: JoinSet::new(),
        })
    }

    /// The control plane starts first, so that nobody has to wait for it with a back-off of their own.
    pub(crate) fn start_control_plane(&mut self) {
        let health = Health {
            address: IpAddr::V4(self.site.network.control()),
            startup: None,
            readiness: Some(ready_at(MONITORING_PORT)),
            liveness: None,
            port: None,
        };
        let tell = self.teller(Part::ControlPlane);
        self.control_plane = Some(Member::start(self.site.control_plane(), self.stopping.clone(), health, tell));
    }

    pub(crate) fn set_plan(&mut self, plan: Plan) {
        self.scaled.retain(|id, scaled| plan.deployments.get(id).is_some_and(|d| d.replicas == scaled.instead_of));
        self.plan = plan;
    }

    /// What the manifests say now.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Another number of replicas until the manifest says another one. The error is for the user.
    pub(crate) fn scale(&mut self, id: &Id, replicas: u32) -> Result<(), String> {
        let Some(deployment) = self.plan.deployments.get(id) else {
            let known: Vec<String> = self.plan.deployments.keys().map(Id::to_string).collect();
            return Err(format!("there is no Deployment {id}; there are: {}", known.join(", ")));
        };
        if replicas > 254 {
            return Err("a fleet has room for 254 pods".to_owned());
        }
        self.scaled.insert(id.clone(), Scaled { replicas, instead_of: deployment.replicas });
        Ok(())
    }

    /// Takes news in; what the screen should say of it.
    pub(crate) fn on(&mut self, told: Told) -> Option<(Part, Change)> {
        match told {
            Told::News(part, news) => {
                let tell = self.teller(part.clone());
                let change = self.member(&part)?.on(news, tell)?;
                Some((part, change))
            }
            Told::PodGone(id) => {
                self.pods.remove(&id);
                self.pod_numbers.give_back(&id.to_string());
                None
            }
            Told::GatewayGone(id) => {
                self.gateways.remove(&id);
                self.gateway_numbers.give_back(&id.to_string());
                None
            }
        }
    }

    /// Where a part writes.
    pub(crate) fn log(&self, part: &Part) -> Option<&Path> {
        let member = match part {
            Part::ControlPlane => self.control_plane.as_ref()?,
            Part::Gateway(id) => self.gateways.get(id)?.member.as_ref()?,
            Part::Sidecar(id) => &self.pods.get(id)?.running.as_ref()?.sidecar,
            Part::App(id) => &self.pods.get(id)?.running.as_ref()?.app,
        };
        Some(member.log())
    }

    /// Brings what runs to what is wanted; says what could not be done.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        let mut troubles = Vec::new();
        while self.farewells.try_join_next().is_some() {}
        self.let_go();
        self.settle_gateways(&mut troubles);
        self.settle_pods(&mut troubles);
        if let Err(e) = self.publish() {
            troubles.push(format!("cannot write endpoints under {}: {e}", self.site.runtime().display()));
        }
        troubles
    }

    /// Whether all that is wanted runs and is ready, and nothing else runs.
    pub(crate) fn complete(&self) -> bool {
        let members = self.control_plane.iter().chain(self.gateways.values().filter_map(|g| g.member.as_ref()));
        let wanted = self.wanted();
        members.into_iter().all(Member::ready)
            && self.gateways.keys().eq(self.plan.gateways.keys())
            && self.pods.keys().eq(wanted.keys())
            && self.pods.values().all(|pod| pod.condition() == Condition::Ready)
    }

    /// What every proxy should know: each pod that is ready, under each service that means it.
    pub(crate) fn endpoints(&self) -> Vec<Known> {
        let mut known = Vec::new();
        for (id, service) in &self.plan.services {
            let meant = |(pod_id, pod): &(&Id, &Pod)| {
                pod_id.namespace == id.namespace
                    && pod.condition() == Condition::Ready
                    && service.selects(&pod.template.labels)
            };
            for (_, pod) in self.pods.iter().filter(meant) {
                let numbers = service.ports.iter().filter_map(|port| pod.template.port(&port.target));
                known.extend(numbers.map(|number| Known {
                    cluster: format!("||{}.{}.svc.cluster.local", id.name, id.namespace),
                    address: format!("{}:{number}", self.site.network.pod(pod.number)),
                }));
            }
        }
        known
    }

    /// Where the proxies that run have their admin.
    pub(crate) fn admins(&self) -> Vec<Ipv4Addr> {
        let gateways = self.gateways.values().map(|run| self.site.network.gateway(run.number));
        let pods = self.pods.values().filter(|pod| pod.running.is_some());
        gateways.chain(pods.map(|pod| self.site.network.pod(pod.number))).collect()
    }

    pub(crate) fn view(&self) -> View {
        let pod = |(id, pod): (&Id, &Pod)| PodState {
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            deployment: pod.deployment.name.clone(),
            address: self.site.network.pod(pod.number),
            app_address: self.site.network.app(pod.number),
            ready: pod.condition() == Condition::Ready,
            leaving: pod.condition() == Condition::Leaving,
            app: pod.running.as_ref().map(|both| both.app.view()),
            sidecar: pod.running.as_ref().map(|both| both.sidecar.view()),
        };
        let gateway = |(id, run): (&Id, &GatewayRun)| GatewayView {
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            address: self.site.bind,
            listeners: self.plan.gateways.get(id).into_iter().flat_map(|g| &g.listeners).map(|l| l.port).collect(),
            admin: self.site.network.gateway(run.number),
            process: run.member.as_ref().map(Member::view),
        };
        View {
            pid: std::process::id(),
            network: self.site.network,
            monitoring: self.site.monitoring(),
            control_plane: self.control_plane.as_ref().map(Member::view),
            gateways: self.gateways.iter().map(gateway).collect(),
            pods: self.pods.iter().map(pod).collect(),
        }
    }

    /// Ends all, in the order in which requests travel, so that each finds those behind it still there.
    pub(crate) async fn stop(mut self) {
        let gateways = std::mem::take(&mut self.gateways).into_values().filter_map(|run| run.member);
        stop_all(gateways).await;
        let running = std::mem::take(&mut self.pods).into_values().filter_map(|pod| pod.running);
        let (sidecars, apps): (Vec<_>, Vec<_>) = running.map(|both| (both.sidecar, both.app)).unzip();
        stop_all(sidecars).await;
        stop_all(apps).await;
        while self.farewells.join_next().await.is_some() {}
        stop_all(self.control_plane.take()).await;
        // What was wanted of the pods' addresses is no longer true.
        let _ = self.mirror.set(BTreeMap::new());
    }

    fn teller(&self, part: Part) -> impl Fn(News) + Clone + Send + Sync + 'static {
        let told = self.told.clone();
        // Nobody listens only when everything is being stopped.
        move |news| drop(told.send(Told::News(part.clone(), news)))
    }

    fn member(&mut self, part: &Part) -> Option<&mut Member> {
        match part {
            Part::ControlPlane => self.control_plane.as_mut(),
            Part::Gateway(id) => self.gateways.get_mut(id)?.member.as_mut(),
            Part::Sidecar(id) => Some(&mut self.pods.get_mut(id)?.running.as_mut()?.sidecar),
            Part::App(id) => Some(&mut self.pods.get_mut(id)?.running.as_mut()?.app),
        }
    }

    fn keep_numbers(&self) -> anyhow::Result<()> {
        let path = self.site.state.join(NUMBERS);
        let text = serde_json::to_string_pretty(&self.pod_numbers)?;
        endpoints::replace(&path, &text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn publish(&mut self) -> std::io::Result<()> {
        let pods: Vec<PodView<'_>> = self
            .pods
            .iter()
            .map(|(id, pod)| PodView {
                id,
                deployment: &pod.deployment,
                template: &pod.template,
                address: self.site.network.pod(pod.number),
                condition: pod.condition(),
            })
            .collect();
        self.mirror.set(endpoints::files(&self.plan.services, &pods))
    }
}

/// Which pod has which number, so that a restart gives them their addresses back.
const NUMBERS: &str = "numbers.json";

async fn stop_all(members: impl IntoIterator<Item = Member>) {
    let mut stops: JoinSet<()> = members.into_iter().map(Member::stop).collect();
    while stops.join_next().await.is_some() {}
}
