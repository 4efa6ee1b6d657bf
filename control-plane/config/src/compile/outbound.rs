//! What a sidecar's workload may call: every Service by its names, over one explicit proxy port.
//!
//! A Service's HTTPRoutes (parentRef kind Service, the Gateway API for meshes) route its callers: those of the Service's
//! own namespace, the producer's, all of them; those of another namespace, a consumer's, only the callers there, whom
//! they then serve alone. A VirtualService comes after them, in the place of the Service's default route; it may
//! also name hosts that are no Service, and they then have virtual hosts of their own.

use super::affinity::Affinities;
use super::attach;
use super::clusters::origin;
use super::gateway::RouteOf;
use super::index::{CLUSTER_DOMAIN, Index, cluster_name, full_name};
use super::precedence::Rank;
use super::redirected::Front;
use super::retry;
use super::upstreams::of_service;
use super::virtual_services::{ForCaller, Listening, Merged, MeshHosts, service_of};
use crate::kinds::{Labels, ParentRef, Service, ServicePort, Transport};
use crate::{Key, KindName, Object};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use weft_model::cluster::{Discovery, Protocol};
use weft_model::listener::{Binding, ChainMatch, Direction, FilterChain, Handler, HttpHandler};
use weft_model::node::Role;
use weft_model::route::{Action, Backend, Forward, Redirect, Route, Target, UrlChange, VirtualHost};
use weft_model::{Cluster, Listener, Node, Origin, Resource, RouteTable};

/// The explicit proxy's port, Istio's outbound.
pub(crate) const PORT: u16 = 15001;

const TABLE: &str = "outbound";

/// Whatever is no Service goes where the request itself says, as Istio's `ALLOW_ANY`.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";

/// For each Service the parentRefs that name it, with their routes.
pub(crate) type MeshRoutes<'i> = BTreeMap<&'i Key, Vec<(&'i Key, &'i ParentRef)>>;

/// What all sidecars of one namespace share, whoever serves.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) clusters: Vec<Cluster>,
    /// For the table's routes, whoever they are for.
    pub(crate) affinities: Affinities,
    /// The same, for those whose connections are redirected.
    pub(crate) fronts: Vec<Front>,
    /// For a caller without labels.
    table: RouteTable,
    /// The virtual hosts, in order of their place in the table, whose routes depend on the caller's labels.
    by_caller: Vec<(usize, Choice)>,
}

impl Outbound {
    /// What only an explicit proxy holds: its listener, and one table for all hosts.
    pub(crate) fn explicit(&self, node: &Node) -> Vec<Resource> {
        let mut table = self.table_for(&node.labels);
        self.affinities.apply(&mut table);
        retry::fill_in(&mut table);
        let passthrough = Cluster::new(PASSTHROUGH);
        let passthrough = Cluster { discovery: Discovery::Forward, protocol: Protocol::Downstream, ..passthrough };
        vec![Resource::Cluster(passthrough), Resource::Listener(listener(node.address)), Resource::RouteTable(table)]
    }

    /// The routes of one virtual host for a caller.
    pub(crate) fn routes_of(&self, host: usize, labels: &Labels) -> Vec<Route> {
        match self.by_caller.binary_search_by_key(&host, |(at, _)| *at) {
            Ok(found) => self.by_caller[found].1.routes(labels),
            Err(_) => self.table.virtual_hosts[host].routes.clone(),
        }
    }

    /// The routes of one caller.
    fn table_for(&self, labels: &Labels) -> RouteTable {
        let mut table = self.table.clone();
        for (at, choice) in &self.by_caller {
            table.virtual_hosts[*at].routes = choice.routes(labels);
        }
        // a host that is no Service, and none of whose routes is for this caller
        table.virtual_hosts.retain(|host| !host.routes.is_empty());
        table
    }

    fn add(&mut self, name: String, domains: Vec<String>, choice: Choice) {
        let routes = choice.routes(&Labels::new());
        self.table.virtual_hosts.push(VirtualHost { name, domains, routes });
        if choice.virtual_service.iter().any(|entry| !entry.labels.is_empty()) {
            self.by_caller.push((self.table.virtual_hosts.len() - 1, choice));
        }
    }
}

/// What a virtual host's routes come from.
#[derive(Debug)]
struct Choice {
    /// What is inside a tunnel cannot be routed: it goes where it would go without rules.
    tunnel: Route,
    http_routes: Vec<Route>,
    virtual_service: Vec<ForCaller>,
    /// Where there is no rule.
    default: Option<Route>,
}

impl Choice {
    fn routes(&self, labels: &Labels) -> Vec<Route> {
        let is_for = |entry: &&ForCaller| entry.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        let of_caller = self.virtual_service.iter().filter(is_for).map(|entry| &entry.route);
        let rules: Vec<&Route> = self.http_routes.iter().chain(of_caller).collect();
        match rules.is_empty() {
            true => self.default.iter().cloned().collect(),
            false => std::iter::once(&self.tunnel).chain(rules).cloned().collect(),
        }
    }
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

fn listener(address: IpAddr) -> Listener {
    let mut handler = HttpHandler::new(TABLE);
    handler.upgrades = vec!["websocket".into(), "CONNECT".into()];
    Listener {
        name: "outbound".into(),
        address: SocketAddr::new(address, PORT),
        binding: Binding::Socket,
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
    hosts: &MeshHosts<'_>,
) -> Outbound {
    let mut outbound = Outbound {
        clusters: Vec::new(),
        affinities: Affinities::new(index, namespace),
        fronts: Vec::new(),
        table: RouteTable { name: TABLE.to_owned(), virtual_hosts: Vec::new() },
        by_caller: Vec::new(),
    };
    for (object, service) in index.services() {
        let upstreams = of_service(index, object, service, namespace);
        outbound.clusters.extend(upstreams.iter().map(|upstream| upstream.cluster(index, Role::Sidecar)));
        let attached = mesh_routes.get(&object.key).map(Vec::as_slice).unwrap_or_default();
        let virtual_service = hosts.of(&full_name(&object.key));
        for port in tcp_ports(service) {
            let to_service = |name| to_cluster(name, &cluster_name(&object.key, port.port), origin(object, ""));
            let choice = Choice {
                tunnel: tunnel(to_service("connect")),
                http_routes: routes_of_port(object, port, namespace, routes, attached),
                virtual_service: routes_of(virtual_service, index, namespace, port.port, &outbound.affinities),
                default: Some(to_service("default")),
            };
            let host = outbound.table.virtual_hosts.len();
            outbound.fronts.push(Front::new(index, namespace, (object, service), port, host));
            let name = format!("{}:{}", full_name(&object.key), port.port);
            outbound.add(name, domains(&object.key, service, port, namespace), choice);
        }
    }
    add_other_hosts(&mut outbound, index, namespace, hosts);
    outbound.table.virtual_hosts.push(VirtualHost {
        name: "allow_any".into(),
        domains: vec!["*".into()],
        routes: vec![to_cluster("allow_any", PASSTHROUGH, Origin::default())],
    });
    outbound
}

/// Hosts of VirtualServices that are no Service: by each port that a match names, and for all others by what holds for port 80.
fn add_other_hosts(outbound: &mut Outbound, index: &Index, namespace: &str, hosts: &MeshHosts<'_>) {
    let is_service = |host| service_of(host).is_some_and(|(namespace, name)| index.service(namespace, name).is_some());
    let hosts_of_services = outbound.table.virtual_hosts.iter().flat_map(|host| &host.domains);
    let mut taken: HashSet<String> = hosts_of_services.cloned().collect();
    for (host, merged) in hosts.all().filter(|(host, _)| !is_service(host)) {
        let names = match service_of(host) {
            Some((of_host, name)) => names(name, of_host, namespace),
            None => vec![host.to_owned()],
        };
        let ports = merged.ports().into_iter().map(Some).chain([None]);
        for port in ports {
            let virtual_service = routes_of(Some(merged), index, namespace, port.unwrap_or(80), &outbound.affinities);
            let with_port = |name: &String| port.map_or(name.clone(), |port| format!("{name}:{port}"));
            // a data plane refuses a table in which a domain is twice
            let domains: Vec<String> =
                names.iter().map(with_port).filter(|domain| taken.insert(domain.clone())).collect();
            if virtual_service.is_empty() || domains.is_empty() {
                continue;
            }
            let tunnel = tunnel(to_cluster("connect", PASSTHROUGH, Origin::default()));
            let choice = Choice { tunnel, http_routes: Vec::new(), virtual_service, default: None };
            outbound.add(with_port(&host.to_owned()), domains, choice);
        }
    }
}

fn routes_of(
    merged: Option<&Merged<'_>>,
    index: &Index,
    namespace: &str,
    port: u16,
    affinities: &Affinities,
) -> Vec<ForCaller> {
    let listening = Listening { caller: namespace, gateway: None, port, is_tls: false, affinities };
    merged.map(|merged| merged.routes(index, &listening)).unwrap_or_default()
}

fn tunnel(mut route: Route) -> Route {
    route.matches.methods = vec!["CONNECT".into()];
    route
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
    let names = names(&service.name, &service.namespace, namespace);
    let mut domains: Vec<String> = names.iter().map(|name| format!("{name}:{}", port.port)).collect();
    let is_default = port.port == 80 || tcp_ports(kind).count() == 1;
    if is_default {
        domains.extend(names);
    }
    domains
}

fn names(name: &str, of_service: &str, namespace: &str) -> Vec<String> {
    let mut names = vec![
        format!("{name}.{of_service}"),
        format!("{name}.{of_service}.svc"),
        format!("{name}.{of_service}.{CLUSTER_DOMAIN}"),
    ];
    if of_service == namespace {
        names.insert(0, name.to_owned());
    }
    names
}

/// Those of HTTPRoutes, or of GRPCRoutes where there are any: the more specific kind has a Service for itself (GEP-1426).
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
    let mut effective = if consumers.is_empty() { of_namespace(&object.key.namespace) } else { consumers };
    if effective.iter().any(|key| key.kind == KindName::GrpcRoute) {
        effective.retain(|key| key.kind == KindName::GrpcRoute);
    }
    let mut ranked: Vec<(Rank, &Route)> =
        effective.into_iter().flat_map(|key| routes[key].compiled.ranked("*")).collect();
    ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
    ranked.into_iter().map(|(_, route)| for_port(route, port.port)).collect()
}

/// A redirect that names neither scheme nor port keeps the port that the caller asked for. At a gateway that is the listener's;
/// here the listener is a proxy's, so it is said.
fn for_port(route: &Route, port: u16) -> Route {
    let mut route = route.clone();
    for redirect in redirects(&mut route.action).filter(|redirect| redirect.scheme.is_none()) {
        redirect.port.get_or_insert(port);
    }
    route
}

/// The route's own, or those of its backends.
fn redirects(action: &mut Action) -> impl Iterator<Item = &mut Redirect> {
    let (own, backends) = match action {
        Action::Redirect(redirect) => (Some(redirect), &mut [][..]),
        Action::Forward(forward) => (None, &mut forward.backends[..]),
        Action::Respond(_) => (None, &mut [][..]),
    };
    let of_backends = backends.iter_mut().filter_map(|backend| match backend.url.as_deref_mut() {
        Some(UrlChange::Redirect(redirect)) => Some(redirect),
        Some(UrlChange::Rewrite(_)) | None => None,
    });
    own.into_iter().chain(of_backends)
}

/// Everything to one cluster.
pub(crate) fn to_cluster(name: &str, cluster: &str, origin: Origin) -> Route {
    let backend = Backend::new(Target::Cluster(cluster.to_owned()), 1);
    let action = Action::Forward(Forward { backends: vec![backend], ..Forward::default() });
    Route { origin, ..Route::all(name, action) }
}
