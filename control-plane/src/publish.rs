//! From the compiled mesh to each proxy that is connected, and to no other.
//!
//! The mesh is compiled once per change. What one node holds is put together when the node connects, and again at each
//! change for as long as somebody listens; a node whose resources came out the same hears nothing. Where only endpoints moved, only those
//! take the place of what the node had, so that a pod that comes or goes costs little however many follow. Invariant: a node
//! that subscribes while a new mesh is published gets the new one, at once or right after.

use crate::metrics::Metrics;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use weft_config::World;
use weft_config::compile::Mesh;
use weft_model::{Kind, Node};
use weft_xds::server::{Catalog, Encoded, ResourceSet};

/// The current mesh and who follows it.
pub(crate) struct Publisher {
    state: Mutex<State>,
    /// The last mesh that was given to all.
    published: watch::Sender<Arc<Mesh>>,
    metrics: Arc<Metrics>,
}

struct State {
    mesh: Arc<Mesh>,
    /// Counts meshes.
    generation: u64,
    nodes: HashMap<Node, Follower>,
}

/// Somebody who is given what each mesh means to them.
#[derive(Clone)]
struct Follower {
    set: watch::Sender<Arc<ResourceSet>>,
    /// Of the mesh that the set comes from; `None` when putting it together failed.
    generation: Option<u64>,
}

impl Follower {
    fn is_there(&self) -> bool {
        self.set.receiver_count() > 0
    }
}

impl Publisher {
    /// Publishes the empty mesh; nobody should be let in before the first [`Publisher::publish`].
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let mesh = Arc::new(Mesh::compile(&World::default()));
        let published = watch::Sender::new(mesh.clone());
        Publisher { state: Mutex::new(State { mesh, generation: 0, nodes: HashMap::new() }), published, metrics }
    }

    /// Gives every connected node what this mesh means to it. Returns how many nodes got something new.
    pub(crate) fn publish(&self, mesh: Mesh) -> usize {
        let mesh = Arc::new(mesh);
        let (followers, generation) = {
            let mut state = self.state();
            state.mesh = mesh.clone();
            state.generation += 1;
            state.nodes.retain(|_, follower| follower.is_there());
            let followers = state.nodes.iter().map(|(node, follower)| (node.clone(), follower.clone()));
            (followers.collect::<Vec<_>>(), state.generation)
        };
        let (mut encoded, mut changed) = (Encoded::default(), 0);
        for (node, follower) in followers {
            let before = follower.set.borrow().clone();
            let follows = follower.generation == Some(generation - 1);
            let Some(news) = safely(&node, || match mesh.moved_for(&node).filter(|_| follows) {
                Some(moved) => before.with(moved, &mut encoded),
                None => Some(resources(&mesh, &node, Some(&before))).filter(|now| !same(&before, now)),
            }) else {
                continue;
            };
            if let Some(known) = self.state().nodes.get_mut(&node) {
                known.generation = Some(generation);
            }
            if let Some(news) = news {
                follower.set.send_replace(Arc::new(news));
                changed += 1;
            }
        }
        self.published.send_replace(mesh);
        self.metrics.published(changed);
        changed
    }

    /// The current one.
    pub(crate) fn mesh(&self) -> Arc<Mesh> {
        self.state().mesh.clone()
    }

    /// The mesh that every connected node is given, and those that come after it.
    pub(crate) fn published(&self) -> watch::Receiver<Arc<Mesh>> {
        self.published.subscribe()
    }

    /// What a node is given; `None` when it has gone.
    pub(crate) fn now(&self, node: &Node) -> Option<Arc<ResourceSet>> {
        Some(self.state().nodes.get(node)?.set.borrow().clone())
    }

    /// What a node is given, by the node's id.
    pub(crate) fn set_of(&self, id: &str) -> Option<Arc<ResourceSet>> {
        let state = self.state();
        let of_that_id = state.nodes.iter().filter(|(node, _)| node.id() == id);
        let (_, follower) = of_that_id.max_by_key(|(_, follower)| follower.set.receiver_count())?;
        let set = follower.set.borrow();
        Some(set.clone())
    }

    /// The ids of the nodes that follow.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let state = self.state();
        let mut ids: Vec<String> = state.nodes.keys().map(Node::id).collect();
        ids.sort();
        ids
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change of the state can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog for Publisher {
    fn subscribe(&self, node: &Node) -> watch::Receiver<Arc<ResourceSet>> {
        loop {
            let (mesh, generation, sibling) = {
                let state = self.state();
                if let Some(follower) = state.nodes.get(node) {
                    return follower.set.subscribe();
                }
                let sibling = state.nodes.iter().find(|(other, _)| is_sibling(other, node));
                (state.mesh.clone(), state.generation, sibling.map(|(_, follower)| follower.set.borrow().clone()))
            };
            let set = safely(node, || resources(&mesh, node, sibling.as_deref()));
            let mut state = self.state();
            if state.generation != generation {
                continue;
            }
            // Nodes come and go also while the configuration stays.
            state.nodes.retain(|_, follower| follower.is_there());
            return match state.nodes.entry(node.clone()) {
                Entry::Occupied(known) => known.get().set.subscribe(),
                Entry::Vacant(free) => {
                    let generation = set.is_some().then_some(generation);
                    let set = watch::Sender::new(Arc::new(set.unwrap_or_default()));
                    free.insert(Follower { set, generation }).set.subscribe()
                }
            };
        }
    }
}

/// Whether most of what one is given was encoded for the other already.
fn is_sibling(one: &Node, other: &Node) -> bool {
    one.role == other.role && one.namespace == other.namespace
}

/// A set shares with the one before it whatever did not change.
fn same(one: &ResourceSet, other: &ResourceSet) -> bool {
    Kind::ALL.into_iter().all(|kind| {
        let mut pairs = one.iter(kind).zip(other.iter(kind));
        one.len(kind) == other.len(kind) && pairs.all(|(one, other)| Arc::ptr_eq(one.1, other.1))
    })
}

fn resources(mesh: &Mesh, node: &Node, before: Option<&ResourceSet>) -> ResourceSet {
    ResourceSet::build(mesh.for_node(node), before)
}

/// `None` when it failed inside Weft: the node keeps what it has, and the others move on.
fn safely<T>(node: &Node, work: impl FnOnce() -> T) -> Option<T> {
    let built = catch_unwind(AssertUnwindSafe(work));
    if built.is_err() {
        tracing::error!(
            node = node.id(),
            "compiling for this node failed inside Weft; it keeps what it has. Please report it"
        );
    }
    built.ok()
}

#[cfg(test)]
mod tests;
