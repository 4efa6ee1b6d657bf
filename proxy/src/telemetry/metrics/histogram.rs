//! A histogram with one writer, and the buckets that Istio's proxies have.
//!
//! The buckets are Envoy's defaults, which Istio keeps for milliseconds and for bytes alike, so that
//! queries written for Istio find the `le` values that they name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BOUNDS: usize = 19;

/// Upper bounds as Prometheus' `le` label has them; `+Inf` follows.
pub(crate) const LE: [&str; BOUNDS] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1800000", "3600000",
];

/// The same, in thousandths: a duration in microseconds goes by these.
const MICROSECONDS: [u64; BOUNDS] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// The same, in whole bytes: of half a byte there is none.
const BYTES: [u64; BOUNDS] = [
    0, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];

/// Adds to a counter that only this thread writes: no lock prefix, no contention.
#[inline]
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Counts by bucket, and their sum in the unit that was observed.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// The sum is in microseconds.
    #[inline]
    pub(crate) fn observe_duration(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.observe(&MICROSECONDS, micros);
    }

    /// The sum is in bytes.
    #[inline]
    pub(crate) fn observe_bytes(&self, bytes: u64) {
        self.observe(&BYTES, bytes);
    }

    #[inline]
    fn observe(&self, bounds: &[u64; BOUNDS], value: u64) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        add(&self.buckets[bucket], 1);
        add(&self.sum, value);
    }
}

/// What histograms of several workers come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    buckets: [u64; BOUNDS + 1],
    sum: u64,
}

impl Distribution {
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        self.sum = self.sum.wrapping_add(histogram.sum.load(Ordering::Relaxed));
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// How many were at most each bound of [`LE`].
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LE.into_iter().zip(self.buckets.iter().scan(0, |below, bucket| {
            *below += bucket;
            Some(*below)
        }))
    }
}
