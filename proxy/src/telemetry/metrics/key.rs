//! Who talked to whom: the labels that all requests of one series share.
//!
//! They are Istio's, so that its dashboards and people's queries work unchanged. Nothing in them
//! comes from a request itself (no path, no host header, no pod), or a caller could make series at
//! will.

use std::sync::Arc;
use weft_model::Node;
use weft_model::cluster::Service;
use weft_model::endpoint::Workload;

/// What Istio writes where it does not know.
const UNKNOWN: &str = "unknown";
/// Istio's name for the only cluster of a mesh.
const CLUSTER: &str = "Kubernetes";

/// Which side of the connection counted the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reporter {
    /// The caller's sidecar, or a gateway.
    Source,
    /// The sidecar of whom was called.
    Destination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Http,
    Grpc,
    Tcp,
}

/// How the connection between the proxies was protected. Istio lets only the destination say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    Unknown,
    None,
    MutualTls,
}

/// One end of a conversation. What is empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    pub workload: String,
    pub namespace: String,
    pub app: String,
    pub version: String,
    /// `spiffe://…` when it was proven.
    pub principal: String,
    /// Istio's cluster id.
    pub cluster: String,
}

impl Peer {
    /// Nothing is known of it.
    pub fn unknown() -> Arc<Peer> {
        Arc::default()
    }
}

impl From<&Node> for Peer {
    fn from(node: &Node) -> Peer {
        let label = |names: &[&str]| names.iter().find_map(|name| node.labels.get(*name)).cloned().unwrap_or_default();
        Peer {
            workload: node.workload.clone(),
            namespace: node.namespace.clone(),
            app: label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]),
            version: label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]),
            principal: String::new(),
            cluster: CLUSTER.into(),
        }
    }
}

impl From<&Workload> for Peer {
    fn from(workload: &Workload) -> Peer {
        let Workload { name, namespace, app, version } = workload.clone();
        let cluster = if name.is_empty() { String::new() } else { CLUSTER.into() };
        Peer { workload: name, namespace, app, version, principal: String::new(), cluster }
    }
}

/// Names one series of requests or connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    pub reporter: Reporter,
    pub source: Arc<Peer>,
    pub destination: Arc<Peer>,
    /// Host, name and namespace of the service that was called.
    pub service: ServiceLabels,
    pub protocol: Protocol,
    pub security: Security,
}

/// The service that was called. What is empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceLabels {
    pub host: String,
    pub name: String,
    pub namespace: String,
}

impl From<&Service> for ServiceLabels {
    fn from(service: &Service) -> ServiceLabels {
        let Service { host, name, namespace } = service.clone();
        ServiceLabels { host, name, namespace }
    }
}

impl SeriesKey {
    /// The series that takes in what there is no room for.
    pub(crate) fn overflow(reporter: Reporter, protocol: Protocol) -> SeriesKey {
        SeriesKey {
            reporter,
            source: Peer::unknown(),
            destination: Peer::unknown(),
            service: ServiceLabels { name: "overflow".into(), ..ServiceLabels::default() },
            protocol,
            security: Security::Unknown,
        }
    }

    /// Every label but those of the outcome, in Istio's order.
    pub(crate) fn labels(&self) -> [(&'static str, &str); 22] {
        let (from, to) = (&self.source, &self.destination);
        let reporter = match self.reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        let protocol = match self.protocol {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
        };
        let security = match self.security {
            Security::Unknown => UNKNOWN,
            Security::None => "none",
            Security::MutualTls => "mutual_tls",
        };
        [
            ("reporter", reporter),
            ("source_workload", known(&from.workload)),
            ("source_canonical_service", canonical_service(from)),
            ("source_canonical_revision", canonical_revision(from)),
            ("source_workload_namespace", known(&from.namespace)),
            ("source_principal", known(&from.principal)),
            ("source_app", known(&from.app)),
            ("source_version", known(&from.version)),
            ("source_cluster", known(&from.cluster)),
            ("destination_workload", known(&to.workload)),
            ("destination_workload_namespace", known(&to.namespace)),
            ("destination_principal", known(&to.principal)),
            ("destination_app", known(&to.app)),
            ("destination_version", known(&to.version)),
            ("destination_service", known(&self.service.host)),
            ("destination_canonical_service", canonical_service(to)),
            ("destination_canonical_revision", canonical_revision(to)),
            ("destination_service_name", known(&self.service.name)),
            ("destination_service_namespace", known(&self.service.namespace)),
            ("destination_cluster", known(&to.cluster)),
            ("request_protocol", protocol),
            ("connection_security_policy", security),
        ]
    }
}

fn known(value: &str) -> &str {
    if value.is_empty() { UNKNOWN } else { value }
}

/// Istio: the app label, or the workload's name.
fn canonical_service(peer: &Peer) -> &str {
    if peer.app.is_empty() { known(&peer.workload) } else { &peer.app }
}

/// Istio: the version label, or `latest`, even of whom it does not know.
fn canonical_revision(peer: &Peer) -> &str {
    if peer.version.is_empty() { "latest" } else { &peer.version }
}
