//! What a new mesh means to a data plane when nothing but who serves has changed since the one before: some endpoints.
//!
//! In a large cluster somebody comes or goes all the time, and every data plane must hear of it. To put together all that each of them
//! holds would cost as many times the whole mesh as there are data planes.

use super::clusters::first_ip;
use super::index::Index;
use super::upstreams::{self, Upstream};
use super::{Mesh, Plan, locality, node, targets};
use crate::kinds::SlicePort;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use weft_model::node::Role;
use weft_model::{Endpoints, Node, Resource};

/// A namespace and a name.
pub(crate) type Name = (String, String);

/// Who serves otherwise than in the mesh before.
#[derive(Debug)]
pub(crate) struct Moved {
    /// Whose endpoints may be others.
    pub(crate) services: BTreeSet<Name>,
    pods: BTreeSet<Name>,
    /// Who serves one of those Services now and did not, or did and does not, or on other ports.
    addresses: BTreeSet<IpAddr>,
    /// One of the Services is: each of its endpoints has a listener where connections are redirected.
    is_headless: bool,
}

impl Moved {
    pub(crate) fn new(services: BTreeSet<Name>, pods: BTreeSet<Name>, before: &Index, after: &Index) -> Moved {
        let (was, is) = (ports_by_address(before, &services), ports_by_address(after, &services));
        let others = was.keys().chain(is.keys()).filter(|place| was.get(*place) != is.get(*place));
        let addresses = others.map(|(_, address)| *address).collect();
        let is_headless = services
            .iter()
            .any(|(namespace, name)| after.service(namespace, name).is_some_and(|(_, service)| service.headless));
        Moved { services, pods, addresses, is_headless }
    }

    /// Whether more than endpoints may be others for this node: what comes to it, or who it is.
    fn is_about(&self, node: &Node) -> bool {
        let own = (node.namespace.clone(), node.pod.clone());
        self.pods.contains(&own)
            || self.addresses.contains(&node.address)
            || self.is_headless && node.interception && node.role == Role::Sidecar
    }
}

impl Mesh {
    /// Those of a node's resources that may differ from what the mesh meant to it from which this one came by [`Mesh::next`]. `None`:
    /// any may.
    pub fn moved_for(&self, node: &Node) -> Option<Vec<Resource>> {
        let moved = self.moved.as_ref().filter(|moved| !moved.is_about(node))?;
        let node = &*node::identify(&self.index, node);
        let used = match node.role {
            Role::Sidecar => None,
            Role::Gateway => match self.plan(node) {
                Some(plan) => Some(used(plan)),
                None => return Some(Vec::new()),
            },
        };
        let services = moved.services.iter().filter_map(|(namespace, name)| self.index.service(namespace, name));
        let upstreams = services
            .flat_map(|(object, service)| upstreams::of_service(&self.index, object, service, &node.namespace))
            .filter(|upstream| upstream.has_endpoints())
            .filter(|upstream| used.as_ref().is_none_or(|used| used.contains(upstream.name().as_str())));
        Some(upstreams.map(|upstream| Resource::Endpoints(self.endpoints_for(&upstream, node))).collect())
    }

    /// An upstream's endpoints as this node should use them.
    pub(crate) fn endpoints_for(&self, upstream: &Upstream<'_>, node: &Node) -> Endpoints {
        let near = locality::endpoints(&self.index, upstream, node);
        near.unwrap_or_else(|| match self.endpoints.get(&upstream.name()) {
            Some(shared) => Endpoints::clone(shared),
            None => upstream.endpoints(&self.index),
        })
    }
}

/// On which ports each address serves each of these Services.
fn ports_by_address<'i>(
    index: &'i Index,
    services: &BTreeSet<Name>,
) -> BTreeMap<(&'i Name, IpAddr), Vec<&'i [SlicePort]>> {
    let mut ports: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (service, slice) in index.services_by_slice().filter(|(service, _)| services.contains(*service)) {
        for address in slice.endpoints.iter().filter_map(first_ip) {
            ports.entry((service, address)).or_default().push(&slice.ports[..]);
        }
    }
    ports
}

/// The clusters that a gateway sends to.
pub(crate) fn used(plan: &Plan) -> BTreeSet<&str> {
    plan.tables.iter().flat_map(targets).chain(plan.stream_targets()).collect()
}
