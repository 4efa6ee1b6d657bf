//! What was promised, kept by naive book-keeping.

use std::time::{Duration, Instant};
use weft_model::breaker::{RetryBudget, RetryLimit, ShareOf, Thresholds};
use weft_model::outlier::OutlierDetection;
use weft_policy::breaker::Gauges;
use weft_policy::outlier::{Decision, Event};

/// The ejections of one host.
#[derive(Clone, Copy, Default)]
struct Host {
    ejected: Option<(Instant, Duration)>,
    backoff: u32,
    returned: Option<Instant>,
    number: u32,
}

/// Ejections as the formulas have them.
pub(crate) struct Ejections(Vec<Host>);

impl Ejections {
    pub(crate) fn new(hosts: usize) -> Self {
        Ejections(vec![Host::default(); hosts])
    }

    /// To be told before the detector sweeps: who behaves is forgiven one step.
    pub(crate) fn before_sweep(&mut self, policy: &OutlierDetection, now: Instant) {
        for host in &mut self.0 {
            let behaved = host.returned.is_some_and(|returned| now - returned >= policy.interval);
            if host.ejected.is_none() && behaved {
                host.backoff = host.backoff.saturating_sub(1);
            }
        }
    }

    /// Whoever served their time must have returned with this sweep.
    pub(crate) fn after_sweep(&self, now: Instant) {
        for (at, length) in self.0.iter().filter_map(|host| host.ejected) {
            assert!(at + length > now, "an ejection of {length:?} outlasts the sweep {:?} later", now - at);
        }
    }

    pub(crate) fn check(&mut self, policy: &OutlierDetection, event: &Event, now: Instant) {
        let (total, before) = (self.0.len(), self.count());
        let host = &mut self.0[event.host];
        let allowed =
            (total * policy.max_ejection_percent as usize / 100).max(usize::from(policy.always_eject_one_host));
        match event.decision {
            Decision::Ejected { length, number } => {
                assert_eq!(host.ejected, None, "ejected twice");
                assert!(before < allowed, "{before} of {total} are ejected already, {allowed} may be");
                assert!(!policy.keep_one_host || before + 1 < total, "the last host was ejected");
                if policy.base_ejection_time * host.backoff < policy.max_ejection_time + policy.base_ejection_time {
                    host.backoff += 1;
                }
                host.number += 1;
                let time = (policy.base_ejection_time * host.backoff).min(policy.max_ejection_time);
                assert!(time <= length && length <= time + policy.max_ejection_time_jitter, "{length:?} for {time:?}");
                assert_eq!(number, host.number);
                host.ejected = Some((now, length));
            }
            Decision::Returned { after, .. } => {
                let (at, length) = host.ejected.take().expect("only who was ejected returns");
                assert_eq!(after, now - at);
                assert!(after >= length, "back after {after:?} of {length:?}");
                host.returned = Some(now);
            }
            Decision::Overflow { ejected, of, .. } => {
                assert_eq!((ejected, of), (before, total));
                assert!(before >= allowed, "there was room for one more");
            }
            Decision::LastHost { of } => assert_eq!((of, before + 1), (total, total)),
            Decision::NotEnforced { enforcing } => assert!(enforcing < 100),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().filter(|host| host.ejected.is_some()).count()
    }
}

/// When tries and retries began.
pub(crate) struct Ledger {
    epoch: Instant,
    begun: Vec<Instant>,
    retries: Vec<Instant>,
}

impl Ledger {
    pub(crate) fn new(epoch: Instant) -> Self {
        Ledger { epoch, begun: Vec::new(), retries: Vec::new() }
    }

    pub(crate) fn began(&mut self, now: Instant) {
        self.begun.push(now);
    }

    /// A retry was allowed, when that much (itself included), of it so many first tries, was in flight.
    pub(crate) fn retried(&mut self, limit: RetryLimit, gauges: Gauges, first_tries: usize, now: Instant) {
        self.retries.push(now);
        match limit {
            RetryLimit::Concurrent(limit) => assert!(gauges.retries <= limit),
            RetryLimit::Budget(budget) => {
                let (spent, of) = match budget.of {
                    ShareOf::FirstTries => (gauges.retries as usize, first_tries),
                    ShareOf::AllTries => (gauges.retries as usize, (gauges.active + gauges.pending) as usize),
                    ShareOf::BegunWithin(interval) => {
                        (self.within(&self.retries, interval, now), self.within(&self.begun, interval, now))
                    }
                };
                let RetryBudget { percent, min_concurrency, .. } = budget;
                let share = (percent * of as f64 / 100.0).max(f64::from(min_concurrency));
                assert!(spent as f64 <= share, "{spent} retries for {of} requests at {percent} %");
            }
        }
    }

    /// Within the sixteen slots of the interval that end with the present one.
    fn within(&self, times: &[Instant], interval: Duration, now: Instant) -> usize {
        let slot = |time: Instant| (time - self.epoch).as_nanos() / (interval / 16).as_nanos();
        times.iter().rev().take_while(|time| slot(**time) + 16 > slot(now)).count()
    }
}

pub(crate) fn within_limits(limits: &Thresholds, gauges: Gauges) {
    assert!(gauges.active <= limits.max_requests, "{gauges:?}");
    assert!(gauges.pending <= limits.max_pending_requests, "{gauges:?}");
    assert!(gauges.connections <= limits.max_connections, "{gauges:?}");
    assert_eq!(gauges.rq_open(), gauges.active == limits.max_requests);
}
