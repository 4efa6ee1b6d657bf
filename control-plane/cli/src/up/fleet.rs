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

use super::endpoints::{self, Condition, Mirror, PodView};
use super::launch::{ADMIN_PORT, MONITORING_PORT, Site};
use super::member::{Change, Health, Member, News};
use super::network::Numbers;
use super::plan::{Deployment, Id, Plan, Template};
use super::probe::{Check, Probe};
use super::supervise::Stopping;
use super::view::{GatewayView, PodState, View};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long a change of endpoints may take to reach all proxies before a leaving pod stops
/// accepting. In Kubernetes people write `preStop: sleep` for the same reason.
const FAREWELL: Duration = Duration::from_millis(500);

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

    /// The pods that should be, each with its deployment.
    fn wanted(&self) -> BTreeMap<Id, (Id, Template)> {
        let replicas =
            |id: &Id, deployment: &Deployment| self.scaled.get(id).map_or(deployment.replicas, |s| s.replicas);
        let pods = |(id, deployment): (&Id, &Deployment)| {
            let (id, template) = (id.clone(), deployment.template.clone());
            let count = replicas(&id, deployment);
            (0..count).map(move |ordinal| {
                (Id::new(&id.namespace, format!("{}-{ordinal}", id.name)), (id.clone(), template.clone()))
            })
        };
        self.plan.deployments.iter().flat_map(pods).collect()
    }

    /// Starts the leave of pods and gateways that nobody wants any more, or wants otherwise.
    fn let_go(&mut self) {
        let wanted = self.wanted();
        let mut leaving: Vec<Id> = self.pods.keys().filter(|id| !wanted.contains_key(id)).cloned().collect();
        for (id, (deployment, template)) in &wanted {
            let Some(pod) = self.pods.get(id).filter(|pod| pod.template != *template) else { continue };
            let others_ready = self.pods.iter().filter(|(other, p)| *other != id && p.deployment == *deployment);
            let others_ready = others_ready
                .into_iter()
                .all(|(other, p)| p.condition() == Condition::Ready && !leaving.contains(other));
            // One that serves nobody is replaced at once; one that serves waits for its turn.
            if pod.condition() == Condition::NotReady || others_ready {
                leaving.push(id.clone());
            }
        }
        for id in leaving {
            let running = self.pods.get_mut(&id).and_then(|pod| pod.running.take());
            let Some(PodProcesses { app, sidecar }) = running else { continue };
            let (told, now) = (self.told.clone(), self.stopping.now.clone());
            self.farewells.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(FAREWELL) => {}
                    () = now.cancelled() => {}
                }
                sidecar.stop().await;
                app.stop().await;
                let _ = told.send(Told::PodGone(id));
            });
        }
        for (id, run) in self.gateways.iter_mut().filter(|(id, _)| !self.plan.gateways.contains_key(*id)) {
            let Some(member) = run.member.take() else { continue };
            let (told, id) = (self.told.clone(), id.clone());
            self.farewells.spawn(async move {
                member.stop().await;
                let _ = told.send(Told::GatewayGone(id));
            });
        }
    }

    fn settle_gateways(&mut self, troubles: &mut Vec<String>) {
        let missing: Vec<Id> =
            self.plan.gateways.keys().filter(|id| !self.gateways.contains_key(id)).cloned().collect();
        for id in missing {
            let Some(number) = self.gateway_numbers.lend(&id.to_string()) else {
                troubles.push(format!("gateway {id} is not started: there is room for 254"));
                continue;
            };
            let health = self.proxy_health(self.site.network.gateway(number));
            let tell = self.teller(Part::Gateway(id.clone()));
            let member = Member::start(self.site.gateway(&id, number), self.stopping.clone(), health, tell);
            self.gateways.insert(id, GatewayRun { number, member: Some(member) });
        }
    }

    fn settle_pods(&mut self, troubles: &mut Vec<String>) {
        let before = self.pod_numbers.clone();
        for (id, (deployment, template)) in self.wanted() {
            if self.pods.contains_key(&id) {
                continue;
            }
            let Some(number) = self.pod_numbers.lend(&id.to_string()) else {
                troubles.push(format!("{id} is not started: there is room for 254 pods"));
                continue;
            };
            let sidecar = Member::start(
                self.site.sidecar(&id, &deployment, &template, number),
                self.stopping.clone(),
                self.proxy_health(self.site.network.pod(number)),
                self.teller(Part::Sidecar(id.clone())),
            );
            let health = Health {
                address: IpAddr::V4(self.site.network.app(number)),
                startup: template.startup.clone(),
                readiness: template.readiness.clone(),
                liveness: template.liveness.clone(),
                port: template.ports.first().map(|p| p.number),
            };
            let app = Member::start(
                self.site.app(&id, &deployment, &template, number),
                self.stopping.clone(),
                health,
                self.teller(Part::App(id.clone())),
            );
            self.pods.insert(id, Pod { deployment, template, number, running: Some(PodProcesses { app, sidecar }) });
        }
        if self.pod_numbers != before
            && let Err(e) = self.keep_numbers()
        {
            troubles.push(format!("{e:#}"));
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

    fn proxy_health(&self, address: Ipv4Addr) -> Health {
        let address = IpAddr::V4(address);
        Health { address, startup: None, readiness: Some(ready_at(ADMIN_PORT)), liveness: None, port: None }
    }
}

/// Which pod has which number, so that a restart gives them their addresses back.
const NUMBERS: &str = "numbers.json";

/// Our own parts answer `GET /ready`.
fn ready_at(port: u16) -> Probe {
    let check = Check::Http { port, path: "/ready".to_owned(), headers: Vec::new() };
    Probe { period: Duration::from_secs(5), ..Probe::new(check) }
}

async fn stop_all(members: impl IntoIterator<Item = Member>) {
    let mut stops: JoinSet<()> = members.into_iter().map(Member::stop).collect();
    while stops.join_next().await.is_some() {}
}
