//! Token buckets: so much at once, so much in the long run.
//!
//! Every request of every worker passes here, so a bucket is one atomic number and nobody waits. The number is the *mark*:
//! of all tokens that the bucket was ever given, how many are gone, taken or spilt over the brim. What it was given
//! follows from its age alone, so nothing runs in the background and an idle bucket costs nothing.
//!
//! Invariants: tokens are whole and come at whole fill intervals (as in Envoy's local rate limit filter); there are never
//! fewer than none nor more than `max_tokens`; a clock that lags behind another caller's refuses rather than gives twice.

#[cfg(test)]
mod tests;

use crate::CompileError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weft_model::rate_limit;

/// A compiled [`rate_limit::TokenBucket`]: what buckets of one kind are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    max: u32,
    per_fill: u32,
    interval_ns: u64,
}

/// What a request that took a token leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// `max_tokens`.
    pub limit: u32,
    pub tokens: u32,
    /// To the next fill.
    pub reset: Duration,
}

/// There is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `max_tokens`.
    pub limit: u32,
    /// To the next token.
    pub retry_after: Duration,
}

impl Rate {
    /// Fails on a bucket that never has or never gets a token, and on more than a token a nanosecond, which is no limit.
    pub fn compile(bucket: &rate_limit::TokenBucket) -> Result<Rate, CompileError> {
        let error = |what: &str| Err(CompileError::new(what));
        let interval_ns = nanoseconds(bucket.fill_interval);
        let per_fill = bucket.tokens_per_fill.min(bucket.max_tokens);
        match bucket {
            _ if bucket.max_tokens == 0 => error("max_tokens is 0: nothing would ever pass"),
            _ if bucket.tokens_per_fill == 0 => error("tokens_per_fill is 0: nothing would pass after the first burst"),
            _ if interval_ns == 0 => error("fill_interval is 0"),
            _ if u64::from(per_fill) > interval_ns => error("more than 1,000,000,000 tokens a second are no limit"),
            _ => Ok(Rate { max: bucket.max_tokens, per_fill, interval_ns }),
        }
    }

    /// What a bucket holds at most, and at the start.
    pub fn max_tokens(&self) -> u32 {
        self.max
    }

    /// At most [`Rate::max_tokens`].
    pub fn tokens_per_fill(&self) -> u32 {
        self.per_fill
    }

    pub fn fill_interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// All that a bucket of that age was ever given. Grows by a token a nanosecond at most, so it lasts for centuries.
    fn given(&self, age_ns: u64) -> u64 {
        let fills = age_ns / self.interval_ns;
        (fills * u64::from(self.per_fill)).saturating_add(u64::from(self.max))
    }

    /// A bucket that holds more than its maximum has spilt the rest.
    fn spilt(&self, mark: u64, given: u64) -> u64 {
        mark.max(given - u64::from(self.max))
    }

    /// The mark after a token was taken.
    pub(crate) fn take(&self, mark: u64, age_ns: u64) -> Result<(u64, Remaining), Refused> {
        let given = self.given(age_ns);
        let mark = self.spilt(mark, given);
        if mark >= given {
            return Err(Refused { limit: self.max, retry_after: self.wait_for(mark - given + 1, age_ns) });
        }
        let tokens = (given - mark - 1) as u32; // below `max`, or it were spilt
        Ok((mark + 1, Remaining { limit: self.max, tokens, reset: self.wait_for(1, age_ns) }))
    }

    /// The mark after a token was taken that need not have been there: a debt, of as much as the bucket holds at most.
    pub(crate) fn owe(&self, mark: u64, age_ns: u64) -> u64 {
        let given = self.given(age_ns);
        (self.spilt(mark, given) + 1).min(given.saturating_add(u64::from(self.max)))
    }

    pub(crate) fn tokens(&self, mark: u64, age_ns: u64) -> u32 {
        let given = self.given(age_ns);
        given.saturating_sub(self.spilt(mark, given)) as u32 // at most `max`, the rest is spilt
    }

    /// A full bucket is like a new one.
    pub(crate) fn is_full(&self, mark: u64, age_ns: u64) -> bool {
        self.tokens(mark, age_ns) == self.max
    }

    /// The mark of a new bucket that holds so many tokens.
    pub(crate) fn mark_of(&self, tokens: u32) -> u64 {
        u64::from(self.max.saturating_sub(tokens))
    }

    /// Until so many tokens more were given.
    fn wait_for(&self, tokens: u64, age_ns: u64) -> Duration {
        let to_next_fill = self.interval_ns - age_ns % self.interval_ns;
        let further_fills = tokens.div_ceil(u64::from(self.per_fill)).saturating_sub(1);
        Duration::from_nanos(further_fills.saturating_mul(self.interval_ns).saturating_add(to_next_fill))
    }
}

/// A bucket that all workers share. Full at the start.
#[derive(Debug)]
pub struct TokenBucket {
    rate: Rate,
    born: Instant,
    mark: AtomicU64,
}

impl TokenBucket {
    pub fn new(rate: Rate, now: Instant) -> Self {
        TokenBucket { rate, born: now, mark: AtomicU64::new(0) }
    }

    /// Takes a token.
    pub fn take(&self, now: Instant) -> Result<Remaining, Refused> {
        let age_ns = age_ns(self.born, now);
        let mut mark = self.mark.load(Ordering::Relaxed);
        loop {
            let (after, remaining) = self.rate.take(mark, age_ns)?;
            match self.mark.compare_exchange_weak(mark, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(remaining),
                Err(newer) => mark = newer,
            }
        }
    }

    /// Puts a token back that [`TokenBucket::take`] gave.
    pub fn give_back(&self) {
        self.mark.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A point in time before the birth counts as the birth.
pub(crate) fn age_ns(born: Instant, now: Instant) -> u64 {
    nanoseconds(now.saturating_duration_since(born))
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}
