use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::SocketAddr;

fn members(weights: &[u32]) -> Vec<Member> {
    let member = |(index, weight): (usize, &u32)| Member {
        address: SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 8080)),
        weight: f64::from(*weight),
    };
    weights.iter().enumerate().map(member).collect()
}

fn key(number: u64) -> u64 {
    xxh64::of_bytes(&number.to_le_bytes(), 99)
}

/// The part of the keys that have another host in `after` although theirs is not `gone`.
fn moved(
    keys: u64,
    gone: usize,
    before: impl Fn(u64) -> usize,
    after: impl Fn(u64) -> SocketAddr,
    all: &[Member],
) -> f64 {
    let moves = |key: &u64| before(*key) != gone && all[before(*key)].address != after(*key);
    (0..keys).map(key).filter(moves).count() as f64 / keys as f64
}

fn shares(keys: u64, hosts: usize, pick: impl Fn(u64) -> usize) -> Vec<f64> {
    let mut counts = vec![0.0; hosts];
    (0..keys).map(key).for_each(|key| counts[pick(key)] += 1.0 / keys as f64);
    counts
}

#[test]
fn the_ring_is_envoys() {
    // Envoy's own test of six hosts on a ring of twelve: these hosts stand at these points
    let member = |port| Member { address: SocketAddr::from(([127, 0, 0, 1], port)), weight: 1.0 };
    let ring = RingHash::new(&(90..96).map(member).collect::<Vec<_>>(), 12, 8_388_608);
    let points = [
        (94, 833_437_586_790_550_860),
        (92, 928_266_305_478_181_108),
        (90, 1_033_482_794_131_418_490),
        (95, 3_551_244_743_356_806_947),
        (93, 3_851_675_632_748_031_481),
        (91, 5_583_722_120_771_150_861),
        (91, 6_311_230_543_546_372_928),
        (93, 7_700_377_290_971_790_572),
        (95, 13_144_177_310_400_110_813),
        (92, 13_444_792_449_719_432_967),
        (94, 15_516_499_411_664_133_160),
        (90, 16_117_243_373_044_804_889),
    ];
    for (port, point) in points {
        assert_eq!(ring.pick(point, 0), Some(port - 90), "{point}");
    }
    assert_eq!(ring.pick(u64::MAX, 0), Some(94 - 90), "after the last point comes the first");
    assert_eq!(ring.pick(0, 1), Some(92 - 90), "another attempt goes a point on");
}

#[test]
fn a_ring_gives_every_host_points_by_its_weight() {
    let ring = RingHash::new(&members(&[1, 2, 5]), 8, 8_388_608);
    let owners: Vec<usize> = (0..8).map(|attempt| ring.pick(0, attempt).unwrap()).collect();
    assert_eq!([0, 1, 2].map(|host| owners.iter().filter(|owner| **owner == host).count()), [1, 2, 5]);
}

#[test]
fn a_ring_has_its_sizes_bounds() {
    let size = |ring: &RingHash, most: u32| {
        let first = ring.pick(0, 0);
        (1..=most).filter(|attempt| ring.pick(0, *attempt) == first).count()
    };
    let ring = RingHash::new(&members(&[1]), 10, 4);
    assert_eq!(size(&ring, 4), 4);
    assert!(RingHash::new(&members(&[1, 1]), 0, 0).pick(5, 3).is_some());
    // the least weight asks for more points than the ring may have
    assert!(RingHash::new(&members(&[1, u32::MAX]), 1024, 2048).pick(5, 0).is_some());
}

#[test]
fn maglevs_table_is_envoys() {
    // Envoy's own tests of a table of 7 and of 17 slots
    let table = |weights: &[f64], slots| {
        let member = |(index, weight): (usize, &f64)| Member {
            address: SocketAddr::from(([127, 0, 0, 1], 90 + index as u16)),
            weight: *weight,
        };
        let table = Maglev::new(&weights.iter().enumerate().map(member).collect::<Vec<_>>(), slots);
        (0..slots).map(|hash| table.pick(hash, 0).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(table(&[1.0; 6], 7), [2, 4, 0, 1, 5, 0, 3]);
    assert_eq!(table(&[1.0, 2.0], 17), [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
    assert_eq!(table(&[0.8, 0.2], 17), [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn maglev_shares_follow_weights_closely() {
    for (weights, table_size) in [(vec![1; 10], 65_537), (vec![1, 2, 5], 10_007), (vec![1, 1000], 10_007)] {
        let members = members(&weights);
        let table = Maglev::new(&members, table_size);
        let total: u32 = weights.iter().sum();
        let mut slots = vec![0u32; weights.len()];
        (0..table_size).for_each(|hash| slots[table.pick(hash, 0).unwrap()] += 1);
        for (count, weight) in slots.iter().zip(&weights) {
            let expected = f64::from(*weight) / f64::from(total) * table_size as f64;
            assert!((f64::from(*count) - expected).abs() <= 2.0, "{slots:?} for {weights:?}");
        }
    }
}

#[test]
fn the_order_of_hosts_does_not_matter_to_maglev() {
    let forward = members(&[3, 1, 2]);
    let backward: Vec<Member> = forward.iter().rev().copied().collect();
    let (one, other) = (Maglev::new(&forward, 1009), Maglev::new(&backward, 1009));
    assert!((0..1009).all(|hash| forward[one.pick(hash, 0).unwrap()] == backward[other.pick(hash, 0).unwrap()]));
}

#[test]
fn maglev_takes_a_size_that_is_no_prime() {
    let three = members(&[1, 1, 1]);
    for table_size in [0, 1, 2, 4, 100, 65_536] {
        assert!(Maglev::new(&three, table_size).pick(u64::MAX, 0).is_some(), "{table_size}");
    }
    let table = Maglev::new(&three, 4);
    let slots: HashMap<usize, usize> = (0..5).map(|hash| (table.pick(hash, 0).unwrap(), 1)).collect();
    assert_eq!(slots.len(), 3, "five slots for three hosts");
}

#[test]
fn another_attempt_of_maglev_goes_elsewhere() {
    let table = Maglev::new(&members(&[1; 20]), 10_007);
    let stays = (0..1000).map(key).filter(|key| table.pick(*key, 0) == table.pick(*key, 1)).count();
    assert!(stays < 100, "{stays}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn few_keys_move_on_a_ring_when_a_host_goes(hosts in 2usize..20, gone in 0usize..20) {
        let gone = gone % hosts;
        let all = members(&vec![1; hosts]);
        let rest: Vec<Member> = (0..hosts).filter(|host| *host != gone).map(|host| all[host]).collect();
        let (before, after) = (RingHash::new(&all, 4096, 8_388_608), RingHash::new(&rest, 4096, 8_388_608));
        // the rest has more points, so that some keys of other hosts move too
        let part = moved(2000, gone, |key| before.pick(key, 0).unwrap(), |key| rest[after.pick(key, 0).unwrap()].address, &all);
        prop_assert!(part <= 1.0 / hosts as f64 + 0.05, "{part} of {hosts}");
    }

    #[test]
    fn no_other_key_moves_when_the_points_of_a_host_stay_the_same(hosts in 2usize..20, gone in 0usize..20) {
        let gone = gone % hosts;
        let all = members(&vec![1; hosts]);
        let rest: Vec<Member> = (0..hosts).filter(|host| *host != gone).map(|host| all[host]).collect();
        let ring = |members: &[Member]| RingHash::new(members, 100 * members.len() as u64, 8_388_608);
        let (before, after) = (ring(&all), ring(&rest));
        let part = moved(2000, gone, |key| before.pick(key, 0).unwrap(), |key| rest[after.pick(key, 0).unwrap()].address, &all);
        prop_assert_eq!(part, 0.0);
    }

    #[test]
    fn few_keys_move_in_maglev_when_a_host_goes(hosts in 2usize..20, gone in 0usize..20) {
        let gone = gone % hosts;
        let all = members(&vec![1; hosts]);
        let rest: Vec<Member> = (0..hosts).filter(|host| *host != gone).map(|host| all[host]).collect();
        let (before, after) = (Maglev::new(&all, 10_007), Maglev::new(&rest, 10_007));
        let part = moved(2000, gone, |key| before.pick(key, 0).unwrap(), |key| rest[after.pick(key, 0).unwrap()].address, &all);
        prop_assert!(part <= 1.0 / hosts as f64 + 0.05, "{part} of {hosts}");
    }

    #[test]
    fn keys_spread_by_weight(weights in proptest::collection::vec(1u32..5, 1..10)) {
        let all = members(&weights);
        let total: u32 = weights.iter().sum();
        let ring = RingHash::new(&all, 16_384, 8_388_608);
        let table = Maglev::new(&all, 10_007);
        let by_ring = shares(4000, all.len(), |key| ring.pick(key, 0).unwrap());
        let by_table = shares(4000, all.len(), |key| table.pick(key, 0).unwrap());
        for ((weight, ring), table) in weights.iter().zip(by_ring).zip(by_table) {
            let expected = f64::from(*weight) / f64::from(total);
            prop_assert!((ring - expected).abs() < 0.06, "ring {ring} for {expected}");
            prop_assert!((table - expected).abs() < 0.05, "Maglev {table} for {expected}");
        }
    }

    /// Every request stays: the load of each host never exceeds its share of all, times the factor.
    #[test]
    fn bounded_load_is_never_over_the_factor(
        weights in proptest::collection::vec(1u32..5, 1..12),
        factor in 100u32..300,
        hot in proptest::collection::vec(0u64..4, 200),
    ) {
        let all = members(&weights);
        let table = Table::Maglev(Maglev::new(&all, 251));
        let consistent = Consistent::new(table, &all, Some(factor));
        let weight_sum: u32 = weights.iter().sum();
        let mut active = vec![0u32; all.len()];
        for (total, number) in hot.iter().enumerate() {
            let host = consistent.pick(key(*number), 0, |host| active[host], || total as u32).unwrap();
            active[host] += 1;
            let all = (f64::from(total as u32 + 1) * f64::from(factor) / 100.0).ceil();
            let bound = (all * f64::from(weights[host]) / f64::from(weight_sum)).ceil().max(1.0);
            prop_assert!(f64::from(active[host]) <= bound + 1e-9, "{active:?} {bound}");
        }
    }

    #[test]
    fn a_walk_comes_by_everybody_once(hash: u64, hosts in 1usize..500) {
        let mut seen: Vec<usize> = walk(hash, hosts).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..hosts).collect::<Vec<_>>());
    }
}

#[test]
fn a_key_stays_with_its_host_until_that_is_full_and_then_overflows_to_the_same_one() {
    let all = members(&[1; 4]);
    let consistent = Consistent::new(Table::Maglev(Maglev::new(&all, 251)), &all, Some(150));
    let home = consistent.pick(key(1), 0, |_| 0, || 0).unwrap();
    let full = |host: usize| if host == home { 4 } else { 1 };
    let overflow = consistent.pick(key(1), 0, full, || 7).unwrap();
    assert_ne!(overflow, home);
    assert!((0..50).all(|_| consistent.pick(key(1), 0, full, || 7) == Some(overflow)));
}

#[test]
fn a_bound_that_is_a_whole_number_is_not_rounded_up() {
    // 51 requests by 4 of 17 are 12, but 51 * (4 / 17) is a little more in floating point
    let all = members(&[1, 1, 2, 4, 3, 1, 1, 2, 1, 1]);
    let consistent = Consistent::new(Table::Maglev(Maglev::new(&all, 251)), &all, Some(100));
    let active = |host: usize| if host == 3 { 12 } else { 0 };
    assert!((0..200).all(|number| consistent.pick(key(number), 0, active, || 50) != Some(3)));
}

#[test]
fn when_all_are_over_their_bound_the_least_full_takes_it() {
    let all = members(&[1; 3]);
    let consistent = Consistent::new(Table::Ring(RingHash::new(&all, 64, 64)), &all, Some(100));
    let active = [9, 7, 8];
    // the cluster's total lags behind
    assert!((0..50).all(|number| consistent.pick(key(number), 0, |host| active[host], || 0) == Some(1)));
}
