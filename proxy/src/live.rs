//! What a resource becomes while it serves: compiled once, with counters that survive changes of
//! what they do not belong to.
//!
//! An endpoint is the same endpoint for as long as its address stays in its cluster, and TLS to it as it is; then its id, what is known of it by
//! experience ([`Experience`]) and every worker's pool for it live on, whatever else is edited. So it is with a
//! cluster ([`ClusterState`]): an edit forgets neither what is in flight nor who is ejected.

mod queue;
mod state;

pub(crate) use queue::Queue;
pub(crate) use state::{ClusterState, Counts, HealthCheckCounts};

use crate::originate::Originator;
use arc_swap::{ArcSwap, Guard};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;
use weft_model::balancer::Balancer;
use weft_model::endpoint::{Endpoint, Health, Locality, Workload};
use weft_model::{Cluster, Endpoints};
use weft_policy::Dice;
use weft_policy::balance::{Degree, Ewma, Host, Loads, Members, NoHost, Pick, Picker};
use weft_policy::breaker::{Breaker, HostConnections};
use weft_policy::outlier::{Monitor, Outcome};
use weft_policy::trip::{Admission, EndpointBreaker};

/// Names an endpoint for as long as the process lives; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(u64);

impl EndpointId {
    fn next() -> EndpointId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        EndpointId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One endpoint, as configuration says it is and as experience shows it.
#[derive(Debug)]
pub(crate) struct LiveEndpoint {
    pub(crate) id: EndpointId,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) health: Health,
    pub(crate) priority: u32,
    pub(crate) locality: Locality,
    pub(crate) workload: Workload,
    pub(crate) experience: Arc<Experience>,
    /// `None`: its cluster has no such policy.
    pub(crate) breaker: Option<Arc<EndpointBreaker>>,
    /// Its cluster has health checks.
    is_checked: bool,
}

/// What this process knows of an endpoint by itself, over all workers.
#[derive(Debug)]
pub(crate) struct Experience {
    /// Requests in flight.
    pub(crate) active: AtomicU32,
    pub(crate) connections: HostConnections,
    pub(crate) monitor: Arc<Monitor>,
    /// Of clusters that balance by it.
    pub(crate) latency: Option<Ewma>,
    /// What active health checks found, see [`Checked`].
    checked: AtomicU8,
    /// It said that it is not well, and no health check has taken note of it.
    unwell: AtomicBool,
    /// When it was added.
    since: Instant,
}

/// What active health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Checked {
    /// Nobody asks, or nobody has yet of one that served before there were checks: it goes on serving.
    Unknown = 0,
    /// New in a cluster with checks: it does not serve before the first success.
    Awaited = 1,
    Healthy = 2,
    Unhealthy = 3,
}

impl Checked {
    fn of(number: u8) -> Checked {
        match number {
            1 => Checked::Awaited,
            2 => Checked::Healthy,
            3 => Checked::Unhealthy,
            _ => Checked::Unknown,
        }
    }
}

impl Experience {
    fn none(balancer: Balancer, checked: Checked, now: Instant) -> Experience {
        let latency = match balancer {
            Balancer::PeakEwma { default_rtt, decay } => Some(Ewma::new(default_rtt, decay, now)),
            _ => None,
        };
        Experience {
            active: AtomicU32::new(0),
            connections: HostConnections::default(),
            monitor: Arc::new(Monitor::new(now)),
            latency,
            checked: AtomicU8::new(checked as u8),
            unwell: AtomicBool::new(false),
            since: now,
        }
    }

    pub(crate) fn checked(&self) -> Checked {
        Checked::of(self.checked.load(Ordering::Relaxed))
    }

    /// Replaces what was found before, which it returns.
    pub(crate) fn check(&self, found: Checked) -> Checked {
        Checked::of(self.checked.swap(found as u8, Ordering::Relaxed))
    }

    /// Whether it said that it is not well since this was asked last.
    pub(crate) fn take_unwell(&self) -> bool {
        self.unwell.swap(false, Ordering::Relaxed)
    }
}

impl LiveEndpoint {
    fn new(endpoint: &Endpoint, id: EndpointId, experience: Arc<Experience>) -> LiveEndpoint {
        LiveEndpoint {
            id,
            address: endpoint.address,
            weight: endpoint.weight,
            health: endpoint.health,
            priority: endpoint.priority,
            locality: endpoint.locality.clone(),
            workload: endpoint.workload.clone(),
            experience,
            breaker: None,
            is_checked: false,
        }
    }

    /// An endpoint that configuration does not know: where a pass-through request wants to go.
    pub(crate) fn at(address: SocketAddr, now: Instant) -> LiveEndpoint {
        let experience = Arc::new(Experience::none(Balancer::default(), Checked::Unknown, now));
        LiveEndpoint::new(&Endpoint::at(address), EndpointId::next(), experience)
    }

    pub(crate) fn degree(&self) -> Degree {
        match self.health {
            Health::Draining => Degree::Excluded,
            Health::Unhealthy => Degree::Unhealthy,
            Health::Healthy if self.fails_checks() || self.experience.monitor.is_ejected() => Degree::Unhealthy,
            Health::Healthy => Degree::Healthy,
        }
    }

    fn fails_checks(&self) -> bool {
        self.is_checked && matches!(self.experience.checked(), Checked::Awaited | Checked::Unhealthy)
    }
}

/// A request in flight at an endpoint.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Experience>);

impl InFlight {
    pub(crate) fn at(endpoint: &LiveEndpoint) -> InFlight {
        endpoint.experience.active.fetch_add(1, Ordering::Relaxed);
        InFlight(endpoint.experience.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A cluster with its endpoints.
#[derive(Debug)]
pub(crate) struct LiveCluster {
    pub(crate) spec: Arc<Cluster>,
    pub(crate) endpoints: Vec<Arc<LiveEndpoint>>,
    /// Of the endpoints, in their order.
    monitors: Vec<Arc<Monitor>>,
    pub(crate) breaker: Breaker,
    pub(crate) state: Arc<ClusterState>,
    /// `None`: without TLS.
    pub(crate) tls: Option<Arc<Originator>>,
    picking: ArcSwap<Picking>,
    locality_weights: Vec<(Locality, u32)>,
    /// Where this proxy runs.
    own: Arc<Locality>,
}

/// Whom to pick, as of some generation of what is known of the endpoints.
#[derive(Debug)]
struct Picking {
    picker: Picker,
    generation: u64,
}

/// What a cluster is made of.
pub(crate) struct Parts<'a> {
    pub(crate) spec: Arc<Cluster>,
    pub(crate) discovered: Option<&'a Endpoints>,
    /// What is shown to an endpoint that asks who calls.
    pub(crate) key: Option<Arc<CertifiedKey>>,
    pub(crate) own: Arc<Locality>,
}

/// The endpoint that was picked, and its place in the cluster.
pub(crate) struct Picked<'c> {
    pub(crate) endpoint: &'c Arc<LiveEndpoint>,
    pub(crate) place: usize,
    pub(crate) admission: Admission,
}

impl LiveCluster {
    /// A cluster of these parts; what it shares with `previous` lives on.
    pub(crate) fn build(
        parts: Parts<'_>,
        previous: Option<&LiveCluster>,
        now: Instant,
        dice: &mut Dice,
    ) -> LiveCluster {
        let Parts { spec, discovered, key, own } = parts;
        let members = match &spec.discovery {
            weft_model::cluster::Discovery::Static(members) => members.as_slice(),
            _ => discovered.map_or(&[][..], |endpoints| &endpoints.endpoints),
        };
        let same_door = previous
            .filter(|old| old.spec.tls == spec.tls && old.tls.as_ref().is_none_or(|tls| tls.shows(key.as_ref())));
        let endpoints = carry_over(&spec, members, previous, same_door.is_some(), now);
        let tls = spec.tls.as_ref().map(|tls| match same_door {
            Some(LiveCluster { tls: Some(old), .. }) => old.clone(),
            _ => Arc::new(Originator::new(tls, key)),
        });
        let monitors = endpoints.iter().map(|endpoint| endpoint.experience.monitor.clone()).collect();
        let state = previous.map_or_else(|| Arc::new(ClusterState::new(&spec, now)), |old| old.state.clone());
        let breaker = match previous {
            Some(old) => Breaker::resume(spec.breakers, &old.breaker, now),
            None => Breaker::new(spec.breakers, now),
        };
        let locality_weights = discovered.map(|endpoints| endpoints.locality_weights.clone()).unwrap_or_default();
        let picker = picker(&spec, &endpoints, &locality_weights, &own, now, dice);
        let picking = ArcSwap::from_pointee(Picking { picker, generation: state.generation() });
        let cluster = LiveCluster { spec, endpoints, monitors, breaker, state, tls, picking, locality_weights, own };
        if previous.is_some_and(|old| old.spec.outlier != cluster.spec.outlier) {
            cluster.state.set_outlier_policy(&cluster, now);
        }
        cluster
    }

    /// The endpoint that the next try goes to. One whose breaker is open is passed over.
    pub(crate) fn pick(&self, request: &Pick<'_>, now: Instant, dice: &mut Dice) -> Result<Picked<'_>, NoHost> {
        let picking = self.picking(now, dice);
        let loads = LoadsOf { endpoints: &self.endpoints, now };
        // Each endpoint may be met twice by chance before all of them are taken for refused.
        for _ in 0..=2 * self.endpoints.len() {
            let place = picking.picker.pick(request, &loads, dice)?;
            let endpoint = &self.endpoints[place];
            match endpoint.breaker.as_ref().map_or(Admission::Closed, |breaker| breaker.admit(now)) {
                Admission::Refuse { .. } => {}
                admission => return Ok(Picked { endpoint, place, admission }),
            }
        }
        Err(NoHost::AllUnhealthy)
    }

    /// The endpoint at that address, if it may be picked at all (a caller that comes back to whom it met).
    pub(crate) fn at(&self, address: SocketAddr) -> Option<Picked<'_>> {
        let place = self.endpoints.iter().position(|endpoint| endpoint.address == address)?;
        let endpoint = &self.endpoints[place];
        (endpoint.degree() == Degree::Healthy).then_some(Picked { endpoint, place, admission: Admission::Closed })
    }

    /// Tells outlier detection how a try at that place ended.
    pub(crate) fn report(&self, place: usize, outcome: Outcome, now: Instant, dice: &mut Dice) {
        let (Some(policy), Some(monitor)) = (&self.spec.outlier, self.monitors.get(place)) else { return };
        for cause in monitor.report(policy, outcome) {
            self.state.trip(self, place, cause, now, dice);
        }
    }

    /// An endpoint says so in an answer to a request (Envoy's `x-envoy-immediate-health-check-fail`). It is believed at once where
    /// there are health checks, which alone find it well again.
    pub(crate) fn is_unwell(&self, endpoint: &LiveEndpoint) {
        if self.spec.health_checks.is_empty() {
            return;
        }
        endpoint.experience.unwell.store(true, Ordering::Relaxed);
        if endpoint.experience.check(Checked::Unhealthy) == Checked::Unhealthy {
            return;
        }
        self.state.changed();
        let (endpoint, what) = (endpoint.address.to_string(), "unhealthy at once: an answer of its own says so");
        tracing::warn!(cluster = self.spec.name, endpoint, "{what}");
        self.state.note(&endpoint, what.to_owned());
    }

    pub(crate) fn monitors(&self) -> &[Arc<Monitor>] {
        &self.monitors
    }

    fn picking(&self, now: Instant, dice: &mut Dice) -> Guard<Arc<Picking>> {
        let picking = self.picking.load();
        let generation = self.state.generation();
        let stale = picking.generation != generation || picking.picker.rebuild_at().is_some_and(|at| at <= now);
        if !stale {
            return picking;
        }
        let picker = picker(&self.spec, &self.endpoints, &self.locality_weights, &self.own, now, dice);
        self.picking.store(Arc::new(Picking { picker, generation }));
        self.picking.load()
    }
}

/// What is known of an endpoint stays known. Its connections go on only through the same door: the id is theirs.
fn carry_over(
    spec: &Cluster,
    members: &[Endpoint],
    previous: Option<&LiveCluster>,
    same_door: bool,
    now: Instant,
) -> Vec<Arc<LiveEndpoint>> {
    // Estimates of latency are kept only by those who balance by them, with the decay that they were made for.
    let keeps = previous.is_some_and(|old| {
        old.spec.balancer == spec.balancer
            || !matches!((old.spec.balancer, spec.balancer), (_, Balancer::PeakEwma { .. }))
    });
    let is_checked = !spec.health_checks.is_empty();
    let unknown = if is_checked { Checked::Awaited } else { Checked::Unknown };
    let known: HashMap<SocketAddr, &Arc<LiveEndpoint>> = previous
        .map(|old| old.endpoints.iter().map(|endpoint| (endpoint.address, endpoint)).collect())
        .unwrap_or_default();
    let breaker = |old: Option<&Arc<LiveEndpoint>>| {
        let policy = spec.breakers.trip?;
        let kept = old.and_then(|old| old.breaker.clone()).filter(|breaker| *breaker.policy() == policy);
        Some(kept.unwrap_or_else(|| Arc::new(EndpointBreaker::new(policy, now))))
    };
    let live = |member: &Endpoint| {
        let old = known.get(&member.address).copied();
        let fresh = match old {
            Some(old) if keeps => {
                let id = if same_door { old.id } else { EndpointId::next() };
                LiveEndpoint::new(member, id, old.experience.clone())
            }
            _ => {
                let checked = old.map_or(unknown, |old| old.experience.checked());
                let experience = Arc::new(Experience::none(spec.balancer, checked, now));
                LiveEndpoint::new(member, EndpointId::next(), experience)
            }
        };
        Arc::new(LiveEndpoint { breaker: breaker(old.filter(|_| keeps)), is_checked, ..fresh })
    };
    members.iter().map(live).collect()
}

fn picker(
    spec: &Cluster,
    endpoints: &[Arc<LiveEndpoint>],
    locality_weights: &[(Locality, u32)],
    own: &Locality,
    now: Instant,
    dice: &mut Dice,
) -> Picker {
    let hosts: Vec<Host<'_>> = endpoints
        .iter()
        .map(|one| Host {
            address: one.address,
            weight: one.weight,
            priority: one.priority,
            locality: &one.locality,
            degree: one.degree(),
            since: spec.balancing.slow_start.map(|_| one.experience.since),
        })
        .collect();
    let members = Members { hosts: &hosts, locality_weights, own, callers: &[] };
    Picker::new(spec.balancer, &spec.balancing, &members, now, dice)
}

/// How busy these endpoints are.
struct LoadsOf<'a> {
    endpoints: &'a [Arc<LiveEndpoint>],
    now: Instant,
}

impl Loads for LoadsOf<'_> {
    fn active(&self, index: usize) -> u32 {
        self.endpoints[index].experience.active.load(Ordering::Relaxed)
    }

    fn cost(&self, index: usize) -> f64 {
        self.endpoints[index].experience.latency.as_ref().map_or(1.0, |latency| latency.cost(self.now))
    }

    fn total(&self) -> u32 {
        self.endpoints.iter().map(|one| one.experience.active.load(Ordering::Relaxed)).fold(0, u32::saturating_add)
    }
}
