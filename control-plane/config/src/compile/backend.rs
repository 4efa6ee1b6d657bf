//! What a backendRef comes to: a Service's port, or the reason why its share of requests gets 500.

use super::backend_tls;
use super::index::{Index, Reference, cluster_name};
use crate::kinds::{BackendTarget, ServicePort};
use crate::{Key, Object};
use std::fmt;
use weft_model::route::Target;

/// Why a backendRef came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownKind {
        kind: String,
    },
    NotGranted {
        from_kind: String,
        from_namespace: String,
        namespace: String,
        name: String,
    },
    NoService {
        namespace: String,
        name: String,
    },
    NoPortGiven {
        name: String,
    },
    /// Its BackendTLSPolicy names no authority that could be believed.
    Untrusted {
        name: String,
        why: String,
    },
    NoPort {
        name: String,
        port: u16,
        ports: Vec<u16>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownKind { kind } => write!(f, "a backend of kind {kind} is not known; write a Service"),
            Refusal::NotGranted { from_kind, from_namespace, namespace, name } => write!(
                f,
                "namespace {namespace} does not grant {from_kind}s of {from_namespace} its Service {name} (no ReferenceGrant)"
            ),
            Refusal::NoService { namespace, name } => write!(f, "there is no Service {namespace}/{name}"),
            Refusal::NoPortGiven { name } => write!(f, "the port of Service {name} is missing"),
            Refusal::Untrusted { name, why } => {
                write!(f, "Service {name} must be spoken to over TLS, and nobody can vouch for it: {why}")
            }
            Refusal::NoPort { name, port, ports } => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "Service {name} has no port {port}; it has {}", ports.join(", "))
            }
        }
    }
}

/// A Service's port that may be sent to.
pub(crate) struct Backend<'i> {
    pub(crate) object: &'i Object,
    pub(crate) port: &'i ServicePort,
}

pub(crate) fn resolve<'i>(index: &'i Index, route: &Key, reference: &BackendTarget) -> Result<Backend<'i>, Refusal> {
    if !(matches!(reference.group.as_str(), "" | "core") && reference.kind == "Service") {
        return Err(Refusal::UnknownKind { kind: reference.kind.clone() });
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&route.namespace);
    let name = &reference.name;
    let crossing = Reference {
        from_kind: route.kind.as_str(),
        from_namespace: &route.namespace,
        to_kind: "Service",
        to_namespace: namespace,
        to_name: name,
    };
    if !index.is_granted(&crossing) {
        let (from_namespace, namespace) = (route.namespace.clone(), namespace.to_owned());
        let from_kind = route.kind.to_string();
        return Err(Refusal::NotGranted { from_kind, from_namespace, namespace, name: name.clone() });
    }
    let Some((object, service)) = index.service(namespace, name) else {
        return Err(Refusal::NoService { namespace: namespace.to_owned(), name: name.clone() });
    };
    let Some(number) = reference.port else { return Err(Refusal::NoPortGiven { name: name.clone() }) };
    match service.ports.iter().find(|port| port.port == number) {
        Some(port) => match backend_tls::tls(index, &object.key, port) {
            Some(Err(refused)) => {
                let why = refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                Err(Refusal::Untrusted { name: name.clone(), why })
            }
            Some(Ok(_)) | None => Ok(Backend { object, port }),
        },
        None => {
            let ports = service.ports.iter().map(|port| port.port).collect();
            Err(Refusal::NoPort { name: name.clone(), port: number, ports })
        }
    }
}

pub(crate) fn target(index: &Index, route: &Key, reference: &BackendTarget) -> Target {
    match resolve(index, route, reference) {
        Ok(backend) => Target::Cluster(cluster_name(&backend.object.key, backend.port.port)),
        Err(refusal) => Target::Invalid { reason: refusal.to_string() },
    }
}
