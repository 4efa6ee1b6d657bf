//! What comes to a sidecar's own workload: a listener for each port that a Service sends to, and the program behind it.

use super::chains::{DETECT_TIMEOUT, by_protocol};
use super::clusters::{first_ip, identity, origin, port_protocol, slice_port};
use super::index::Index;
use super::outbound::{tcp_ports, to_cluster};
use super::protocol::PortProtocol;
use super::redirected::INBOUND_SOURCES;
use super::traffic::Policy;
use super::{policy, rate_limits};
use crate::Object;
use crate::kinds::{PortRef, ServicePort};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use weft_model::cluster::Discovery;
use weft_model::endpoint::Workload;
use weft_model::listener::{Binding, Direction};
use weft_model::rate_limit::RateLimit;
use weft_model::route::{Route, VirtualHost};
use weft_model::{Cluster, Endpoint, Listener, Node, Resource, RouteTable};

/// Everything inbound of one node.
pub(crate) fn resources(index: &Index, node: &Node) -> Vec<Resource> {
    let mut ports: BTreeMap<u16, (&Object, &ServicePort)> = BTreeMap::new();
    let mut limits: BTreeMap<u16, Vec<RateLimit>> = BTreeMap::new();
    for (object, service) in index.services() {
        for port in tcp_ports(service) {
            let by_selector = (object.key.namespace == node.namespace
                && !service.selector.is_empty()
                && service.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value)))
            .then(|| target_number(index, node, port))
            .flatten();
            for number in by_endpoints(index, object, port, node.address).chain(by_selector) {
                // several Services of one port: the first by name tells its protocol
                ports.entry(number).or_insert((object, port));
                // a request does not say through which it came: it obeys the limits of all
                let of_port = limits.entry(number).or_default();
                for limit in rate_limits::of_service(index, &object.key) {
                    if !of_port.contains(&limit) {
                        of_port.push(limit);
                    }
                }
            }
        }
    }
    let of_port = |(number, (object, port))| {
        let limits = limits.remove(&number).unwrap_or_default();
        of_port(index, node, number, (object, port), limits)
    };
    ports.into_iter().flat_map(of_port).collect()
}

/// The numbers under which the node is an endpoint of that port.
fn by_endpoints<'i>(
    index: &'i Index,
    object: &'i Object,
    port: &'i ServicePort,
    address: IpAddr,
) -> impl Iterator<Item = u16> + 'i {
    index
        .slices(&object.key)
        .filter(move |slice| slice.endpoints.iter().any(|endpoint| first_ip(endpoint) == Some(address)))
        .filter_map(move |slice| slice_port(slice, port))
}

/// The same from the Service itself, so that a pod's listener is there before its first EndpointSlice is.
fn target_number(index: &Index, node: &Node, port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        Some(PortRef::Number(number)) => Some(*number),
        Some(PortRef::Name(name)) => index.pod_port(&node.namespace, &node.pod, name),
    }
}

fn of_port(
    index: &Index,
    node: &Node,
    number: u16,
    (object, port): (&Object, &ServicePort),
    rate_limits: Vec<RateLimit>,
) -> Vec<Resource> {
    let name = format!("inbound|{number}||");
    let protocol = port_protocol(port);
    let app = SocketAddr::new(node.app_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), number);
    let (discovery, bind_source) = match node.interception {
        true => (Discovery::OriginalDestination, INBOUND_SOURCES.to_vec()),
        false => (Discovery::Static(vec![endpoint(node, app)]), Vec::new()),
    };
    let mut cluster = Cluster {
        discovery,
        bind_source,
        protocol: protocol.upstream(true),
        service: identity(object),
        origin: origin(object, ""),
        ..Cluster::new(&name)
    };
    let rule = index.rules.for_caller(&object.key, &node.namespace);
    let pool = rule.and_then(|(_, rule)| Policy::of(rule, None, port.port).connection_pool);
    if let (Some(pool), Some((rule, _))) = (pool, rule) {
        policy::connections(pool, protocol, &mut cluster);
        cluster.origin = origin(rule, "");
    }
    let chains = by_protocol(protocol, &name, &name, pool.and_then(|pool| pool.tcp.idle_timeout));
    // Redirected connections come for any address of the pod.
    let (at, binding) = match node.interception {
        true => (Ipv4Addr::UNSPECIFIED.into(), Binding::Handed),
        false => (node.address, Binding::Socket),
    };
    let listener = Listener {
        name: format!("inbound|{number}"),
        address: SocketAddr::new(at, number),
        binding,
        direction: Direction::Inbound,
        chains,
        detect_timeout: Some(DETECT_TIMEOUT),
    };
    let mut resources = vec![Resource::Cluster(cluster), Resource::Listener(listener)];
    if protocol != PortProtocol::Tcp {
        resources.push(Resource::RouteTable(RouteTable {
            name: name.clone(),
            virtual_hosts: vec![VirtualHost {
                name: format!("inbound|http|{number}"),
                domains: vec!["*".into()],
                routes: vec![Route { rate_limits, ..to_cluster("default", &name, origin(object, "")) }],
            }],
        }));
    }
    resources
}

/// The program beside this proxy.
fn endpoint(node: &Node, address: SocketAddr) -> Endpoint {
    let label = |names: [&str; 2]| names.iter().find_map(|name| node.labels.get(*name)).cloned().unwrap_or_default();
    Endpoint {
        workload: Workload {
            name: node.workload.clone(),
            namespace: node.namespace.clone(),
            app: label(["app", "app.kubernetes.io/name"]),
            version: label(["version", "app.kubernetes.io/version"]),
        },
        ..Endpoint::at(address)
    }
}
