//! Asks endpoints whether they are well, apart from traffic, and tells those who pick.
//!
//! Without it a dead endpoint is found by requests, at their expense. What an answer means is [`weft_policy::health_check`]'s to
//! decide; here are the clock and the sockets, on the control thread, so that asking never holds up a request.
//!
//! Invariants: an endpoint has one task, which ends with the endpoint, its checks or the data plane; at most [`PROBES_AT_ONCE`]
//! probes are under way, each for no longer than its timeout; an endpoint is healthy when all of its checks say so.

mod grpc;
mod http;
mod probe;
mod tcp;

use crate::live::{Checked, ClusterState, Counts, EndpointId, Experience, LiveCluster, LiveEndpoint};
use crate::originate::Originator;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use ::http::uri::Authority;
use futures_util::future::join_all;
use parking_lot::Mutex;
use probe::{Finding, Prober};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use weft_model::Cluster;
use weft_policy::Dice;
use weft_policy::health_check::{CheckResult, Checker, next_delay};

/// Of all clusters. More wait for their turn, so that many endpoints that do not answer take no more sockets than these.
const PROBES_AT_ONCE: usize = 64;
/// How long a new configuration's first checks may keep a proxy from being ready.
pub(crate) const FIRST_ROUND: Duration = Duration::from_secs(10);
/// No check is repeated sooner.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// Checks what every newly applied configuration wants checked, until `ended`.
pub(crate) async fn run(shared: Arc<Shared>, mut applied: watch::Receiver<u64>, ended: CancellationToken) {
    let turns = Arc::new(Semaphore::new(PROBES_AT_ONCE));
    let mut rounds = Rounds { shared, turns, tasks: JoinSet::new(), running: HashMap::new() };
    loop {
        applied.borrow_and_update();
        rounds.follow();
        tokio::select! {
            () = ended.cancelled() => break,
            changed = applied.changed() => if changed.is_err() { break },
        }
    }
    rounds.tasks.shutdown().await;
}

/// Asks the gRPC health service behind `stream` once. Errors: what it says instead of SERVING, or why it says nothing.
pub(crate) async fn serving(stream: TcpStream, service: &str, authority: &Authority) -> Result<(), String> {
    let asked = async {
        let mut client = http::Client::open(stream.into(), true).await?;
        grpc::ask(&mut client, service, authority).await
    };
    match asked.await {
        Ok(answered) if answered.finding.result == CheckResult::Success => Ok(()),
        Ok(answered) => Err(answered.finding.to_string()),
        Err(probe::Broken(why)) => Err(why),
    }
}

/// Returns once no endpoint waits for its first check: those that are well serve from the first request on (Envoy's cluster
/// warming).
pub(crate) async fn first_round(shared: &Shared) {
    loop {
        let mut told = std::pin::pin!(shared.checked.notified());
        told.as_mut().enable();
        if awaited(&shared.snapshot.load()) == 0 {
            return;
        }
        told.await;
    }
}

/// How many endpoints wait for their first check.
pub(crate) fn awaited(snapshot: &Snapshot) -> usize {
    let checked = snapshot.clusters.values().filter(|cluster| !cluster.spec.health_checks.is_empty());
    let endpoints = checked.flat_map(|cluster| cluster.endpoints.iter());
    endpoints.filter(|endpoint| endpoint.experience.checked() == Checked::Awaited).count()
}

/// All endpoints under health checks.
struct Rounds {
    shared: Arc<Shared>,
    turns: Arc<Semaphore>,
    tasks: JoinSet<()>,
    running: HashMap<EndpointId, Running>,
}

/// The task of one endpoint.
struct Running {
    /// As it was when the task began.
    cluster: Arc<Cluster>,
    experience: Arc<Experience>,
    task: AbortHandle,
}

impl Rounds {
    /// Ends the tasks that the newest snapshot has no use for, and begins those that it lacks.
    fn follow(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let snapshot = self.shared.snapshot.load_full();
        let checked = snapshot.clusters.values().filter(|cluster| !cluster.spec.health_checks.is_empty());
        let wanted: HashMap<EndpointId, (&LiveCluster, &LiveEndpoint)> = checked
            .flat_map(|cluster| cluster.endpoints.iter().map(move |one| (one.id, (&**cluster, &**one))))
            .collect();
        self.running.retain(|id, running| {
            let wanted = wanted.get(id);
            let stays = wanted.is_some_and(|(cluster, _)| running.asks_as(&cluster.spec));
            if !stays {
                running.task.abort();
            }
            if wanted.is_none() {
                running.experience.check(Checked::Unknown);
            }
            stays
        });
        for (id, (cluster, endpoint)) in wanted {
            let Entry::Vacant(vacant) = self.running.entry(id) else { continue };
            let patient = Patient::new(cluster, endpoint, &self.shared, &self.turns);
            let (cluster, experience) = (cluster.spec.clone(), endpoint.experience.clone());
            vacant.insert(Running { cluster, experience, task: self.tasks.spawn(patient.attend()) });
        }
    }
}

impl Running {
    fn asks_as(&self, cluster: &Arc<Cluster>) -> bool {
        let same = Arc::ptr_eq(&self.cluster, cluster)
            || (self.cluster.health_checks == cluster.health_checks
                && self.cluster.connect_timeout == cluster.connect_timeout);
        same && !self.task.is_finished()
    }
}

/// One endpoint, asked in every way that its cluster wants.
struct Patient {
    id: EndpointId,
    address: SocketAddr,
    cluster: Arc<Cluster>,
    /// Of the cluster. With another one its endpoints are others.
    tls: Option<Arc<Originator>>,
    experience: Arc<Experience>,
    state: Arc<ClusterState>,
    shared: Arc<Shared>,
    turns: Arc<Semaphore>,
    /// One for each check of the cluster.
    checkers: Mutex<Vec<Checker>>,
}

impl Patient {
    fn new(cluster: &LiveCluster, endpoint: &LiveEndpoint, shared: &Arc<Shared>, turns: &Arc<Semaphore>) -> Patient {
        let checker = match endpoint.experience.checked() {
            Checked::Unknown | Checked::Healthy => Checker::trusted(),
            Checked::Awaited | Checked::Unhealthy => Checker::default(),
        };
        Patient {
            id: endpoint.id,
            address: endpoint.address,
            cluster: cluster.spec.clone(),
            tls: cluster.tls.clone(),
            experience: endpoint.experience.clone(),
            state: cluster.state.clone(),
            shared: shared.clone(),
            turns: turns.clone(),
            checkers: Mutex::new(vec![checker; cluster.spec.health_checks.len()]),
        }
    }

    /// Repeats all checks, each at its own interval, until the task is aborted.
    async fn attend(self) {
        join_all((0..self.cluster.health_checks.len()).map(|number| self.repeat(number))).await;
    }

    async fn repeat(&self, number: usize) {
        let check = &self.cluster.health_checks[number];
        let mut dice = Dice::new(fastrand::u64(..));
        let mut prober = Prober::new(&self.cluster, self.tls.as_deref(), check, self.address);
        loop {
            // Nobody closes the semaphore.
            let Ok(turn) = self.turns.acquire().await else { return };
            let finding = prober.ask().await;
            drop(turn);
            self.learn(number, &finding);
            let delay = next_delay(check, self.state.was_called(), &mut dice);
            tokio::time::sleep(delay.max(SHORTEST_DELAY)).await;
        }
    }

    /// Learns from one probe, and tells of what it changes.
    fn learn(&self, number: usize, finding: &Finding) {
        self.count(finding);
        let is_healthy = self.judge(number, finding.result);
        match (is_healthy, finding.result) {
            (true, CheckResult::Success) => {
                self.tell(Checked::Healthy, finding);
                self.restore();
            }
            (false, CheckResult::Failure | CheckResult::Unwell) => self.tell(Checked::Unhealthy, finding),
            // Not enough of either to change anything.
            (true, CheckResult::Failure | CheckResult::Unwell) | (false, CheckResult::Success) => {}
        }
    }

    fn count(&self, finding: &Finding) {
        let counts = &self.state.counts.health_checks;
        Counts::one(&counts.attempt);
        match finding.result {
            CheckResult::Success => Counts::one(&counts.success),
            CheckResult::Failure | CheckResult::Unwell => Counts::one(&counts.failure),
        }
        if !finding.answered {
            Counts::one(&counts.network_failure);
        }
    }

    /// Whether all checks find it healthy now. What it said of itself in traffic counts for each of them.
    fn judge(&self, number: usize, result: CheckResult) -> bool {
        let checks = &self.cluster.health_checks;
        let mut checkers = self.checkers.lock();
        if self.experience.take_unwell() {
            Counts::one(&self.state.counts.health_checks.passive_failure);
            for (checker, check) in checkers.iter_mut().zip(checks) {
                checker.record(check, CheckResult::Unwell);
            }
        }
        checkers[number].record(&checks[number], result);
        checkers.iter().all(Checker::is_healthy)
    }

    fn tell(&self, found: Checked, finding: &Finding) {
        if self.experience.check(found) == found {
            return;
        }
        self.state.changed();
        self.shared.checked.notify_waiters();
        let (cluster, endpoint) = (&self.cluster.name, self.address.to_string());
        let what = match found {
            Checked::Healthy => format!("healthy by its health checks: {finding}"),
            _ => format!("unhealthy by its health checks: {finding}"),
        };
        match found {
            Checked::Healthy => tracing::info!(cluster, endpoint, "{what}"),
            _ => tracing::warn!(cluster, endpoint, "{what}"),
        }
        self.state.note(&endpoint, what);
    }

    /// Outlier detection takes a host back that passes, if its policy says so.
    fn restore(&self) {
        if !self.experience.monitor.is_ejected() {
            return;
        }
        let snapshot = self.shared.snapshot.load();
        let Some(cluster) = snapshot.clusters.get(&self.cluster.name) else { return };
        if let Some(place) = cluster.endpoints.iter().position(|endpoint| endpoint.id == self.id) {
            self.state.passed_check(cluster, place, Instant::now());
        }
    }
}
