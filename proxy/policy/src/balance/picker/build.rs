//! Building a picker: count, settle the priorities, then the localities of each.

use super::{Degree, Localities, Members, NoHost, Picker, Source, Tier};
use crate::Dice;
use crate::balance::group::{Group, Making};
use crate::balance::priority::{Census, Level, levels};
use crate::balance::{Host, Split, locality, slow_start, whole_weights};
use std::collections::BTreeMap;
use std::time::Instant;
use weft_model::balancer::{Balancer, Balancing, LocalityRule};
use weft_model::endpoint::Locality;

pub(super) fn picker(
    rule: Balancer,
    balancing: &Balancing,
    members: &Members<'_>,
    now: Instant,
    dice: &mut Dice,
) -> Picker {
    let mut by_priority: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, host) in members.hosts.iter().enumerate().filter(|(_, host)| host.degree != Degree::Excluded) {
        by_priority.entry(host.priority).or_default().push(index);
    }
    let census: Vec<Census> = by_priority.values().map(|indices| census(members.hosts, indices)).collect();
    let builder = Builder { making: Making { rule, balancing, hosts: members.hosts, now }, members };
    let levels = levels(&census, balancing.panic_threshold);
    let tier = |((priority, indices), level): ((u32, Vec<usize>), Level)| Tier {
        priority,
        health: level.health,
        load: level.load,
        source: builder.source(priority, &indices, level, dice),
    };
    let tiers: Box<[Tier]> = by_priority.into_iter().zip(levels).map(tier).collect();
    Picker {
        only: tiers.iter().position(|tier| tier.load == 100),
        tiers,
        consistent: rule.is_consistent(),
        nobody: if members.hosts.is_empty() { NoHost::NoEndpoints } else { NoHost::AllUnhealthy },
        rebuild_at: balancing
            .slow_start
            .as_ref()
            .filter(|_| !rule.is_consistent())
            .and_then(|slow| slow_start::rebuild_at(members.hosts, slow, now)),
    }
}

fn census(hosts: &[Host<'_>], indices: &[usize]) -> Census {
    let healthy = indices.iter().filter(|index| hosts[**index].degree == Degree::Healthy).count();
    Census { hosts: indices.len() as u32, healthy: healthy as u32 }
}

struct Builder<'a> {
    making: Making<'a>,
    members: &'a Members<'a>,
}

impl Builder<'_> {
    fn source(&self, priority: u32, indices: &[usize], level: Level, dice: &mut Dice) -> Source {
        let balancing = self.making.balancing;
        if level.panic {
            return match balancing.fail_traffic_on_panic {
                true => Source::Nobody(NoHost::Panic),
                false => Source::All(self.alike(indices, dice)),
            };
        }
        let healthy = self.healthy(indices);
        if healthy.is_empty() {
            return Source::Nobody(NoHost::AllUnhealthy);
        }
        match balancing.locality {
            LocalityRule::Weighted if !self.making.rule.is_consistent() => self.weighted(indices, &healthy, dice),
            LocalityRule::ZoneAware { routing_enabled_percent, min_cluster_size }
                if priority == 0 && !self.making.rule.is_consistent() && healthy.len() as u64 >= min_cluster_size =>
            {
                self.by_zone(&healthy, routing_enabled_percent, dice)
            }
            _ => Source::All(self.alike(&healthy, dice)),
        }
    }

    fn healthy(&self, indices: &[usize]) -> Vec<usize> {
        indices.iter().copied().filter(|index| self.making.hosts[*index].degree == Degree::Healthy).collect()
    }

    /// One group of all. A table of hashes has no localities to choose first: their weights are in it.
    fn alike(&self, indices: &[usize], dice: &mut Dice) -> Group {
        match self.making.balancing.locality {
            LocalityRule::Weighted if self.making.rule.is_consistent() => self.group_by_locality_weight(indices, dice),
            _ => self.group(indices, dice),
        }
    }

    fn group(&self, indices: &[usize], dice: &mut Dice) -> Group {
        Group::new(&self.making, indices, |_| 1.0, dice)
    }

    /// A locality in proportion to its weight and its healthy part. Where weights say nothing of those that are healthy, all are alike.
    fn weighted(&self, indices: &[usize], healthy: &[usize], dice: &mut Dice) -> Source {
        let mut shares = Vec::new();
        let mut groups = Vec::new();
        for (place, indices) in self.by_locality(indices) {
            let share = locality::effective_weight(self.weight(place), census(self.making.hosts, &indices));
            if share > 0.0 {
                shares.push(share);
                groups.push(self.group(&self.healthy(&indices), dice));
            }
        }
        if groups.is_empty() {
            return Source::All(self.group(healthy, dice));
        }
        Source::Localities(localities(&whole_weights(shares.into_iter()), groups))
    }

    /// As Envoy's: a host's weight is its part of its locality's. Where no locality has one, all are alike.
    fn group_by_locality_weight(&self, indices: &[usize], dice: &mut Dice) -> Group {
        let mut scales: BTreeMap<&Locality, f64> = BTreeMap::new();
        for (place, there) in self.by_locality(indices) {
            let hosts: f64 = there.iter().map(|index| f64::from(self.making.hosts[*index].weight.max(1))).sum();
            scales.insert(place, f64::from(self.weight(place)) / hosts);
        }
        let scale = |index: usize| scales[self.making.hosts[index].locality];
        let weighted: Vec<usize> = indices.iter().copied().filter(|index| scale(*index) > 0.0).collect();
        match weighted.is_empty() {
            true => self.group(indices, dice),
            false => Group::new(&self.making, &weighted, scale, dice),
        }
    }

    fn by_zone(&self, healthy: &[usize], routing_enabled_percent: f64, dice: &mut Dice) -> Source {
        let zones = self.zones(healthy);
        let callers = |zone: &Locality| {
            let there = self.members.callers.iter().filter(|(place, _)| locality::same_zone(place, zone));
            there.fold(0u32, |sum, (_, count)| sum.saturating_add(*count))
        };
        let asked: Vec<u32> = zones.iter().map(|(zone, _)| callers(zone)).collect();
        let offered: Vec<u32> = zones.iter().map(|(_, indices)| indices.len() as u32).collect();
        let all = self.group(healthy, dice);
        match locality::zone_shares(&asked, &offered) {
            None => Source::All(all),
            Some(shares) => {
                let groups = zones.iter().map(|(_, indices)| self.group(indices, dice)).collect();
                let routed = (routing_enabled_percent.clamp(0.0, 100.0) * 10_000.0).round() as u32;
                Source::Zones { routed, zones: localities(&shares, groups), all }
            }
        }
    }

    /// The hosts of each zone, this proxy's own zone first, though it may have none.
    fn zones(&self, indices: &[usize]) -> Vec<(&Locality, Vec<usize>)> {
        let own = self.members.own;
        let mut zones = vec![(own, Vec::new())];
        let mut others: BTreeMap<(&str, &str), (&Locality, Vec<usize>)> = BTreeMap::new();
        for index in indices {
            let place = self.making.hosts[*index].locality;
            match locality::same_zone(place, own) {
                true => zones[0].1.push(*index),
                false => {
                    let zone = others.entry((&place.region, &place.zone)).or_insert_with(|| (place, Vec::new()));
                    zone.1.push(*index);
                }
            }
        }
        zones.extend(others.into_values());
        zones
    }

    fn by_locality(&self, indices: &[usize]) -> BTreeMap<&Locality, Vec<usize>> {
        let mut places: BTreeMap<&Locality, Vec<usize>> = BTreeMap::new();
        for index in indices {
            places.entry(self.making.hosts[*index].locality).or_default().push(*index);
        }
        places
    }

    fn weight(&self, place: &Locality) -> u32 {
        self.members.locality_weights.iter().find(|(known, _)| known == place).map_or(0, |(_, weight)| *weight)
    }
}

fn localities(shares: &[u32], groups: Vec<Group>) -> Localities {
    Localities { shares: Split::new(shares.iter().copied()), groups: groups.into() }
}
