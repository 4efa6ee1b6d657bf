//! Which endpoint answers, and which of several weighted backends.
//!
//! Two questions are kept apart. *Who may be picked at all* depends on health, priorities, localities and panic; a [`Picker`]
//! answers it once, when one of them changes. *Who of these* is the balancer's, and is asked for every request: it allocates
//! nothing and, bounded load and binary searches apart, takes a time that does not grow with the number of endpoints.
//!
//! What differs from request to request (loads, the hash, the dice) is an argument; several workers pick from one [`Picker`].

mod consistent;
mod cookie;
mod group;
mod hash_policy;
mod least_request;
mod locality;
mod maglev;
mod peak_ewma;
mod picker;
mod priority;
mod ring_hash;
mod round_robin;
mod session;
mod slow_start;
mod split;
#[cfg(test)]
mod tests;
mod xxh64;

pub use hash_policy::{Connection, HashPolicies, Hashed};
pub use least_request::LeastRequest;
pub use maglev::Maglev;
pub use peak_ewma::{Ewma, PeakEwma};
pub use picker::{Degree, Host, Members, NoHost, Pick, Picker};
pub use ring_hash::RingHash;
pub use round_robin::RoundRobin;
pub use session::{Asked, Session};
pub use split::Split;

use std::net::SocketAddr;

/// How busy the hosts of a cluster are. Indices are those of [`Members::hosts`].
pub trait Loads {
    /// Requests in flight at a host.
    fn active(&self, index: usize) -> u32;

    /// Seconds that a host is expected to take, [`Ewma::cost`]. Asked by peak EWMA only.
    fn cost(&self, index: usize) -> f64;

    /// Requests in flight at all hosts of the cluster. Asked by bounded load (`hash_balance_factor`) only.
    fn total(&self) -> u32;
}

/// One endpoint of a table that is looked up by hash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Its text is what is hashed, as in Envoy: tables of different proxies agree.
    pub address: SocketAddr,
    /// Its share relative to the others', over 0.
    pub weight: f64,
}

/// Whole weights in the proportions of these: as they are when they are whole already, otherwise to a thousandth of 1. At least 1.
fn whole_weights(weights: impl Iterator<Item = f64> + Clone) -> Vec<u32> {
    let most = weights.clone().fold(1.0, f64::max);
    let fine = weights.clone().any(|weight| weight.fract() != 0.0);
    let scale = if fine { (f64::from(u32::MAX) / most).min(1000.0) } else { 1.0 };
    weights.map(|weight| ((weight * scale).round() as u32).max(1)).collect()
}
