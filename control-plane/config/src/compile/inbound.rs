//! What comes to a sidecar's own workload: a listener for each port that a Service sends to, and the program behind it.

use super::clusters::{first_ip, identity, origin, port_protocol, slice_port};
use super::index::Index;
use super::outbound::{tcp_ports, to_cluster};
use super::protocol::PortProtocol;
use crate::Object;
use crate::kinds::{PortRef, ServicePort};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use weft_model::cluster::Discovery;
use weft_model::endpoint::Workload;
use weft_model::listener::{ApplicationProtocol, ChainMatch, Direction, FilterChain, Handler, HttpHandler, TcpHandler};
use weft_model::route::VirtualHost;
use weft_model::{Cluster, Endpoint, Listener, Node, Resource, RouteTable};

/// How long a caller may stay silent on a port of unknown protocol before it is taken for one that waits for the server to
/// speak. Long enough for a slow client's first byte, short enough for people not to notice a database.
const DETECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything inbound of one node.
pub(crate) fn resources(index: &Index, node: &Node) -> Vec<Resource> {
    let mut ports: BTreeMap<u16, (&Object, &ServicePort)> = BTreeMap::new();
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
            }
        }
    }
    ports.into_iter().flat_map(|(number, (object, port))| of_port(node, number, object, port)).collect()
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

fn of_port(node: &Node, number: u16, object: &Object, port: &ServicePort) -> Vec<Resource> {
    let name = format!("inbound|{number}||");
    let protocol = port_protocol(port);
    let app = SocketAddr::new(node.app_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), number);
    let cluster = Cluster {
        discovery: Discovery::Static(vec![endpoint(node, app)]),
        protocol: protocol.upstream(true),
        service: identity(object),
        origin: origin(object, ""),
        ..Cluster::new(&name)
    };
    let http = FilterChain {
        name: "http".into(),
        matches: ChainMatch::default(),
        tls: None,
        handler: Handler::Http(HttpHandler::new(&name)),
    };
    let tcp = FilterChain {
        name: "tcp".into(),
        matches: ChainMatch::default(),
        tls: None,
        handler: Handler::Tcp(TcpHandler { cluster: name.clone(), idle_timeout: Some(Duration::from_secs(3600)) }),
    };
    let chains = match protocol {
        PortProtocol::Http | PortProtocol::Http2 => vec![http],
        PortProtocol::Tcp => vec![tcp],
        PortProtocol::Unknown => {
            let detected = ChainMatch { application: Some(ApplicationProtocol::Http), ..ChainMatch::default() };
            vec![FilterChain { matches: detected, ..http }, tcp]
        }
    };
    let listener = Listener {
        name: format!("inbound|{number}"),
        address: SocketAddr::new(node.address, number),
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
                routes: vec![to_cluster("default", &name, origin(object, ""))],
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
