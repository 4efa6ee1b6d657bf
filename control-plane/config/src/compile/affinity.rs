//! Which endpoint a request returns to. People say it of a Service (`consistentHash`, `sessionPersistence`), the data plane obeys it on a
//! route, so every route that forwards to such a cluster is told, whoever made the route. A VirtualService asks earlier, as its retries
//! depend on the answer; being told twice is the same as once.

use super::index::Index;
use super::upstreams::{self, Upstream};
use super::{backend_policies, policy};
use std::collections::BTreeMap;
use weft_model::RouteTable;
use weft_model::balancer::{HashPolicy, Persistence};
use weft_model::route::{Action, Forward, Target};

/// What the clusters of one caller want, by their names.
#[derive(Debug, Default)]
pub(crate) struct Affinities(BTreeMap<String, Affinity>);

#[derive(Debug)]
struct Affinity {
    hash: Option<HashPolicy>,
    persistence: Option<Persistence>,
}

impl Affinities {
    pub(crate) fn new(index: &Index, caller_namespace: &str) -> Self {
        let affinity = |upstream: Upstream<'_>| {
            let hash = policy::hash(&upstream.policy());
            let persistence = backend_policies::persistence(index, &upstream.object.key);
            let wants = hash.is_some() || persistence.is_some();
            wants.then(|| (upstream.name(), Affinity { hash, persistence }))
        };
        Affinities(upstreams::of_caller(index, caller_namespace).into_iter().filter_map(affinity).collect())
    }

    /// Tells every route of the table. A route's own word on persistence stands.
    pub(crate) fn apply(&self, table: &mut RouteTable) {
        if self.0.is_empty() {
            return;
        }
        for route in table.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes) {
            if let Action::Forward(forward) = &mut route.action {
                self.tell(forward);
            }
        }
    }

    /// Tells one route. The keys of several backends are combined, as in Istio; then the same request still finds the same endpoint of each.
    pub(crate) fn tell(&self, forward: &mut Forward) {
        let told_before = forward.hash.len();
        for backend in &forward.backends {
            let Target::Cluster(name) = &backend.target else { continue };
            let Some(affinity) = self.0.get(name) else { continue };
            if let Some(hash) = affinity.hash.as_ref().filter(|hash| !forward.hash.contains(hash)) {
                forward.hash.push(hash.clone());
            }
            if forward.persistence.is_none() {
                forward.persistence = affinity.persistence.clone();
            }
        }
        // a retry elsewhere would only be sent back by the hash; retries that were decided after the hash have their reasons
        if let (true, Some(retry)) = (forward.hash.len() > told_before, &mut forward.retry) {
            retry.avoid_previous_hosts = false;
        }
    }
}
