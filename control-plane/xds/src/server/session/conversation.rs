//! What is said about one kind of resource over one stream.
//!
//! The rules are xDS's: an answer belongs to the response whose nonce it carries, and an older nonce still subscribes and
//! unsubscribes; `error_detail` alone makes it a rejection; a name that does not exist is answered once in `removed_resources`;
//! a name that is subscribed to again is sent again, because the client may have forgotten it.

use crate::server::set::{ResourceSet, Versioned, digest};
use crate::wire;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource, ResourceName,
};
use envoy_types::pb::google::rpc;
use prost::{Message, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use weft_model::Kind;

/// The most names that one stream may subscribe to, or say that it holds, of one kind.
const MAX_NAMES: usize = 100_000;
/// The longest name that is remembered.
const MAX_NAME_BYTES: usize = 4096;
/// A response is full at so many bytes of resources; the rest follows when it was acknowledged.
const FULL_BYTES: usize = 2 * 1024 * 1024;
const WILDCARD: &str = "*";

#[derive(Debug, Default)]
pub(in crate::server) struct Conversation {
    open: bool,
    wildcard: bool,
    /// The wildcard does not mean what is of use only to some.
    on_demand: bool,
    /// Asked for by name.
    names: BTreeSet<String>,
    /// What the client holds or has been sent.
    known: BTreeMap<String, Known>,
    /// Asked for, and said not to exist.
    absent: BTreeSet<String>,
    in_flight: Option<InFlight>,
    nonce: u64,
    /// A wildcard is answered even when there is nothing to say, so that the client stops waiting.
    owes_answer: bool,
    /// Nothing is left to send, until something happens.
    settled: bool,
}

#[derive(Debug)]
struct Known {
    version: String,
    digest: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sent,
    Acked,
    Rejected,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    /// What was sent: name and version.
    sent: Vec<(String, String)>,
    absent: BTreeSet<String>,
}

/// What may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Part {
    /// What is new or changed, and names that do not exist.
    Upserts,
    /// Removals of what the client holds, too.
    All,
}

pub(in crate::server) struct Push {
    pub(in crate::server) response: DeltaDiscoveryResponse,
    /// Names in it that the client did not hold before.
    pub(in crate::server) new: Vec<String>,
}

/// How a request answers a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Answer {
    /// It only asks, or it is about an older response.
    None,
    Ack,
    /// These names were rejected.
    Nack {
        names: Vec<String>,
        text: String,
    },
}

/// The client asks for more than anyone should.
#[derive(Debug, thiserror::Error)]
#[error("{0} names of one kind were subscribed to; the most are {MAX_NAMES}, of {MAX_NAME_BYTES} bytes each")]
pub(in crate::server) struct Refused(usize);

/// Counts and digests for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Tally {
    pub(in crate::server) sent: usize,
    pub(in crate::server) acked: usize,
    pub(in crate::server) rejected: usize,
    pub(in crate::server) wanted: usize,
    pub(in crate::server) acked_digest: u64,
    pub(in crate::server) wanted_digest: u64,
    pub(in crate::server) in_flight: bool,
}

impl Conversation {
    pub(in crate::server) fn receive(&mut self, kind: Kind, request: DeltaDiscoveryRequest) -> Result<Answer, Refused> {
        self.settled = false;
        let first = !std::mem::replace(&mut self.open, true);
        if first {
            self.open(kind, &request);
        }
        for name in request.resource_names_subscribe {
            self.subscribe(name, first)?;
        }
        for name in request.resource_names_unsubscribe {
            self.unsubscribe(&name);
        }
        if first {
            self.resume(kind, request.initial_resource_versions)?;
        }
        Ok(self.settle(&request.response_nonce, request.error_detail))
    }

    pub(in crate::server) fn on_demand(&mut self) {
        self.on_demand = true;
    }

    fn open(&mut self, kind: Kind, request: &DeltaDiscoveryRequest) {
        let legacy = request.resource_names_subscribe.is_empty() && matches!(kind, Kind::Cluster | Kind::Listener);
        self.wildcard = legacy;
        self.owes_answer = legacy;
    }

    fn subscribe(&mut self, name: String, first: bool) -> Result<(), Refused> {
        if name == WILDCARD {
            self.owes_answer |= !self.wildcard;
            self.wildcard = true;
            return Ok(());
        }
        self.check(&name, self.names.len())?;
        self.absent.remove(&name);
        if !first {
            self.known.remove(&name);
        }
        self.names.insert(name);
        Ok(())
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == WILDCARD {
            self.wildcard = false;
        } else {
            self.names.remove(name);
            self.absent.remove(name);
            if self.on_demand {
                self.known.remove(name);
            }
        }
        if !self.wildcard {
            let names = &self.names;
            self.known.retain(|name, _| names.contains(name));
        }
    }

    /// What the client kept from an earlier stream.
    fn resume(&mut self, kind: Kind, versions: std::collections::HashMap<String, String>) -> Result<(), Refused> {
        for (name, version) in versions {
            self.check(&name, self.known.len())?;
            if self.wildcard || self.names.contains(&name) {
                let digest = digest(kind, &name, &version);
                self.known.insert(name, Known { version, digest, state: State::Acked });
            }
        }
        Ok(())
    }

    fn check(&self, name: &str, count: usize) -> Result<(), Refused> {
        if count >= MAX_NAMES || name.len() > MAX_NAME_BYTES { Err(Refused(count + 1)) } else { Ok(()) }
    }

    fn settle(&mut self, nonce: &str, error: Option<rpc::Status>) -> Answer {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.nonce == nonce) else { return Answer::None };
        self.absent.extend(in_flight.absent.into_iter().filter(|name| self.names.contains(name)));
        let rejected = error.as_ref().map(|error| rejected(error, &in_flight.sent)).unwrap_or_default();
        for (name, version) in &in_flight.sent {
            if let Some(known) = self.known.get_mut(name).filter(|known| known.version == *version) {
                known.state = if rejected.contains(name) { State::Rejected } else { State::Acked };
            }
        }
        match error {
            Some(error) => Answer::Nack { names: rejected.into_iter().collect(), text: error.message },
            None => Answer::Ack,
        }
    }

    /// Something may have to be sent again.
    pub(in crate::server) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// The next response, when there is something to send and nothing on its way.
    pub(in crate::server) fn push(&mut self, kind: Kind, wanted: &ResourceSet, part: Part) -> Option<Push> {
        if !self.open || self.settled || self.in_flight.is_some() {
            return None;
        }
        let (upserts, complete) = self.upserts(kind, wanted);
        let absent: BTreeSet<String> =
            self.names.iter().filter(|name| self.is_absent(name, kind, wanted)).cloned().collect();
        let gone: Vec<String> = self.known.keys().filter(|name| wanted.get(kind, name).is_none()).cloned().collect();
        let removed = if part == Part::All { gone.as_slice() } else { &[] };
        if upserts.is_empty() && absent.is_empty() && removed.is_empty() && !self.owes_answer {
            self.settled = gone.is_empty();
            return None;
        }
        self.owes_answer &= !complete;
        Some(self.respond(kind, upserts, absent, removed))
    }

    fn respond(
        &mut self,
        kind: Kind,
        upserts: Vec<(String, Arc<Versioned>)>,
        absent: BTreeSet<String>,
        removed: &[String],
    ) -> Push {
        self.nonce += 1;
        let nonce = format!("{}-{}", kind.discovery(), self.nonce);
        for name in removed {
            self.known.remove(name);
        }
        let new = upserts.iter().filter(|(name, _)| !self.known.contains_key(name)).map(|(name, _)| name.clone());
        let new = new.collect();
        for (name, versioned) in &upserts {
            let Versioned { version, digest, .. } = &**versioned;
            let known = Known { version: version.clone(), digest: *digest, state: State::Sent };
            self.known.insert(name.clone(), known);
            self.absent.remove(name);
        }
        self.in_flight = Some(InFlight {
            nonce: nonce.clone(),
            sent: upserts.iter().map(|(name, versioned)| (name.clone(), versioned.version.clone())).collect(),
            absent: absent.clone(),
        });
        let response = DeltaDiscoveryResponse {
            type_url: wire::type_url(kind).into(),
            nonce,
            resources: upserts.into_iter().map(|(name, versioned)| resource(name, &versioned)).collect(),
            removed_resources: absent.into_iter().chain(removed.iter().cloned()).collect(),
            ..Default::default()
        };
        Push { response, new }
    }

    /// What differs from what the client holds, up to a full response; and whether that is all.
    fn upserts(&self, kind: Kind, wanted: &ResourceSet) -> (Vec<(String, Arc<Versioned>)>, bool) {
        let mut bytes = 0;
        let mut upserts = Vec::new();
        for (name, versioned) in self.interesting(kind, wanted) {
            if self.known.get(name).is_some_and(|known| known.version == versioned.version) {
                continue;
            }
            if bytes > FULL_BYTES {
                return (upserts, false);
            }
            bytes += versioned.any.value.len();
            upserts.push((name.to_string(), Arc::clone(versioned)));
        }
        (upserts, true)
    }

    /// What exists of what the client asked for.
    fn interesting<'a>(
        &'a self,
        kind: Kind,
        wanted: &'a ResourceSet,
    ) -> Box<dyn Iterator<Item = (&'a str, &'a Arc<Versioned>)> + 'a> {
        if self.wildcard {
            let is_meant = move |(name, versioned): &(&str, &Arc<Versioned>)| {
                !self.on_demand || !versioned.is_on_demand() || self.names.contains(*name)
            };
            return Box::new(wanted.iter(kind).filter(is_meant));
        }
        Box::new(self.names.iter().filter_map(move |name| Some((name.as_str(), wanted.get(kind, name)?))))
    }

    fn is_absent(&self, name: &str, kind: Kind, wanted: &ResourceSet) -> bool {
        wanted.get(kind, name).is_none() && !self.known.contains_key(name) && !self.absent.contains(name)
    }

    pub(in crate::server) fn is_open(&self) -> bool {
        self.open
    }

    pub(in crate::server) fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether names that the client does not hold at all wait to be sent.
    pub(in crate::server) fn has_news(&self, kind: Kind, wanted: &ResourceSet) -> bool {
        self.open && !self.settled && self.interesting(kind, wanted).any(|(name, _)| !self.known.contains_key(name))
    }

    /// Whether something waits to be removed.
    pub(in crate::server) fn holds_unwanted(&self, kind: Kind, wanted: &ResourceSet) -> bool {
        !self.settled && self.known.keys().any(|name| wanted.get(kind, name).is_none())
    }

    /// Sent, and neither acknowledged nor rejected.
    pub(in crate::server) fn awaits(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.state == State::Sent)
    }

    pub(in crate::server) fn holds(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.state == State::Acked)
    }

    /// Whether the client has said what it makes of what it was sent under this name.
    pub(in crate::server) fn has_answered(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.state != State::Sent)
    }

    /// Whether the client has been told that there is nothing under this name.
    pub(in crate::server) fn knows_absent(&self, name: &str) -> bool {
        self.absent.contains(name)
    }

    pub(in crate::server) fn tally(&self, kind: Kind, wanted: &ResourceSet) -> Tally {
        let mut tally = Tally { sent: self.known.len(), in_flight: self.in_flight.is_some(), ..Tally::default() };
        for known in self.known.values() {
            match known.state {
                State::Sent => {}
                State::Rejected => tally.rejected += 1,
                State::Acked => {
                    tally.acked += 1;
                    tally.acked_digest = tally.acked_digest.wrapping_add(known.digest);
                }
            }
        }
        for (_, versioned) in self.interesting(kind, wanted) {
            tally.wanted += 1;
            tally.wanted_digest = tally.wanted_digest.wrapping_add(versioned.digest);
        }
        tally
    }
}

fn resource(name: String, versioned: &Versioned) -> Resource {
    Resource { name, version: versioned.version.clone(), resource: Some(versioned.any.clone()), ..Default::default() }
}

/// Our client lists what it rejects in the details. Envoy names it in the text, and applies the rest. One that
/// names nothing rejects everything.
fn rejected(error: &rpc::Status, sent: &[(String, String)]) -> BTreeSet<String> {
    let listed = error.details.iter().filter(|detail| detail.type_url == ResourceName::type_url());
    let listed: BTreeSet<String> =
        listed.filter_map(|detail| Some(ResourceName::decode(detail.value.as_slice()).ok()?.name)).collect();
    let all = || sent.iter().map(|(name, _)| name.clone());
    let is_named = |name: &String| {
        if listed.is_empty() { error.message.contains(name.as_str()) } else { listed.contains(name) }
    };
    let named: BTreeSet<String> = all().filter(is_named).collect();
    if named.is_empty() { all().collect() } else { named }
}
