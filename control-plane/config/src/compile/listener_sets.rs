//! ListenerSets: listeners that others than a Gateway's author add to it, as far as it lets them (GEP-1713).
//!
//! A Gateway is served with one list of listeners: its own first, then those of its sets, the oldest set first. Where two cannot be
//! together, the first in this list has the door, so that nobody takes one from a Gateway or from an older set. Each
//! listener knows the set that it is of, because its certificates and its routes are looked for from there.

use super::gateway::is_ours;
use super::index::{Class, Index};
use super::precedence::Age;
use crate::kinds::{FromNamespaces, Gateway, ListenerSet};
use crate::{Key, Object, World};
use std::collections::BTreeMap;
use std::fmt;

/// Why a ListenerSet's listeners are not its Gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownKind {
        kind: String,
    },
    NoGateway {
        namespace: String,
        name: String,
    },
    /// The Gateway is another controller's: none of our business.
    Foreign,
    NotAllowed {
        gateway: Key,
        namespace: String,
    },
}

impl Refusal {
    /// Whether a Gateway of ours refuses, so that it is ours to say so to the author.
    pub(crate) fn is_ours(&self, index: &Index) -> bool {
        let Refusal::NotAllowed { gateway, .. } = self else { return false };
        index.gateway(&gateway.namespace, &gateway.name).is_some_and(|(_, gateway)| is_ours(index, gateway))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownKind { kind } => write!(f, "a parent of kind {kind} is not known; write Gateway"),
            Refusal::NoGateway { namespace, name } => write!(f, "there is no Gateway {namespace}/{name}"),
            Refusal::Foreign => f.write_str("the Gateway is served by another controller"),
            Refusal::NotAllowed { gateway, namespace } => {
                write!(f, "{gateway} allows no ListenerSets of namespace {namespace} (spec.allowedListeners)")
            }
        }
    }
}

/// The Gateway that a ListenerSet adds its listeners to.
pub(crate) fn parent<'i>(
    index: &'i Index,
    object: &Object,
    set: &ListenerSet,
) -> Result<(&'i Object, &'i Gateway), Refusal> {
    let parent = &set.parent;
    if !(parent.group == "gateway.networking.k8s.io" && parent.kind == "Gateway") {
        return Err(Refusal::UnknownKind { kind: parent.kind.clone() });
    }
    let namespace = parent.namespace.as_ref().unwrap_or(&object.key.namespace);
    let (gateway_object, gateway) = index
        .gateway(namespace, &parent.name)
        .ok_or_else(|| Refusal::NoGateway { namespace: namespace.clone(), name: parent.name.clone() })?;
    if let Class::Theirs(_) = index.class(&gateway.class_name) {
        return Err(Refusal::Foreign);
    }
    match allows(index, (gateway_object, gateway), &object.key.namespace) {
        true => Ok((gateway_object, gateway)),
        false => {
            let namespace = object.key.namespace.clone();
            Err(Refusal::NotAllowed { gateway: gateway_object.key.clone(), namespace })
        }
    }
}

fn allows(index: &Index, (object, gateway): (&Object, &Gateway), namespace: &str) -> bool {
    match &gateway.allowed_listeners {
        FromNamespaces::All => true,
        FromNamespaces::Same => object.key.namespace == namespace,
        FromNamespaces::None => false,
        FromNamespaces::Selector(selector) => selector.matches(&index.namespace_labels(namespace)),
    }
}

/// The Gateways that have listeners of ListenerSets, with all of their listeners.
pub(super) fn joined(index: &Index) -> BTreeMap<Key, Gateway> {
    let mut sets: Vec<(&Object, &ListenerSet)> = index.listener_sets().collect();
    sets.sort_by_cached_key(|(object, _)| Age::of(object));
    let mut joined: BTreeMap<Key, Gateway> = BTreeMap::new();
    for (object, set) in sets {
        let Ok((gateway_object, gateway)) = parent(index, object, set) else { continue };
        let whole = joined.entry(gateway_object.key.clone()).or_insert_with(|| gateway.clone());
        whole.listeners.extend(set.listeners.iter().cloned().map(|mut listener| {
            listener.set = Some(object.key.clone());
            listener
        }));
    }
    joined
}

/// Every Gateway with all of its listeners: its own, then those of the ListenerSets that it lets in.
pub fn gateways(world: &World) -> BTreeMap<Key, Gateway> {
    let index = Index::new(world);
    index.gateways().map(|(object, gateway)| (object.key.clone(), gateway.clone())).collect()
}
