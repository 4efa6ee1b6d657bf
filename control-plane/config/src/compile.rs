//! From what people wrote to what each data plane should do.
//!
//! [`Mesh::compile`] looks at the world once and keeps what many nodes share; [`Mesh::for_node`] puts together what one
//! data plane holds. What is wrong in the world (a backend that is not there, a route that attaches to nothing) never stops
//! the rest: it becomes a refusal in words at the requests that meet it, and [`crate::validate()`] tells its author.
//!
//! [`Mesh::next`] is the same for a world that is nearly the one before: where only who serves has changed, what was made is kept.
//! What a namespace's sidecars share is made when the first of them asks, so that namespaces without any cost nothing.
//!
//! The same world gives the same resources in the same order, to the byte, and a resource depends only on what it is made of:
//! a Service that a gateway does not send to changes nothing of that gateway.

pub(crate) mod accrual;
pub(crate) mod affinity;
pub(crate) mod attach;
pub(crate) mod authority;
pub(crate) mod backend;
pub(crate) mod backend_policies;
pub(crate) mod backend_tls;
pub(crate) mod certificate;
mod chains;
mod clusters;
pub(crate) mod destination;
pub(crate) mod difference;
pub(crate) mod frontend;
pub(crate) mod gateway;
pub(crate) mod hostname;
mod inbound;
pub(crate) mod index;
mod layer4;
pub(crate) mod listener_sets;
mod locality;
mod moved;
mod node;
mod outbound;
mod policy;
mod precedence;
mod protocol;
mod rate_limits;
mod redirected;
mod resilience;
mod retry;
pub(crate) mod rules;
#[cfg(test)]
mod tests;
pub(crate) mod traffic;
mod upstreams;
pub(crate) mod virtual_services;

use crate::{Key, World};
use difference::Served;
use gateway::{Plan, RouteOf};
use index::Index;
use moved::Moved;
use outbound::Outbound;
use redirected::Headless;
use rules::Compiled;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use upstreams::Upstream;
use virtual_services::VirtualServices;
use weft_model::cluster::Protocol;
use weft_model::endpoint::Health;
use weft_model::node::Role;
use weft_model::route::{Action, Forward, Route, Target};
use weft_model::{Endpoints, Node, Resource, RouteTable};

/// A compiled world.
#[derive(Debug)]
pub struct Mesh {
    index: Index,
    /// By namespace and name.
    gateways: Arc<BTreeMap<(String, String), Plan>>,
    /// By namespace: what its sidecars may call.
    callers: BTreeMap<String, Callers>,
    /// The same for a namespace in which nothing is written down.
    elsewhere: Callers,
    /// By cluster.
    endpoints: BTreeMap<String, Arc<Endpoints>>,
    /// Who serves the headless Services.
    headless: OnceLock<Headless>,
    /// Since the mesh that this one came from; `None` when anything may have.
    moved: Option<Moved>,
}

/// The sidecars of one namespace. Both are made when the first asks.
#[derive(Debug, Default)]
struct Callers {
    outbound: Arc<OnceLock<Outbound>>,
    /// Of subsets, which are as the namespace's rules say; those of whole Services are everybody's.
    subsets: OnceLock<Vec<Arc<Endpoints>>>,
}

impl Mesh {
    pub fn compile(world: &World) -> Mesh {
        let index = Index::new(world);
        let gateways = Arc::new(gateways(&index));
        let callers = index.namespaces().into_iter().map(|name| (name.to_owned(), Callers::default())).collect();
        let endpoints = endpoints(&index, |_| None);
        let (elsewhere, headless) = (Callers::default(), OnceLock::new());
        Mesh { index, gateways, callers, elsewhere, endpoints, headless, moved: None }
    }

    /// As [`Mesh::compile`], with what this mesh has made already wherever it is the same.
    pub fn next(&self, world: &World) -> Mesh {
        let Some(served) = Served::between(self.index.world(), world) else { return Mesh::compile(world) };
        let index = Index::new(world);
        let moved = served.moved(&self.index, &index);
        let unmoved = |upstream: &Upstream<'_>| {
            let Key { namespace, name, .. } = &upstream.object.key;
            let is_moved = moved.services.contains(&(namespace.clone(), name.clone()));
            self.endpoints.get(&upstream.name()).filter(|_| !is_moved).cloned()
        };
        let endpoints = endpoints(&index, unmoved);
        let callers = index.namespaces().into_iter().map(|name| {
            let before = self.callers.get(name);
            (name.to_owned(), before.map_or_else(Callers::default, Callers::next))
        });
        let (callers, elsewhere): (BTreeMap<_, _>, _) = (callers.collect(), self.elsewhere.next());
        let moved = callers.keys().eq(self.callers.keys()).then_some(moved);
        let (gateways, headless) = (self.gateways.clone(), OnceLock::new());
        Mesh { index, gateways, callers, elsewhere, endpoints, headless, moved }
    }

    /// Whether any data plane that obeys this mesh would send new requests to that address.
    pub fn sends_to(&self, address: IpAddr) -> bool {
        let mut all = self.endpoints.values().flat_map(|endpoints| &endpoints.endpoints);
        all.any(|endpoint| endpoint.address.ip() == address && endpoint.health == Health::Healthy)
    }

    /// What one data plane holds, in make-before-break order and then by name. A gateway gets only the clusters that its routes
    /// send to; a gateway whose Gateway object is gone, or not ours, gets nothing.
    pub fn for_node(&self, node: &Node) -> Vec<Resource> {
        let node = &*node::identify(&self.index, node);
        let mut resources = match node.role {
            Role::Gateway => self.for_gateway(node),
            Role::Sidecar => self.for_sidecar(node),
        };
        resources.sort_by(|one, other| (one.kind(), one.name()).cmp(&(other.kind(), other.name())));
        resources
    }

    fn for_gateway(&self, node: &Node) -> Vec<Resource> {
        let Some(plan) = self.plan(node) else { return Vec::new() };
        let used = moved::used(plan);
        let reached = upstreams::of_caller(&self.index, &node.namespace);
        let mut resources = Vec::new();
        for upstream in reached.into_iter().filter(|upstream| used.contains(upstream.name().as_str())) {
            let mut cluster = upstream.cluster(&self.index, Role::Gateway);
            if plan.grpc.contains(&cluster.name) && upstream.is_of_unknown_protocol() {
                cluster.protocol = Protocol::Downstream;
            }
            if let Some(tls) = &mut cluster.tls {
                tls.certificate = plan.client_certificate.clone();
            }
            resources.push(Resource::Cluster(cluster));
            if upstream.has_endpoints() {
                resources.push(Resource::Endpoints(self.endpoints_for(&upstream, node)));
            }
        }
        resources.extend(plan.listeners(node.address).map(Resource::Listener));
        let mut tables = plan.tables.clone();
        for table in &mut tables {
            plan.affinities.apply(table);
            retry::fill_in(table);
        }
        resources.extend(tables.into_iter().map(Resource::RouteTable));
        resources.extend(plan.secrets.iter().cloned().map(Resource::Secret));
        resources
    }

    fn plan(&self, node: &Node) -> Option<&Plan> {
        self.gateways.get(&(node.namespace.clone(), node.workload.clone()))
    }

    fn for_sidecar(&self, node: &Node) -> Vec<Resource> {
        let (namespace, callers) = match self.callers.get(&node.namespace) {
            Some(callers) => (node.namespace.as_str(), callers),
            None => ("", &self.elsewhere),
        };
        let outbound = callers.outbound.get_or_init(|| outbound_of(&self.index, namespace));
        let subsets = callers.subsets.get_or_init(|| subsets(&self.index, namespace));
        let mut resources = inbound::resources(&self.index, node);
        resources.extend(outbound.clusters.iter().cloned().map(Resource::Cluster));
        if node.interception {
            resources.extend(redirected::inbound());
            let headless = self.headless.get_or_init(|| redirected::headless(&self.index));
            resources.extend(redirected::outbound(outbound, headless, node));
        } else {
            resources.extend(outbound.explicit(node));
        }
        let near: BTreeMap<String, Endpoints> = upstreams::of_caller(&self.index, &node.namespace)
            .iter()
            .filter(|upstream| upstream.has_endpoints())
            .filter_map(|upstream| locality::endpoints(&self.index, upstream, node))
            .map(|endpoints| (endpoints.cluster.clone(), endpoints))
            .collect();
        let shared = self.endpoints.values().chain(subsets);
        resources.extend(shared.filter(|shared| !near.contains_key(&shared.cluster)).map(endpoints_resource));
        resources.extend(near.into_values().map(Resource::Endpoints));
        resources
    }
}

fn endpoints_resource(endpoints: &Arc<Endpoints>) -> Resource {
    Resource::Endpoints(Endpoints::clone(endpoints))
}

impl Callers {
    /// The same callers when others serve.
    fn next(&self) -> Callers {
        Callers { outbound: self.outbound.clone(), subsets: OnceLock::new() }
    }
}

fn routes(index: &Index) -> BTreeMap<&Key, RouteOf<'_>> {
    let routes = index.routes();
    routes
        .map(|(object, route)| (&object.key, RouteOf { route, compiled: Compiled::new(index, object, route) }))
        .collect()
}

fn gateways(index: &Index) -> BTreeMap<(String, String), Plan> {
    let (routes, attached) = (routes(index), gateway::attachments(index));
    let virtual_services = VirtualServices::new(index);
    let none = BTreeSet::new();
    let plans = index.gateways().map(|(object, gateway)| {
        let attached = attached.get(&object.key).unwrap_or(&none);
        let bound = virtual_services.of_gateway(&object.key);
        let plan = gateway::plan(index, (object, gateway), &routes, attached, &bound);
        ((object.key.namespace.clone(), object.key.name.clone()), plan)
    });
    plans.collect()
}

fn outbound_of(index: &Index, namespace: &str) -> Outbound {
    let virtual_services = VirtualServices::new(index);
    let hosts = virtual_services.of_mesh(namespace);
    outbound::outbound(index, namespace, &routes(index), &outbound::mesh_routes(index), &hosts)
}

/// The endpoints of every Service's port that has them: whole, so nobody's rule matters. `known` has some already.
fn endpoints(
    index: &Index,
    known: impl Fn(&Upstream<'_>) -> Option<Arc<Endpoints>>,
) -> BTreeMap<String, Arc<Endpoints>> {
    let whole = upstreams::of_caller(index, "").into_iter().filter(|upstream| upstream.subset.is_none());
    let served = whole.filter(Upstream::has_endpoints);
    let endpoints = |upstream: &Upstream<'_>| known(upstream).unwrap_or_else(|| Arc::new(upstream.endpoints(index)));
    served.map(|upstream| (upstream.name(), endpoints(&upstream))).collect()
}

fn subsets(index: &Index, namespace: &str) -> Vec<Arc<Endpoints>> {
    let subsets = upstreams::of_caller(index, namespace).into_iter().filter(|upstream| upstream.subset.is_some());
    subsets.filter(Upstream::has_endpoints).map(|upstream| Arc::new(upstream.endpoints(index))).collect()
}

/// The clusters that a table sends or copies to.
fn targets(table: &RouteTable) -> impl Iterator<Item = &str> {
    table.virtual_hosts.iter().flat_map(|host| &host.routes).flat_map(route_targets)
}

fn route_targets(route: &Route) -> impl Iterator<Item = &str> {
    let forward = match &route.action {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Respond(_) => None,
    };
    forward.into_iter().flat_map(Forward::targets).filter_map(|target| match target {
        Target::Cluster(name) => Some(name.as_str()),
        Target::Invalid { .. } => None,
    })
}
