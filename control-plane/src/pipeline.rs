//! From a change on disk or in a cluster to the proxies: read, merge, compile, publish, check, in one thread and in that order.
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
use std::time::{Duration, Instant};
use tokio::sync::watch;
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

/// The world in force, for whoever asks.
#[derive(Default)]
pub(crate) struct Live(Mutex<Arc<World>>);

impl Live {
    pub(crate) fn get(&self) -> Arc<World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, world: Arc<World>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = world;
    }
}

/// The way from the sources to the publisher.
pub(crate) struct Pipeline {
    sources: Sources,
    store: Store,
    directories: Vec<Problem>,
    cluster: Vec<Problem>,
    ledger: Ledger,
    /// The world that was published last.
    world: Option<Arc<World>>,
    /// The world that was checked last, and what its objects say wrongly of each other.
    checked: Option<(Arc<World>, Vec<Problem>)>,
    publisher: Arc<Publisher>,
    problems: Arc<Problems>,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    ready: watch::Sender<bool>,
    /// What is compiled is held back for up to so long.
    push_delay: Duration,
}

impl Pipeline {
    /// `ready` becomes true when the first mesh is published.
    pub(crate) fn new(
        sources: Sources,
        publisher: Arc<Publisher>,
        problems: Arc<Problems>,
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        ready: watch::Sender<bool>,
    ) -> Self {
        Pipeline {
            sources,
            store: Store::default(),
            directories: Vec::new(),
            cluster: Vec::new(),
            ledger: Ledger::default(),
            world: None,
            checked: None,
            publisher,
            problems,
            live,
            metrics,
            ready,
            push_delay: Duration::ZERO,
        }
    }

    pub(crate) fn with_push_delay(self, push_delay: Duration) -> Self {
        Pipeline { push_delay, ..self }
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
        let mut is_news = self.world.is_none();
        for (name, change) in changes.files {
            is_news |= self.store.apply(&name, change);
        }
        if let Some(directories) = changes.directories {
            self.directories = directories;
            is_news = true;
        }
        if let Some(cluster) = changes.cluster {
            self.cluster = cluster;
            is_news = true;
        }
        if !is_news {
            return;
        }
        let (world, problems) = self.store.world();
        let world = Arc::new(world);
        // Without its sources there is no configuration, and proxies keep what they have.
        let is_live = (self.world.is_some() || self.sources.is_there()) && self.go_live(&world, files, start);
        // Only now: no request waits for what is said of its route.
        let sources = self.directories.iter().chain(&self.cluster).cloned();
        let sources: Vec<Problem> = sources.chain(problems).collect();
        let checked = check(&world, self.checked.take());
        self.tell(sources.into_iter().chain(checked.iter().cloned()).collect());
        self.checked = Some((world.clone(), checked));
        if is_live {
            self.live.set(world.clone());
            self.world = Some(world);
        }
    }

    /// Returns whether this world is published and was not before.
    fn go_live(&self, world: &World, files: usize, start: Instant) -> bool {
        if self.world.as_ref().is_some_and(|live| same(live, world)) {
            return false;
        }
        let Ok(mesh) = catch_unwind(AssertUnwindSafe(|| self.publisher.mesh().next(world))) else {
            tracing::error!("compiling failed inside Weft; the configuration before stays in force. Please report it");
            return false;
        };
        std::thread::sleep(self.push_delay.mul_f64(fastrand::f64()));
        let nodes = self.publisher.publish(mesh);
        let took = start.elapsed();
        self.metrics.compiled(took);
        let (objects, took_ms) = (world.objects.len(), format!("{:.1}", took.as_secs_f64() * 1e3));
        tracing::info!(files, objects, nodes, took_ms, "configuration is live");
        self.ready.send_replace(true);
        true
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

fn check(world: &World, before: Option<(Arc<World>, Vec<Problem>)>) -> Vec<Problem> {
    let checked = || match before {
        Some((before, problems)) => weft_config::validate_next(world, &before, problems),
        None => weft_config::validate(world),
    };
    catch_unwind(AssertUnwindSafe(checked)).unwrap_or_else(|_| {
        tracing::error!("checking failed inside Weft; what objects say of each other is not checked. Please report it");
        Vec::new()
    })
}

/// Objects that were not read again are known to be the same without a look inside.
fn same(one: &World, other: &World) -> bool {
    let pairs = one.objects.values().zip(other.objects.values());
    one.objects.len() == other.objects.len() && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
}
