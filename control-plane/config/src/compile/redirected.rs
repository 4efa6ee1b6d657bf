//! What a sidecar serves whose pod's connections are redirected to it: apps call each other by the addresses that DNS gives them, and
//! know of no proxy.
//!
//! Outbound, every address of a Service's port has a listener without a socket, `10.96.0.7_80`, with that port's routes alone: the
//! address says which Service is meant, whatever a request's host header says. The endpoints of a headless Service
//! have one each, and what is sent there goes to that very endpoint. Inbound, every port that a Service sends to has one, at
//! whatever address the pod has. What is in neither passes through as it is, so that the mesh stays out of what is none of its business.

use super::chains::{DETECT_TIMEOUT, by_protocol};
use super::clusters::{is_external, members, port_protocol};
use super::index::{Index, cluster_name, full_name};
use super::outbound::{Outbound, PASSTHROUGH, PORT, tcp_ports, to_cluster};
use super::protocol::PortProtocol;
use super::retry;
use super::traffic::Policy;
use crate::Object;
use crate::kinds::{Service, ServicePort};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use weft_model::cluster::{Discovery, Protocol};
use weft_model::listener::{Binding, Direction, FilterChain};
use weft_model::route::{Action, Route, Target, VirtualHost};
use weft_model::{Cluster, Listener, Node, Origin, Resource, RouteTable};

/// Where a pod's inbound connections are redirected to.
const INBOUND_PORT: u16 = 15006;
const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// How long a caller of a port that no Service speaks for may be silent: nothing but its name in the logs depends on it.
const PASSTHROUGH_DETECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What the sidecar sends to its own pod comes from here, as Istio's does, so that the rules that redirect can tell
/// it from a stranger's connection: it would come back for ever.
pub(crate) const INBOUND_SOURCES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))];

/// One Service's port, as redirected connections meet it.
#[derive(Debug)]
pub(crate) struct Front {
    /// Its virtual host, by its place in the namespace's table.
    host: usize,
    /// `order.shop.svc.cluster.local:8080`.
    table: String,
    cluster: String,
    /// Of a headless Service: what goes on to the very endpoint.
    direct: Option<String>,
    protocol: PortProtocol,
    /// Of a headless Service none: they are those of who serves.
    addresses: Vec<SocketAddr>,
    tcp_idle_timeout: Option<Duration>,
}

/// Who serves the headless Services, by the place of the port's [`Front`].
pub(crate) type Headless = BTreeMap<usize, Vec<SocketAddr>>;

pub(crate) fn headless(index: &Index) -> Headless {
    let services = index.services();
    let ports = services.flat_map(|(object, service)| tcp_ports(service).map(move |port| (object, service, port)));
    let headless = ports.enumerate().filter(|(_, (_, service, _))| service.headless && !is_external(service));
    let addresses = |object, port| members(index, object, port, None).into_iter().map(|member| member.endpoint.address);
    headless.map(|(at, (object, _, port))| (at, addresses(object, port).collect())).collect()
}

impl Front {
    /// `host` is the place of the port's virtual host.
    pub(crate) fn new(
        index: &Index,
        namespace: &str,
        (object, service): (&Object, &Service),
        port: &ServicePort,
        host: usize,
    ) -> Front {
        let name = full_name(&object.key);
        let addresses = match service.headless && !is_external(service) {
            true => Vec::new(),
            false => service.cluster_ips.iter().map(|ip| SocketAddr::new(*ip, port.port)).collect(),
        };
        let rule = index.rules.for_caller(&object.key, namespace);
        let pool = rule.and_then(|(_, rule)| Policy::of(rule, None, port.port).connection_pool);
        Front {
            host,
            table: format!("{name}:{}", port.port),
            cluster: cluster_name(&object.key, port.port),
            direct: service.headless.then(|| format!("direct|{}||{name}", port.port)),
            protocol: port_protocol(port),
            addresses,
            tcp_idle_timeout: pool.and_then(|pool| pool.tcp.idle_timeout),
        }
    }

    /// `members` serve a headless Service.
    fn resources(&self, outbound: &Outbound, members: Option<&Vec<SocketAddr>>, node: &Node) -> Vec<Resource> {
        // Calls to oneself by one's own address are not redirected, or are none of this side's.
        let addresses = members.unwrap_or(&self.addresses).iter().filter(|address| address.ip() != node.address);
        let target = self.direct.as_ref().unwrap_or(&self.cluster);
        let chains = by_protocol(self.protocol, &self.table, target, self.tcp_idle_timeout);
        let listeners = addresses.map(|address| {
            let name = format!("{}_{}", address.ip(), address.port());
            Resource::Listener(listener(&name, *address, Binding::Handed, Direction::Outbound, chains.clone()))
        });
        let mut resources: Vec<Resource> = listeners.collect();
        if resources.is_empty() {
            return resources;
        }
        if let Some(direct) = &self.direct
            && let Some(whole) = outbound.clusters.iter().find(|cluster| cluster.name == self.cluster)
        {
            resources.push(Resource::Cluster(direct_cluster(direct, whole)));
        }
        if self.protocol != PortProtocol::Tcp {
            resources.push(Resource::RouteTable(self.table(outbound, node)));
        }
        resources
    }

    fn table(&self, outbound: &Outbound, node: &Node) -> RouteTable {
        let mut routes = outbound.routes_of(self.host, &node.labels);
        if let Some(direct) = &self.direct {
            routes.iter_mut().for_each(|route| redirect_to(route, &self.cluster, direct));
        }
        let mut table = table(&self.table, routes);
        outbound.affinities.apply(&mut table);
        retry::fill_in(&mut table);
        table
    }
}

/// There is no choice among endpoints, and so nothing to judge them for.
fn direct_cluster(name: &str, whole: &Cluster) -> Cluster {
    Cluster {
        name: name.to_owned(),
        discovery: Discovery::OriginalDestination,
        outlier: None,
        health_checks: Vec::new(),
        protocol: whole.protocol,
        connect_timeout: whole.connect_timeout,
        pool: whole.pool,
        service: whole.service.clone(),
        origin: whole.origin.clone(),
        ..Cluster::new(name)
    }
}

fn redirect_to(route: &mut Route, from: &str, to: &str) {
    let Action::Forward(forward) = &mut route.action else { return };
    for backend in &mut forward.backends {
        if backend.target == Target::Cluster(from.to_owned()) {
            backend.target = Target::Cluster(to.to_owned());
        }
    }
}

/// Everything outbound of one node but what explicit sidecars of its namespace hold too.
pub(crate) fn outbound(outbound: &Outbound, headless: &Headless, node: &Node) -> Vec<Resource> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
    let chains = by_protocol(PortProtocol::Tcp, PASSTHROUGH, PASSTHROUGH, None);
    let whole = listener("virtualOutbound", any, Binding::OriginalDestination, Direction::Outbound, chains);
    let passthrough = Cluster { discovery: Discovery::OriginalDestination, ..Cluster::new(PASSTHROUGH) };
    let mut resources = vec![Resource::Listener(whole), Resource::Cluster(passthrough)];
    let fronts = outbound.fronts.iter().enumerate();
    resources.extend(fronts.flat_map(|(at, front)| front.resources(outbound, headless.get(&at), node)));
    resources
}

/// What comes to ports that no Service sends to.
pub(crate) fn inbound() -> Vec<Resource> {
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), INBOUND_PORT);
    let chains = by_protocol(PortProtocol::Unknown, INBOUND_PASSTHROUGH, INBOUND_PASSTHROUGH, None);
    let whole = listener("virtualInbound", any, Binding::OriginalDestination, Direction::Inbound, chains);
    let cluster = Cluster {
        discovery: Discovery::OriginalDestination,
        protocol: Protocol::Downstream,
        bind_source: INBOUND_SOURCES.into(),
        ..Cluster::new(INBOUND_PASSTHROUGH)
    };
    let route = to_cluster("default", INBOUND_PASSTHROUGH, Origin::default());
    vec![
        Resource::Listener(Listener { detect_timeout: Some(PASSTHROUGH_DETECT_TIMEOUT), ..whole }),
        Resource::Cluster(cluster),
        Resource::RouteTable(table(INBOUND_PASSTHROUGH, vec![route])),
    ]
}

fn listener(
    name: &str,
    address: SocketAddr,
    binding: Binding,
    direction: Direction,
    chains: Vec<FilterChain>,
) -> Listener {
    Listener { name: name.to_owned(), address, binding, direction, chains, detect_timeout: Some(DETECT_TIMEOUT) }
}

fn table(name: &str, routes: Vec<Route>) -> RouteTable {
    let host = VirtualHost { name: name.to_owned(), domains: vec!["*".to_owned()], routes };
    RouteTable { name: name.to_owned(), virtual_hosts: vec![host] }
}
