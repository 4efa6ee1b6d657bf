//! The same key to the same host, as long as that host is there, and with `hash_balance_factor` as long as it is not
//! much busier than the others.
//!
//! Without the bound one popular key takes its host down. With it (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with
//! Bounded Loads") a request whose host is full overflows to the next host in an order of its hash's own, so that the same key
//! overflows to the same hosts, and the keys of one full host to different ones.

use super::{Maglev, Member, RingHash, xxh64};

#[derive(Debug)]
pub(super) struct Consistent {
    table: Table,
    bound: Option<Bound>,
}

#[derive(Debug)]
pub(super) enum Table {
    Ring(RingHash),
    Maglev(Maglev),
}

#[derive(Debug)]
struct Bound {
    factor: u32,
    weights: Box<[f64]>,
    weight_sum: f64,
}

impl Consistent {
    /// A factor of less than 100 % counts as 100 (Envoy's minimum): with less, not every request would have a place.
    pub(super) fn new(table: Table, members: &[Member], factor: Option<u32>) -> Self {
        let bound = factor.map(|factor| Bound {
            factor: factor.max(100),
            weights: members.iter().map(|member| member.weight).collect(),
            weight_sum: members.iter().map(|member| member.weight).sum(),
        });
        Consistent { table, bound }
    }

    /// `active` tells the requests in flight at a member, `total` those at the whole cluster.
    pub(super) fn pick(
        &self,
        hash: u64,
        attempt: u32,
        active: impl Fn(usize) -> u32,
        total: impl FnOnce() -> u32,
    ) -> Option<usize> {
        let first = match &self.table {
            Table::Ring(ring) => ring.pick(hash, attempt),
            Table::Maglev(table) => table.pick(hash, attempt),
        }?;
        match &self.bound {
            None => Some(first),
            Some(bound) => Some(bound.place(first, hash, active, total())),
        }
    }
}

impl Bound {
    /// The first host, or of those after it the first that has room; when none has, the one that is over its bound least.
    fn place(&self, first: usize, hash: u64, active: impl Fn(usize) -> u32, total: u32) -> usize {
        let fullness = |host: usize| f64::from(active(host)) / self.slots(host, total);
        let mut best = (fullness(first), first);
        if best.0 < 1.0 {
            return first;
        }
        for host in walk(hash, self.weights.len()) {
            let candidate = fullness(host);
            if candidate < 1.0 {
                return host;
            }
            if candidate < best.0 {
                best = (candidate, host);
            }
        }
        best.1
    }

    /// How many requests the host may have, this one among them: Envoy's `ceil(ceil((total + 1) * factor) * share)`. All hosts' together
    /// are more than there are requests, so as long as the cluster's hosts are these, one has room.
    fn slots(&self, host: usize, total: u32) -> f64 {
        let all = ((u64::from(total) + 1) * u64::from(self.factor)).div_ceil(100);
        // multiplied before it is divided: a whole number must not be rounded up
        (all as f64 * self.weights[host] / self.weight_sum).ceil().max(1.0)
    }
}

/// Every place of `0..hosts` once, from a place and with a stride that the hash says.
fn walk(hash: u64, hosts: usize) -> impl Iterator<Item = usize> {
    let mixed = xxh64::of_bytes(&hash.to_le_bytes(), 0);
    let start = (mixed % hosts as u64) as usize;
    let mut stride = (mixed >> 32) as usize % hosts + 1;
    // a stride without a common divisor comes by everybody; hosts + 1 is one
    while greatest_common_divisor(stride, hosts) != 1 {
        stride += 1;
    }
    (0..hosts).scan(start, move |at, _| {
        let here = *at;
        *at = (*at + stride) % hosts;
        Some(here)
    })
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests;
