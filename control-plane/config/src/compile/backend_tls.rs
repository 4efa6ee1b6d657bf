//! BackendTLSPolicies: whose Services are spoken to over TLS, and what they must prove. Of several for one port those that name the
//! port count before those of the whole Service, then the oldest, then the first by name (GEP-1897).
//!
//! A policy without a certificate that could be believed must not mean "no TLS": requests are refused.

use super::index::Index;
use super::precedence::Age;
use crate::kinds::{AltName, AuthorityRef, BackendTlsPolicy, BackendTrust, PolicyTarget, ServicePort};
use crate::{Key, Object};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use weft_model::cluster::{PeerName, Trust, UpstreamTls};

/// Why an authority comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownKind { kind: String },
    NoAuthority { kind: String, namespace: String, name: String },
    NoCertificate { kind: String, namespace: String, name: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownKind { kind } => {
                write!(f, "authorities of kind {kind} are not known; write a ConfigMap or a Secret")
            }
            Refusal::NoAuthority { kind, namespace, name } => write!(f, "there is no {kind} {namespace}/{name}"),
            Refusal::NoCertificate { kind, namespace, name } => {
                write!(f, "{kind} {namespace}/{name} has no certificate under the key ca.crt")
            }
        }
    }
}

/// Whether a target is this port of a Service.
fn covers(target: &PolicyTarget, service: &Key, port: &ServicePort) -> bool {
    target.is("", "Service")
        && target.name == service.name
        && target.section_name.as_ref().is_none_or(|section| Some(section) == port.name.as_ref())
}

/// The policies of a Service's port, what counts first.
pub(crate) fn of_port<'i>(
    index: &'i Index,
    service: &Key,
    port: &ServicePort,
) -> Vec<(&'i Object, &'i BackendTlsPolicy)> {
    let in_place = index.backend_tls_policies().filter(|(object, _)| object.key.namespace == service.namespace);
    let rank = |policy: &BackendTlsPolicy| {
        let mut targets = policy.target_refs.iter().filter(|target| covers(target, service, port));
        let first = targets.next()?;
        Some(first.section_name.is_none() && targets.all(|target| target.section_name.is_none()))
    };
    let mut ranked: Vec<_> = in_place.filter_map(|(object, policy)| Some((rank(policy)?, object, policy))).collect();
    ranked.sort_by_cached_key(|(is_whole, object, _)| (*is_whole, Age::of(object)));
    ranked.into_iter().map(|(_, object, policy)| (object, policy)).collect()
}

/// How a Service's port is to be spoken to; `Err` when no authority of its policy can be believed.
pub(crate) fn tls(index: &Index, service: &Key, port: &ServicePort) -> Option<Result<UpstreamTls, Vec<Refusal>>> {
    let (object, policy) = of_port(index, service, port).into_iter().next()?;
    let hostname = policy.hostname.as_str().to_owned();
    let names = policy.subject_alt_names.iter().map(|name| match name {
        AltName::Hostname(name) => PeerName::Dns(name.clone()),
        AltName::Uri(uri) => PeerName::Uri(uri.clone()),
    });
    let mut names: Vec<PeerName> = names.collect();
    if names.is_empty() {
        names.push(PeerName::Dns(hostname.clone()));
    }
    let tls = |trust| UpstreamTls { server_name: hostname, trust, names, certificate: None };
    Some(trust(index, object, policy).map(tls))
}

/// The authorities that are to be had; `Err` when there are none.
fn trust(index: &Index, object: &Object, policy: &BackendTlsPolicy) -> Result<Trust, Vec<Refusal>> {
    let BackendTrust::Authorities(references) = &policy.trust else { return Ok(Trust::System) };
    let (mut pem, mut refused) = (String::new(), Vec::new());
    for reference in references {
        match authority(index, &object.key.namespace, reference) {
            Ok(found) => pem.extend([found.trim_end(), "\n"]),
            Err(refusal) => refused.push(refusal),
        }
    }
    if pem.is_empty() { Err(refused) } else { Ok(Trust::Authorities(pem)) }
}

/// An authority's certificates, PEM.
pub(crate) fn authority<'i>(index: &'i Index, namespace: &str, reference: &AuthorityRef) -> Result<&'i str, Refusal> {
    let (kind, name) = (reference.kind.clone(), reference.name.clone());
    let namespace = namespace.to_owned();
    let found = match (reference.group.as_str(), kind.as_str()) {
        ("" | "core", "ConfigMap") => index.config_map(&namespace, &name).map(|found| &found.ca_certificates),
        ("" | "core", "Secret") => index.secret(&namespace, &name).map(|found| &found.ca_certificates),
        _ => return Err(Refusal::UnknownKind { kind }),
    };
    let Some(found) = found else { return Err(Refusal::NoAuthority { kind, namespace, name }) };
    let certificates = |pem: &&str| {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        certificates.is_ok_and(|certificates| !certificates.is_empty())
    };
    found.as_deref().filter(certificates).ok_or(Refusal::NoCertificate { kind, namespace, name })
}
