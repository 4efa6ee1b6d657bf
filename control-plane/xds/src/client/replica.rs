//! The client's state: what it holds, what it asked for, and how it answers.
//!
//! Nothing here awaits: responses come in, are applied to the [`Sink`], and requests come out.

use super::{Held, Nack, Sink};
use crate::per_kind::PerKind;
use crate::wire;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::rpc;
use prost::{Message, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use weft_model::{Kind, Node, Resource};

/// gRPC's `INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;
mod deferred;
mod on_demand;

/// How often a sink may change its mind about one response.
const MAX_ROUNDS: usize = 8;
/// Kinds that are asked for by name, and the kinds that refer to them.
const NAMED: &[(Kind, Kind)] = &[
    (Kind::Secret, Kind::Listener),
    (Kind::Secret, Kind::Cluster),
    (Kind::RouteTable, Kind::Listener),
    (Kind::Endpoints, Kind::Cluster),
];
/// The same for who asks on demand. What is let go of is followed in this order.
const NAMED_ON_DEMAND: &[(Kind, Kind)] = &[
    (Kind::RouteTable, Kind::Listener),
    (Kind::Cluster, Kind::Listener),
    (Kind::Cluster, Kind::RouteTable),
    (Kind::Secret, Kind::Listener),
    (Kind::Secret, Kind::Cluster),
    (Kind::Endpoints, Kind::Cluster),
];

/// A resource as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) version: String,
    pub(super) any: Arc<wire::Any>,
}

/// All of them.
pub(super) type Saved = PerKind<Arc<BTreeMap<String, Stored>>>;

pub(super) struct Replica {
    node: core::Node,
    state: State,
    /// Asked for by name, over this stream.
    subscribed: PerKind<BTreeSet<String>>,
    /// Asked for, and said not to exist.
    absent: PerKind<BTreeSet<String>>,
    answered: PerKind<bool>,
    /// `None`: all listeners and clusters are held. Otherwise these listeners and what is of use to every node, and clusters by name.
    demanded: Option<BTreeSet<String>>,
    /// Tables that wait for clusters, see [`deferred`].
    deferred: BTreeMap<String, Change>,
}

#[derive(Clone, Default)]
struct State {
    held: Held,
    stored: Saved,
}

/// What a response does to one resource. `None`: it is gone.
struct Change {
    kind: Kind,
    name: String,
    value: Option<(Arc<Resource>, Stored)>,
}

impl Replica {
    pub(super) fn new(node: &Node) -> Self {
        Replica {
            node: wire::node::encode(node),
            state: State::default(),
            subscribed: PerKind::default(),
            absent: PerKind::default(),
            answered: PerKind::default(),
            demanded: wire::node::asks_on_demand(node).then(BTreeSet::new),
            deferred: BTreeMap::new(),
        }
    }

    fn named(&self) -> &'static [(Kind, Kind)] {
        if self.demanded.is_some() { NAMED_ON_DEMAND } else { NAMED }
    }

    /// Takes what was saved, and gives it to the sink. How many resources that was.
    pub(super) fn restore(&mut self, saved: Saved, sink: &mut impl Sink) -> usize {
        let mut changes = Vec::new();
        for (kind, stored) in saved.iter() {
            for (name, stored) in stored.iter() {
                match self.decode(kind, name, &stored.any) {
                    Ok(resource) => {
                        changes.push(Change { kind, name: name.clone(), value: Some((resource, stored.clone())) });
                    }
                    Err(nack) => tracing::warn!("{kind} \"{name}\" on disk cannot be used: {}", nack.reason),
                }
            }
        }
        for nack in self.apply(changes, sink) {
            tracing::warn!("{} \"{}\" on disk cannot be used: {}", nack.kind, nack.name, nack.reason);
        }
        Kind::ALL.into_iter().map(|kind| self.state.held.len(kind)).sum()
    }

    /// The first requests of a new stream.
    pub(super) fn open(&mut self) -> Vec<discovery::DeltaDiscoveryRequest> {
        self.subscribed = PerKind::default();
        self.absent = PerKind::default();
        self.answered = PerKind::default();
        let mut listeners = self.first(Kind::Listener);
        let mut requests = match &self.demanded {
            None => vec![self.first(Kind::Cluster), listeners],
            Some(names) => {
                listeners.resource_names_subscribe = std::iter::once("*".into()).chain(names.iter().cloned()).collect();
                self.subscribed[Kind::Listener] = names.clone();
                vec![listeners]
            }
        };
        requests[0].node = Some(self.node.clone());
        for (kind, _) in self.named() {
            requests.extend(self.resubscribe(*kind));
        }
        requests
    }

    /// Applies a response. The answer comes first, then what else to ask for.
    pub(super) fn receive(
        &mut self,
        response: discovery::DeltaDiscoveryResponse,
        sink: &mut impl Sink,
    ) -> Vec<discovery::DeltaDiscoveryRequest> {
        let discovery::DeltaDiscoveryResponse { type_url, nonce, resources, removed_resources, .. } = response;
        let Some(kind) = wire::kind(&type_url) else {
            let nack = Nack { kind: Kind::Listener, name: type_url.clone(), reason: "was not asked for".into() };
            return vec![answer(type_url, nonce, &[nack])];
        };
        self.answered[kind] = true;
        let mut nacks = Vec::new();
        let mut changes = Vec::new();
        for resource in resources {
            match self.read(kind, resource) {
                Ok(change) => changes.push(change),
                Err(nack) => nacks.push(nack),
            }
        }
        for name in removed_resources {
            if self.subscribed[kind].contains(&name) {
                self.absent[kind].insert(name.clone());
            }
            changes.push(Change { kind, name, value: None });
        }
        for change in changes.iter().filter(|change| change.value.is_some()) {
            self.absent[kind].remove(&change.name);
        }
        let changes = if self.demanded.is_some() { self.defer(changes) } else { changes };
        for nack in self.apply(changes, sink) {
            match nack.kind == kind {
                true => nacks.push(nack),
                false => tracing::warn!("{} \"{}\" cannot be used: {}", nack.kind, nack.name, nack.reason),
            }
        }
        let mut requests = vec![answer(type_url, nonce, &nacks)];
        requests.extend(self.follow());
        requests
    }

    /// Asks for whatever is referred to by now.
    fn follow(&mut self) -> Vec<discovery::DeltaDiscoveryRequest> {
        let kinds = self.named().iter().map(|(kind, _)| *kind);
        kinds.filter_map(|kind| self.resubscribe(kind)).collect()
    }

    /// Whether everything that was asked for was answered.
    pub(super) fn is_complete(&self) -> bool {
        let known =
            |kind: Kind, name: &str| self.state.held.get(kind, name).is_some() || self.absent[kind].contains(name);
        let named = Kind::ALL.into_iter().all(|kind| self.subscribed[kind].iter().all(|name| known(kind, name)));
        let clusters = self.answered[Kind::Cluster] || self.demanded.is_some();
        clusters && self.answered[Kind::Listener] && named && self.deferred.is_empty()
    }

    pub(super) fn saved(&self) -> Saved {
        self.state.stored.clone()
    }

    fn read(&self, kind: Kind, resource: discovery::Resource) -> Result<Change, Nack> {
        let discovery::Resource { name, version, resource, .. } = resource;
        let any = resource.ok_or_else(|| Nack { kind, name: name.clone(), reason: "is empty".into() })?;
        let decoded = self.decode(kind, &name, &any)?;
        Ok(Change { kind, name, value: Some((decoded, Stored { version, any: Arc::new(any) })) })
    }

    /// The `Arc` that is held already when it says the same.
    fn decode(&self, kind: Kind, name: &str, any: &wire::Any) -> Result<Arc<Resource>, Nack> {
        let nack = |reason: String| Nack { kind, name: name.to_string(), reason };
        let decoded = wire::decode(any).map_err(|error| nack(error.to_string()))?;
        if decoded.kind() != kind || decoded.name() != name {
            return Err(nack(format!("holds the {} \"{}\"", decoded.kind(), decoded.name())));
        }
        let held = self.state.held.get(kind, name).filter(|held| ***held == decoded);
        Ok(held.map_or_else(|| Arc::new(decoded), Arc::clone))
    }

    /// Makes the changes that the sink takes; the others are returned, and keep their last good values.
    fn apply(&mut self, changes: Vec<Change>, sink: &mut impl Sink) -> Vec<Nack> {
        let mut refused: Vec<Nack> = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let good = changes.iter().filter(|change| !is_among(change, &refused));
            let next = self.state.with(good, self.named(), &deferred::targets(&self.deferred));
            let Err(nacks) = sink.apply(&next.held) else {
                self.state = next;
                return refused;
            };
            let is_new = |nack: &Nack| {
                let known = refused.iter().any(|known| known.kind == nack.kind && known.name == nack.name);
                !known && changes.iter().any(|change| is_about(nack, change))
            };
            let (news, others): (Vec<Nack>, Vec<Nack>) = nacks.into_iter().partition(is_new);
            if news.is_empty() {
                return self.refuse_all(&changes, refused, &others, sink);
            }
            refused.extend(news);
        }
        self.refuse_all(&changes, refused, &[], sink)
    }

    /// For when the sink blames something that is not among the changes: which of them it is cannot be told.
    fn refuse_all(
        &mut self,
        changes: &[Change],
        mut refused: Vec<Nack>,
        why: &[Nack],
        sink: &mut impl Sink,
    ) -> Vec<Nack> {
        if let Err(nacks) = sink.apply(&self.state.held) {
            tracing::error!(?nacks, "the data plane refuses what it has obeyed until now");
        }
        let why: Vec<String> = why.iter().map(|nack| format!("{} {}: {}", nack.kind, nack.name, nack.reason)).collect();
        let reason = format!("with this change, the data plane refuses {}", why.join(", "));
        let others = changes.iter().filter(|change| !is_among(change, &refused));
        let others: Vec<Nack> = others
            .map(|change| Nack { kind: change.kind, name: change.name.clone(), reason: reason.clone() })
            .collect();
        refused.extend(others);
        refused
    }

    fn first(&self, kind: Kind) -> discovery::DeltaDiscoveryRequest {
        let versions = self.state.stored[kind].iter();
        discovery::DeltaDiscoveryRequest {
            type_url: wire::type_url(kind).into(),
            initial_resource_versions: versions.map(|(name, stored)| (name.clone(), stored.version.clone())).collect(),
            ..Default::default()
        }
    }

    /// Asks for what is referred to now, and no longer for what is not.
    fn resubscribe(&mut self, kind: Kind) -> Option<discovery::DeltaDiscoveryRequest> {
        let mut wanted: BTreeSet<String> = self.state.held.referred(kind).into_iter().map(String::from).collect();
        match (kind, &self.demanded) {
            (Kind::Listener, Some(names)) => wanted = names.clone(),
            (Kind::Cluster, Some(_)) => wanted.extend(deferred::targets(&self.deferred)),
            _ => {}
        }
        let subscribed = &self.subscribed[kind];
        let opens = kind != Kind::Listener && subscribed.is_empty() && !self.answered[kind];
        let subscribe: Vec<String> = wanted.difference(subscribed).cloned().collect();
        let unsubscribe: Vec<String> = subscribed.difference(&wanted).cloned().collect();
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        self.absent[kind].retain(|name| wanted.contains(name));
        let blank = discovery::DeltaDiscoveryRequest { type_url: wire::type_url(kind).into(), ..Default::default() };
        let request = if opens { self.first(kind) } else { blank };
        self.subscribed[kind] = wanted;
        Some(discovery::DeltaDiscoveryRequest {
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..request
        })
    }
}

impl State {
    /// This state with these changes, without what nothing refers to any more.
    fn with<'a>(
        &self,
        changes: impl Iterator<Item = &'a Change>,
        named: &[(Kind, Kind)],
        awaited: &BTreeSet<String>,
    ) -> State {
        let mut next = self.clone();
        let mut touched: PerKind<bool> = PerKind::default();
        for Change { kind, name, value } in changes {
            touched[*kind] = true;
            next.held.set(*kind, name, value.as_ref().map(|(resource, _)| Arc::clone(resource)));
            let stored = Arc::make_mut(&mut next.stored[*kind]);
            match value {
                Some((_, value)) => stored.insert(name.clone(), value.clone()),
                None => stored.remove(name),
            };
        }
        for (kind, by) in named.iter().copied() {
            if !touched[kind] && !touched[by] {
                continue;
            }
            let referred = next.held.referred(kind);
            let is_unused =
                |name: &&str| !referred.contains(name) && !(kind == Kind::Cluster && awaited.contains(*name));
            let unused: Vec<String> =
                next.held.iter(kind).map(|(name, _)| name).filter(is_unused).map(String::from).collect();
            touched[kind] |= !unused.is_empty();
            for name in unused {
                next.held.set(kind, &name, None);
                Arc::make_mut(&mut next.stored[kind]).remove(&name);
            }
        }
        next
    }
}

fn is_about(nack: &Nack, change: &Change) -> bool {
    nack.kind == change.kind && nack.name == change.name
}

fn is_among(change: &Change, nacks: &[Nack]) -> bool {
    nacks.iter().any(|nack| is_about(nack, change))
}

/// An ACK, or a NACK that says in words what is rejected and why, and lists the names as details.
fn answer(type_url: String, nonce: String, nacks: &[Nack]) -> discovery::DeltaDiscoveryRequest {
    let error_detail = (!nacks.is_empty()).then(|| rpc::Status {
        code: INVALID_ARGUMENT,
        message: nacks.iter().map(|nack| format!("{}: {}", nack.name, nack.reason)).collect::<Vec<_>>().join("; "),
        details: nacks.iter().map(|nack| detail(&nack.name)).collect(),
    });
    discovery::DeltaDiscoveryRequest { type_url, response_nonce: nonce, error_detail, ..Default::default() }
}

fn detail(name: &str) -> wire::Any {
    let name = discovery::ResourceName { name: name.into(), ..Default::default() };
    wire::Any { type_url: discovery::ResourceName::type_url(), value: name.encode_to_vec() }
}
