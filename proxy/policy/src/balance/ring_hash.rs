//! A ring of hashes (ketama): a key belongs to the first host at or after its hash, so when a host comes or goes only the
//! keys of its own arcs move.

use super::{Member, xxh64};
use std::fmt::Write;

/// The most points of a ring, Envoy's limit: 12 bytes each.
const MOST_POINTS: u64 = 8_388_608;

/// Envoy's ring, point by point.
#[derive(Clone, Debug)]
pub struct RingHash {
    /// In ascending order.
    points: Box<[u64]>,
    /// Whose the point of the same place is.
    owners: Box<[u32]>,
}

impl RingHash {
    /// Every host has points in proportion to its weight, the lightest a whole number of them, at least `minimum_size` in all and
    /// at most `maximum_size` (and 8,388,608). The i-th point of a host is the hash of `address_i`.
    pub fn new(members: &[Member], minimum_size: u64, maximum_size: u64) -> Self {
        let total: f64 = members.iter().map(|member| member.weight).sum();
        let lightest = members.iter().map(|member| member.weight / total).fold(1.0, f64::min);
        let maximum = maximum_size.clamp(1, MOST_POINTS) as f64;
        let size = ((lightest * minimum_size as f64).ceil() / lightest).clamp(1.0, maximum);
        let mut ring: Vec<(u64, u32)> = Vec::with_capacity(size.ceil() as usize);
        let mut key = String::new();
        let mut due = 0.0;
        for (index, member) in members.iter().enumerate() {
            due += size * member.weight / total;
            key.clear();
            write!(key, "{}_", member.address).expect("a string takes everything");
            let stem = key.len();
            let mut turn = 0;
            while (ring.len() as f64) < due {
                key.truncate(stem);
                write!(key, "{turn}").expect("a string takes everything");
                ring.push((xxh64::of_bytes(key.as_bytes(), 0), index as u32));
                turn += 1;
            }
        }
        ring.sort_unstable();
        let (points, owners): (Vec<u64>, Vec<u32>) = ring.into_iter().unzip();
        RingHash { points: points.into(), owners: owners.into() }
    }

    /// The index of the member that the hash belongs to; a further attempt goes so many points on. `None` without members.
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        let points = self.points.len();
        if points == 0 {
            return None;
        }
        let place = self.points.partition_point(|point| *point < hash) % points;
        Some(self.owners[(place + attempt as usize) % points] as usize)
    }
}
