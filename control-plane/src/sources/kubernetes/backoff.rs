//! How long to wait before the API server is asked again.
//!
//! A watch ends all the time, and a deletion behind a dead one is seen late, so the first retry comes soon; but a thousand
//! control planes must not fall upon a server that just came back, so waits double, and are spread.

use kube::runtime::utils::Backoff;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(15);
/// A time without failures counts as well when it is so many times as long as the wait before it.
const WELL: u32 = 4;

#[derive(Debug)]
pub(super) struct Patience {
    wait: Duration,
    failed: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { wait: FIRST, failed: None }
    }
}

impl Patience {
    /// It failed again: how long to wait, without the spread.
    fn after(&mut self, now: Instant) -> Duration {
        let well = self.failed.is_none_or(|failed| now.duration_since(failed) > self.wait * WELL);
        self.wait = if well { FIRST } else { (self.wait * 2).min(LONGEST) };
        self.failed = Some(now);
        self.wait
    }
}

impl Iterator for Patience {
    type Item = Duration;

    /// Never ends.
    fn next(&mut self) -> Option<Duration> {
        use std::hash::{BuildHasher as _, RandomState};
        let wait = self.after(Instant::now());
        let spread = u32::try_from(RandomState::new().hash_one(0) % 50).unwrap_or_default();
        Some(wait + wait * spread / 100)
    }
}

impl Backoff for Patience {
    /// Called at every success, which may be followed by the next failure at once: time decides, not this.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_while_it_fails_and_begin_anew_when_it_was_well() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..9 {
            waits.push(patience.after(now).as_millis());
            now += *waits.last().map(|_| &patience.wait).unwrap();
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000]);
        assert_eq!(patience.after(now + LONGEST), LONGEST);
        assert_eq!(patience.after(now + LONGEST * 6), FIRST);
    }

    #[test]
    fn a_wait_is_spread_by_half() {
        let wait = Patience::default().next().unwrap();
        assert!((FIRST..FIRST * 3 / 2).contains(&wait), "{wait:?}");
    }
}
