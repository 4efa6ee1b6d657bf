//! Policies: what becomes of each at the objects that it acts on.

use super::routes::{self, ParentReference};
use super::{CONTROLLER_NAME, Condition, Conditions};
use crate::compile::authority::{self, Refusal};
use crate::compile::gateway::Attached;
use crate::compile::index::Index;
use crate::compile::{backend_policies, backend_tls, gateway};
use crate::kinds::{BackendTlsPolicy, BackendTrafficPolicy, BackendTrust, PolicyTarget};
use crate::{Key, Object};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyStatus {
    pub ancestors: Vec<AncestorStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    pub ancestor_ref: ParentReference,
    pub controller_name: &'static str,
    pub conditions: Vec<Condition>,
}

pub(super) fn all(index: &Index, attached: &Attached<'_>) -> Vec<(Key, PolicyStatus)> {
    let callers = callers(index, attached);
    let tls =
        index.backend_tls_policies().map(|(object, policy)| (object, backend_tls(index, &callers, object, policy)));
    let traffic = index.backend_policies().map(|(object, policy)| {
        let refused = |target: &PolicyTarget| rival(index, object, policy, target);
        (object, of_targets(index, object, &policy.target_refs, refused))
    });
    let limits = index
        .rate_limit_policies()
        .map(|(object, policy)| (object, of_targets(index, object, &policy.target_refs, |_| None)));
    let all = tls.chain(traffic).chain(limits);
    all.map(|(object, ancestors)| (object.key.clone(), PolicyStatus { ancestors })).collect()
}

/// The Gateways that send to each Service.
fn callers<'i>(index: &'i Index, attached: &Attached<'i>) -> BTreeMap<&'i Key, BTreeSet<&'i Key>> {
    let mut callers: BTreeMap<&Key, BTreeSet<&Key>> = BTreeMap::new();
    for (gateway, routes) in attached {
        let is_ours =
            index.gateway(&gateway.namespace, &gateway.name).is_some_and(|(_, it)| gateway::is_ours(index, it));
        for (_, route) in routes.iter().filter(|_| is_ours) {
            for service in index.object(route).into_iter().flat_map(|object| routes::services(index, object)) {
                callers.entry(&service.key).or_default().insert(gateway);
            }
        }
    }
    callers
}

fn ancestor(object: &Object, reference: ParentReference, conditions: Vec<Condition>) -> AncestorStatus {
    debug_assert!(conditions.iter().all(|one| one.observed_generation == object.meta.generation.unwrap_or_default()));
    AncestorStatus { ancestor_ref: reference, controller_name: CONTROLLER_NAME, conditions }
}

/// At each Gateway that sends to one of its Services.
fn backend_tls(
    index: &Index,
    callers: &BTreeMap<&Key, BTreeSet<&Key>>,
    object: &Object,
    policy: &BackendTlsPolicy,
) -> Vec<AncestorStatus> {
    let services = policy.target_refs.iter().filter(|target| target.is("", "Service"));
    let services = services.map(|target| Key::new(crate::KindName::Service, &*object.key.namespace, &*target.name));
    let gateways: BTreeSet<&Key> = services.filter_map(|key| callers.get(&key)).flatten().copied().collect();
    let conditions = tls_conditions(index, object, policy);
    gateways
        .into_iter()
        .map(|gateway| {
            let reference = ParentReference {
                group: "gateway.networking.k8s.io".into(),
                kind: "Gateway".into(),
                namespace: Some(gateway.namespace.clone()),
                name: gateway.name.clone(),
                section_name: None,
                port: None,
            };
            ancestor(object, reference, conditions.clone())
        })
        .collect()
}

fn tls_conditions(index: &Index, object: &Object, policy: &BackendTlsPolicy) -> Vec<Condition> {
    let references = match &policy.trust {
        BackendTrust::System => &[][..],
        BackendTrust::Authorities(references) => references,
    };
    let namespace = &object.key.namespace;
    let refused: Vec<Refusal> =
        references.iter().filter_map(|one| authority::resolve(index, &object.key, one).err()).collect();
    let none_is_valid = !references.is_empty() && refused.len() == references.len();
    let counts = policy.target_refs.iter().any(|target| {
        let Some((service, kind)) = index.service(namespace, &target.name) else { return false };
        let mut ports =
            kind.ports.iter().filter(|port| target.section_name.is_none() || target.section_name == port.name);
        ports.any(|port| {
            backend_tls::of_port(index, &service.key, port).first().is_some_and(|(first, _)| first.key == object.key)
        })
    });
    let mut conditions = Conditions::of(object);
    match refused.first() {
        _ if !counts => conditions.add(
            "Accepted",
            false,
            "Conflicted",
            "another policy is for the same Services, and older or more specific",
        ),
        Some(refusal) if none_is_valid => {
            conditions.add("Accepted", false, "NoValidCACertificate", refusal.to_string())
        }
        _ => conditions.add("Accepted", true, "Accepted", ""),
    }
    match refused.first() {
        None => conditions.add("ResolvedRefs", true, "ResolvedRefs", ""),
        Some(refusal @ Refusal::UnknownKind { .. }) => {
            conditions.add("ResolvedRefs", false, "InvalidKind", refusal.to_string());
        }
        Some(refusal) => conditions.add("ResolvedRefs", false, "InvalidCACertificateRef", refusal.to_string()),
    }
    conditions.list
}

/// At each of its targets.
fn of_targets(
    index: &Index,
    object: &Object,
    targets: &[PolicyTarget],
    refused: impl Fn(&PolicyTarget) -> Option<String>,
) -> Vec<AncestorStatus> {
    let status = |target: &PolicyTarget| {
        let mut conditions = Conditions::of(object);
        let kind = crate::KindName::from(target.kind.clone());
        let key = Key::new(kind, &*object.key.namespace, &*target.name);
        match refused(target) {
            _ if index.object(&key).is_none() => {
                conditions.add("Accepted", false, "TargetNotFound", format!("there is no {key}"));
            }
            Some(why) => conditions.add("Accepted", false, "Conflicted", why),
            None => conditions.add("Accepted", true, "Accepted", ""),
        }
        let reference = ParentReference {
            group: target.group.clone(),
            kind: target.kind.clone(),
            namespace: Some(object.key.namespace.clone()),
            name: target.name.clone(),
            section_name: target.section_name.clone(),
            port: None,
        };
        ancestor(object, reference, conditions.list)
    };
    targets.iter().map(status).collect()
}

/// Of several policies of one Service only the first that says something of a part counts.
fn rival(index: &Index, object: &Object, policy: &BackendTrafficPolicy, target: &PolicyTarget) -> Option<String> {
    let (service, _) = index.service(&object.key.namespace, &target.name)?;
    let of_service = backend_policies::of_service(index, &service.key);
    let mut earlier = of_service.into_iter().take_while(|(earlier, _)| earlier.key != object.key);
    let rival = earlier.find(|(_, earlier)| {
        earlier.retry_constraint.is_some() && policy.retry_constraint.is_some()
            || earlier.session_persistence.is_some() && policy.session_persistence.is_some()
    });
    rival.map(|(rival, _)| format!("{} says the same of this Service, and is older", rival.key))
}
