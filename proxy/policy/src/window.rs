//! How many of something happened lately, counted by all workers without a lock and without memory per event.
//!
//! The span is cut into sixteen slots, each one word: which slot of time it counts, and how much. A slot that time has come
//! round to again is begun anew by the first event in it, so nothing has to sweep. The span that is summed up thus ends at
//! `now` and is up to one slot (a sixteenth) shorter than asked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A power of two, so that slots go on in order where the 32 bits of a tick wrap.
const SLOTS: usize = 16;
/// So many ticks ahead is another worker's clock; more is a word that was left alone while the ticks wrapped.
const FURTHEST_AHEAD: i32 = -(1 << 16);

#[derive(Debug)]
pub(crate) struct Window {
    epoch: Instant,
    span: Duration,
    slots: [AtomicU64; SLOTS],
}

impl Window {
    /// A span under 16 ms counts as 16 ms.
    pub(crate) fn new(span: Duration, epoch: Instant) -> Self {
        Window { epoch, span, slots: Default::default() }
    }

    pub(crate) fn span(&self) -> Duration {
        self.span
    }

    pub(crate) fn add(&self, now: Instant) {
        let tick = self.tick(now);
        let add = |word| match age(tick, word) {
            0 => Some(pack(tick, count(word).saturating_add(1))),
            // told so late that its slot already counts a later time
            FURTHEST_AHEAD..0 => None,
            _ => Some(pack(tick, 1)),
        };
        let _ = self.slot(tick).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Undoes an [`add`](Self::add) of the same `now`.
    pub(crate) fn take_back(&self, now: Instant) {
        let tick = self.tick(now);
        let remove = |word| (age(tick, word) == 0).then(|| pack(tick, count(word).saturating_sub(1)));
        let _ = self.slot(tick).fetch_update(Ordering::Relaxed, Ordering::Relaxed, remove);
    }

    /// What was added within the span; that of a worker whose `now` is a little later is in it.
    pub(crate) fn sum(&self, now: Instant) -> u64 {
        let tick = self.tick(now);
        let words = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        words.filter(|word| age(tick, *word).unsigned_abs() < SLOTS as u32).map(|word| u64::from(count(word))).sum()
    }

    pub(crate) fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }

    fn tick(&self, now: Instant) -> u32 {
        let slot = (self.span / SLOTS as u32).max(Duration::from_millis(1));
        (now.saturating_duration_since(self.epoch).as_nanos() / slot.as_nanos()) as u32
    }

    fn slot(&self, tick: u32) -> &AtomicU64 {
        &self.slots[tick as usize % SLOTS]
    }
}

fn pack(tick: u32, count: u32) -> u64 {
    u64::from(tick) << 32 | u64::from(count)
}

fn count(word: u64) -> u32 {
    word as u32
}

/// How many ticks ago the word was written; negative when it is ahead.
fn age(tick: u32, word: u64) -> i32 {
    tick.wrapping_sub((word >> 32) as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn a_window_counts_what_a_list_of_times_counts(
            span_ms in 1u64..5_000,
            steps in proptest::collection::vec((0u64..700, 1usize..4), 1..60),
        ) {
            let epoch = crate::testing::epoch();
            let span = Duration::from_millis(span_ms);
            let window = Window::new(span, epoch);
            let (mut now, mut times) = (epoch, VecDeque::new());
            for (step_ms, events) in steps {
                now += Duration::from_millis(step_ms);
                for _ in 0..events {
                    window.add(now);
                    times.push_back(now);
                }
                let since = |age: Duration| times.iter().filter(|time| now - **time < age).count() as u64;
                let slot = (span / SLOTS as u32).max(Duration::from_millis(1));
                let sum = window.sum(now);
                prop_assert!(since(slot * (SLOTS as u32 - 1)) <= sum && sum <= since(slot * SLOTS as u32), "{sum}");
            }
        }
    }

    #[test]
    fn ticks_wrap_without_a_trace() {
        let epoch = crate::testing::epoch();
        let window = Window::new(Duration::from_millis(16), epoch);
        for ms in (u64::from(u32::MAX) - 40)..(u64::from(u32::MAX) + 40) {
            window.add(epoch + Duration::from_millis(ms));
            assert!(window.sum(epoch + Duration::from_millis(ms)) <= 16);
        }
        assert_eq!(window.sum(epoch + Duration::from_millis(u64::from(u32::MAX) + 39)), 16);
    }
}
