//! Who is connected, and does each hold what it should? For `weft status`, and for people on call.

use super::ResourceSet;
use super::session::{Answer, Session};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use weft_model::{Kind, Node};

/// The longest part of a client's words that is kept.
const MAX_TEXT_BYTES: usize = 4096;
const MAX_NAMES: usize = 64;

/// Every open stream.
#[derive(Debug, Default)]
pub struct Status {
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    opened: u64,
    open: BTreeMap<u64, Stream>,
}

#[derive(Debug)]
struct Stream {
    status: NodeStatus,
    /// What it should hold, as far as it has been looked at.
    wanted: Arc<ResourceSet>,
}

/// One connected data plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node id on the wire.
    pub id: String,
    pub node: Node,
    /// Milliseconds since 1970.
    pub connected_at_ms: u64,
    /// Whether it has acknowledged all that it should hold.
    pub in_sync: bool,
    /// Short hash of all that it acknowledged.
    pub version: String,
    /// Short hash of all that it should hold.
    pub wanted_version: String,
    /// By short name (`CDS`), those that it asked for.
    pub kinds: BTreeMap<String, KindStatus>,
    /// The last thing that it rejected; `None` again once nothing is rejected any more.
    pub last_nack: Option<NackStatus>,
}

/// Counts of resources of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindStatus {
    /// That it should hold.
    pub wanted: usize,
    /// That it holds or was sent.
    pub sent: usize,
    pub acked: usize,
    /// Whose present version it rejected; of these it keeps its last good one.
    pub rejected: usize,
    /// Short hash of what it acknowledged, and of what it should hold.
    pub acked_version: String,
    pub wanted_version: String,
    pub in_sync: bool,
    pub last_ack_at_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NackStatus {
    /// Short name, `RDS`.
    pub kind: String,
    pub names: Vec<String>,
    /// The client's own words.
    pub text: String,
    pub at_ms: u64,
}

impl Status {
    pub fn new() -> Self {
        Status::default()
    }

    /// All connected nodes, by id.
    pub fn snapshot(&self) -> Vec<NodeStatus> {
        let mut nodes: Vec<NodeStatus> =
            self.streams.lock().open.values().map(|stream| stream.status.clone()).collect();
        nodes.sort_by(|one, other| one.id.cmp(&other.id));
        nodes
    }

    /// The open streams, by a number of each, whose nodes have not acknowledged the endpoints of what they should hold `now`.
    pub fn behind(&self, now: impl Fn(&Node) -> Option<Arc<ResourceSet>>) -> BTreeSet<u64> {
        let streams = self.streams.lock();
        let behind = streams.open.iter().filter(|(_, Stream { status, wanted })| {
            let is_latest = now(&status.node).is_some_and(|now| Arc::ptr_eq(&now, wanted));
            let endpoints = status.kinds.get(Kind::Endpoints.discovery());
            !is_latest || endpoints.is_some_and(|endpoints| !endpoints.in_sync)
        });
        behind.map(|(key, _)| *key).collect()
    }

    pub(super) fn enter(self: &Arc<Self>, node: &Node) -> Entry {
        let mut streams = self.streams.lock();
        streams.opened += 1;
        let key = streams.opened;
        let status = NodeStatus {
            id: node.id(),
            node: node.clone(),
            connected_at_ms: now_ms(),
            in_sync: false,
            version: short(0),
            wanted_version: short(0),
            kinds: BTreeMap::new(),
            last_nack: None,
        };
        streams.open.insert(key, Stream { status, wanted: Arc::default() });
        Entry { status: Arc::clone(self), key }
    }
}

/// A stream's place in the registry, given back when it ends.
pub(super) struct Entry {
    status: Arc<Status>,
    key: u64,
}

impl Entry {
    /// Writes down where the session stands.
    pub(super) fn update(&self, session: &Session, answer: Option<(Kind, &Answer)>) {
        let mut streams = self.status.streams.lock();
        let Some(Stream { status: node, wanted: latest }) = streams.open.get_mut(&self.key) else { return };
        latest.clone_from(session.wanted());
        if let Some((kind, answer)) = answer {
            note_answer(node, kind, answer);
        }
        let (mut acked, mut wanted, mut in_step, mut rejected) = (0_u64, 0_u64, true, 0);
        for (kind, conversation) in session.conversations() {
            let tally = conversation.tally(kind, session.wanted());
            acked = acked.wrapping_add(tally.acked_digest);
            wanted = wanted.wrapping_add(tally.wanted_digest);
            rejected += tally.rejected;
            let status = node.kinds.entry(kind.discovery().into()).or_default();
            *status = KindStatus {
                wanted: tally.wanted,
                sent: tally.sent,
                acked: tally.acked,
                rejected: tally.rejected,
                acked_version: short(tally.acked_digest),
                wanted_version: short(tally.wanted_digest),
                in_sync: tally.acked_digest == tally.wanted_digest && !tally.in_flight,
                last_ack_at_ms: status.last_ack_at_ms,
            };
            in_step &= status.in_sync;
        }
        let asked = |kind: Kind| node.kinds.contains_key(kind.discovery());
        node.in_sync = in_step && asked(Kind::Cluster) && asked(Kind::Listener);
        node.version = short(acked);
        node.wanted_version = short(wanted);
        if rejected == 0 {
            node.last_nack = None;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.status.streams.lock().open.remove(&self.key);
    }
}

fn note_answer(node: &mut NodeStatus, kind: Kind, answer: &Answer) {
    match answer {
        Answer::None => {}
        Answer::Ack => node.kinds.entry(kind.discovery().into()).or_default().last_ack_at_ms = Some(now_ms()),
        Answer::Nack { names, text } => {
            node.last_nack = Some(NackStatus {
                kind: kind.discovery().into(),
                names: names.iter().take(MAX_NAMES).cloned().collect(),
                text: shorten(text).into(),
                at_ms: now_ms(),
            });
        }
    }
}

/// The beginning of a text that someone else wrote.
pub(super) fn shorten(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

fn short(digest: u64) -> String {
    format!("{digest:016x}")
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
