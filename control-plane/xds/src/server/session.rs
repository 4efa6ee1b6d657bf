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
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::cluster::Discovery;
use weft_model::{Kind, Resource};

pub(super) struct Session {
    wanted: Arc<ResourceSet>,
    kinds: PerKind<Conversation>,
    patience: Duration,
    /// New clusters that were sent and are not known to be warm: acknowledged, and their endpoints too. Also one that is not wanted at
    /// the moment: it may be again before it is taken back.
    warming: BTreeMap<String, Warming>,
    /// When routes stop waiting for clusters that cannot be sent yet.
    sent_by: Option<Instant>,
    /// When removals stop waiting for listeners and routes to be acknowledged.
    settled_by: Option<Instant>,
}

impl Session {
    pub(super) fn new(wanted: Arc<ResourceSet>, patience: Duration) -> Self {
        let kinds = PerKind::default();
        Session { wanted, kinds, patience, warming: BTreeMap::new(), sent_by: None, settled_by: None }
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
        self.send(Kind::Cluster, Part::Upserts, now, &mut responses);
        self.send(Kind::Endpoints, Part::Upserts, now, &mut responses);
        if !self.is_warm(now) {
            return responses;
        }
        self.send(Kind::Secret, Part::Upserts, now, &mut responses);
        self.send(Kind::Listener, Part::All, now, &mut responses);
        self.send(Kind::RouteTable, Part::Upserts, now, &mut responses);
        if self.is_settled(now) {
            for kind in [Kind::RouteTable, Kind::Cluster] {
                self.send(kind, Part::All, now, &mut responses);
            }
            // what a cluster needs does not go before it: the cluster may be wanted again
            if !self.kinds[Kind::Cluster].holds_unwanted(Kind::Cluster, &self.wanted) {
                for kind in [Kind::Secret, Kind::Endpoints] {
                    self.send(kind, Part::All, now, &mut responses);
                }
            }
        }
        responses
    }

    /// When [`Session::next`] has something to say even if nothing happens.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let warm_by = self.warming.values().map(|warming| warming.until);
        warm_by.chain(self.sent_by).chain(self.settled_by).filter(|by| *by > now).min()
    }

    pub(super) fn conversations(&self) -> impl Iterator<Item = (Kind, &Conversation)> {
        self.kinds.iter().filter(|(_, conversation)| conversation.is_open())
    }

    pub(super) fn wanted(&self) -> &Arc<ResourceSet> {
        &self.wanted
    }

    fn send(&mut self, kind: Kind, part: Part, now: Instant, responses: &mut Vec<DeltaDiscoveryResponse>) {
        let conversation = &mut self.kinds[kind];
        let Some(push) = conversation.push(kind, &self.wanted, part) else { return };
        if kind == Kind::Cluster {
            let until = now + self.patience;
            for name in push.new {
                let by_eds = self.wanted.get(kind, &name).is_some_and(|cluster| is_by_eds(&cluster.resource));
                self.warming.insert(name, Warming { by_eds, until });
            }
        }
        responses.push(push.response);
    }

    /// Whether routes may name all that is wanted. A cluster is waited for as long as patience says, from when it was sent, and no
    /// longer: others that come and go meanwhile change nothing of that.
    fn is_warm(&mut self, now: Instant) -> bool {
        let Session { kinds, wanted, warming, .. } = self;
        let (clusters, endpoints) = (&kinds[Kind::Cluster], &kinds[Kind::Endpoints]);
        warming.retain(|name, warming| warming.until > now && warming.is_cold(name, clusters, endpoints, wanted));
        let waits = warming.keys().any(|name| wanted.get(Kind::Cluster, name).is_some());
        if !clusters.has_news(Kind::Cluster, wanted) {
            self.sent_by = None;
            return !waits;
        }
        now >= *self.sent_by.get_or_insert(now + self.patience) && !waits
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

/// What a new cluster waits for: that it is acknowledged, and its endpoints too.
#[derive(Debug)]
struct Warming {
    by_eds: bool,
    until: Instant,
}

impl Warming {
    fn is_cold(&self, name: &str, clusters: &Conversation, endpoints: &Conversation, wanted: &ResourceSet) -> bool {
        // that there are none is all that there is to say only of a cluster that is wanted without them
        let has_none = wanted.get(Kind::Cluster, name).is_some() && wanted.get(Kind::Endpoints, name).is_none();
        let has_endpoints = endpoints.has_answered(name) || has_none && endpoints.knows_absent(name);
        clusters.awaits(name) || self.by_eds && clusters.holds(name) && !has_endpoints
    }
}

fn is_by_eds(resource: &Resource) -> bool {
    matches!(resource, Resource::Cluster(cluster) if cluster.discovery == Discovery::Eds)
}
