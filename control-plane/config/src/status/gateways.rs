//! GatewayClasses and Gateways, with their listeners.

use super::features::{self, Feature};
use super::{Address, Condition, Conditions, Facts, GatewayFacts};
use crate::compile::attach::carried;
use crate::compile::authority;
use crate::compile::certificate::{self, Refusal};
use crate::compile::frontend;
use crate::compile::gateway::{by_port, is_served};
use crate::compile::index::Index;
use crate::kinds::{FrontendMode, Gateway, GatewayListener};
use crate::{Key, Object};
use serde::Serialize;
use std::collections::BTreeSet;

const GROUP: &str = "gateway.networking.k8s.io";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassStatus {
    pub conditions: Vec<Condition>,
    pub supported_features: Vec<Feature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    pub addresses: Vec<Address>,
    pub conditions: Vec<Condition>,
    pub listeners: Vec<ListenerStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    pub name: String,
    pub supported_kinds: Vec<Kind>,
    pub attached_routes: usize,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kind {
    pub group: &'static str,
    pub kind: String,
}

pub(super) fn class(object: &Object, facts: &Facts) -> GatewayClassStatus {
    let mut conditions = Conditions::of(object);
    conditions.add("Accepted", true, "Accepted", "Weft serves Gateways of this class");
    match facts.bundle_version.as_deref() {
        None => {}
        Some(version) if version.starts_with("v1.") => {
            conditions.add("SupportedVersion", true, "SupportedVersion", format!("the API's version is {version}"));
        }
        Some(version) => {
            let message = format!("the API's version is {version}, which Weft does not know: it knows v1");
            conditions.add("SupportedVersion", false, "UnsupportedVersion", message);
        }
    }
    GatewayClassStatus { conditions: conditions.list, supported_features: features::all() }
}

pub(super) fn gateway(
    index: &Index,
    object: &Object,
    gateway: &Gateway,
    attached: &BTreeSet<(usize, &Key)>,
    facts: &GatewayFacts,
) -> GatewayStatus {
    let served = by_port(gateway);
    let judged: Vec<Judged> = gateway
        .listeners
        .iter()
        .enumerate()
        .map(|(at, listener)| {
            let first = served.get(&listener.port).and_then(|served| {
                let is_own = served.iter().any(|(own, _)| *own == at);
                if is_own { None } else { served.first().map(|(_, first)| *first) }
            });
            judge(index, (object, gateway), listener, first)
        })
        .collect();
    let valid = judged.iter().filter(|judged| judged.refused.is_none()).count();
    let mut conditions = Conditions::of(object);
    let unsupported =
        gateway.addresses.iter().find(|address| !matches!(address.kind.as_str(), "IPAddress" | "Hostname"));
    let accepted = unsupported.is_none() && valid > 0;
    match unsupported {
        Some(address) => {
            let message = format!("addresses of type {} are not served; write IPAddress or Hostname", address.kind);
            conditions.add("Accepted", false, "UnsupportedAddress", message);
        }
        None if valid == judged.len() => conditions.add("Accepted", true, "Accepted", ""),
        None => {
            let message = format!("{} of {} listeners cannot be served", judged.len() - valid, judged.len());
            conditions.add("Accepted", accepted, "ListenersNotValid", message);
        }
    }
    if let Some(reference) = &gateway.client_certificate {
        match certificate::resolve(index, &object.key.namespace, reference) {
            Ok(_) => conditions.add("ResolvedRefs", true, "ResolvedRefs", ""),
            Err(refusal @ Refusal::NotGranted { .. }) => {
                conditions.add("ResolvedRefs", false, "RefNotPermitted", refusal.to_string());
            }
            Err(refusal) => conditions.add("ResolvedRefs", false, "InvalidClientCertificateRef", refusal.to_string()),
        }
    }
    if is_insecure(gateway) {
        let message = "callers over HTTPS are served even without a valid certificate (mode AllowInsecureFallback)";
        conditions.add("InsecureFrontendValidationMode", true, "ConfigurationChanged", message);
    }
    let programmed = programmed(gateway, accepted, facts, &mut conditions);
    let listeners = gateway.listeners.iter().zip(judged).enumerate();
    GatewayStatus {
        addresses: if accepted { facts.addresses.clone() } else { Vec::new() },
        conditions: conditions.list,
        listeners: listeners
            .map(|(at, (listener, judged))| ListenerStatus {
                name: listener.name.clone(),
                supported_kinds: supported_kinds(listener),
                attached_routes: attached.iter().filter(|(of, _)| *of == at).count(),
                conditions: judged.conditions(object, programmed),
            })
            .collect(),
    }
}

/// Whether its callers are asked for certificates somewhere that nobody judges.
fn is_insecure(gateway: &Gateway) -> bool {
    let of_ports = gateway.frontend.per_port.iter().map(|of| &of.validation);
    let all = of_ports.chain([&gateway.frontend.default]).flatten();
    all.into_iter().any(|validation| validation.mode == FrontendMode::AllowInsecureFallback)
}

/// Says whether data planes do what the Gateway asks for, and where.
fn programmed(gateway: &Gateway, accepted: bool, facts: &GatewayFacts, conditions: &mut Conditions) -> bool {
    let is_assigned = |value: &String| facts.addresses.iter().any(|address| address.value == *value);
    let unusable =
        gateway.addresses.iter().filter_map(|address| address.value.as_ref()).find(|value| !is_assigned(value));
    let (status, reason, message) = match unusable {
        _ if !accepted => (false, "Invalid", "the Gateway was not accepted".to_owned()),
        Some(address) => (false, "AddressNotUsable", format!("the address {address} is not this gateway's")),
        None if facts.addresses.is_empty() => (false, "AddressNotAssigned", "it has no address yet".to_owned()),
        None if !facts.acknowledged => (false, "Pending", "its data planes have not acknowledged it yet".to_owned()),
        None => (true, "Programmed", String::new()),
    };
    conditions.add("Programmed", status, reason, message);
    status
}

/// What is wrong with a listener.
struct Judged {
    /// It is not served at all.
    refused: Option<(&'static str, String)>,
    /// It shares its port with what it cannot share it with.
    conflict: bool,
    /// Something that it names is not there, not granted, or not known.
    unresolved: Option<(&'static str, String)>,
    /// It has nothing to show to its callers.
    bare: bool,
}

/// `first`: whose its port is, if not its own.
fn judge(
    index: &Index,
    (object, gateway): (&Object, &Gateway),
    listener: &GatewayListener,
    first: Option<&GatewayListener>,
) -> Judged {
    let callers = Callers::of(index, object, gateway, listener);
    let refused = match first {
        _ if !is_served(listener) => {
            Some(("UnsupportedProtocol", format!("protocol {} is not served", listener.protocol.as_str())))
        }
        Some(first) => {
            let same = first.tls.is_some() && listener.tls.is_some() || first.protocol == listener.protocol;
            let reason = if same { "HostnameConflict" } else { "ProtocolConflict" };
            Some((reason, format!("listener {} has port {} already", first.name, first.port)))
        }
        None if callers.cannot_be_judged() => Some(("NoValidCACertificate", callers.why())),
        None => None,
    };
    let references = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
    let results: Vec<_> =
        references.map(|reference| certificate::resolve(index, &object.key.namespace, reference)).collect();
    let certificates = results.iter().find_map(|result| result.as_ref().err());
    let bad_kind = listener.allowed_routes.kinds.iter().find(|kind| !is_carried(listener, &kind.group, &kind.kind));
    let unresolved = match (certificates, callers.reason(), bad_kind) {
        (Some(refusal @ Refusal::NotGranted { .. }), ..) => Some(("RefNotPermitted", refusal.to_string())),
        (Some(refusal), ..) => Some(("InvalidCertificateRef", refusal.to_string())),
        (None, Some(reason), _) => Some((reason, callers.why())),
        (None, None, Some(kind)) => Some(("InvalidRouteKinds", format!("the listener carries no {}", kind.kind))),
        (None, None, None) => None,
    };
    let bare = !results.is_empty() && results.iter().all(Result::is_err);
    Judged { conflict: refused.is_some() && first.is_some(), refused, unresolved, bare }
}

/// By whom a listener's callers are judged.
struct Callers {
    authorities: usize,
    refused: Vec<authority::Refusal>,
}

impl Callers {
    fn of(index: &Index, object: &Object, gateway: &Gateway, listener: &GatewayListener) -> Callers {
        let validation = frontend::of_listener(gateway, listener);
        let references = validation.map_or(&[][..], |validation| &validation.authorities);
        let refused = references.iter().filter_map(|one| authority::resolve(index, &object.key, one).err());
        Callers { authorities: references.len(), refused: refused.collect() }
    }

    /// They are to be judged, and by nobody.
    fn cannot_be_judged(&self) -> bool {
        self.authorities > 0 && self.refused.len() == self.authorities
    }

    fn reason(&self) -> Option<&'static str> {
        Some(match self.refused.first()? {
            authority::Refusal::NotGranted { .. } => "RefNotPermitted",
            authority::Refusal::UnknownKind { .. } => "InvalidCACertificateKind",
            _ => "InvalidCACertificateRef",
        })
    }

    /// Each reference that comes to nothing, and why.
    fn why(&self) -> String {
        let all: Vec<String> = self.refused.iter().map(ToString::to_string).collect();
        all.join("; ")
    }
}

impl Judged {
    fn conditions(self, object: &Object, programmed: bool) -> Vec<Condition> {
        let mut conditions = Conditions::of(object);
        match &self.refused {
            None => conditions.add("Accepted", true, "Accepted", ""),
            Some((reason, message)) => conditions.add("Accepted", false, reason, message),
        }
        match &self.refused {
            Some((reason, message)) if self.conflict => conditions.add("Conflicted", true, reason, message),
            _ => conditions.add("Conflicted", false, "NoConflicts", ""),
        }
        match &self.unresolved {
            None => conditions.add("ResolvedRefs", true, "ResolvedRefs", ""),
            Some((reason, message)) => conditions.add("ResolvedRefs", false, reason, message),
        }
        match () {
            () if self.refused.is_some() || self.bare => {
                conditions.add("Programmed", false, "Invalid", "the listener cannot be served");
            }
            () if !programmed => conditions.add("Programmed", false, "Pending", "the Gateway is not programmed"),
            () => conditions.add("Programmed", true, "Programmed", ""),
        }
        conditions.list
    }
}

fn is_carried(listener: &GatewayListener, group: &str, kind: &str) -> bool {
    group == GROUP && carried(listener).iter().any(|carried| carried.as_str() == kind)
}

/// Those of the protocol that the listener lets in.
fn supported_kinds(listener: &GatewayListener) -> Vec<Kind> {
    let allowed = &listener.allowed_routes.kinds;
    let is_allowed =
        |kind: &str| allowed.is_empty() || allowed.iter().any(|one| one.group == GROUP && one.kind == kind);
    let kinds = carried(listener).iter().map(|kind| kind.as_str()).filter(|kind| is_allowed(kind));
    kinds.map(|kind| Kind { group: GROUP, kind: kind.to_owned() }).collect()
}
