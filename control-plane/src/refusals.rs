//! What proxies say no to, told to the author of it.
//!
//! A proxy knows resources; their author knows files and lines. Here the one is turned into the other: each refused
//! resource becomes a problem at the place that it was compiled from, said once for however many proxies refuse it.

use crate::ledger::Ledger;
use crate::metrics::Proxies;
use crate::publish::Publisher;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weft_config::{Key, Place, Problem};
use weft_model::{Kind, Origin, Resource};
use weft_xds::server::{NodeStatus, ResourceSet, Status};

/// How often the proxies' answers are looked through.
const EVERY: Duration = Duration::from_secs(1);

/// Follows what proxies refuse.
pub(crate) struct Refusals {
    status: Arc<Status>,
    publisher: Arc<Publisher>,
    ledger: Mutex<Ledger>,
    total: AtomicU64,
}

/// Who refuses the same thing for the same reason.
struct Group {
    problem: Problem,
    first: String,
    others: usize,
}

impl Refusals {
    pub(crate) fn new(status: Arc<Status>, publisher: Arc<Publisher>) -> Self {
        Refusals { status, publisher, ledger: Mutex::default(), total: AtomicU64::new(0) }
    }

    /// Says in the log what is refused, once, and when it no longer is.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let news = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).update(self.current());
            self.total.fetch_add(news.appeared.len() as u64, Relaxed);
            news.log();
        }
    }

    /// What is refused at this moment.
    pub(crate) fn current(&self) -> Vec<Problem> {
        problems(&self.status.snapshot(), |id| self.publisher.set_of(id))
    }

    pub(crate) fn proxies(&self) -> Proxies {
        Proxies { connected: self.status.snapshot().len(), refused: self.total.load(Relaxed) }
    }
}

fn problems(nodes: &[NodeStatus], set_of: impl Fn(&str) -> Option<Arc<ResourceSet>>) -> Vec<Problem> {
    let mut groups: BTreeMap<(String, String, String), Group> = BTreeMap::new();
    for node in nodes {
        let Some(nack) = &node.last_nack else { continue };
        let kind = Kind::ALL.into_iter().find(|kind| kind.discovery() == nack.kind);
        let set = set_of(&node.id);
        // A client may say no without saying to what.
        let nameless = nack.names.is_empty().then_some(String::new());
        for name in nack.names.iter().chain(&nameless) {
            let resource = kind.zip(set.as_ref()).and_then(|(kind, set)| set.get(kind, name));
            let origin = resource.and_then(|versioned| origin(&versioned.resource, &nack.text));
            let group = (nack.kind.clone(), name.clone(), nack.text.clone());
            groups.entry(group).and_modify(|group| group.others += 1).or_insert_with(|| Group {
                problem: problem(&nack.kind, name, &nack.text, origin),
                first: node.id.clone(),
                others: 0,
            });
        }
    }
    groups.into_values().map(Group::finish).collect()
}

impl Group {
    fn finish(self) -> Problem {
        let others = match self.others {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        self.problem.hint(format!("refused by {}{others}; the last good version stays in force there", self.first))
    }
}

fn problem(kind: &str, name: &str, text: &str, origin: Option<&Origin>) -> Problem {
    let what = if name.is_empty() { kind.to_owned() } else { format!("{kind} \"{name}\"") };
    let message = format!("proxies refuse what this became ({what}): {text}");
    let Some(origin) = origin else { return Problem::error(Place::new("", 1, 1), "", message) };
    let place = match origin.place.rsplit_once(':') {
        Some((file, line)) => Place::new(file, line.parse().unwrap_or(1), 1),
        None => Place::new(origin.place.as_str(), 0, 0),
    };
    let (object, path) = object(&origin.object);
    let problem = Problem::error(place, path, message);
    match &object {
        Some(key) => problem.of(key),
        None => problem,
    }
}

/// `HTTPRoute shop/orders rules[0]` taken apart: which object, and where in its spec.
fn object(words: &str) -> (Option<Key>, String) {
    let mut words = words.splitn(3, ' ');
    let key = words.next().zip(words.next()).map(|(kind, name)| {
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        Key::new(kind.to_owned().into(), namespace, name)
    });
    let path = words.next().map_or_else(String::new, |inside| format!("spec.{inside}"));
    (key, path)
}

/// Where a resource was written. Of a table's routes the one that the proxy names, else the first.
fn origin<'r>(resource: &'r Resource, text: &str) -> Option<&'r Origin> {
    match resource {
        Resource::Cluster(cluster) => Some(&cluster.origin),
        Resource::RouteTable(table) => {
            let written =
                || table.virtual_hosts.iter().flat_map(|host| &host.routes).filter(|r| !r.origin.place.is_empty());
            let named = written().find(|route| !route.name.is_empty() && text.contains(&route.name));
            named.or_else(|| written().next()).map(|route| &route.origin)
        }
        Resource::Listener(_) | Resource::Endpoints(_) | Resource::Secret(_) => None,
    }
    .filter(|origin| !origin.place.is_empty())
}

#[cfg(test)]
mod tests;
