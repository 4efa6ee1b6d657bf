//! Who of a cluster may be picked, and for which part of the requests.
//!
//! A [`Picker`] is built anew when hosts, their health or ejections change, and does not change itself: health, priorities,
//! localities and panic are settled in it, so that a pick is one throw per level that is really shared. A cluster of one
//! priority, all healthy, has nothing to settle: its picks are its balancer's.

mod build;
#[cfg(test)]
mod tests;

use super::group::Group;
use super::{Loads, Split};
use crate::Dice;
use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;
use weft_model::balancer::{Balancer, Balancing};
use weft_model::endpoint::Locality;

/// What a picker needs to know of a host.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    pub address: SocketAddr,
    /// 0 counts as 1.
    pub weight: u32,
    /// 0 is first.
    pub priority: u32,
    pub locality: &'a Locality,
    pub degree: Degree,
    /// When it began to be used (was added, or came back to health), for slow start. `None`: long ago.
    pub since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degree {
    Healthy,
    /// Ejected, or failing its checks: used in panic only.
    Unhealthy,
    /// Leaving, or not yet known: never used, and not counted where health is a ratio.
    Excluded,
}

/// A cluster's hosts and where they and their callers are.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a> {
    pub hosts: &'a [Host<'a>],
    /// [`weft_model::Endpoints::locality_weights`], for [`weft_model::balancer::LocalityRule::Weighted`].
    pub locality_weights: &'a [(Locality, u32)],
    /// Where this proxy runs, for [`weft_model::balancer::LocalityRule::ZoneAware`].
    pub own: &'a Locality,
    /// How many proxies like this one run where, for the same rule. Empty: not known, and taken to be spread evenly over the
    /// zones that hosts are in.
    pub callers: &'a [(Locality, u32)],
}

/// One request's wishes.
#[derive(Clone, Copy, Default)]
pub struct Pick<'a> {
    /// [`super::Hashed::hash`]; looked at by consistent balancers only.
    pub hash: Option<u64>,
    /// Whom another host is preferred to, by index (hosts of earlier tries). `None` on a first try.
    pub avoid: Option<&'a dyn Fn(usize) -> bool>,
    /// Picks after the first, while `avoid` says so (Envoy's `host_selection_retry_max_attempts`); then whoever came last is taken.
    pub attempts: u32,
    /// Priorities that are left out as long as another is not wholly unhealthy (Envoy's `previous_priorities`).
    pub avoid_priorities: &'a [u32],
}

/// Why nobody was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHost {
    /// The cluster has no hosts at all.
    NoEndpoints,
    /// It has, but none that may be used.
    AllUnhealthy,
    /// Too few are healthy, and `fail_traffic_on_panic` is set.
    Panic,
}

impl fmt::Display for NoHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoHost::NoEndpoints => "the cluster has no endpoints",
            NoHost::AllUnhealthy => "no endpoint of the cluster is healthy",
            NoHost::Panic => "fewer endpoints of the cluster are healthy than its panic threshold asks for",
        })
    }
}

impl std::error::Error for NoHost {}

/// What one cluster picks from.
#[derive(Debug)]
pub struct Picker {
    /// In order of priority.
    tiers: Box<[Tier]>,
    /// The tier that takes every request, if one does.
    only: Option<usize>,
    /// Whether hashes are looked at.
    consistent: bool,
    /// Without any tier.
    nobody: NoHost,
    rebuild_at: Option<Instant>,
}

/// The hosts of one priority.
#[derive(Debug)]
struct Tier {
    priority: u32,
    /// Percent of itself.
    health: u32,
    /// Percent of all requests.
    load: u32,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Nobody(NoHost),
    All(Group),
    Localities(Localities),
    /// The given millionths of requests by zone, the others from all hosts alike.
    Zones {
        routed: u32,
        zones: Localities,
        all: Group,
    },
}

/// First one of these by share, then a host of it.
#[derive(Debug)]
struct Localities {
    shares: Split,
    groups: Box<[Group]>,
}

impl Picker {
    /// Weights are those that slow start gives at `now`; the dice decide where round robin begins.
    pub fn new(
        balancer: Balancer,
        balancing: &Balancing,
        members: &Members<'_>,
        now: Instant,
        dice: &mut Dice,
    ) -> Picker {
        build::picker(balancer, balancing, members, now, dice)
    }

    /// When the picker should be built again although nothing else changed, because hosts in slow start are worth more by then: a
    /// hundredth of the window on, but not sooner than 100 ms. `None`: never.
    pub fn rebuild_at(&self) -> Option<Instant> {
        self.rebuild_at
    }

    /// The index in [`Members::hosts`] of the host that the request goes to.
    pub fn pick(&self, request: &Pick<'_>, loads: &impl Loads, dice: &mut Dice) -> Result<usize, NoHost> {
        let mut picked = self.pick_once(request, 0, loads, dice)?;
        if let Some(avoid) = request.avoid {
            for attempt in 1..=request.attempts {
                if !avoid(picked) {
                    break;
                }
                picked = self.pick_once(request, attempt, loads, dice)?;
            }
        }
        Ok(picked)
    }

    fn pick_once(
        &self,
        request: &Pick<'_>,
        attempt: u32,
        loads: &impl Loads,
        dice: &mut Dice,
    ) -> Result<usize, NoHost> {
        let hash = request.hash.filter(|_| self.consistent);
        let tier = match self.only {
            Some(only) if request.avoid_priorities.is_empty() => &self.tiers[only],
            _ => self.tier(hash, request.avoid_priorities, dice).ok_or(self.nobody)?,
        };
        let picked = match &tier.source {
            Source::Nobody(why) => return Err(*why),
            Source::All(group) => group.pick(hash, attempt, loads, dice),
            Source::Localities(localities) => localities.pick(hash, attempt, loads, dice),
            Source::Zones { routed, zones, .. } if dice.below(1_000_000) < *routed => {
                zones.pick(hash, attempt, loads, dice)
            }
            Source::Zones { all, .. } => all.pick(hash, attempt, loads, dice),
        };
        picked.ok_or(NoHost::AllUnhealthy)
    }

    /// The same key stays in the same priority.
    fn tier(&self, hash: Option<u64>, avoid: &[u32], dice: &mut Dice) -> Option<&Tier> {
        let throw = hash.map_or_else(|| dice.below(100), |hash| (hash % 100) as u32);
        let avoided = |tier: &Tier| avoid.contains(&tier.priority);
        let left: u32 = self.tiers.iter().filter(|tier| !avoided(tier)).map(|tier| tier.health).sum();
        if avoid.is_empty() || left == 0 {
            return self.tier_at(throw, |tier| tier.load);
        }
        let load = |tier: &Tier| if avoided(tier) { 0 } else { tier.health * 100 / left.min(100) };
        self.tier_at(throw, load).or_else(|| self.tiers.iter().find(|tier| load(tier) > 0))
    }

    fn tier_at(&self, throw: u32, load: impl Fn(&Tier) -> u32) -> Option<&Tier> {
        let mut end = 0;
        self.tiers.iter().find(|tier| {
            end += load(tier);
            throw < end
        })
    }
}

impl Localities {
    fn pick(&self, hash: Option<u64>, attempt: u32, loads: &impl Loads, dice: &mut Dice) -> Option<usize> {
        self.groups[self.shares.pick(dice)?].pick(hash, attempt, loads, dice)
    }
}
