//! BackendTLSPolicies: whose Services are spoken to over TLS, and what they must prove. Of several for one port those that name the
//! port count before those of the whole Service, then the oldest, then the first by name (GEP-1897).
//!
//! A policy without a certificate that could be believed must not mean "no TLS": requests are refused.

use super::authority::{self, Refusal};
use super::index::Index;
use super::precedence::Age;
use crate::kinds::{AltName, BackendTlsPolicy, BackendTrust, PolicyTarget, ServicePort};
use crate::{Key, Object};
use weft_model::cluster::{PeerName, Trust, UpstreamTls};

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
    authority::bundle(index, &object.key, references).map(Trust::Authorities)
}
