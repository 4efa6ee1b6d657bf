//! How the localities of one priority share its load: by weights that somebody set, or as much as possible to this proxy's own
//! zone.
//!
//! Zone-aware routing keeps traffic in the zone without drowning it: when the callers' zone holds a larger part of the
//! callers than of the hosts, only as much stays as gives every host of the cluster the same load, and the rest goes to the zones
//! that have room (Envoy's rule, in its parts of ten thousand).

use super::priority::{Census, OVERPROVISIONING};
use weft_model::endpoint::Locality;

const WHOLE: u32 = 10_000;

/// Envoy's effective weight of a locality: weight * min(1, 1.4 * healthy / hosts).
pub(super) fn effective_weight(weight: u32, census: Census) -> f64 {
    let healthy = f64::from(census.healthy) / f64::from(census.hosts.max(1));
    f64::from(weight) * (f64::from(OVERPROVISIONING) / 100.0 * healthy).min(1.0)
}

/// Whether two are in one zone; sub-zones are not told apart.
pub(super) fn same_zone(one: &Locality, other: &Locality) -> bool {
    one.region == other.region && one.zone == other.zone
}

/// Of the requests of a caller in the first zone, the shares that go to each zone. `callers` and `hosts` are what each zone has; without
/// any caller known, they are taken to be spread evenly over the zones. `None`: nothing is gained by zones.
pub(super) fn zone_shares(callers: &[u32], hosts: &[u32]) -> Option<Vec<u32>> {
    if hosts.len() < 2 || hosts[0] == 0 {
        return None;
    }
    let even = vec![1; hosts.len()];
    let known = callers.iter().any(|count| *count > 0);
    let (asked, offered) = (parts(if known { callers } else { &even }), parts(hosts));
    if asked[0] == 0 {
        return None; // a caller that is not among the callers: what is known of them is wrong
    }
    if offered[0] >= asked[0] {
        return Some((0..hosts.len()).map(|zone| u32::from(zone == 0)).collect());
    }
    let stay = offered[0] * WHOLE / asked[0];
    let mut room: Vec<u32> =
        offered.iter().zip(&asked).map(|(offered, asked)| offered.saturating_sub(*asked)).collect();
    if room.iter().all(|room| *room == 0) {
        room = even; // only rounding: anywhere
    }
    let total: u32 = room.iter().sum();
    let mut shares: Vec<u32> = room.iter().map(|room| (WHOLE - stay) * room).collect();
    shares[0] += stay * total;
    Some(shares)
}

/// In parts of ten thousand.
fn parts(counts: &[u32]) -> Vec<u32> {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    counts.iter().map(|count| (u64::from(*count) * u64::from(WHOLE) / total) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locality_counts_as_whole_until_less_than_72_percent_of_it_are_healthy() {
        let weight = |healthy| effective_weight(10, Census { hosts: 100, healthy });
        assert_eq!([weight(100), weight(72), weight(50), weight(0)], [10.0, 10.0, 7.0, 0.0]);
    }

    #[test]
    fn a_zone_with_its_part_of_the_hosts_keeps_all_its_requests() {
        assert_eq!(zone_shares(&[5, 5], &[4, 4]), Some(vec![1, 0]));
        assert_eq!(zone_shares(&[1, 9], &[4, 4]), Some(vec![1, 0]));
    }

    #[test]
    fn a_zone_with_too_few_hosts_keeps_what_they_can_carry() {
        // Envoy's documentation: 20 % of the callers and 10 % of the hosts keep a half
        let shares = zone_shares(&[20, 80], &[10, 90]).unwrap();
        assert_eq!(shares[0], shares[1]);
        // what goes elsewhere goes in proportion to room: 30 - 25 and 45 - 25 percent
        let shares = zone_shares(&[50, 25, 25], &[25, 30, 45]).unwrap();
        assert_eq!(shares, [5000 * 2500, 5000 * 500, 5000 * 2000]);
    }

    #[test]
    fn callers_of_whom_nothing_is_known_are_taken_to_be_spread_evenly() {
        assert_eq!(zone_shares(&[0, 0], &[4, 4]), Some(vec![1, 0]));
        assert_eq!(zone_shares(&[], &[3, 1]), Some(vec![1, 0]));
        let shares = zone_shares(&[], &[1, 3]).unwrap();
        assert_eq!(shares[0], shares[1], "a quarter of the hosts for half of the callers");
    }

    #[test]
    fn zones_gain_nothing_without_hosts_here_or_elsewhere() {
        assert_eq!(zone_shares(&[1, 1], &[0, 4]), None);
        assert_eq!(zone_shares(&[1], &[4]), None);
        assert_eq!(zone_shares(&[0, 4], &[4, 4]), None);
    }
}
