//! How long to wait before a retry, so that those who failed together do not come back together.

use crate::{CompileError, Dice};
use http::{HeaderMap, HeaderName};
use std::time::Duration;
use weft_model::retry::{Backoff, RateLimitedBackoff, ResetFormat};

/// Envoy's `JitteredExponentialBackOffStrategy`: whole milliseconds, evenly one of `0..interval`; the interval
/// doubles from the base up to the maximum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exponential {
    pub(super) base_ms: u64,
    max_ms: u64,
}

impl Exponential {
    /// Under 1 ms counts as 1 ms.
    pub(super) fn compile(backoff: &Backoff) -> Result<Self, CompileError> {
        if backoff.max < backoff.base {
            let what = format!("the maximum {:?} is shorter than the base {:?}", backoff.max, backoff.base);
            return Err(CompileError::new(what).within("retry back-off"));
        }
        Ok(Exponential { base_ms: whole_ms(backoff.base).max(1), max_ms: whole_ms(backoff.max).max(1) })
    }

    /// `interval_ms` began as [`Exponential::base_ms`].
    pub(super) fn next(&self, interval_ms: &mut u64, dice: &mut Dice) -> Duration {
        let below = *interval_ms;
        *interval_ms = below.saturating_mul(2).min(self.max_ms);
        Duration::from_millis(dice.below_u64(below))
    }
}

/// Obeys a response that says when to come back, later by up to half so that not all do at once (Envoy's
/// `JitteredLowerBoundBackOffStrategy`).
#[derive(Debug)]
pub(super) struct RateLimited {
    headers: Box<[(HeaderName, ResetFormat)]>,
    max_interval: Duration,
}

impl RateLimited {
    pub(super) fn compile(backoff: &RateLimitedBackoff) -> Result<Self, CompileError> {
        let parse = |name: &str| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                CompileError::new(format!("\"{name}\" is no HTTP header name")).within("rate limited back-off")
            })
        };
        let headers = backoff.reset_headers.iter().map(|header| Ok((parse(&header.name)?, header.format)));
        Ok(RateLimited { headers: headers.collect::<Result<_, _>>()?, max_interval: backoff.max_interval })
    }

    /// Evenly one of `interval..1.5 * interval`, by the first header that has an interval within the maximum.
    /// `None` when there is none, or it says to come back at once.
    pub(super) fn after(&self, headers: &HeaderMap, unix: Duration, dice: &mut Dice) -> Option<Duration> {
        let said = self.headers.iter().filter_map(|(name, format)| {
            let number = crate::x_envoy::number::<u64>(headers, name)?;
            let seconds = match format {
                ResetFormat::Seconds => number,
                ResetFormat::UnixTimestamp => number.checked_sub(unix.as_secs())?,
            };
            Some(Duration::from_secs(seconds))
        });
        let interval = { said }.find(|interval| *interval <= self.max_interval)?;
        let interval_ms = Some(whole_ms(interval)).filter(|interval_ms| *interval_ms > 1)?;
        Some(Duration::from_millis(interval_ms.saturating_add(dice.below_u64(interval_ms / 2))))
    }
}

fn whole_ms(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
