//! GatewayClasses, and Gateways and ListenerSets with their listeners.

use super::features::{self, Feature};
use super::{Address, Condition, Conditions, Facts, GatewayFacts};
use crate::compile::attach::carried;
use crate::compile::authority;
use crate::compile::certificate::{self, Refusal};
use crate::compile::frontend;
use crate::compile::gateway::{by_port, is_served};
use crate::compile::index::Index;
use crate::compile::listener_sets;
use crate::kinds::{FrontendMode, Gateway, GatewayListener};
use crate::{Key, Object};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

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
    /// Its own.
    pub listeners: Vec<ListenerStatus>,
    /// How many were accepted.
    pub attached_listener_sets: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerSetStatus {
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

/// Of a Gateway, and of the ListenerSets that it lets in.
pub(super) fn gateway(
    index: &Index,
    object: &Object,
    gateway: &Gateway,
    attached: &BTreeSet<(usize, &Key)>,
    facts: &GatewayFacts,
) -> (GatewayStatus, Vec<(Key, ListenerSetStatus)>) {
    let served = by_port(gateway);
    let mut judged = BTreeMap::<Option<&Key>, Vec<Judged<'_>>>::new();
    for (at, listener) in gateway.listeners.iter().enumerate() {
        let first = served.get(&listener.port).and_then(|served| {
            let is_own = served.iter().any(|(own, _)| *own == at);
            if is_own { None } else { served.first().map(|(_, first)| *first) }
        });
        let routes = attached.iter().filter(|(of, _)| *of == at).count();
        let entry = judge(index, (object, gateway), listener, first, routes);
        judged.entry(listener.set.as_ref()).or_default().push(entry);
    }
    let own = judged.remove(&None).unwrap_or_default();
    let valid = own.iter().filter(|judged| judged.refused.is_none()).count();
    let mut conditions = Conditions::of(object);
    let unsupported =
        gateway.addresses.iter().find(|address| !matches!(address.kind.as_str(), "IPAddress" | "Hostname"));
    let accepted = unsupported.is_none() && valid > 0;
    match unsupported {
        Some(address) => {
            let message = format!("addresses of type {} are not served; write IPAddress or Hostname", address.kind);
            conditions.add("Accepted", false, "UnsupportedAddress", message);
        }
        None if valid == own.len() => conditions.add("Accepted", true, "Accepted", ""),
        None => {
            let message = format!("{} of {} listeners cannot be served", own.len() - valid, own.len());
            conditions.add("Accepted", accepted, "ListenersNotValid", message);
        }
    }
    if let Some(reference) = &gateway.client_certificate {
        match certificate::resolve(index, &object.key, reference) {
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
    let sets = judged.into_iter().filter_map(|(key, judged)| Some((index.object(key?)?, judged)));
    let sets: Vec<_> = sets.map(|(set, judged)| (set.key.clone(), of_set(set, judged, accepted, programmed))).collect();
    let status = GatewayStatus {
        addresses: if accepted { facts.addresses.clone() } else { Vec::new() },
        conditions: conditions.list,
        listeners: own.into_iter().map(|judged| judged.status(object, programmed)).collect(),
        attached_listener_sets: sets.iter().filter(|(_, status)| status.is_accepted()).count(),
    };
    (status, sets)
}

/// Of a ListenerSet that its Gateway lets in: `accepted` and `programmed` are what the Gateway says of itself.
fn of_set(object: &Object, judged: Vec<Judged<'_>>, accepted: bool, programmed: bool) -> ListenerSetStatus {
    let mut conditions = Conditions::of(object);
    let lost = judged.iter().filter(|judged| judged.refused.is_some() || judged.bare).count();
    let message = format!("{lost} of {} listeners cannot be served", judged.len());
    match lost {
        _ if !accepted => conditions.add("Accepted", false, "ParentNotAccepted", "the Gateway was not accepted"),
        0 => conditions.add("Accepted", true, "Accepted", ""),
        lost => conditions.add("Accepted", lost < judged.len(), "ListenersNotValid", &message),
    }
    match () {
        () if lost == judged.len() => conditions.add("Programmed", false, "ListenersNotValid", message),
        () if !programmed => {
            conditions.add("Programmed", false, "ParentNotProgrammed", "the Gateway is not programmed");
        }
        () => conditions.add("Programmed", true, "Programmed", ""),
    }
    let listeners = judged.into_iter().map(|judged| judged.status(object, programmed)).collect();
    ListenerSetStatus { conditions: conditions.list, listeners }
}

/// Of the ListenerSets that a Gateway of ours does not let in. One without such a Gateway is nobody's.
pub(super) fn refused_sets(index: &Index) -> impl Iterator<Item = (Key, ListenerSetStatus)> {
    index.listener_sets().filter_map(|(object, set)| {
        let refusal = listener_sets::parent(index, object, set).err().filter(|refusal| refusal.is_ours(index))?;
        let mut conditions = Conditions::of(object);
        for kind in ["Accepted", "Programmed"] {
            conditions.add(kind, false, "NotAllowed", refusal.to_string());
        }
        Some((object.key.clone(), ListenerSetStatus { conditions: conditions.list, listeners: Vec::new() }))
    })
}

impl ListenerSetStatus {
    fn is_accepted(&self) -> bool {
        self.conditions.iter().any(|condition| condition.kind == "Accepted" && condition.status)
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

/// A listener, and what is wrong with it.
struct Judged<'g> {
    listener: &'g GatewayListener,
    routes: usize,
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
fn judge<'g>(
    index: &Index,
    (object, gateway): (&Object, &Gateway),
    listener: &'g GatewayListener,
    first: Option<&GatewayListener>,
    routes: usize,
) -> Judged<'g> {
    let callers = Callers::of(index, object, gateway, listener);
    let refused = match first {
        _ if !is_served(listener) => {
            Some(("UnsupportedProtocol", format!("protocol {} is not served", listener.protocol.as_str())))
        }
        Some(first) => {
            let same = first.tls.is_some() && listener.tls.is_some() || first.protocol == listener.protocol;
            let reason = if same { "HostnameConflict" } else { "ProtocolConflict" };
            // what another author named it is not for this one to know
            let whose = if first.set == listener.set {
                format!("listener {}", first.name)
            } else {
                "another listener of the Gateway".into()
            };
            Some((reason, format!("{whose} has port {} already", first.port)))
        }
        None if callers.cannot_be_judged() => Some(("NoValidCACertificate", callers.why())),
        None => None,
    };
    let references = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
    let owner = listener.owner(&object.key);
    let results: Vec<_> = references.map(|reference| certificate::resolve(index, owner, reference)).collect();
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
    Judged { listener, routes, conflict: refused.is_some() && first.is_some(), refused, unresolved, bare }
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

impl Judged<'_> {
    /// `object`: in which it is written.
    fn status(&self, object: &Object, programmed: bool) -> ListenerStatus {
        ListenerStatus {
            name: self.listener.name.clone(),
            supported_kinds: supported_kinds(self.listener),
            attached_routes: self.routes,
            conditions: self.conditions(object, programmed),
        }
    }

    fn conditions(&self, object: &Object, programmed: bool) -> Vec<Condition> {
        let mut conditions = Conditions::of(object);
        match &self.refused {
            None => conditions.add("Accepted", true, "Accepted", ""),
            Some((_, message)) if self.is_late() => conditions.add("Accepted", false, "PortUnavailable", message),
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
                let reason = if self.is_late() { "PortUnavailable" } else { "Invalid" };
                conditions.add("Programmed", false, reason, "the listener cannot be served");
            }
            () if !programmed => conditions.add("Programmed", false, "Pending", "the Gateway is not programmed"),
            () => conditions.add("Programmed", true, "Programmed", ""),
        }
        conditions.list
    }

    /// A ListenerSet's that came after one that it cannot be with.
    fn is_late(&self) -> bool {
        self.conflict && self.listener.set.is_some()
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
