//! Rate limits for more clients than anybody can remember.
//!
//! Up to `max_keys` of a bucket are counted one by one. At an edge many more may come, and some on purpose, to be counted with
//! nobody they know. What is too much is counted by [`pingora_limits`]' count-min estimator, in windows of time: no more
//! memory for a million keys than for one.
//!
//! A token bucket of `m` tokens, `p` of them refilled at each interval, is counted as `c = (m + p) / 2` in each window of
//! `k = ceil(c / p)` intervals. Within any `w >= 2` windows lie at least `(w - 2) k + 1` refills, so the bucket would give
//! `m + p ((w - 2) k + 1) >= w c`, and `m >= c` within one: a key that is alone never gets more than its bucket
//! would give. It gets less of a burst: half of `m` when `p` is small, all of it when `p` is `m`. Keys that share a counter in
//! every row are refused early. A key that comes to be counted by itself begins with its whole burst, unless somebody was counted
//! here just before.
//!
//! Memory: 8 bytes for each of 4 rows of [`SLOTS`] counters, so 32 KiB to 2 MiB a bucket, from the first key on that is too many.
//! It grows with the window, as do the keys that come within one; clearing it costs the same time per second for all.

use parking_lot::Mutex;
use pingora_limits::estimator::Estimator;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};
use weft_proxy::overflow::{Overflow, Overflows, Rate, Refused, Remaining};

const ROWS: usize = 4;
/// Counters in a row: fewest and most.
const SLOTS: RangeInclusive<usize> = 1024..=65_536;
/// Of a row, for each millisecond of a window. With the most, a million keys within a window take each other for 16.
const SLOTS_PER_MS: u128 = 64;

/// Makes the [`Overflow`] of a gateway's rate limits.
pub fn overflows() -> Overflows {
    Overflows::new(|rate, now| Box::new(Windowed::new(rate, now)))
}

/// Counts what each key took in the present window.
struct Windowed {
    /// `max_tokens` of the bucket.
    limit: u32,
    /// For a key within a window.
    allowed: u32,
    window: Duration,
    born: Instant,
    /// `None` until it is needed.
    counted: Mutex<Option<Counted>>,
}

struct Counted {
    /// Of the window, since the birth.
    number: u128,
    estimator: Estimator,
}

impl Windowed {
    fn new(rate: Rate, now: Instant) -> Windowed {
        let (most, refill) = (u64::from(rate.max_tokens()), u64::from(rate.tokens_per_fill()));
        let allowed = (most + refill) / 2;
        let intervals = u32::try_from(allowed.div_ceil(refill)).unwrap_or(u32::MAX);
        Windowed {
            limit: rate.max_tokens(),
            allowed: u32::try_from(allowed).unwrap_or(u32::MAX),
            window: rate.fill_interval().saturating_mul(intervals),
            born: now,
            counted: Mutex::new(None),
        }
    }

    /// The number of the window, and the time to the next one.
    fn at(&self, now: Instant) -> (u128, Duration) {
        let (age, window) = (now.saturating_duration_since(self.born).as_nanos(), self.window.as_nanos());
        let left = window - age % window;
        (age / window, Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)))
    }

    fn estimator(&self) -> Estimator {
        let slots = (self.window.as_millis().saturating_mul(SLOTS_PER_MS)).min(*SLOTS.end() as u128) as usize;
        Estimator::new(ROWS, slots.max(*SLOTS.start()))
    }

    fn left(&self, taken: isize) -> u32 {
        self.allowed.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }
}

impl Overflow for Windowed {
    fn take(&self, key: u64, now: Instant) -> Result<Remaining, Refused> {
        let (number, left) = self.at(now);
        let mut counted = self.counted.lock();
        let counted = counted.get_or_insert_with(|| Counted { number, estimator: self.estimator() });
        // A clock that lags behind another caller's goes on with the newer window.
        if counted.number < number {
            counted.number = number;
            counted.estimator.reset();
        }
        if self.left(counted.estimator.get(key)) == 0 {
            return Err(Refused { limit: self.limit, retry_after: left });
        }
        let tokens = self.left(counted.estimator.incr(key, 1));
        Ok(Remaining { limit: self.limit, tokens, reset: left })
    }

    fn tokens(&self, key: u64, now: Instant) -> u32 {
        let (number, _) = self.at(now);
        match &*self.counted.lock() {
            Some(counted) if counted.number >= number => self.left(counted.estimator.get(key)),
            // what it took in the window before is forgotten, but not that it may have taken some
            Some(counted) if counted.number + 1 == number => self.allowed,
            _ => self.limit,
        }
    }
}

impl fmt::Debug for Windowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windowed").field("allowed", &self.allowed).field("window", &self.window).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
