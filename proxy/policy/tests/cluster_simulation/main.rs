//! A cluster in virtual time: hosts break and recover, requests are spread over those not ejected, failed ones are retried within
//! the budget. Time jumps to whatever comes next; after each step the promises of breaker and outlier detection are held against
//! what a plain reading of the formulas says. A failure names its seed.

mod cluster;
mod promises;

use cluster::{Cluster, Seen};

/// What the faults should lead to, again and again: a simulation in which nothing happens keeps every promise.
const EVERYTHING: [&str; 11] = [
    "request",
    "retry",
    "request refused",
    "connection refused",
    "pending refused",
    "retry refused",
    "ejected",
    "returned",
    "no room",
    "last host",
    "not enforced",
];

#[test]
fn promises_hold_whatever_breaks() {
    let mut seen = Seen::new();
    for seed in 0..10_000 {
        for (what, times) in Cluster::new(seed).run() {
            *seen.entry(what).or_default() += times;
        }
    }
    for what in EVERYTHING {
        assert!(seen.get(what).is_some_and(|times| *times > 1000), "{what} is rare: {seen:?}");
    }
}
