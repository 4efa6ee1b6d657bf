//! Metrics with Istio's names and labels, and a few of our own.
//!
//! A request must not look labels up, hash strings or meet other threads. So labels are resolved to
//! a [`Series`] beforehand, once per worker and pair of workloads; each worker has its own numbers,
//! which only it writes, and the scraper adds the workers up. Numbers outlive the configuration that
//! they were counted under: a counter never goes back. Series are bounded ([`MAX_SERIES`]): what
//! comes later is counted together, under `destination_service_name="overflow"`, and
//! `weft_metrics_overflowed_total` says that it happened.

pub mod counters;
pub(crate) mod exposition;
mod histogram;
pub mod key;
mod series;

pub use counters::Counters;
pub use key::{Peer, Protocol, Reporter, Security, SeriesKey, ServiceLabels};
pub use series::Series;

use parking_lot::Mutex;
use series::Cells;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Different label sets that one proxy keeps.
pub const MAX_SERIES: usize = 2_000;

/// What is counted by the process as a whole; any thread may write it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Requests that were counted under a series or outcome that stands for several.
    pub(crate) overflowed: AtomicU64,
}

/// All metrics of one data plane: workers get their share of it, scrapes read it.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
    started: SystemTime,
    /// Labels of the process itself, on `weft_build_info`.
    info: Vec<(&'static str, String)>,
    config: Mutex<Config>,
    workers: Mutex<Vec<Arc<WorkerCells>>>,
    keys: Mutex<HashSet<Arc<SeriesKey>>>,
    extras: Mutex<Vec<Extra>>,
}

#[derive(Debug, Default)]
struct Config {
    number: u64,
    applied: Option<SystemTime>,
    rejected: u64,
}

/// A number that somebody else keeps.
struct Extra {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl std::fmt::Debug for Extra {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extra").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// As Prometheus says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

#[derive(Debug, Default)]
struct WorkerCells {
    counters: Counters,
    series: Mutex<Vec<(Arc<SeriesKey>, Arc<Cells>)>>,
}

impl Metrics {
    /// `info` labels `weft_build_info`: role, node, version.
    pub fn new(info: Vec<(&'static str, String)>) -> Arc<Metrics> {
        Arc::new(Metrics {
            shared: Arc::default(),
            started: SystemTime::now(),
            info,
            config: Mutex::default(),
            workers: Mutex::default(),
            keys: Mutex::default(),
            extras: Mutex::default(),
        })
    }

    /// One worker's share; call it on the worker's own thread.
    pub fn worker(self: &Arc<Self>) -> WorkerMetrics {
        let cells = Arc::<WorkerCells>::default();
        self.workers.lock().push(cells.clone());
        WorkerMetrics { metrics: self.clone(), cells, known: RefCell::default() }
    }

    /// A snapshot of this number went into service now.
    pub fn config_applied(&self, number: u64, now: SystemTime) {
        let mut config = self.config.lock();
        config.number = number;
        config.applied = Some(now);
    }

    /// Resources that were refused, since the last call.
    pub fn config_rejected(&self, resources: u64) {
        self.config.lock().rejected += resources;
    }

    /// A number that is read at every scrape. Counters' names end in `_total`.
    pub fn extra(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        self.extras.lock().push(Extra { name, help, kind, read: Box::new(read) });
    }

    /// All of it, in Prometheus' text format 0.0.4.
    pub fn exposition(&self, now: SystemTime) -> String {
        exposition::render(self, now)
    }

    /// Without histograms' buckets, one `name: value` a line, as Envoy's `/stats`.
    pub fn stats(&self, now: SystemTime) -> Vec<(String, String)> {
        exposition::flat(&self.exposition(now))
    }

    /// How long this data plane has been there.
    pub fn uptime(&self, now: SystemTime) -> Duration {
        now.duration_since(self.started).unwrap_or_default()
    }

    fn started_seconds(&self) -> f64 {
        self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }

    /// The key itself while there is room, else the one that takes in the rest.
    fn admit(&self, key: &SeriesKey) -> Arc<SeriesKey> {
        let mut keys = self.keys.lock();
        if let Some(known) = keys.get(key) {
            return known.clone();
        }
        if keys.len() >= MAX_SERIES {
            return Arc::new(SeriesKey::overflow(key.reporter, key.protocol));
        }
        let key = Arc::new(key.clone());
        keys.insert(key.clone());
        key
    }

    /// Every worker's numbers, added up.
    fn totals(&self) -> BTreeMap<Arc<SeriesKey>, exposition::Totals> {
        let mut totals: BTreeMap<_, exposition::Totals> = BTreeMap::new();
        for worker in self.workers.lock().iter() {
            for (key, cells) in worker.series.lock().iter() {
                totals.entry(key.clone()).or_default().add(cells);
            }
        }
        totals
    }

    fn sum(&self, read: impl Fn(&Counters) -> u64) -> u64 {
        self.workers.lock().iter().map(|worker| read(&worker.counters)).sum()
    }
}

/// One worker's numbers. It stays on its thread: each number has one writer.
#[derive(Debug)]
pub struct WorkerMetrics {
    metrics: Arc<Metrics>,
    cells: Arc<WorkerCells>,
    known: RefCell<HashMap<SeriesKey, Series>>,
}

impl WorkerMetrics {
    /// The series of these labels. Hashes and may lock: ask once per endpoint or listener, and keep it.
    pub fn series(&self, key: &SeriesKey) -> Series {
        if let Some(series) = self.known.borrow().get(key) {
            return series.clone();
        }
        let admitted = self.metrics.admit(key);
        if *admitted != *key {
            self.metrics.shared.overflowed.fetch_add(1, Ordering::Relaxed);
            if let Some(series) = self.known.borrow().get(&*admitted) {
                return series.clone();
            }
        }
        let cells = Arc::new(Cells::new(series::usual(&admitted)));
        self.cells.series.lock().push((admitted.clone(), cells.clone()));
        let series = Series::new(cells, self.metrics.shared.clone());
        self.known.borrow_mut().insert(SeriesKey::clone(&admitted), series.clone());
        series
    }

    pub fn counters(&self) -> &Counters {
        &self.cells.counters
    }

    /// For whoever makes this worker's connections to endpoints.
    pub fn connection_counter(&self) -> ConnectionCounter {
        ConnectionCounter { cells: self.cells.clone(), _here: PhantomData }
    }
}

/// Counts one worker's connections to endpoints. It stays on its thread: each number has one writer.
#[derive(Clone, Debug)]
pub struct ConnectionCounter {
    cells: Arc<WorkerCells>,
    _here: PhantomData<Rc<()>>,
}

/// An open connection, counted until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(ConnectionCounter);

impl ConnectionCounter {
    pub fn opened(&self) -> OpenConnection {
        self.cells.counters.upstream_connections.up();
        OpenConnection(self.clone())
    }

    /// A connection could not be made.
    pub fn failed(&self) {
        self.cells.counters.upstream_connect_failures.one();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.cells.counters.upstream_connections.down();
    }
}
