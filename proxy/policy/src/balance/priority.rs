//! How much of the load each priority takes, and which are in panic: Envoy's rules, to the percent.
//!
//! The next priority helps out before the first is gone: one that is 72 % healthy counts as wholly healthy (over-provisioning),
//! below that the rest spills over. And when too few are healthy to carry the load, health is disbelieved (panic): sending
//! everything to the last healthy host would take that down too, and often it is the health checks that are wrong.

/// Envoy's over-provisioning factor, in percent.
pub(super) const OVERPROVISIONING: u32 = 140;

/// What is counted of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) hosts: u32,
    pub(super) healthy: u32,
}

impl Census {
    /// Percent of the load that it can carry: `min(100, 1.4 * 100 * healthy / hosts)`.
    pub(super) fn health(self) -> u32 {
        percent(OVERPROVISIONING, self.healthy, self.hosts).min(100)
    }

    fn in_panic(self, threshold: u32) -> bool {
        percent(100, self.healthy, self.hosts) < threshold
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Of itself, 0..=100.
    pub(super) health: u32,
    /// Its part of all requests; those of all levels are 100 together.
    pub(super) load: u32,
    /// All its hosts are used, whatever their health.
    pub(super) panic: bool,
}

/// The levels of a cluster, in order of priority; each has a host. A threshold of 0: never panic.
pub(super) fn levels(census: &[Census], panic_threshold: u32) -> Vec<Level> {
    let health: Vec<u32> = census.iter().map(|one| one.health()).collect();
    let all_healthy = health.iter().sum::<u32>() >= 100;
    let panic = |one: &Census| !all_healthy && one.in_panic(panic_threshold.min(100));
    let loads = match health.iter().any(|health| *health > 0) {
        _ if census.iter().all(panic) => loads_by_size(census),
        true => loads_by_health(&health),
        // without panic, it is the first that has nobody
        false => (0..census.len()).map(|level| if level == 0 { 100 } else { 0 }).collect(),
    };
    let level = |((one, health), load): ((&Census, u32), u32)| Level { health, load, panic: panic(one) };
    census.iter().zip(health).zip(loads).map(level).collect()
}

/// Each as much as it can carry, the first ones first; scaled up when all together cannot carry everything.
fn loads_by_health(health: &[u32]) -> Vec<u32> {
    let total = health.iter().sum::<u32>().min(100);
    let mut left = 100;
    let mut loads: Vec<u32> = Vec::with_capacity(health.len());
    for one in health {
        let load = (one * 100 / total).min(left);
        left -= load;
        loads.push(load);
    }
    give_to_first(&mut loads, left, |level| health[level] > 0);
    loads
}

/// When all of them are in panic, health says nothing any more, and Envoy spreads the load over all hosts.
fn loads_by_size(census: &[Census]) -> Vec<u32> {
    let total = census.iter().map(|one| one.hosts).sum();
    let mut loads: Vec<u32> = census.iter().map(|one| percent(100, one.hosts, total)).collect();
    let left = 100 - loads.iter().sum::<u32>();
    give_to_first(&mut loads, left, |_| true);
    loads
}

/// What rounding left over.
fn give_to_first(loads: &mut [u32], left: u32, fits: impl Fn(usize) -> bool) {
    if let Some(first) = (0..loads.len()).find(|level| fits(*level)) {
        loads[first] += left;
    }
}

fn percent(whole: u32, part: u32, of: u32) -> u32 {
    (u64::from(whole) * u64::from(part)).checked_div(u64::from(of)).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loads(healthy_of_100: &[u32], threshold: u32) -> Vec<u32> {
        let census: Vec<Census> =
            healthy_of_100.iter().map(|healthy| Census { hosts: 100, healthy: *healthy }).collect();
        levels(&census, threshold).iter().map(|level| level.load).collect()
    }

    #[test]
    fn the_load_table() {
        for threshold in [0, 20] {
            assert_eq!(loads(&[100, 100], threshold), [100, 0]);
            assert_eq!(loads(&[72, 100], threshold), [100, 0]);
            assert_eq!(loads(&[71, 100], threshold), [99, 1]);
            assert_eq!(loads(&[50, 100], threshold), [70, 30]);
            assert_eq!(loads(&[25, 100], threshold), [35, 65]);
            assert_eq!(loads(&[25, 25], threshold), [50, 50]);
        }
    }

    #[test]
    fn what_rounding_leaves_goes_to_the_first_that_is_healthy() {
        // 20 + 20 + 20 % of health are 14 * 3 of load 28 each
        assert_eq!(loads(&[0, 15, 15, 15], 0), [0, 34, 33, 33]);
    }

    #[test]
    fn a_priority_is_in_panic_only_while_all_together_cannot_carry_the_load() {
        let panics = |healthy: &[u32]| -> Vec<bool> {
            let census: Vec<Census> = healthy.iter().map(|healthy| Census { hosts: 100, healthy: *healthy }).collect();
            levels(&census, 50).iter().map(|level| level.panic).collect()
        };
        assert_eq!(panics(&[10, 100]), [false, false], "the second carries what the first cannot");
        assert_eq!(panics(&[49]), [true]);
        assert_eq!(panics(&[50]), [false]);
        assert_eq!(panics(&[10, 55]), [true, false], "14 + 77 are less than 100");
        assert_eq!(panics(&[0, 0]), [true, true]);
    }

    #[test]
    fn everything_dead_is_used_by_size_in_panic_and_not_at_all_without() {
        assert_eq!(loads(&[0, 0], 50), [50, 50]);
        assert_eq!(loads(&[0, 0], 0), [100, 0]);
    }

    #[test]
    fn with_every_priority_in_panic_load_goes_by_their_sizes() {
        let census = [Census { hosts: 10, healthy: 1 }, Census { hosts: 30, healthy: 3 }];
        let loads: Vec<u32> = levels(&census, 50).iter().map(|level| level.load).collect();
        assert_eq!(loads, [25, 75]);
    }

    proptest! {
        #[test]
        fn loads_are_100_together(census in proptest::collection::vec((1u32.., 0.0f64..=1.0), 1..10), threshold in 0u32..200) {
            let count = |(hosts, healthy): &(u32, f64)| Census { hosts: *hosts, healthy: (f64::from(*hosts) * healthy) as u32 };
            let census: Vec<Census> = census.iter().map(count).map(|one| Census { hosts: one.hosts >> 8 | 1, healthy: one.healthy >> 8 }).collect();
            prop_assert_eq!(levels(&census, threshold).iter().map(|level| level.load).sum::<u32>(), 100);
        }
    }
}
