//! One stream's state: what the client asked for, what it holds, what is on its way, and what comes next.
//!
//! Nothing here awaits or reads a clock: requests, sets and `now` come in, responses come out.

mod conversation;

use super::set::ResourceSet;
use crate::per_kind::PerKind;
use crate::wire;
pub(super) use conversation::{Answer, Refused};
use conversation::{Conversation, Part};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::cluster::Discovery;
use weft_model::{Kind, Resource};

pub(super) struct Session {
    wanted: Arc<ResourceSet>,
    kinds: PerKind<Conversation>,
    patience: Duration,
    /// New clusters that were sent and are not known to be warm: acknowledged, and their endpoints too.
    warming: BTreeSet<String>,
    /// When routes stop waiting for `warming`.
    warm_by: Option<Instant>,
    /// When removals stop waiting for listeners and routes to be acknowledged.
    settled_by: Option<Instant>,
}

impl Session {
    pub(super) fn new(wanted: Arc<ResourceSet>, patience: Duration) -> Self {
        let kinds = PerKind::default();
        Session { wanted, kinds, patience, warming: BTreeSet::new(), warm_by: None, settled_by: None }
    }

    /// The client asks by name for what is of use only to some.
    pub(super) fn on_demand(mut self) -> Self {
        self.kinds[Kind::Listener].on_demand();
        self
    }

    /// The kind it was about, and the client's answer to a response if it was one. A type that is not ours is left unanswered.
    pub(super) fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<Option<(Kind, Answer)>, Refused> {
        let Some(kind) = wire::kind(&request.type_url) else { return Ok(None) };
        let answer = self.kinds[kind].receive(kind, request)?;
        Ok(Some((kind, answer)))
    }

    /// The latest set counts; one that came in between and was not sent is forgotten.
    pub(super) fn want(&mut self, wanted: Arc<ResourceSet>) {
        for kind in Kind::ALL {
            if !wanted.shares(&self.wanted, kind) {
                self.kinds[kind].unsettle();
            }
        }
        self.wanted = wanted;
    }

    /// What is to be sent now, in this order.
    pub(super) fn next(&mut self, now: Instant) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        self.send(Kind::Cluster, Part::Upserts, &mut responses);
        self.send(Kind::Endpoints, Part::Upserts, &mut responses);
        if !self.is_warm(now) {
            return responses;
        }
        self.send(Kind::Secret, Part::Upserts, &mut responses);
        self.send(Kind::Listener, Part::All, &mut responses);
        self.send(Kind::RouteTable, Part::Upserts, &mut responses);
        if self.is_settled(now) {
            for kind in [Kind::RouteTable, Kind::Secret, Kind::Cluster, Kind::Endpoints] {
                self.send(kind, Part::All, &mut responses);
            }
        }
        responses
    }

    /// When [`Session::next`] has something to say even if nothing happens.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.warm_by.into_iter().chain(self.settled_by).filter(|by| *by > now).min()
    }

    pub(super) fn conversations(&self) -> impl Iterator<Item = (Kind, &Conversation)> {
        self.kinds.iter().filter(|(_, conversation)| conversation.is_open())
    }

    pub(super) fn wanted(&self) -> &Arc<ResourceSet> {
        &self.wanted
    }

    fn send(&mut self, kind: Kind, part: Part, responses: &mut Vec<DeltaDiscoveryResponse>) {
        let conversation = &mut self.kinds[kind];
        let Some(push) = conversation.push(kind, &self.wanted, part) else { return };
        if kind == Kind::Cluster {
            self.warming.extend(push.new);
        }
        responses.push(push.response);
    }

    fn is_warm(&mut self, now: Instant) -> bool {
        let Session { kinds, wanted, warming, .. } = self;
        warming.retain(|name| is_cold(name, &kinds[Kind::Cluster], &kinds[Kind::Endpoints], wanted));
        if warming.is_empty() && !self.kinds[Kind::Cluster].has_news(Kind::Cluster, &self.wanted) {
            self.warm_by = None;
            return true;
        }
        let late = now >= *self.warm_by.get_or_insert(now + self.patience);
        if late {
            self.warming.clear();
        }
        late
    }

    /// Whether the client is known to have moved on from what will be removed.
    fn is_settled(&mut self, now: Instant) -> bool {
        let goes = self.kinds.iter().any(|(kind, conversation)| conversation.holds_unwanted(kind, &self.wanted));
        // a client that resumes names its clusters first, and may still route to one that goes
        let silent = !self.kinds[Kind::Listener].is_open();
        let moving = silent || [Kind::Listener, Kind::RouteTable].iter().any(|kind| self.kinds[*kind].in_flight());
        if !goes || !moving {
            self.settled_by = None;
            return true;
        }
        now >= *self.settled_by.get_or_insert(now + self.patience)
    }
}

/// Whether a new cluster that was sent still has to be acknowledged, or its endpoints have.
fn is_cold(name: &str, clusters: &Conversation, endpoints: &Conversation, wanted: &ResourceSet) -> bool {
    let Some(cluster) = wanted.get(Kind::Cluster, name) else { return false };
    if clusters.awaits(name) {
        return true;
    }
    let by_eds = matches!(&cluster.resource, Resource::Cluster(cluster) if cluster.discovery == Discovery::Eds);
    clusters.holds(name) && by_eds && !endpoints.has_answered(name)
}
