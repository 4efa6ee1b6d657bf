//! To whoever is expected to answer first: the lower of two picked at random by latency times requests in flight (Finagle's
//! and Linkerd's default). Requests in flight alone say nothing of a host that answers everything late, or at once with an error.
//!
//! The latency is a moving average that believes bad news at once and good news slowly: a host that stalls is avoided
//! from the first late answer on, and is forgiven within the decay. An estimate that is not fed fades to nothing, so a host that was
//! avoided is tried again.

use super::least_request::pick_of_two;
use crate::Dice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Peak EWMA over power of two choices.
#[derive(Clone, Debug)]
pub struct PeakEwma {
    endpoints: usize,
    /// Empty when they are all equal.
    weights: Box<[u32]>,
}

impl PeakEwma {
    /// An endpoint of twice the weight may take twice the time; a weight of 0 counts as 1.
    pub fn new(weights: &[u32]) -> Self {
        let equal = weights.windows(2).all(|pair| pair[0].max(1) == pair[1].max(1));
        let kept = if equal { Box::default() } else { weights.iter().map(|weight| (*weight).max(1)).collect() };
        PeakEwma { endpoints: weights.len(), weights: kept }
    }

    /// `latency` is [`Ewma::cost`], `active` the requests in flight.
    pub fn pick(
        &self,
        dice: &mut Dice,
        latency: impl Fn(usize) -> f64,
        active: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let cost = |index: usize| {
            let weight = self.weights.get(index).map_or(1.0, |weight| f64::from(*weight));
            latency(index) * (f64::from(active(index)) + 1.0) / weight
        };
        match self.endpoints {
            0 => None,
            1 => Some(0),
            endpoints => Some(pick_of_two(dice, endpoints as u32, cost)),
        }
    }
}

/// The bits of [`Ewma::state`] that are the time.
const TIME_BITS: u32 = 40;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// The least that an endpoint costs: those whose estimates have faded still differ by their requests in flight.
const LEAST_SECONDS: f64 = 1e-6;

/// How long an endpoint takes to answer. Shared by workers without a lock.
#[derive(Debug)]
pub struct Ewma {
    epoch: Instant,
    decay_seconds: f64,
    /// Estimate and time in one word, so that no worker sees one without the other: above, the upper 24 bits of the seconds as an `f32`
    /// (to 1/32,768); below, 40 bits of milliseconds since the epoch (34 years).
    state: AtomicU64,
}

impl Ewma {
    /// Of an endpoint that nothing is known of but that it is there since `now`.
    pub fn new(default_rtt: Duration, decay: Duration, now: Instant) -> Self {
        let state = AtomicU64::new(pack(default_rtt.as_secs_f64(), 0));
        Ewma { epoch: now, decay_seconds: decay.as_secs_f64().max(0.001), state }
    }

    /// An answer took `rtt` and came at `now`. One that took longer than expected is believed; one that was faster counts the more,
    /// the longer ago the last was: `e^(-elapsed / decay)` of the old estimate stays.
    pub fn observe(&self, rtt: Duration, now: Instant) {
        let (rtt, now) = (rtt.as_secs_f64(), self.millis(now));
        let after = |state| {
            let (estimate, then) = unpack(state);
            let estimate = match rtt > estimate {
                true => rtt,
                false => rtt + (estimate - rtt) * self.kept(then, now),
            };
            Some(pack(estimate, now.max(then)))
        };
        // only the newest state is wanted, nothing else is read by it
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
    }

    /// The seconds that the next answer is expected to take, at least a microsecond. Without news they fade by `e^(-elapsed / decay)`.
    pub fn cost(&self, now: Instant) -> f64 {
        let (estimate, then) = unpack(self.state.load(Ordering::Relaxed));
        (estimate * self.kept(then, self.millis(now))).max(LEAST_SECONDS)
    }

    fn millis(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.epoch).as_millis() as u64).min(TIME_MASK)
    }

    fn kept(&self, then: u64, now: u64) -> f64 {
        let elapsed_seconds = now.saturating_sub(then) as f64 / 1000.0;
        (-elapsed_seconds / self.decay_seconds).exp()
    }
}

fn pack(seconds: f64, millis: u64) -> u64 {
    (u64::from((seconds as f32).to_bits() >> 8) << TIME_BITS) | millis
}

fn unpack(state: u64) -> (f64, u64) {
    let seconds = f32::from_bits(((state >> TIME_BITS) as u32) << 8);
    (f64::from(seconds), state & TIME_MASK)
}

#[cfg(test)]
mod tests;
