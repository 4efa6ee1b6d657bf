//! One worker: a thread with its own runtime, sockets, connections and upstream pools.
//!
//! A connection that a worker accepted stays with it, and so does everything that the connection's
//! requests touch. Nothing here is shared with other threads but the snapshot, which only changes by a
//! swap, and the counters, which are written by their worker alone.

use crate::connection::{self, Connection, FAREWELL};
use crate::live::{EndpointId, LiveCluster, LiveEndpoint};
use crate::recorder::Recorder;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::table::LiveTable;
use crate::upstream::Pool;
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weft_model::node::Role;
use weft_policy::Dice;

/// How often connections and streams are looked at for timeouts that need no more precision than this.
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// How long a failing accept (too many open files) is left alone.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Addresses that pass-through remembers connections for.
const MAX_PASSTHROUGH: usize = 1024;

/// What a worker is told from outside.
pub(crate) enum Command {
    /// Accept on this socket, for the listener of this name.
    Listen { name: String, socket: std::net::TcpListener },
    /// The listener is gone: stop accepting and let its connections finish.
    Unlisten { name: String },
    /// There is a new snapshot.
    Refresh,
    /// A request of another worker waits for a connection to this cluster: close one that nobody uses.
    Yield { cluster: String },
    /// Stop accepting and let all connections finish; end when they have.
    Drain,
}

/// The state of one worker thread.
pub(crate) struct Worker {
    pub(crate) number: usize,
    /// The others, and this one.
    fleet: Vec<mpsc::WeakUnboundedSender<Command>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) dice: RefCell<Dice>,
    pub(crate) telemetry: Recorder,
    current: RefCell<View>,
    endpoints: RefCell<HashMap<EndpointId, Rc<WorkerEndpoint>, BuildHasherDefault<IdHasher>>>,
    passthrough: RefCell<HashMap<(usize, SocketAddr), Rc<WorkerEndpoint>>>,
    connections: RefCell<Vec<Weak<Connection>>>,
    listening: RefCell<BTreeMap<String, CancellationToken>>,
    /// Connections being served.
    open: Cell<usize>,
    draining: Cell<bool>,
    wake_sweeper: tokio::sync::Notify,
    emptied: tokio::sync::Notify,
}

/// The snapshot that this worker serves from, with its tables held without atomics.
struct View {
    newest: arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    /// The snapshot that `tables` are of.
    number: u64,
    tables: HashMap<String, Rc<LocalTable>>,
}

/// A worker's own hold on a table: its requests share it without touching a counter that other threads touch.
pub(crate) struct LocalTable(Arc<LiveTable>);

impl std::ops::Deref for LocalTable {
    type Target = LiveTable;

    fn deref(&self) -> &LiveTable {
        &self.0
    }
}

/// One worker's connections to one endpoint.
pub(crate) struct WorkerEndpoint {
    pub(crate) endpoint: Arc<LiveEndpoint>,
    pub(crate) cluster: RefCell<Arc<LiveCluster>>,
    pub(crate) pool: Pool,
    pub(crate) series: crate::recorder::EndpointSeries,
}

/// Endpoint ids count up: they are their own hash.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        // Spread over the high bits too, which the map uses.
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A worker's place among the others.
pub(crate) struct Place {
    pub(crate) number: usize,
    /// Weak: a worker ends when nobody else commands it any more.
    pub(crate) fleet: Vec<mpsc::WeakUnboundedSender<Command>>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
}

/// Runs a worker on this thread until it has drained.
pub(crate) fn run(shared: Arc<Shared>, seed: u64, place: Place) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async move {
        let Place { number, fleet, commands } = place;
        let worker = Rc::new(Worker::new(shared, seed, number, fleet));
        worker.clone().obey(commands).await;
    });
    Ok(())
}

impl Worker {
    fn new(shared: Arc<Shared>, seed: u64, number: usize, fleet: Vec<mpsc::WeakUnboundedSender<Command>>) -> Worker {
        let newest = arc_swap::Cache::new(shared.snapshot.clone());
        Worker {
            number,
            fleet,
            telemetry: Recorder::new(&shared),
            dice: RefCell::new(Dice::new(seed)),
            current: RefCell::new(View { newest, number: 0, tables: HashMap::new() }),
            shared,
            endpoints: RefCell::default(),
            passthrough: RefCell::default(),
            connections: RefCell::default(),
            listening: RefCell::default(),
            open: Cell::new(0),
            draining: Cell::new(false),
            wake_sweeper: tokio::sync::Notify::new(),
            emptied: tokio::sync::Notify::new(),
        }
    }

    async fn obey(self: Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        let sweeper = tokio::task::spawn_local(self.clone().sweep());
        let flusher = tokio::task::spawn_local(self.clone().flush());
        while let Some(command) = commands.recv().await {
            match command {
                Command::Listen { name, socket } => self.listen(name, socket),
                Command::Unlisten { name } => self.unlisten(&name),
                Command::Refresh => self.refresh(),
                Command::Yield { cluster } => {
                    self.close_idle(&cluster);
                }
                Command::Drain => break,
            }
        }
        self.drain().await;
        sweeper.abort();
        flusher.abort();
        self.telemetry.flush();
    }

    fn listen(self: &Rc<Self>, name: String, socket: std::net::TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, listener = name, "a listening socket cannot be used"),
        };
        let stop = CancellationToken::new();
        self.listening.borrow_mut().insert(name.clone(), stop.clone());
        tokio::task::spawn_local(self.clone().accept(name, listener, stop));
    }

    fn unlisten(&self, name: &str) {
        if let Some(stop) = self.listening.borrow_mut().remove(name) {
            stop.cancel();
        }
        for connection in self.connections.borrow().iter().filter_map(Weak::upgrade) {
            if connection.listener.spec.name == name {
                connection.drain();
            }
        }
    }

    async fn accept(self: Rc<Self>, name: String, listener: tokio::net::TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(&name, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, listener = name, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Those that the kernel has accepted already would be reset by closing the socket.
        while let Some(Ok((stream, peer))) = futures_util::FutureExt::now_or_never(listener.accept()) {
            self.serve(&name, stream, peer);
        }
    }

    fn serve(self: &Rc<Self>, listener: &str, stream: tokio::net::TcpStream, peer: SocketAddr) {
        let Some(live) = self.snapshot().listeners.get(listener).cloned() else { return };
        tokio::task::spawn_local(connection::serve(self.clone(), live, stream, peer));
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.borrow_mut().newest.load().clone()
    }

    /// The newest snapshot's number.
    pub(crate) fn number(&self) -> u64 {
        self.current.borrow_mut().newest.load().number
    }

    /// The table of that name in the newest snapshot.
    pub(crate) fn table(&self, name: &str) -> Option<Rc<LocalTable>> {
        let View { newest, number, tables } = &mut *self.current.borrow_mut();
        let snapshot = newest.load();
        if *number != snapshot.number {
            *number = snapshot.number;
            tables.clear();
        }
        if let Some(table) = tables.get(name) {
            return Some(table.clone());
        }
        let table = Rc::new(LocalTable(snapshot.tables.get(name)?.clone()));
        tables.insert(name.to_owned(), table.clone());
        Some(table)
    }

    /// This worker's connections to an endpoint of a cluster.
    pub(crate) fn endpoint(&self, cluster: &Arc<LiveCluster>, endpoint: &Arc<LiveEndpoint>) -> Rc<WorkerEndpoint> {
        let mut endpoints = self.endpoints.borrow_mut();
        let known =
            endpoints.entry(endpoint.id).or_insert_with(|| WorkerEndpoint::new(cluster, endpoint, &self.telemetry));
        known.clone()
    }

    /// This worker's connections to an address that only the request, or its connection, names.
    pub(crate) fn passthrough(&self, cluster: &Arc<LiveCluster>, address: SocketAddr) -> Rc<WorkerEndpoint> {
        let mut known = self.passthrough.borrow_mut();
        // A cluster's state outlives its edits, and this map's entries keep it: its place is the cluster's identity.
        let key = (Arc::as_ptr(&cluster.state).addr(), address);
        if known.len() >= MAX_PASSTHROUGH && !known.contains_key(&key) {
            known.retain(|_, endpoint| Rc::strong_count(endpoint) > 1);
        }
        let made = known.entry(key).or_insert_with(|| {
            WorkerEndpoint::new(cluster, &Arc::new(LiveEndpoint::at(address, Instant::now())), &self.telemetry)
        });
        made.clone()
    }

    /// A request waits for a connection to this cluster, which may have no more than it has: one that nobody uses is closed.
    pub(crate) fn ask_for_connection(&self, cluster: &str) {
        if self.close_idle(cluster) {
            return;
        }
        let others = self.fleet.iter().enumerate().filter(|(number, _)| *number != self.number);
        for other in others.filter_map(|(_, other)| other.upgrade()) {
            // A worker that has ended has no connections.
            let _ = other.send(Command::Yield { cluster: cluster.to_owned() });
        }
    }

    fn close_idle(&self, cluster: &str) -> bool {
        let endpoints = self.endpoints.borrow();
        let of_cluster = |known: &&Rc<WorkerEndpoint>| known.cluster.borrow().spec.name == cluster;
        endpoints.values().filter(of_cluster).any(|known| known.pool.close_idle())
    }

    /// Lets go of what the newest snapshot no longer has.
    fn refresh(&self) {
        let snapshot = self.snapshot();
        let alive: HashMap<EndpointId, (&Arc<LiveCluster>, &Arc<LiveEndpoint>)> = snapshot
            .clusters
            .values()
            .flat_map(|cluster| cluster.endpoints.iter().map(move |endpoint| (endpoint.id, (cluster, endpoint))))
            .collect();
        self.endpoints.borrow_mut().retain(|id, known| match alive.get(id) {
            None => false,
            Some((cluster, endpoint)) => {
                known.cluster.replace(Arc::clone(cluster));
                // Another workload behind the same address has series of its own; its connections are closed too.
                known.endpoint.workload == endpoint.workload
            }
        });
        self.passthrough.borrow_mut().retain(|_, known| {
            let mut cluster = known.cluster.borrow_mut();
            let newest = snapshot.clusters.get(&cluster.spec.name);
            let same = newest.filter(|newest| Arc::ptr_eq(&newest.state, &cluster.state));
            same.is_some_and(|newest| {
                *cluster = newest.clone();
                true
            })
        });
    }

    pub(crate) fn register(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut().push(Rc::downgrade(connection));
        self.wake_sweeper.notify_one();
        if self.draining.get() {
            connection.drain();
        }
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn opened(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        self.telemetry.counters().downstream_connections.up();
        Open(self.clone())
    }

    /// Looks at every connection now and then, so that none needs a timer of its own.
    async fn sweep(self: Rc<Self>) {
        loop {
            if self.connections.borrow().is_empty()
                && self.endpoints.borrow().is_empty()
                && self.passthrough.borrow().is_empty()
            {
                self.wake_sweeper.notified().await;
            }
            tokio::time::sleep(SWEEP_EVERY).await;
            let now = Instant::now();
            self.connections.borrow_mut().retain(|connection| match connection.upgrade() {
                Some(connection) => {
                    connection.sweep(now);
                    true
                }
                None => false,
            });
            for known in self.endpoints.borrow().values().chain(self.passthrough.borrow().values()) {
                known.pool.sweep(&known.cluster.borrow(), now);
            }
        }
    }

    async fn flush(self: Rc<Self>) {
        self.telemetry.keep_flushing().await;
    }

    async fn drain(self: &Rc<Self>) {
        self.draining.set(true);
        for connection in self.connections.borrow().iter().filter_map(Weak::upgrade) {
            connection.drain();
        }
        let deadline = tokio::time::Instant::now() + self.shared.settings.drain;
        if self.shared.settings.node.role == Role::Sidecar {
            // Callers do not know yet that this endpoint goes. A connection that they open in this moment would be
            // reset by closing the socket under it.
            tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + FAREWELL)).await;
        }
        for (_, stop) in std::mem::take(&mut *self.listening.borrow_mut()) {
            stop.cancel();
        }
        // The accept loops take what the kernel has queued, in their next turn.
        tokio::task::yield_now().await;
        while self.open.get() > 0 {
            tokio::select! {
                () = self.emptied.notified() => {}
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!(connections = self.open.get(), "the drain time is over; what is left is cut");
                    break;
                }
            }
        }
    }
}

impl WorkerEndpoint {
    fn new(cluster: &Arc<LiveCluster>, endpoint: &Arc<LiveEndpoint>, recorder: &Recorder) -> Rc<WorkerEndpoint> {
        Rc::new(WorkerEndpoint {
            endpoint: endpoint.clone(),
            cluster: RefCell::new(cluster.clone()),
            pool: Pool::new(recorder.connection_counter()),
            series: Default::default(),
        })
    }
}

/// An open connection, for the drain to wait for.
pub(crate) struct Open(Rc<Worker>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.telemetry.counters().downstream_connections.down();
        if self.0.open.get() == 0 {
            self.0.emptied.notify_one();
        }
    }
}
