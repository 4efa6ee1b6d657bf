//! From what runs to what is wanted: who has to go, who has to come.

use super::{Fleet, GatewayRun, Part, Pod, PodProcesses, Told};
use crate::up::endpoints::Condition;
use crate::up::launch::ADMIN_PORT;
use crate::up::member::{Health, Member};
use crate::up::plan::{Deployment, Id, Template};
use crate::up::probe::{Check, Probe};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How long a change of endpoints may take to reach all proxies before a leaving pod stops
/// accepting. In Kubernetes people write `preStop: sleep` for the same reason.
const FAREWELL: Duration = Duration::from_millis(500);

impl Fleet {
    /// The pods that should be, each with its deployment.
    pub(super) fn wanted(&self) -> BTreeMap<Id, (Id, Template)> {
        let replicas =
            |id: &Id, deployment: &Deployment| self.scaled.get(id).map_or(deployment.replicas, |s| s.replicas);
        let pods = |(id, deployment): (&Id, &Deployment)| {
            let (id, template) = (id.clone(), deployment.template.clone());
            // One more than there is room for, so that it is said.
            let count = replicas(&id, deployment).min(255);
            (0..count).map(move |ordinal| {
                (Id::new(&id.namespace, format!("{}-{ordinal}", id.name)), (id.clone(), template.clone()))
            })
        };
        self.plan.deployments.iter().flat_map(pods).collect()
    }

    /// Starts the leave of pods and gateways that nobody wants any more, or wants otherwise.
    pub(super) fn let_go(&mut self) {
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

    pub(super) fn settle_gateways(&mut self, troubles: &mut Vec<String>) {
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

    pub(super) fn settle_pods(&mut self, troubles: &mut Vec<String>) {
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

    fn proxy_health(&self, address: Ipv4Addr) -> Health {
        let address = IpAddr::V4(address);
        Health { address, startup: None, readiness: Some(ready_at(ADMIN_PORT)), liveness: None, port: None }
    }
}

/// Our own parts answer `GET /ready`.
pub(super) fn ready_at(port: u16) -> Probe {
    let check = Check::Http { port, path: "/ready".to_owned(), headers: Vec::new() };
    Probe { period: Duration::from_secs(5), ..Probe::new(check) }
}
