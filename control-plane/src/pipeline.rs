//! From a change on disk to the proxies: read, merge, check, compile, publish, in one thread and in that order.
//!
//! One thread, because order is the point: a later save must never be overtaken by an earlier one. Nothing here
//! waits for a proxy, and nothing that a file says can end the loop.

use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::sources::{Changes, Sources};
use crate::store::Store;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use weft_config::compile::Mesh;
use weft_config::{Problem, World};

/// What is wrong at the moment, for whoever asks.
#[derive(Default)]
pub(crate) struct Problems(Mutex<Arc<Vec<Problem>>>);

impl Problems {
    pub(crate) fn get(&self) -> Arc<Vec<Problem>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, problems: Vec<Problem>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(problems);
    }
}

/// The way from the sources to the publisher.
pub(crate) struct Pipeline {
    sources: Sources,
    store: Store,
    directories: Vec<Problem>,
    ledger: Ledger,
    /// The world that was published last.
    world: Option<World>,
    publisher: Arc<Publisher>,
    problems: Arc<Problems>,
    metrics: Arc<Metrics>,
    ready: watch::Sender<bool>,
}

impl Pipeline {
    /// `ready` becomes true when the first mesh is published.
    pub(crate) fn new(
        sources: Sources,
        publisher: Arc<Publisher>,
        problems: Arc<Problems>,
        metrics: Arc<Metrics>,
        ready: watch::Sender<bool>,
    ) -> Self {
        Pipeline {
            sources,
            store: Store::default(),
            directories: Vec::new(),
            ledger: Ledger::default(),
            world: None,
            publisher,
            problems,
            metrics,
            ready,
        }
    }

    /// Runs until the sources are stopped.
    pub(crate) fn run(mut self) {
        while let Some(changes) = self.sources.next() {
            self.step(changes);
        }
    }

    fn step(&mut self, changes: Changes) {
        let start = Instant::now();
        let files = changes.files.len();
        for (name, change) in changes.files {
            self.store.apply(&name, change);
        }
        if let Some(directories) = changes.directories {
            self.directories = directories;
        }
        let (world, mut problems) = self.store.world();
        problems.splice(0..0, self.directories.iter().cloned());
        let mesh = self.compile(&world, &mut problems);
        self.tell(problems);
        // Without a directory there is no configuration, and proxies keep what they have.
        if self.world.is_none() && !self.sources.is_there() {
            return;
        }
        if let Some(mesh) = mesh {
            let nodes = self.publisher.publish(mesh);
            self.metrics.compiled(start.elapsed());
            let objects = world.objects.len();
            let took_ms = start.elapsed().as_secs_f64() * 1e3;
            tracing::info!(files, objects, nodes, took_ms = format!("{took_ms:.1}"), "configuration is live");
            self.world = Some(world);
        }
        if self.world.is_some() {
            self.ready.send_replace(true);
        }
    }

    /// `None` when the mesh is the one that is published, or cannot be compiled.
    fn compile(&self, world: &World, problems: &mut Vec<Problem>) -> Option<Mesh> {
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            problems.extend(weft_config::validate(world));
            let is_published = self.world.as_ref().is_some_and(|published| same(published, world));
            (!is_published).then(|| Mesh::compile(world))
        }));
        compiled.unwrap_or_else(|_| {
            tracing::error!("compiling failed inside Weft; the configuration before stays in force. Please report it");
            None
        })
    }

    fn tell(&mut self, problems: Vec<Problem>) {
        let news = self.ledger.update(problems);
        news.log();
        let current = self.ledger.current();
        let errors = current.iter().filter(|problem| problem.is_error()).count();
        self.metrics.problems(errors, current.len() - errors);
        self.problems.set(current);
    }
}

/// Objects that were not read again are known to be the same without a look inside.
fn same(one: &World, other: &World) -> bool {
    let pairs = one.objects.values().zip(other.objects.values());
    one.objects.len() == other.objects.len() && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
}
