//! What a Gateway API object's `status` says, as a plain value.
//!
//! The API demands that a controller tells each author what became of the object: whether it was taken, whether everything
//! that it names is there, whether it is live. [`statuses`] answers from the world, by the very code that compiles it, so that a
//! status never says other than what data planes do. What only the outside knows comes in as [`Facts`]; who writes statuses
//! to a cluster adds the times (`lastTransitionTime`).

mod features;
mod gateways;
mod policies;
mod routes;
#[cfg(test)]
mod tests;

use crate::compile::gateway;
use crate::compile::index::Index;
use crate::{Key, World};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

pub use features::Feature;
pub use gateways::{GatewayClassStatus, GatewayStatus, ListenerSetStatus, ListenerStatus};
pub use policies::{AncestorStatus, PolicyStatus};
pub use routes::{ParentReference, ParentStatus, RouteStatus};

/// Who writes these statuses; a GatewayClass names it.
pub const CONTROLLER_NAME: &str = "weft.dev/gateway";

/// What a world does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// By the Gateway's key.
    pub gateways: BTreeMap<Key, GatewayFacts>,
    /// The version of the API's CRDs that the cluster has (`gateway.networking.k8s.io/bundle-version`).
    pub bundle_version: Option<String>,
}

/// What is known of a Gateway's data planes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayFacts {
    /// Where it can be reached.
    pub addresses: Vec<Address>,
    /// Every data plane has acknowledged what the Gateway asks for, as it is now.
    pub acknowledged: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

/// One entry of `conditions`, but for its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(serialize_with = "as_word")]
    pub status: bool,
    pub reason: &'static str,
    pub message: String,
    pub observed_generation: i64,
}

/// A cluster's conditions are words: there is a third, `Unknown`, which nobody here ever says.
fn as_word<S: serde::Serializer>(status: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *status { "True" } else { "False" })
}

/// The `status` of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Status {
    GatewayClass(GatewayClassStatus),
    Gateway(GatewayStatus),
    ListenerSet(ListenerSetStatus),
    Route(RouteStatus),
    Policy(PolicyStatus),
}

/// The statuses of all objects of a world that are ours to speak of.
pub fn statuses(world: &World, facts: &Facts) -> BTreeMap<Key, Status> {
    let index = Index::new(world);
    let attached = gateway::attachments(&index);
    let none = BTreeSet::new();
    let mut statuses = BTreeMap::new();
    for (object, class) in index.classes() {
        if class.controller_name == CONTROLLER_NAME {
            statuses.insert(object.key.clone(), Status::GatewayClass(gateways::class(object, facts)));
        }
    }
    for (object, gateway) in index.our_gateways() {
        let attached = attached.get(&object.key).unwrap_or(&none);
        let of_gateway = facts.gateways.get(&object.key).cloned().unwrap_or_default();
        let (status, sets) = gateways::gateway(&index, object, gateway, attached, &of_gateway);
        statuses.insert(object.key.clone(), Status::Gateway(status));
        statuses.extend(sets.into_iter().map(|(key, status)| (key, Status::ListenerSet(status))));
    }
    for (key, status) in gateways::refused_sets(&index) {
        statuses.insert(key, Status::ListenerSet(status));
    }
    for route in index.attaching() {
        let status = routes::route(&index, &attached, &route);
        statuses.insert(route.object.key.clone(), Status::Route(status));
    }
    for (key, status) in policies::all(&index, &attached) {
        statuses.insert(key, Status::Policy(status));
    }
    statuses
}

/// The conditions of one object: they are all of its generation.
struct Conditions {
    generation: i64,
    list: Vec<Condition>,
}

impl Conditions {
    fn of(object: &crate::Object) -> Self {
        Conditions { generation: object.meta.generation.unwrap_or_default(), list: Vec::new() }
    }

    fn add(&mut self, kind: &'static str, status: bool, reason: &'static str, message: impl Into<String>) {
        let observed_generation = self.generation;
        self.list.push(Condition { kind, status, reason, message: message.into(), observed_generation });
    }
}
