//! What a resource becomes while it serves: compiled once, with counters that survive changes of
//! what they do not belong to.
//!
//! An endpoint is the same endpoint for as long as its address stays in its cluster and the way it
//! is spoken to stays the same; then its id, its load and every worker's pool for it live on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;
use weft_model::endpoint::{Endpoint, Health, Locality, Workload};
use weft_model::{Cluster, Endpoints};
use weft_policy::Dice;
use weft_policy::balance::{Degree, Host, Loads, Members, Pick, Picker};

/// Names an endpoint for as long as the process lives; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(u64);

impl EndpointId {
    fn next() -> EndpointId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        EndpointId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One endpoint and its process-wide load.
#[derive(Debug)]
pub(crate) struct LiveEndpoint {
    pub(crate) id: EndpointId,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
    pub(crate) health: Health,
    pub(crate) workload: Workload,
    /// Requests in flight, over all workers.
    pub(crate) active: Arc<AtomicU32>,
}

impl LiveEndpoint {
    fn new(endpoint: &Endpoint) -> LiveEndpoint {
        LiveEndpoint::resume(endpoint, EndpointId::next(), Arc::default())
    }

    fn resume(endpoint: &Endpoint, id: EndpointId, active: Arc<AtomicU32>) -> LiveEndpoint {
        LiveEndpoint {
            id,
            address: endpoint.address,
            weight: endpoint.weight,
            health: endpoint.health,
            workload: endpoint.workload.clone(),
            active,
        }
    }

    /// An endpoint that configuration does not know: where a pass-through request wants to go.
    pub(crate) fn at(address: SocketAddr) -> LiveEndpoint {
        LiveEndpoint::new(&Endpoint::at(address))
    }

    fn is(&self, endpoint: &Endpoint) -> bool {
        self.health == endpoint.health && self.weight == endpoint.weight && self.workload == endpoint.workload
    }
}

/// A request in flight at an endpoint.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicU32>);

impl InFlight {
    pub(crate) fn at(endpoint: &LiveEndpoint) -> InFlight {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        InFlight(endpoint.active.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Picks after the first for a host that a request has not met (Istio's `host_selection_retry_max_attempts`).
const ATTEMPTS: u32 = 5;

/// A cluster with its endpoints.
#[derive(Debug)]
pub(crate) struct LiveCluster {
    pub(crate) spec: Arc<Cluster>,
    pub(crate) endpoints: Vec<Arc<LiveEndpoint>>,
    /// Those that new requests may go to.
    pub(crate) healthy: Vec<Arc<LiveEndpoint>>,
    /// Over the healthy ones.
    pub(crate) picker: Picker,
}

impl LiveCluster {
    /// A cluster of these endpoints; what it shares with `previous` lives on.
    pub(crate) fn build(
        spec: Arc<Cluster>,
        members: &[Endpoint],
        previous: Option<&LiveCluster>,
        dice: &mut Dice,
    ) -> LiveCluster {
        // Another protocol or deadline means other connections: the endpoints start anew.
        let previous = previous
            .filter(|old| old.spec.protocol == spec.protocol && old.spec.connect_timeout == spec.connect_timeout);
        let known: HashMap<SocketAddr, &Arc<LiveEndpoint>> = previous
            .map(|old| old.endpoints.iter().map(|endpoint| (endpoint.address, endpoint)).collect())
            .unwrap_or_default();
        let endpoints: Vec<Arc<LiveEndpoint>> = members
            .iter()
            .map(|member| match known.get(&member.address) {
                Some(old) if old.is(member) => Arc::clone(old),
                Some(old) => Arc::new(LiveEndpoint::resume(member, old.id, old.active.clone())),
                None => Arc::new(LiveEndpoint::new(member)),
            })
            .collect();
        let healthy: Vec<_> = endpoints.iter().filter(|one| one.health == Health::Healthy).cloned().collect();
        let picker = picker(&spec, &healthy, dice);
        LiveCluster { spec, endpoints, healthy, picker }
    }

    /// The endpoint that the next request goes to, not one of `tried` if there is another.
    pub(crate) fn pick(&self, dice: &mut Dice, tried: &[EndpointId]) -> Option<&Arc<LiveEndpoint>> {
        let met = |index: usize| tried.contains(&self.healthy[index].id);
        let request = Pick { avoid: (!tried.is_empty()).then_some(&met), attempts: ATTEMPTS, ..Pick::default() };
        let index = self.picker.pick(&request, &InFlightOf(&self.healthy), dice).ok()?;
        Some(&self.healthy[index])
    }

    /// The members that EDS or the cluster itself names.
    pub(crate) fn members<'a>(spec: &'a Cluster, discovered: Option<&'a Endpoints>) -> &'a [Endpoint] {
        match &spec.discovery {
            weft_model::cluster::Discovery::Static(members) => members,
            _ => discovered.map_or(&[], |endpoints| &endpoints.endpoints),
        }
    }
}

/// Over healthy endpoints, all of one priority.
fn picker(spec: &Cluster, healthy: &[Arc<LiveEndpoint>], dice: &mut Dice) -> Picker {
    let nowhere = Locality::default();
    let host = |one: &Arc<LiveEndpoint>| Host {
        address: one.address,
        weight: one.weight,
        priority: 0,
        locality: &nowhere,
        degree: Degree::Healthy,
        since: None,
    };
    let hosts: Vec<Host<'_>> = healthy.iter().map(host).collect();
    let members = Members { hosts: &hosts, locality_weights: &[], own: &nowhere, callers: &[] };
    Picker::new(spec.balancer, &spec.balancing, &members, Instant::now(), dice)
}

/// The loads of these endpoints.
struct InFlightOf<'a>(&'a [Arc<LiveEndpoint>]);

impl Loads for InFlightOf<'_> {
    fn active(&self, index: usize) -> u32 {
        self.0[index].active.load(Ordering::Relaxed)
    }

    /// Latencies are not known: requests in flight alone count.
    fn cost(&self, _: usize) -> f64 {
        1.0
    }

    fn total(&self) -> u32 {
        self.0.iter().map(|one| one.active.load(Ordering::Relaxed)).fold(0, u32::saturating_add)
    }
}
