//! What outlives every edit of a cluster: who is ejected and why, who waits for a connection, what happened lately.

use super::{LiveCluster, Queue};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use weft_model::Cluster;
use weft_policy::Dice;
use weft_policy::outlier::{Cause, Decision, Detector, Event, Monitor};

/// So many happenings are kept for whoever asks later.
const MAX_HAPPENINGS: usize = 64;

/// The live part of a cluster, over all of its versions and all workers.
#[derive(Debug)]
pub(crate) struct ClusterState {
    /// Requests that wait for a connection.
    pub(crate) queue: Queue,
    /// Counts changes of who may be picked that no configuration made.
    generation: AtomicU64,
    detector: Mutex<Option<Detector>>,
    /// When hosts are judged next.
    due: Mutex<Instant>,
    happenings: Mutex<VecDeque<Happening>>,
    /// When an ejection that was not done was last told.
    refusal_told: Mutex<Option<Instant>>,
    pub(crate) counts: Counts,
    /// Somebody ever called.
    traffic: AtomicBool,
}

/// Counters, named as Envoy's.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ejections_enforced_total: AtomicU64,
    pub(crate) ejections_overflow: AtomicU64,
    pub(crate) upstream_rq_retry: AtomicU64,
    pub(crate) upstream_rq_retry_success: AtomicU64,
    pub(crate) upstream_rq_retry_limit_exceeded: AtomicU64,
    pub(crate) upstream_rq_timeout: AtomicU64,
    pub(crate) upstream_rq_per_try_timeout: AtomicU64,
    pub(crate) upstream_rq_per_try_idle_timeout: AtomicU64,
    pub(crate) health_checks: HealthCheckCounts,
}

/// Of active health checks, as Envoy's below `health_check.`.
#[derive(Debug, Default)]
pub(crate) struct HealthCheckCounts {
    pub(crate) attempt: AtomicU64,
    pub(crate) success: AtomicU64,
    pub(crate) failure: AtomicU64,
    /// Of the failures those without an answer.
    pub(crate) network_failure: AtomicU64,
    /// Endpoints that said in traffic that they are not well.
    pub(crate) passive_failure: AtomicU64,
}

impl Counts {
    pub(crate) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Something about one endpoint that a person may ask for.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub(crate) at: SystemTime,
    pub(crate) endpoint: String,
    /// What, why, with which numbers, until when.
    pub(crate) what: String,
}

impl ClusterState {
    pub(crate) fn new(spec: &Cluster, now: Instant) -> ClusterState {
        let interval = spec.outlier.as_ref().map_or(Duration::ZERO, |policy| policy.interval);
        ClusterState {
            queue: Queue::default(),
            generation: AtomicU64::new(0),
            detector: Mutex::new(spec.outlier.clone().map(Detector::new)),
            due: Mutex::new(now + interval),
            happenings: Mutex::default(),
            refusal_told: Mutex::default(),
            counts: Counts::default(),
            traffic: AtomicBool::new(false),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whoever picks must look again at who may be picked.
    pub(crate) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// A request goes to the cluster.
    pub(crate) fn called(&self) {
        if !self.traffic.load(Ordering::Relaxed) {
            self.traffic.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a request ever went to the cluster.
    pub(crate) fn was_called(&self) -> bool {
        self.traffic.load(Ordering::Relaxed)
    }

    /// The cluster's outlier detection was edited, added or taken away.
    pub(crate) fn set_outlier_policy(&self, cluster: &LiveCluster, now: Instant) {
        let mut detector = self.detector.lock();
        let events = match (detector.take(), &cluster.spec.outlier) {
            (None, policy) => {
                *detector = policy.clone().map(Detector::new);
                Vec::new()
            }
            (Some(mut known), Some(policy)) => {
                known.update(policy.clone());
                *detector = Some(known);
                Vec::new()
            }
            (Some(known), None) => known.release(cluster.monitors(), now),
        };
        drop(detector);
        if let Some(policy) = &cluster.spec.outlier {
            let mut due = self.due.lock();
            *due = (*due).min(now + policy.interval);
        }
        self.note_all(cluster, events);
    }

    /// One endpoint is taken for an outlier.
    pub(crate) fn trip(&self, cluster: &LiveCluster, place: usize, cause: Cause, now: Instant, dice: &mut Dice) {
        let decided = self
            .detector
            .lock()
            .as_mut()
            .and_then(|detector| detector.trip(cluster.monitors(), place, cause, now, dice));
        self.note_all(cluster, decided);
    }

    /// An endpoint passed an active health check.
    pub(crate) fn passed_check(&self, cluster: &LiveCluster, place: usize, now: Instant) {
        let decided =
            self.detector.lock().as_mut().and_then(|detector| detector.restore(cluster.monitors(), place, now));
        self.note_all(cluster, decided);
    }

    /// Judges the hosts if it is time to; when that will be next. `None`: the cluster has no such policy.
    pub(crate) fn sweep(&self, cluster: &LiveCluster, now: Instant, dice: &mut Dice) -> Option<Instant> {
        let interval = cluster.spec.outlier.as_ref()?.interval.max(Duration::from_millis(1));
        let mut due = self.due.lock();
        if *due > now {
            return Some(*due);
        }
        let events = self.detector.lock().as_mut().map(|detector| detector.sweep(cluster.monitors(), now, dice));
        *due = now + interval;
        let next = *due;
        drop(due);
        self.note_all(cluster, events.into_iter().flatten());
        Some(next)
    }

    /// When an ejected endpoint returns at the earliest: at the first sweep after its ejection is over.
    pub(crate) fn returns_at(&self, cluster: &LiveCluster, monitor: &Monitor) -> Option<Instant> {
        let interval = cluster.spec.outlier.as_ref()?.interval.max(Duration::from_millis(1));
        let over = self.detector.lock().as_ref()?.ejected_until(monitor)?;
        let sweep = *self.due.lock();
        let sweeps = over.saturating_duration_since(sweep).as_nanos().div_ceil(interval.as_nanos());
        sweep.checked_add(interval.saturating_mul(u32::try_from(sweeps).unwrap_or(u32::MAX)))
    }

    /// The newest last.
    pub(crate) fn happenings(&self) -> Vec<Happening> {
        self.happenings.lock().iter().cloned().collect()
    }

    pub(crate) fn note(&self, endpoint: &str, what: String) {
        let mut happenings = self.happenings.lock();
        if happenings.len() == MAX_HAPPENINGS {
            happenings.pop_front();
        }
        happenings.push_back(Happening { at: SystemTime::now(), endpoint: endpoint.to_owned(), what });
    }

    /// Of ejections that are not done one is told in each interval: while there is no room, every few failures are another.
    fn tells_refusal(&self, cluster: &LiveCluster) -> bool {
        let interval = cluster.spec.outlier.as_ref().map_or(Duration::ZERO, |policy| policy.interval);
        let (mut last, now) = (self.refusal_told.lock(), Instant::now());
        let tells = last.is_none_or(|last| now.saturating_duration_since(last) >= interval);
        if tells {
            *last = Some(now);
        }
        tells
    }

    fn note_all(&self, cluster: &LiveCluster, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let endpoint = cluster.endpoints.get(event.host).map(|endpoint| endpoint.address.to_string());
            let endpoint = endpoint.unwrap_or_default();
            match event.decision {
                Decision::Ejected { .. } => {
                    Counts::one(&self.counts.ejections_enforced_total);
                    self.changed();
                    tracing::warn!(cluster = cluster.spec.name, endpoint, "{event}");
                }
                Decision::Returned { .. } => {
                    self.changed();
                    tracing::info!(cluster = cluster.spec.name, endpoint, "{event}");
                }
                Decision::Overflow { .. } | Decision::LastHost { .. } => {
                    Counts::one(&self.counts.ejections_overflow);
                    if !self.tells_refusal(cluster) {
                        continue;
                    }
                    tracing::warn!(cluster = cluster.spec.name, endpoint, "{event}");
                }
                Decision::NotEnforced { .. } => {
                    tracing::debug!(cluster = cluster.spec.name, endpoint, "{event}");
                    continue;
                }
            }
            self.note(&endpoint, event.to_string());
        }
    }
}
