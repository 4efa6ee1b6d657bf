//! Hosts that are picked from alike, with the balancer over them.

use super::consistent::{Consistent, Table};
use super::{
    Host, LeastRequest, Loads, Maglev, Member, PeakEwma, RingHash, RoundRobin, Split, slow_start, whole_weights,
};
use crate::Dice;
use std::time::Instant;
use weft_model::balancer::{Balancer as Rule, Balancing};

/// How the groups of one picker are made.
pub(super) struct Making<'a> {
    pub(super) rule: Rule,
    pub(super) balancing: &'a Balancing,
    pub(super) hosts: &'a [Host<'a>],
    pub(super) now: Instant,
}

#[derive(Debug)]
pub(super) struct Group {
    /// The index of each member's host; empty when the members are all hosts, in their order.
    hosts: Box<[u32]>,
    balancer: Balancer,
}

impl Group {
    /// Of hosts by index, in ascending order. `scale` multiplies a host's own weight.
    pub(super) fn new(making: &Making<'_>, indices: &[usize], scale: impl Fn(usize) -> f64, dice: &mut Dice) -> Group {
        let rule = making.balancing.slow_start.as_ref().filter(|_| !making.rule.is_consistent());
        let member = |index: &usize| {
            let host = &making.hosts[*index];
            Member { address: host.address, weight: slow_start::weight(host, rule, making.now) * scale(*index) }
        };
        let members: Vec<Member> = indices.iter().map(member).collect();
        let all = indices.len() == making.hosts.len();
        let hosts = if all { Box::default() } else { indices.iter().map(|index| *index as u32).collect() };
        let balancer = Balancer::new(making.rule, making.balancing.hash_balance_factor, &members, dice);
        Group { hosts, balancer }
    }

    /// The index of a host; `None` when there is none.
    pub(super) fn pick(&self, hash: Option<u64>, attempt: u32, loads: &impl Loads, dice: &mut Dice) -> Option<usize> {
        let active = |place: usize| loads.active(self.host(place));
        let place = match &self.balancer {
            Balancer::RoundRobin(round) => round.pick(),
            Balancer::LeastRequest(least) => least.pick(dice, active),
            Balancer::Random(split) => split.pick(dice),
            Balancer::PeakEwma(peak) => peak.pick(dice, |place| loads.cost(self.host(place)), active),
            Balancer::Consistent(consistent) => {
                // as Envoy: a request without anything to hash goes anywhere
                let hash = hash.unwrap_or_else(|| dice.next_u64());
                consistent.pick(hash, attempt, active, || loads.total())
            }
        };
        place.map(|place| self.host(place))
    }

    fn host(&self, place: usize) -> usize {
        match &*self.hosts {
            [] => place,
            hosts => hosts[place] as usize,
        }
    }
}

/// One of the model's balancers.
#[derive(Debug)]
enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Split),
    PeakEwma(PeakEwma),
    Consistent(Consistent),
}

impl Balancer {
    /// The dice decide where round robin begins, so that proxies that start together do not move in step.
    fn new(rule: Rule, hash_balance_factor: Option<u32>, members: &[Member], dice: &mut Dice) -> Balancer {
        let weights = || whole_weights(members.iter().map(|member| member.weight));
        let consistent = |table| Balancer::Consistent(Consistent::new(table, members, hash_balance_factor));
        match rule {
            Rule::RoundRobin => Balancer::RoundRobin(RoundRobin::new(&weights(), dice)),
            Rule::LeastRequest { choices, bias } => {
                Balancer::LeastRequest(LeastRequest::new(choices, bias, &weights()))
            }
            Rule::Random => Balancer::Random(Split::new(weights())),
            Rule::PeakEwma { .. } => Balancer::PeakEwma(PeakEwma::new(&weights())),
            Rule::RingHash { minimum_size, maximum_size } => {
                consistent(Table::Ring(RingHash::new(members, minimum_size, maximum_size)))
            }
            Rule::Maglev { table_size } => consistent(Table::Maglev(Maglev::new(members, table_size))),
        }
    }
}
