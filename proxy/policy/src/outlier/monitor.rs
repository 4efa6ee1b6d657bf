//! What one host did. Workers tell it with a few relaxed atomic operations per request; whatever has to be read together is
//! packed into one word, so that no judgement is made of halves.

use super::{Cause, Outcome};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weft_model::outlier::OutlierDetection;

/// The detectors that one outcome set off: none, or one, or that for gateway failures and then that for 5xx.
pub type Trips = std::iter::Flatten<std::array::IntoIter<Option<Cause>, 2>>;

/// One host's record, shared by all workers.
#[derive(Debug)]
pub struct Monitor {
    epoch: Instant,
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    external: Tally,
    local: Tally,
    /// Answered requests of this interval, and the time that they took.
    answered: AtomicU64,
    /// Requests that ended in this interval without an answer, and the time until then.
    given_up: AtomicU64,
    /// Requests that wait for an answer, and the sum of when they began.
    waiting: AtomicU64,
    ejected: AtomicBool,
    record: Mutex<Record>,
}

impl Monitor {
    /// Of a host that did nothing yet. `epoch` is any time that is not after its first request.
    pub fn new(epoch: Instant) -> Self {
        Monitor {
            epoch,
            consecutive_5xx: AtomicU32::new(0),
            consecutive_gateway_failure: AtomicU32::new(0),
            consecutive_local_origin_failure: AtomicU32::new(0),
            external: Tally::default(),
            local: Tally::default(),
            answered: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            ejected: AtomicBool::new(false),
            record: Mutex::default(),
        }
    }

    /// A request was sent that is now waited for.
    pub fn began(self: &Arc<Self>, now: Instant) -> Waiting {
        let began = self.ticks(now);
        self.waiting.fetch_add(Sum::pack(1, began), Ordering::Relaxed);
        Waiting { monitor: Arc::clone(self), began }
    }

    /// Tells how a request ended. Each cause is for [`Detector::trip`](super::Detector::trip), in this order.
    pub fn report(&self, policy: &OutlierDetection, outcome: Outcome) -> Trips {
        let split = policy.split_external_local_origin_errors;
        let causes = match outcome {
            Outcome::Status(status) => {
                if split {
                    self.local_origin(policy, true);
                }
                self.external(policy, judged(policy, status))
            }
            Outcome::Reset => self.external(policy, 500),
            Outcome::Connected | Outcome::ConnectFailed | Outcome::LocalTimeout if split => {
                [self.local_origin(policy, outcome == Outcome::Connected), None]
            }
            Outcome::Connected => self.external(policy, 200),
            Outcome::ConnectFailed => self.external(policy, 503),
            Outcome::LocalTimeout => self.external(policy, 504),
        };
        causes.into_iter().flatten()
    }

    /// Takes no requests now.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    /// The ejection that lasts.
    pub fn ejection(&self) -> Option<Ejection> {
        self.record().ejection
    }

    /// How often it was ejected, ever.
    pub fn ejections(&self) -> u32 {
        self.record().ejections
    }

    /// Counts a status; 500 and above are failures.
    fn external(&self, policy: &OutlierDetection, status: u16) -> [Option<Cause>; 2] {
        if status < 500 {
            self.external.count(true);
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway_failure);
            return [None, None];
        }
        self.external.count(false);
        let gateway = if matches!(status, 502..=504) {
            let threshold = policy.consecutive_gateway_failure.threshold;
            reaches(&self.consecutive_gateway_failure, threshold)
                .then_some(Cause::ConsecutiveGatewayFailure { failures: threshold })
        } else {
            reset(&self.consecutive_gateway_failure);
            None
        };
        let failures = policy.consecutive_5xx.threshold;
        let any = reaches(&self.consecutive_5xx, failures).then_some(Cause::Consecutive5xx { failures });
        [gateway, any]
    }

    fn local_origin(&self, policy: &OutlierDetection, success: bool) -> Option<Cause> {
        self.local.count(success);
        if success {
            reset(&self.consecutive_local_origin_failure);
            return None;
        }
        let failures = policy.consecutive_local_origin_failure.threshold;
        reaches(&self.consecutive_local_origin_failure, failures)
            .then_some(Cause::ConsecutiveLocalOriginFailure { failures })
    }

    /// What was counted since the last call.
    pub(super) fn take_interval(&self, now: Instant) -> Interval {
        let answered = Sum::unpack(self.answered.swap(0, Ordering::Relaxed));
        let given_up = Sum::unpack(self.given_up.swap(0, Ordering::Relaxed));
        let waiting = Sum::unpack(self.waiting.load(Ordering::Relaxed));
        let age_ticks = waiting.count.wrapping_mul(self.ticks(now)).wrapping_sub(waiting.ticks) & Sum::MAX_TICKS;
        // Who asks took the time before it looked, and requests begin meanwhile: in all they may be younger than nothing.
        let age_ticks = if age_ticks > Sum::MAX_TICKS / 2 { 0 } else { age_ticks };
        Interval {
            external: self.external.take(),
            local: self.local.take(),
            answered: answered.count,
            unanswered: given_up.count + waiting.count,
            time: [answered.ticks, given_up.ticks, age_ticks].map(ticks_long).iter().sum(),
        }
    }

    /// The trip that was decided about has been heard; the count begins again.
    pub(super) fn reset_consecutive(&self, cause: &Cause) {
        match cause {
            Cause::Consecutive5xx { .. } => reset(&self.consecutive_5xx),
            Cause::ConsecutiveGatewayFailure { .. } => reset(&self.consecutive_gateway_failure),
            Cause::ConsecutiveLocalOriginFailure { .. } => reset(&self.consecutive_local_origin_failure),
            Cause::SuccessRate { .. } | Cause::FailurePercentage { .. } | Cause::Slow { .. } => {}
        }
    }

    /// For the detector alone, which also says when requests may come and when not.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn eject(&self, ejection: Ejection) -> u32 {
        let mut record = self.record();
        record.ejection = Some(ejection);
        record.ejections = record.ejections.saturating_add(1);
        self.ejected.store(true, Ordering::Release);
        record.ejections
    }

    pub(super) fn give_back(&self, now: Instant) {
        let mut record = self.record();
        record.ejection = None;
        record.returned = Some(now);
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway_failure);
        reset(&self.consecutive_local_origin_failure);
        self.ejected.store(false, Ordering::Release);
    }

    fn ticks(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.epoch).as_micros() / TICK.as_micros();
        ticks as u64 & Sum::MAX_TICKS
    }
}

/// A request that waits for its answer. Dropped without one, it is not counted.
#[derive(Debug)]
#[must_use = "a request that is dropped at once was never waited for"]
pub struct Waiting {
    monitor: Arc<Monitor>,
    /// Ticks since the monitor's epoch.
    began: u64,
}

impl Waiting {
    /// The answer has begun.
    pub fn answered(self, now: Instant) {
        self.ended(&self.monitor.answered, now);
    }

    /// There will be none, or nobody waits any longer. The time until then counts all the same.
    pub fn given_up(self, now: Instant) {
        self.ended(&self.monitor.given_up, now);
    }

    fn ended(&self, tally: &AtomicU64, now: Instant) {
        let took = self.monitor.ticks(now).saturating_sub(self.began);
        let add = |word| {
            let Sum { count, ticks } = Sum::unpack(word);
            (count < Sum::MAX_COUNT).then(|| Sum::pack(count + 1, ticks.saturating_add(took).min(Sum::MAX_TICKS)))
        };
        let _ = tally.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.monitor.waiting.fetch_sub(Sum::pack(1, self.began), Ordering::Relaxed);
    }
}

/// Why and since when a host takes no requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    pub cause: Cause,
    pub since: Instant,
    pub(super) jitter: Duration,
}

/// What was decided about a host.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) ejection: Option<Ejection>,
    pub(super) ejections: u32,
    /// What the base ejection time is multiplied by.
    pub(super) backoff: u32,
    /// When it last came back from an ejection.
    pub(super) returned: Option<Instant>,
}

/// What one host did within one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub(super) external: Rate,
    pub(super) local: Rate,
    pub(super) answered: u64,
    /// Waiting now, or waited for in vain.
    pub(super) unanswered: u64,
    /// What those answered took, how long those given up were waited for, and the age of those waiting.
    pub(super) time: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) requests: u64,
    pub(super) successes: u64,
}

/// Requests in the upper half of the word, successes in the lower.
#[derive(Debug, Default)]
struct Tally(AtomicU64);

impl Tally {
    fn count(&self, success: bool) {
        self.0.fetch_add(1 << 32 | u64::from(success), Ordering::Relaxed);
    }

    fn take(&self) -> Rate {
        let word = self.0.swap(0, Ordering::Relaxed);
        Rate { requests: word >> 32, successes: word & u64::from(u32::MAX) }
    }
}

/// The unit in which times are summed.
const TICK: Duration = Duration::from_micros(100);

/// A count in the lower 24 bits of a word and a sum of ticks, modulo 3.4 years, in the upper 40, where its carry is lost.
struct Sum {
    count: u64,
    ticks: u64,
}

impl Sum {
    const MAX_COUNT: u64 = (1 << 24) - 1;
    const MAX_TICKS: u64 = (1 << 40) - 1;

    fn pack(count: u64, ticks: u64) -> u64 {
        ticks << 24 | count
    }

    fn unpack(word: u64) -> Sum {
        Sum { count: word & Sum::MAX_COUNT, ticks: word >> 24 }
    }
}

fn ticks_long(ticks: u64) -> Duration {
    Duration::from_micros(ticks.saturating_mul(TICK.as_micros() as u64))
}

/// What a status counts as: with `error_codes`, those listed are failures (500, where they are no 5xx themselves) and all others
/// successes, as with Envoy's `error_matcher`.
fn judged(policy: &OutlierDetection, status: u16) -> u16 {
    match (policy.error_codes.is_empty(), policy.error_codes.contains(&status)) {
        (true, _) => status,
        (false, true) if (500..600).contains(&status) => status,
        (false, true) => 500,
        (false, false) => 200,
    }
}

/// One more, and that is exactly the threshold: true once until the next reset.
fn reaches(counter: &AtomicU32, threshold: u32) -> bool {
    counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == threshold
}

/// Writes only where there is something to write: the word of a healthy host stays shared by all cores.
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}
