//! Maglev's table (Eisenbud et al., NSDI 2016): one look-up by hash, nearly even shares, and few keys moved when a host
//! comes or goes (a few more than on a ring).
//!
//! Every host has its own permutation of the slots and claims the next free one of it, in turns by weight, until all are
//! taken. The permutation reaches every slot only when the table's size is a prime.

use super::{Member, xxh64};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Envoy's limit, a prime: 4 bytes each.
const MOST_SLOTS: u64 = 5_000_011;

const FREE: u32 = u32::MAX;

/// Envoy's table, slot by slot.
#[derive(Clone, Debug)]
pub struct Maglev {
    /// The index of the member that owns each slot; empty without members.
    owners: Box<[u32]>,
}

impl Maglev {
    /// A size that is no prime is rounded up to one, and more than 5,000,011 is that. With fewer slots than members some are
    /// never picked.
    pub fn new(members: &[Member], table_size: u64) -> Self {
        if members.is_empty() {
            return Maglev { owners: Box::default() };
        }
        let slots = prime_from(table_size.min(MOST_SLOTS));
        let mut owners = vec![FREE; slots as usize];
        let mut claimants = claimants(members, slots);
        let heaviest = claimants.iter().map(|claimant| claimant.weight).fold(0.0, f64::max);
        // The heaviest claims in every round, one of half its weight in every other one; in a round they go by address.
        let mut turns: BinaryHeap<Reverse<(u64, usize)>> = (0..claimants.len()).map(|one| Reverse((1, one))).collect();
        for _ in 0..slots {
            let Some(mut turn) = turns.peek_mut() else { break };
            let claimant = &mut claimants[turn.0.1];
            let slot = claimant.claim(&owners, slots);
            owners[slot] = claimant.member;
            turn.0.0 = claimant.next_round(heaviest).max(turn.0.0 + 1);
        }
        Maglev { owners: owners.into() }
    }

    /// The index of the member that the hash belongs to; a further attempt goes by another hash. `None` without members.
    pub fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        if self.owners.is_empty() {
            return None;
        }
        // Envoy's: most bits change
        let hash = if attempt > 0 { hash ^ (u64::MAX - u64::from(attempt) + 1) } else { hash };
        Some(self.owners[(hash % self.owners.len() as u64) as usize] as usize)
    }
}

struct Claimant {
    member: u32,
    /// Of 1.
    weight: f64,
    /// The next slot of its permutation.
    next: u64,
    skip: u64,
    /// The heaviest weight, once for each claim.
    paid: f64,
}

impl Claimant {
    /// The next slot of its permutation that is free. There is one as long as any is.
    fn claim(&mut self, owners: &[u32], slots: u64) -> usize {
        loop {
            let slot = self.next as usize;
            self.next = (self.next + self.skip) % slots;
            if owners[slot] == FREE {
                return slot;
            }
        }
    }

    /// The first round in which `round * weight` makes up for what was paid. Rounded as Envoy's comparison is: a difference of
    /// one bit is another table.
    fn next_round(&mut self, heaviest: f64) -> u64 {
        self.paid += heaviest;
        let covers = |round: f64| round * self.weight >= self.paid;
        let round = (self.paid / self.weight).ceil();
        let near = [round - 1.0, round, round + 1.0];
        near.into_iter().find(|round| covers(*round)).unwrap_or(round) as u64
    }
}

/// In order of their addresses' text: the table does not depend on the order in which members were listed.
fn claimants(members: &[Member], slots: u64) -> Vec<Claimant> {
    let mut named: Vec<(String, u32)> =
        members.iter().enumerate().map(|(index, member)| (member.address.to_string(), index as u32)).collect();
    named.sort_unstable();
    let total: f64 = members.iter().map(|member| member.weight).sum();
    let claimant = |(address, member): (String, u32)| Claimant {
        member,
        weight: members[member as usize].weight / total,
        next: xxh64::of_bytes(address.as_bytes(), 0) % slots,
        skip: xxh64::of_bytes(address.as_bytes(), 1) % (slots - 1) + 1,
        paid: 0.0,
    };
    named.into_iter().map(claimant).collect()
}

/// The least prime that is not less; at least 2.
fn prime_from(number: u64) -> u64 {
    let is_prime = |number: u64| {
        (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
    };
    (number.max(2)..).find(|number| is_prime(*number)).expect("there is always a greater prime")
}
