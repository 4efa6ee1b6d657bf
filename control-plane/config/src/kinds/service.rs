//! `v1` Service: a name for a group of pods.

use super::{Labels, PortRef, Transport};
use crate::Place;
use crate::read::{Cursor, Fields, boolean, ip, label, one_of, port, port_ref, subdomain, text, texts, transport};
use std::collections::HashSet;
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub kind: ServiceType,
    /// Which pods are its endpoints. Empty: endpoints are written by hand.
    pub selector: Labels,
    pub ports: Vec<ServicePort>,
    /// `clusterIP: None`: clients see the pods' own addresses.
    pub headless: bool,
    /// Its virtual addresses: one, or one of each family.
    pub cluster_ips: Vec<IpAddr>,
    pub publish_not_ready_addresses: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceType {
    ClusterIp,
    NodePort,
    LoadBalancer,
    /// An alias of a DNS name outside.
    ExternalName(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub place: Place,
    /// Needed where there are several. `http`, `http2-api`, `grpc`, `tcp-x` tell the protocol, as in Istio.
    pub name: Option<String>,
    pub port: u16,
    /// Absent: the same as `port`.
    pub target_port: Option<PortRef>,
    pub transport: Transport,
    /// `http`, `kubernetes.io/h2c`, `kubernetes.io/ws`, …; comes before the name's hint.
    pub app_protocol: Option<String>,
}

pub(crate) fn read_service(f: &mut Fields<'_>) -> Option<Service> {
    f.must("spec", |at| at.fields(spec))?
}

fn spec(f: &mut Fields<'_>) -> Option<Service> {
    f.skip(&["externalIPs", "externalTrafficPolicy", "healthCheckNodePort", "internalTrafficPolicy"]);
    f.skip(&["ipFamilies", "ipFamilyPolicy", "loadBalancerIP", "loadBalancerSourceRanges", "loadBalancerClass"]);
    f.skip(&["allocateLoadBalancerNodePorts", "trafficDistribution", "topologyKeys", "sessionAffinityConfig"]);
    let external_name = f.opt("externalName", subdomain);
    let kind =
        f.opt("type", one_of(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"].map(|kind| (kind, kind))));
    let kind = match (kind, external_name) {
        (Some("ExternalName"), Some(name)) => ServiceType::ExternalName(name),
        (Some("ExternalName"), None) => {
            if !f.has("externalName") {
                f.missing::<()>("externalName", "write the host name that this Service is an alias of");
            }
            ServiceType::ExternalName(String::new())
        }
        (Some("NodePort"), _) => ServiceType::NodePort,
        (Some("LoadBalancer"), _) => ServiceType::LoadBalancer,
        _ => ServiceType::ClusterIp,
    };
    if let Some("ClientIP") = f.opt("sessionAffinity", one_of(&["None", "ClientIP"].map(|kind| (kind, kind)))) {
        f.not_acted_on("sessionAffinity");
    }
    let written = f.list("clusterIPs", 0..=2, cluster_ip).into_iter().chain(f.opt("clusterIP", cluster_ip));
    let written: Vec<ClusterIp> = written.collect();
    let mut cluster_ips: Vec<IpAddr> = written.iter().filter_map(ClusterIp::address).collect();
    cluster_ips.sort_unstable();
    cluster_ips.dedup();
    let service = Service {
        headless: written.contains(&ClusterIp::None),
        cluster_ips,
        selector: f.opt("selector", texts).unwrap_or_default(),
        ports: f.list("ports", 0..=usize::MAX, port_of_service),
        publish_not_ready_addresses: f.opt("publishNotReadyAddresses", boolean).unwrap_or_default(),
        kind,
    };
    check_ports(f, &service);
    Some(service)
}

/// What stands in `clusterIP` and `clusterIPs`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClusterIp {
    At(IpAddr),
    None,
    /// The cluster will choose.
    Open,
}

impl ClusterIp {
    fn address(&self) -> Option<IpAddr> {
        match self {
            ClusterIp::At(address) => Some(*address),
            ClusterIp::None | ClusterIp::Open => None,
        }
    }
}

fn cluster_ip(at: &Cursor<'_>) -> Option<ClusterIp> {
    match text(at)?.as_str() {
        "None" => Some(ClusterIp::None),
        "" => Some(ClusterIp::Open),
        _ => ip(at).map(ClusterIp::At),
    }
}

fn port_of_service(at: &Cursor<'_>) -> Option<ServicePort> {
    at.fields(|f| {
        f.skip(&["nodePort"]);
        ServicePort {
            place: f.place(),
            name: f.opt("name", label),
            port: f.need("port", port),
            target_port: f.opt("targetPort", port_ref),
            transport: f.opt("protocol", transport).unwrap_or_default(),
            app_protocol: f.opt("appProtocol", text),
        }
    })
}

fn check_ports(f: &mut Fields<'_>, service: &Service) {
    let portless = service.headless || matches!(service.kind, ServiceType::ExternalName(_));
    if service.ports.is_empty() && !portless && !f.has("ports") {
        f.missing::<()>("ports", "write at least one port");
    }
    let several = service.ports.len() > 1;
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for port in &service.ports {
        let fault = match &port.name {
            None if several => Some(("a port without a name beside others".to_owned(), "give each port a name")),
            Some(name) if !names.insert(name) => Some((format!("two ports are named {name}"), "rename one of them")),
            _ if !numbers.insert((port.port, port.transport)) => {
                Some((format!("port {} is written twice", port.port), "remove one of them"))
            }
            _ => None,
        };
        if let Some((message, hint)) = fault {
            f.wrong_at(&port.place, "ports", message, hint);
        }
    }
}
