//! What a sidecar's workload may call: every Service by its names, over one explicit proxy port.
//!
//! A Service's HTTPRoutes (parentRef kind Service, the Gateway API for meshes) route its callers: those of the Service's
//! own namespace, the producer's, all of them; those of another namespace, a consumer's, only the callers there, whom
//! they then serve alone.

use super::affinity::Affinities;
use super::attach;
use super::clusters::origin;
use super::gateway::RouteOf;
use super::index::{CLUSTER_DOMAIN, Index, cluster_name, full_name};
use super::precedence::Rank;
use super::upstreams::of_service;
use crate::kinds::{ParentRef, Service, ServicePort, Transport};
use crate::{Key, Object};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use weft_model::cluster::{Discovery, Protocol};
use weft_model::listener::{ChainMatch, Direction, FilterChain, Handler, HttpHandler};
use weft_model::node::Role;
use weft_model::route::{Action, Backend, Forward, HeaderEdits, Route, Target, VirtualHost};
use weft_model::{Cluster, Endpoints, Listener, Origin, RouteTable};

/// The explicit proxy's port, Istio's outbound.
pub(crate) const PORT: u16 = 15001;

const TABLE: &str = "outbound";

/// Whatever is no Service goes where the request itself says, as Istio's `ALLOW_ANY`.
const PASSTHROUGH: &str = "PassthroughCluster";

/// For each Service the parentRefs that name it, with their routes.
pub(crate) type MeshRoutes<'i> = BTreeMap<&'i Key, Vec<(&'i Key, &'i ParentRef)>>;

/// What all sidecars of one namespace share.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) clusters: Vec<Cluster>,
    /// Of subsets, which are as the namespace's rules say; those of whole Services are everybody's.
    pub(crate) endpoints: Vec<Arc<Endpoints>>,
    /// For the table's routes, whoever they are for.
    pub(crate) affinities: Affinities,
    pub(crate) table: RouteTable,
}

/// Goes through all routes once.
pub(crate) fn mesh_routes(index: &Index) -> MeshRoutes<'_> {
    let mut routes = MeshRoutes::new();
    for (object, route) in index.routes() {
        for reference in &route.parent_refs {
            if let Ok(attach::Parent::Service(service)) = attach::parent(index, object, reference) {
                routes.entry(&service.key).or_default().push((&object.key, reference));
            }
        }
    }
    routes
}

pub(crate) fn listener(address: IpAddr) -> Listener {
    let mut handler = HttpHandler::new(TABLE);
    handler.upgrades = vec!["websocket".into(), "CONNECT".into()];
    Listener {
        name: "outbound".into(),
        address: SocketAddr::new(address, PORT),
        direction: Direction::Outbound,
        chains: vec![FilterChain {
            name: "http".into(),
            matches: ChainMatch::default(),
            tls: None,
            handler: Handler::Http(handler),
        }],
        detect_timeout: None,
    }
}

pub(crate) fn outbound(
    index: &Index,
    namespace: &str,
    routes: &BTreeMap<&Key, RouteOf<'_>>,
    mesh_routes: &MeshRoutes<'_>,
) -> Outbound {
    let mut outbound = Outbound {
        clusters: Vec::new(),
        endpoints: Vec::new(),
        affinities: Affinities::new(index, namespace),
        table: RouteTable { name: TABLE.to_owned(), virtual_hosts: Vec::new() },
    };
    for (object, service) in index.services() {
        let attached = mesh_routes.get(&object.key).map(Vec::as_slice).unwrap_or_default();
        for upstream in of_service(index, object, service, namespace) {
            outbound.clusters.push(upstream.cluster(index, Role::Sidecar));
            if let (true, Some(_)) = (upstream.has_endpoints(), upstream.subset) {
                outbound.endpoints.push(Arc::new(upstream.endpoints(index)));
            }
        }
        for port in tcp_ports(service) {
            outbound.table.virtual_hosts.push(VirtualHost {
                name: format!("{}:{}", full_name(&object.key), port.port),
                domains: domains(&object.key, service, port, namespace),
                routes: routes_of_port(object, port, namespace, routes, attached),
            });
        }
    }
    let passthrough = Cluster::new(PASSTHROUGH);
    outbound.clusters.push(Cluster { discovery: Discovery::Forward, protocol: Protocol::Downstream, ..passthrough });
    outbound.table.virtual_hosts.push(VirtualHost {
        name: "allow_any".into(),
        domains: vec!["*".into()],
        routes: vec![to_cluster("allow_any", PASSTHROUGH, Origin::default())],
    });
    outbound
}

/// Each number once.
pub(crate) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let tcp = service.ports.iter().enumerate().filter(|(_, port)| port.transport == Transport::Tcp);
    let first = tcp.filter(|(at, port)| {
        let mut earlier = service.ports[..*at].iter();
        !earlier.any(|earlier| earlier.transport == Transport::Tcp && earlier.port == port.port)
    });
    first.map(|(_, port)| port)
}

/// `order`, `order.shop`, `order.shop.svc` and the full name, each with the port, and without it when that is clear.
fn domains(service: &Key, kind: &Service, port: &ServicePort, namespace: &str) -> Vec<String> {
    let Key { name, namespace: of_service, .. } = service;
    let mut names = vec![
        format!("{name}.{of_service}"),
        format!("{name}.{of_service}.svc"),
        format!("{name}.{of_service}.{CLUSTER_DOMAIN}"),
    ];
    if of_service == namespace {
        names.insert(0, name.clone());
    }
    let mut domains: Vec<String> = names.iter().map(|name| format!("{name}:{}", port.port)).collect();
    let is_default = port.port == 80 || tcp_ports(kind).count() == 1;
    if is_default {
        domains.extend(names);
    }
    domains
}

fn routes_of_port(
    object: &Object,
    port: &ServicePort,
    namespace: &str,
    routes: &BTreeMap<&Key, RouteOf<'_>>,
    attached: &[(&Key, &ParentRef)],
) -> Vec<Route> {
    let of_port = |reference: &ParentRef| {
        reference.port.is_none_or(|number| number == port.port)
            && reference.section_name.as_ref().is_none_or(|name| Some(name) == port.name.as_ref())
    };
    let of_namespace = |namespace: &str| {
        let mut keys: Vec<&Key> = attached
            .iter()
            .filter(|(route, reference)| route.namespace == namespace && of_port(reference))
            .map(|(route, _)| *route)
            .collect();
        keys.dedup(); // two parentRefs of one route may name the same port
        keys
    };
    let consumers = of_namespace(namespace);
    let effective = if consumers.is_empty() { of_namespace(&object.key.namespace) } else { consumers };
    let cluster = cluster_name(&object.key, port.port);
    if effective.is_empty() {
        return vec![to_cluster("default", &cluster, origin(object, ""))];
    }
    let mut ranked: Vec<(Rank, &Route)> =
        effective.into_iter().flat_map(|key| routes[key].compiled.ranked("*")).collect();
    ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
    // what is inside a tunnel cannot be routed: it goes to the Service itself
    let mut tunnel = to_cluster("connect", &cluster, origin(object, ""));
    tunnel.matches.methods = vec!["CONNECT".into()];
    std::iter::once(tunnel).chain(ranked.into_iter().map(|(_, route)| for_port(route, port.port))).collect()
}

/// A redirect that names neither scheme nor port keeps the port that the caller asked for. At a gateway that is the listener's;
/// here the listener is a proxy's, so it is said.
fn for_port(route: &Route, port: u16) -> Route {
    let mut route = route.clone();
    if let Action::Redirect(redirect) = &mut route.action
        && redirect.scheme.is_none()
    {
        redirect.port.get_or_insert(port);
    }
    route
}

/// Everything to one cluster.
pub(crate) fn to_cluster(name: &str, cluster: &str, origin: Origin) -> Route {
    let backend = Backend {
        target: Target::Cluster(cluster.to_owned()),
        weight: 1,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let action = Action::Forward(Forward { backends: vec![backend], ..Forward::default() });
    Route { origin, ..Route::all(name, action) }
}
