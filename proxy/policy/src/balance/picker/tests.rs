use super::*;
use crate::dice::tests::assert_shares;
use crate::testing::epoch;
use proptest::prelude::*;
use std::time::Duration;
use weft_model::balancer::{LocalityRule, SlowStart};

const PICKS: usize = 10_000;

/// Requests in flight; a host costs a second for each.
struct Busy(Vec<u32>);

impl Loads for Busy {
    fn active(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or(0)
    }

    fn cost(&self, index: usize) -> f64 {
        f64::from(self.active(index)) + 1.0
    }

    fn total(&self) -> u32 {
        self.0.iter().sum()
    }
}

const IDLE: Busy = Busy(Vec::new());

fn place(zone: &str) -> Locality {
    Locality { region: "eu".into(), zone: zone.into(), sub_zone: String::new() }
}

/// The hosts of one test and what is said about them.
struct Cluster {
    rule: Balancer,
    balancing: Balancing,
    /// Priority, zone, health.
    hosts: Vec<(u32, &'static str, Degree)>,
    weights: Vec<u32>,
    since: Vec<Option<Instant>>,
    locality_weights: Vec<(Locality, u32)>,
    callers: Vec<(Locality, u32)>,
    now: Instant,
}

impl Cluster {
    fn of(hosts: impl IntoIterator<Item = (u32, &'static str, Degree)>) -> Cluster {
        let hosts: Vec<_> = hosts.into_iter().collect();
        Cluster {
            rule: Balancer::Random,
            balancing: Balancing::default(),
            weights: vec![1; hosts.len()],
            since: vec![None; hosts.len()],
            hosts,
            locality_weights: Vec::new(),
            callers: Vec::new(),
            now: epoch(),
        }
    }

    /// So many healthy and unhealthy ones of one priority.
    fn health(healthy: usize, unhealthy: usize) -> Cluster {
        let degrees = [vec![Degree::Healthy; healthy], vec![Degree::Unhealthy; unhealthy]].concat();
        Cluster::of(degrees.into_iter().map(|degree| (0, "a", degree)))
    }

    fn picker(&self, dice: &mut Dice) -> Picker {
        let places: Vec<Locality> = self.hosts.iter().map(|(_, zone, _)| place(zone)).collect();
        let host = |(index, (priority, _, degree)): (usize, &(u32, &str, Degree))| Host {
            address: SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 80)),
            weight: self.weights[index],
            priority: *priority,
            locality: &places[index],
            degree: *degree,
            since: self.since[index],
        };
        let hosts: Vec<Host<'_>> = self.hosts.iter().enumerate().map(host).collect();
        let (own, locality_weights, callers) = (&place("a"), &self.locality_weights[..], &self.callers[..]);
        let members = Members { hosts: &hosts, locality_weights, own, callers };
        Picker::new(self.rule, &self.balancing, &members, self.now, dice)
    }

    /// How often each host is picked, or why none is.
    fn counts(&self, seed: u64, request: &Pick<'_>) -> Result<Vec<u32>, NoHost> {
        let mut dice = Dice::new(seed);
        let picker = self.picker(&mut dice);
        let mut counts = vec![0; self.hosts.len()];
        for _ in 0..PICKS {
            counts[picker.pick(request, &IDLE, &mut dice)?] += 1;
        }
        Ok(counts)
    }

    fn assert_shares(&self, shares: &[u32]) {
        for seed in 0..5 {
            assert_shares(seed, shares, &self.counts(seed, &Pick::default()).unwrap());
        }
    }
}

#[test]
fn three_of_four_ejected_with_50_percent_send_traffic_to_all_four() {
    Cluster::health(1, 3).assert_shares(&[1, 1, 1, 1]);
}

#[test]
fn three_of_four_ejected_with_0_send_traffic_only_to_the_healthy_one() {
    let mut cluster = Cluster::health(1, 3);
    cluster.balancing.panic_threshold = 0;
    assert_eq!(cluster.counts(1, &Pick::default()), Ok(vec![PICKS as u32, 0, 0, 0]));
}

#[test]
fn all_ejected_with_0_is_no_healthy_upstream() {
    let mut cluster = Cluster::health(0, 4);
    cluster.balancing.panic_threshold = 0;
    assert_eq!(cluster.counts(1, &Pick::default()), Err(NoHost::AllUnhealthy));
}

#[test]
fn no_endpoints_are_not_the_same_as_unhealthy_ones() {
    assert_eq!(Cluster::of([]).counts(1, &Pick::default()), Err(NoHost::NoEndpoints));
    let leaving = Cluster::of([(0, "a", Degree::Excluded)]);
    assert_eq!(leaving.counts(1, &Pick::default()), Err(NoHost::AllUnhealthy));
}

#[test]
fn panic_may_refuse_instead() {
    let mut cluster = Cluster::health(1, 3);
    cluster.balancing.fail_traffic_on_panic = true;
    assert_eq!(cluster.counts(1, &Pick::default()), Err(NoHost::Panic));
    let mut cluster = Cluster::health(2, 2);
    cluster.balancing.fail_traffic_on_panic = true;
    cluster.assert_shares(&[1, 1, 0, 0]);
}

#[test]
fn panic_does_not_use_those_that_leave_nor_count_them() {
    let degrees = [Degree::Healthy, Degree::Unhealthy, Degree::Excluded, Degree::Excluded];
    let counts = Cluster::of(degrees.map(|degree| (0, "a", degree))).counts(1, &Pick::default());
    assert_eq!(counts, Ok(vec![PICKS as u32, 0, 0, 0]), "one of two is 50 %");
    let degrees = [Degree::Unhealthy, Degree::Unhealthy, Degree::Excluded];
    Cluster::of(degrees.map(|degree| (0, "a", degree))).assert_shares(&[1, 1, 0]);
}

#[test]
fn the_next_priority_takes_what_the_first_cannot() {
    let first = [Degree::Healthy, Degree::Unhealthy].map(|degree| (0, "a", degree));
    let second = [Degree::Healthy, Degree::Healthy].map(|degree| (3, "a", degree));
    Cluster::of(first.into_iter().chain(second)).assert_shares(&[70, 0, 15, 15]);
}

#[test]
fn everything_dead_is_used_alike_whatever_the_priority() {
    let hosts = [0, 0, 1, 1].map(|priority| (priority, "a", Degree::Unhealthy));
    Cluster::of(hosts).assert_shares(&[1, 1, 1, 1]);
}

#[test]
fn avoided_priorities_are_left_out_while_another_can_serve() {
    let cluster = Cluster::of([0, 1, 2].map(|priority| (priority, "a", Degree::Healthy)));
    let counts = |avoid: &[u32]| cluster.counts(1, &Pick { avoid_priorities: avoid, ..Pick::default() }).unwrap();
    let all = PICKS as u32;
    assert_eq!(counts(&[]), [all, 0, 0]);
    assert_eq!(counts(&[0]), [0, all, 0]);
    assert_eq!(counts(&[0, 1]), [0, 0, all]);
    assert_eq!(counts(&[0, 1, 2]), [all, 0, 0], "when all were met it begins anew");
}

#[test]
fn another_host_is_looked_for_so_many_times_and_then_the_last_is_taken() {
    let mut cluster = Cluster::health(2, 0);
    let avoid = |index: usize| index == 0;
    let counts = |cluster: &Cluster, attempts| {
        cluster.counts(4, &Pick { avoid: Some(&avoid), attempts, ..Pick::default() }).unwrap()
    };
    assert_shares(4, &[1, 1], &counts(&cluster, 0));
    assert_shares(4, &[1, 7], &counts(&cluster, 2));
    cluster.rule = Balancer::RoundRobin;
    assert_eq!(counts(&cluster, 1), [0, PICKS as u32]);
    assert_eq!(counts(&Cluster::health(1, 0), 5), [PICKS as u32], "better the same than none");
}

#[test]
fn localities_share_by_weight_and_by_their_healthy_part() {
    let zone = |zone, degree| (0, zone, degree);
    let hosts = [
        zone("a", Degree::Healthy),
        zone("b", Degree::Healthy),
        zone("b", Degree::Unhealthy),
        zone("c", Degree::Healthy),
        zone("d", Degree::Healthy),
        zone("e", Degree::Unhealthy),
    ];
    let mut cluster = Cluster::of(hosts);
    cluster.balancing.locality = LocalityRule::Weighted;
    cluster.locality_weights = vec![(place("a"), 1), (place("b"), 2), (place("c"), 3), (place("e"), 9)];
    // b is half healthy, 2 * 1.4 / 2; nothing is said of d
    cluster.assert_shares(&[10, 14, 0, 30, 0, 0]);
    cluster.locality_weights.clear();
    cluster.assert_shares(&[1, 1, 0, 1, 1, 0]);
}

#[test]
fn with_hashes_a_localitys_weight_is_shared_by_its_hosts() {
    let mut cluster = Cluster::of(["a", "b", "b"].map(|zone| (0, zone, Degree::Healthy)));
    cluster.rule = Balancer::MAGLEV;
    cluster.balancing.locality = LocalityRule::Weighted;
    cluster.locality_weights = vec![(place("a"), 2), (place("b"), 1)];
    cluster.assert_shares(&[4, 1, 1]);
}

#[test]
fn a_zone_keeps_its_requests_as_far_as_its_hosts_carry_them() {
    let mut cluster = Cluster::of(["a", "a", "b", "b", "b", "b", "b", "b"].map(|zone| (0, zone, Degree::Healthy)));
    cluster.balancing.locality = LocalityRule::ZoneAware { routing_enabled_percent: 100.0, min_cluster_size: 6 };
    // a quarter of the hosts and, as nothing else is known, half of the callers: a half stays
    cluster.assert_shares(&[3, 3, 1, 1, 1, 1, 1, 1]);
    cluster.callers = vec![(place("a"), 1), (place("b"), 3)];
    cluster.assert_shares(&[1, 1, 0, 0, 0, 0, 0, 0]);
    cluster.balancing.locality = LocalityRule::ZoneAware { routing_enabled_percent: 0.0, min_cluster_size: 6 };
    cluster.assert_shares(&[1; 8]);
    cluster.balancing.locality = LocalityRule::ZoneAware { routing_enabled_percent: 100.0, min_cluster_size: 9 };
    cluster.assert_shares(&[1; 8]);
}

#[test]
fn the_same_hash_goes_to_the_same_host_and_no_hash_anywhere() {
    for rule in [Balancer::RING_HASH, Balancer::MAGLEV] {
        let mut cluster = Cluster::health(5, 0);
        cluster.rule = rule;
        for hash in [0, 77, u64::MAX] {
            let counts = cluster.counts(1, &Pick { hash: Some(hash), ..Pick::default() }).unwrap();
            assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1, "{rule:?}");
        }
        assert!(cluster.counts(1, &Pick::default()).unwrap().iter().all(|count| *count > 0), "{rule:?}");
    }
}

#[test]
fn slow_start_numbers() {
    let now = epoch();
    let window = Duration::from_secs(100);
    let weight = |passed, aggression| {
        let rule = SlowStart { window, min_weight_percent: 10.0, aggression };
        let locality = place("a");
        let since = Some(now - Duration::from_secs(passed));
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        let host = Host { address, weight: 8, priority: 0, locality: &locality, degree: Degree::Healthy, since };
        super::super::slow_start::weight(&host, Some(&rule), now)
    };
    let near = |weight: f64, expected: f64| assert!((weight - expected).abs() < 1e-9, "{weight} is not {expected}");
    near(weight(0, 1.0), 0.8);
    near(weight(5, 1.0), 0.8);
    near(weight(25, 1.0), 2.0);
    near(weight(50, 1.0), 4.0);
    near(weight(25, 2.0), 4.0);
    near(weight(50, 0.5), 2.0);
    near(weight(100, 1.0), 8.0);
    near(weight(1000, 1.0), 8.0);
}

#[test]
fn a_new_host_gets_its_share_gradually_and_says_when_it_is_worth_more() {
    let mut cluster = Cluster::health(3, 0);
    let window = Duration::from_secs(60);
    cluster.balancing.slow_start = Some(SlowStart { window, min_weight_percent: 10.0, aggression: 1.0 });
    let begin = cluster.now;
    cluster.since = vec![None, None, Some(begin)];
    for (passed, shares) in [(0, [10, 10, 1]), (30, [10, 10, 5]), (60, [10, 10, 10])] {
        cluster.now = begin + Duration::from_secs(passed);
        for rule in [Balancer::Random, Balancer::LEAST_REQUEST] {
            cluster.rule = rule;
            cluster.assert_shares(&shares);
        }
        let expected = (passed < 60).then(|| cluster.now + Duration::from_millis(600));
        assert_eq!(cluster.picker(&mut Dice::new(1)).rebuild_at(), expected);
    }
    cluster.now = begin;
    cluster.rule = Balancer::MAGLEV;
    assert_eq!(cluster.picker(&mut Dice::new(1)).rebuild_at(), None, "not with hashes");
}

#[test]
fn bounded_load_overflows_from_a_busy_host() {
    let mut cluster = Cluster::health(4, 0);
    cluster.rule = Balancer::RING_HASH;
    cluster.balancing.hash_balance_factor = Some(125);
    let mut dice = Dice::new(1);
    let picker = cluster.picker(&mut dice);
    let request = Pick { hash: Some(42), ..Pick::default() };
    let mut busy = Busy(vec![0; 4]);
    for _ in 0..100 {
        let host = picker.pick(&request, &busy, &mut dice).unwrap();
        busy.0[host] += 1;
    }
    // a hundredth request finds room for ceil(100 * 1.25 / 4)
    assert!(busy.0.iter().all(|active| *active <= 32), "{:?}", busy.0);
    assert_eq!(busy.0.iter().max(), Some(&32));
}

fn rules() -> impl Strategy<Value = Balancer> {
    prop_oneof![
        Just(Balancer::RoundRobin),
        (0u32..300, 0.0f64..3.0).prop_map(|(choices, bias)| Balancer::LeastRequest { choices, bias }),
        Just(Balancer::Random),
        Just(Balancer::PEAK_EWMA),
        (0u64..100, 0u64..200)
            .prop_map(|(minimum_size, maximum_size)| Balancer::RingHash { minimum_size, maximum_size }),
        (0u64..300).prop_map(|table_size| Balancer::Maglev { table_size }),
    ]
}

fn localities() -> impl Strategy<Value = LocalityRule> {
    prop_oneof![
        Just(LocalityRule::Ignore),
        Just(LocalityRule::Weighted),
        Just(LocalityRule::ZoneAware { routing_enabled_percent: 50.0, min_cluster_size: 2 }),
    ]
}

fn hosts() -> impl Strategy<Value = Vec<(u32, &'static str, Degree)>> {
    let degree = prop_oneof![Just(Degree::Healthy), Just(Degree::Unhealthy), Just(Degree::Excluded)];
    proptest::collection::vec((0u32..3, prop_oneof![Just("a"), Just("b"), Just("c")], degree), 0..40)
}

proptest! {
    /// Whatever is configured: who is picked exists and is not leaving, and without panic is healthy; nobody only when nobody is healthy.
    #[test]
    fn who_is_picked_may_be_picked(
        rule in rules(),
        locality in localities(),
        hosts in hosts(),
        weight in 0u32..,
        panic_threshold in 0u32..=100,
        factor in proptest::option::of(0u32..200),
        seed: u64,
    ) {
        let mut cluster = Cluster::of(hosts);
        cluster.rule = rule;
        cluster.weights.iter_mut().step_by(2).for_each(|one| *one = weight);
        cluster.balancing = Balancing { panic_threshold, locality, hash_balance_factor: factor, ..Balancing::default() };
        cluster.locality_weights = vec![(place("a"), weight), (place("b"), 1)];
        let mut dice = Dice::new(seed);
        let picker = cluster.picker(&mut dice);
        let busy = Busy((0..cluster.hosts.len() as u32).map(|index| (seed as u32 >> (index % 32)) & 0xff).collect());
        let healthy = cluster.hosts.iter().any(|(_, _, degree)| *degree == Degree::Healthy);
        for turn in 0u32..20 {
            let avoid = |index: usize| index.is_multiple_of(2);
            let hash = (turn.is_multiple_of(2)).then(|| dice.next_u64());
            let request = Pick { hash, avoid: Some(&avoid), attempts: turn, avoid_priorities: &[1] };
            match picker.pick(&request, &busy, &mut dice).map(|index| cluster.hosts[index].2) {
                Ok(Degree::Healthy) => {}
                Ok(Degree::Unhealthy) => prop_assert!(panic_threshold > 0),
                Ok(Degree::Excluded) => prop_assert!(false, "one that leaves was picked"),
                Err(why) => prop_assert!(!healthy, "{why}"),
            }
        }
    }
}
