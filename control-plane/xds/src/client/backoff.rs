//! How long to wait before the next try. A control plane that restarts is met again at once; one that
//! is down is not stormed by all its data planes together.

use std::time::Duration;

const QUICK: Duration = Duration::from_millis(100);
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(5);
/// A stream that ended sooner does not count as a success: something is wrong with it.
const STABLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A stream was open for so long, and something was heard over it.
    pub(super) fn succeeded(&mut self, lasted: Duration) {
        self.failures = u32::from(lasted < STABLE);
    }

    /// 100 ms, then 500 ms doubled up to 5 s, of which `dice` (0 to 1) takes away up to a half.
    pub(super) fn next(&mut self, dice: f64) -> Duration {
        let full = match self.failures {
            0 => QUICK,
            failures => (FIRST * 2_u32.pow((failures - 1).min(8))).min(LONGEST),
        };
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - dice.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_quick_and_the_others_grow_to_five_seconds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(pauses, [100, 500, 1000, 2000, 4000, 5000, 5000]);
        backoff.succeeded(STABLE);
        assert_eq!(backoff.next(1.0), QUICK / 2);
        backoff.succeeded(Duration::ZERO);
        assert_eq!(backoff.next(1.0), FIRST / 2);
    }
}
