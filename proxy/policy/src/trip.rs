//! A breaker around one endpoint, for failures in a row or in the mass: it opens for a penalty and then lets exactly one request
//! probe, so that an endpoint that is still broken costs one request per penalty instead of a share of all traffic. Failure
//! accrual as Linkerd's.
//!
//! The state is one atomic word, shared by all workers: closed, open until some time, or probing. Whoever wins the exchange of
//! that word decides; only the holder of the [`Probe`] leads out of probing, and losing it re-opens the way for the next.

#[cfg(test)]
mod tests;

use crate::Dice;
use crate::window::Window;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weft_model::breaker::{Trip, TripOn};

/// The breaker of one endpoint. A changed policy makes a new one, which is closed.
#[derive(Debug)]
pub struct EndpointBreaker {
    policy: Trip,
    epoch: Instant,
    state: AtomicU64,
    failures_in_a_row: AtomicU32,
    /// Since it was last closed.
    openings: AtomicU32,
    /// For [`TripOn::SuccessRate`].
    lately: Option<Lately>,
}

impl EndpointBreaker {
    /// Closed. `epoch` is any time that is not after the first request.
    pub fn new(policy: Trip, epoch: Instant) -> Self {
        let lately = match policy.on {
            TripOn::Consecutive { .. } => None,
            TripOn::SuccessRate { window, .. } => {
                Some(Lately { all: Window::new(window, epoch), failed: Window::new(window, epoch) })
            }
        };
        EndpointBreaker {
            policy,
            epoch,
            state: AtomicU64::new(State::Closed.pack()),
            failures_in_a_row: AtomicU32::new(0),
            openings: AtomicU32::new(0),
            lately,
        }
    }

    pub fn policy(&self) -> &Trip {
        &self.policy
    }

    /// What [`admit`](Self::admit) would find; asking changes nothing.
    pub fn condition(&self, now: Instant) -> Condition {
        match State::unpack(self.state.load(Ordering::Acquire)) {
            State::Closed => Condition::Closed,
            State::Open { until_us } if self.micros(now) < until_us => Condition::Open { until: self.at(until_us) },
            State::Open { .. } | State::Probing { .. } => Condition::HalfOpen,
        }
    }

    /// Whether a request may go to the endpoint.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Admission {
        let word = self.state.load(Ordering::Acquire);
        match State::unpack(word) {
            State::Closed => Admission::Closed,
            State::Probing { .. } => Admission::Refuse { until: None },
            State::Open { until_us } if self.micros(now) < until_us => {
                Admission::Refuse { until: Some(self.at(until_us)) }
            }
            State::Open { until_us } => {
                let probing = State::Probing { since_us: until_us }.pack();
                match self.state.compare_exchange(word, probing, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => Admission::Probe(Probe { breaker: Arc::clone(self), since_us: until_us, settled: false }),
                    Err(_) => Admission::Refuse { until: None },
                }
            }
        }
    }

    /// Tells how a request ended that was admitted as [`Admission::Closed`]. If the breaker has opened meanwhile it is not heard.
    pub fn record(&self, success: bool, now: Instant, dice: &mut Dice) -> Option<Transition> {
        if self.state.load(Ordering::Acquire) != State::Closed.pack() || !self.trips(success, now) {
            return None;
        }
        let number = self.openings.load(Ordering::Relaxed).saturating_add(1);
        let penalty = self.penalty(number, dice);
        let (closed, open) = (State::Closed.pack(), self.open_for(penalty, now).pack());
        self.state.compare_exchange(closed, open, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        self.openings.store(number, Ordering::Relaxed);
        Some(Transition::Opened { penalty, number })
    }

    fn trips(&self, success: bool, now: Instant) -> bool {
        match self.policy.on {
            TripOn::Consecutive { .. } if success => {
                if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
                    self.failures_in_a_row.store(0, Ordering::Relaxed);
                }
                false
            }
            TripOn::Consecutive { failures } => {
                self.failures_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= failures
            }
            TripOn::SuccessRate { threshold, min_requests, .. } => {
                self.lately.as_ref().is_some_and(|lately| lately.trips(success, threshold, min_requests, now))
            }
        }
    }

    /// min · 2^(n-1), at most max; up to `jitter` of itself longer.
    fn penalty(&self, number: u32, dice: &mut Dice) -> Duration {
        let doubled = self.policy.min_penalty.saturating_mul(2u32.saturating_pow(number.saturating_sub(1)));
        let penalty = doubled.min(self.policy.max_penalty);
        let jitter = penalty.as_secs_f64() * self.policy.jitter.clamp(0.0, 1.0) * dice.unit();
        penalty.saturating_add(Duration::try_from_secs_f64(jitter).unwrap_or(Duration::ZERO))
    }

    fn open_for(&self, penalty: Duration, now: Instant) -> State {
        let penalty_us = u64::try_from(penalty.as_micros()).unwrap_or(u64::MAX);
        State::Open { until_us: self.micros(now).saturating_add(penalty_us).min(State::LATEST_US) }
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_micros() as u64
    }

    fn at(&self, micros: u64) -> Instant {
        self.epoch + Duration::from_micros(micros)
    }
}

/// How the breaker stands, for whoever looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Closed,
    Open {
        until: Instant,
    },
    /// The penalty is over: the next request probes, or one does already.
    HalfOpen,
}

/// What a request may do.
#[derive(Debug)]
pub enum Admission {
    /// Go; tell [`EndpointBreaker::record`] how it ended.
    Closed,
    /// Go; this request alone decides, by [`Probe::settle`].
    Probe(Probe),
    /// Go elsewhere. `None`: until the probe that is under way has ended.
    Refuse { until: Option<Instant> },
}

/// The one request that a half-open breaker lets through. Dropped without a verdict, it leaves its place to the next.
#[derive(Debug)]
#[must_use = "dropping a probe leaves its place to the next request"]
pub struct Probe {
    breaker: Arc<EndpointBreaker>,
    since_us: u64,
    settled: bool,
}

impl Probe {
    /// A success closes the breaker, a failure opens it for twice as long.
    pub fn settle(mut self, success: bool, now: Instant, dice: &mut Dice) -> Transition {
        self.settled = true;
        let breaker = &self.breaker;
        if success {
            breaker.openings.store(0, Ordering::Relaxed);
            breaker.failures_in_a_row.store(0, Ordering::Relaxed);
            breaker.lately.iter().for_each(Lately::clear);
            breaker.state.store(State::Closed.pack(), Ordering::Release);
            return Transition::Closed;
        }
        let number = breaker.openings.load(Ordering::Relaxed).saturating_add(1);
        let penalty = breaker.penalty(number, dice);
        breaker.openings.store(number, Ordering::Relaxed);
        breaker.state.store(breaker.open_for(penalty, now).pack(), Ordering::Release);
        Transition::Opened { penalty, number }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.settled {
            self.breaker.state.store(State::Open { until_us: self.since_us }.pack(), Ordering::Release);
        }
    }
}

/// What a result led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// `number` counts the openings since it was last closed, from 1.
    Opened {
        penalty: Duration,
        number: u32,
    },
    Closed,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transition::Opened { penalty, number: 0 | 1 } => write!(f, "opened for {penalty:?}"),
            Transition::Opened { penalty, number: 2 } => write!(f, "opened for {penalty:?}: 1 probe failed"),
            Transition::Opened { penalty, number } => write!(f, "opened for {penalty:?}: {} probes failed", number - 1),
            Transition::Closed => f.write_str("closed: the probe succeeded"),
        }
    }
}

/// Whether an answer counts as a failure: any 5xx, or gRPC DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE,
/// DATA_LOSS; by the success rate also 429 and RESOURCE_EXHAUSTED. As Linkerd's.
pub fn is_failure(on: &TripOn, status: u16, grpc_status: Option<u16>) -> bool {
    let throttling_counts = matches!(on, TripOn::SuccessRate { .. });
    match (status, grpc_status) {
        (500..=599, _) | (_, Some(4 | 7 | 13 | 14 | 15)) => true,
        (429, _) | (_, Some(8)) => throttling_counts,
        _ => false,
    }
}

#[derive(Debug)]
struct Lately {
    all: Window,
    failed: Window,
}

impl Lately {
    fn trips(&self, success: bool, threshold: f64, min_requests: u32, now: Instant) -> bool {
        self.all.add(now);
        if !success {
            self.failed.add(now);
        }
        let failed = self.failed.sum(now);
        if failed == 0 {
            return false;
        }
        let all = self.all.sum(now).max(failed);
        all >= u64::from(min_requests) && ((all - failed) as f64) < threshold * all as f64
    }

    fn clear(&self) {
        self.all.clear();
        self.failed.clear();
    }
}

/// Times are microseconds since the epoch of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until_us: u64 },
    Probing { since_us: u64 },
}

impl State {
    const LATEST_US: u64 = u64::MAX >> 2;

    fn pack(self) -> u64 {
        match self {
            State::Closed => 0,
            State::Open { until_us } => until_us << 2 | 1,
            State::Probing { since_us } => since_us << 2 | 2,
        }
    }

    fn unpack(word: u64) -> State {
        match (word & 3, word >> 2) {
            (0, _) => State::Closed,
            (1, until_us) => State::Open { until_us },
            (_, since_us) => State::Probing { since_us },
        }
    }
}
