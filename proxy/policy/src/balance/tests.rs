use super::*;
use crate::Dice;
use crate::dice::tests::assert_shares;
use proptest::prelude::*;
use std::cell::RefCell;

const PICKS: usize = 20_000;

fn counts(weights: &[u32], mut pick: impl FnMut() -> usize) -> Vec<u32> {
    let mut counts = vec![0; weights.len()];
    for _ in 0..PICKS {
        counts[pick()] += 1;
    }
    counts
}

#[test]
fn nothing_is_picked_of_nothing() {
    let mut dice = Dice::new(1);
    assert_eq!(RoundRobin::new(&[], &mut dice).pick(), None);
    assert_eq!(LeastRequest::new(2, 1.0, &[]).pick(&mut dice, |_| 0), None);
    assert_eq!(LeastRequest::new(2, 1.0, &[1]).pick(&mut dice, |_| 9), Some(0));
    assert_eq!(PeakEwma::new(&[]).pick(&mut dice, |_| 1.0, |_| 0), None);
    assert_eq!(RingHash::new(&[], 1024, 8_388_608).pick(7, 0), None);
    assert_eq!(Maglev::new(&[], 65_537).pick(7, 0), None);
}

#[test]
fn a_split_follows_its_weights() {
    for seed in 0..10 {
        let weights = [90, 0, 10, 3];
        let split = Split::new(weights);
        let mut dice = Dice::new(seed);
        assert_shares(seed, &weights, &counts(&weights, || split.pick(&mut dice).unwrap()));
    }
}

#[test]
fn weight_zero_is_never_picked_and_all_zero_picks_nothing() {
    let mut dice = Dice::new(7);
    assert_eq!(Split::new([0, 0]).pick(&mut dice), None);
    assert_eq!(Split::new([]).pick(&mut dice), None);
    assert_eq!(Split::new([0, 5, 0]).pick(&mut dice), Some(1));
    let split = Split::new([0, u32::MAX, 0, u32::MAX, 0]);
    assert!((0..1000).all(|_| matches!(split.pick(&mut dice), Some(1 | 3))));
}

#[test]
fn round_robin_begins_anywhere_and_then_takes_turns() {
    let mut starts = [false; 3];
    for seed in 0..50 {
        let round = RoundRobin::new(&[1, 1, 1], &mut Dice::new(seed));
        let picks: Vec<usize> = (0..6).map(|_| round.pick().unwrap()).collect();
        starts[picks[0]] = true;
        for pair in picks.windows(2) {
            assert_eq!(pair[1], (pair[0] + 1) % 3, "seed {seed}: {picks:?}");
        }
    }
    assert_eq!(starts, [true; 3]);
}

#[test]
fn weighted_turns_are_spread_over_the_round() {
    let round = RoundRobin::new(&[3, 1, 0], &mut Dice::new(3));
    let picks: Vec<usize> = (0..5000).map(|_| round.pick().unwrap()).collect();
    for window in picks.windows(5) {
        assert_eq!(window.iter().filter(|pick| **pick == 0).count(), 3, "{window:?}");
    }
    assert!(!picks.windows(4).any(|window| window.iter().all(|pick| *pick == 0)));
}

proptest! {
    #[test]
    fn a_round_gives_each_exactly_its_weight(weights in proptest::collection::vec(1u32..20, 1..20), seed: u64) {
        let round = RoundRobin::new(&weights, &mut Dice::new(seed));
        let mut counts = vec![0; weights.len()];
        for _ in 0..weights.iter().sum() {
            counts[round.pick().unwrap()] += 1;
        }
        let times = counts[0] / weights[0]; // rounds are divided by the common divisor
        let expected: Vec<u32> = weights.iter().map(|weight| weight * times).collect();
        prop_assert_eq!(counts, expected);
    }

    #[test]
    fn weights_of_any_size_keep_their_shares(weights in proptest::collection::vec(1u32.., 2..8), seed: u64) {
        let round = RoundRobin::new(&weights, &mut Dice::new(seed));
        let counts = counts(&weights, || round.pick().unwrap());
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let (share, expected) = (f64::from(*count) / PICKS as f64, f64::from(*weight) / total);
            prop_assert!((share - expected).abs() < 0.002, "{weights:?} {counts:?}");
        }
    }
}

#[test]
fn least_request_takes_the_less_busy_of_two() {
    let loads = [5, 1];
    let least = LeastRequest::new(2, 1.0, &[1, 1]);
    let mut dice = Dice::new(11);
    assert!((0..1000).all(|_| least.pick(&mut dice, |index| loads[index]) == Some(1)));
}

#[test]
fn least_request_never_takes_the_busiest_and_spreads_when_all_are_idle() {
    for seed in 0..10 {
        let mut dice = Dice::new(seed);
        let least = LeastRequest::new(2, 1.0, &[1; 5]);
        assert!((0..1000).all(|_| least.pick(&mut dice, |index| u32::from(index == 3)) != Some(3)), "seed {seed}");
        assert_shares(seed, &[1; 5], &counts(&[1; 5], || least.pick(&mut dice, |_| 0).unwrap()));
    }
}

#[test]
fn as_many_choices_as_endpoints_find_the_least_busy_of_all() {
    let least = LeastRequest::new(6, 1.0, &[1; 6]);
    let mut dice = Dice::new(5);
    assert!((0..1000).all(|_| least.pick(&mut dice, |index| if index == 4 { 2 } else { 3 }) == Some(4)));
}

#[test]
fn unequal_weights_are_shares_of_weight_over_active_plus_one() {
    for seed in 0..10 {
        let mut dice = Dice::new(seed);
        let weights = [1, 2, 5];
        let least = LeastRequest::new(2, 1.0, &weights);
        assert_shares(seed, &weights, &counts(&weights, || least.pick(&mut dice, |_| 0).unwrap()));
        let active = [0, 1, 9];
        let expected = [10, 10, 5]; // 1/1, 2/2, 5/10
        assert_shares(seed, &expected, &counts(&weights, || least.pick(&mut dice, |index| active[index]).unwrap()));
    }
}

#[test]
fn unequal_weights_of_many_endpoints_keep_their_shares_and_look_at_a_window_only() {
    let weights: Vec<u32> = (0..300).map(|index| 1 + index % 3).collect();
    for seed in 0..5 {
        let mut dice = Dice::new(seed);
        let least = LeastRequest::new(2, 1.0, &weights);
        let looked = RefCell::new(0);
        let mut by_weight = [0; 3];
        for _ in 0..PICKS {
            let load = |_: usize| {
                *looked.borrow_mut() += 1;
                0
            };
            by_weight[least.pick(&mut dice, load).unwrap() % 3] += 1;
        }
        assert_eq!(*looked.borrow(), PICKS * 64);
        assert_shares(seed, &[1, 2, 3], &by_weight);
    }
}

#[test]
fn the_bias_says_how_much_requests_in_flight_count_against_weight() {
    for seed in 0..10 {
        let mut dice = Dice::new(seed);
        let (weights, active) = ([4, 2], [3, 0]);
        for (bias, expected) in [(0.0, [2, 1]), (0.5, [1, 1]), (1.0, [1, 2]), (2.0, [1, 8])] {
            let least = LeastRequest::new(2, bias, &weights);
            assert_shares(seed, &expected, &counts(&weights, || least.pick(&mut dice, |index| active[index]).unwrap()));
        }
    }
}

#[test]
fn weights_are_whole_and_keep_their_proportions() {
    let whole = |weights: &[f64]| whole_weights(weights.iter().copied());
    assert_eq!(whole(&[1.0, 3.0, 0.0]), [1, 3, 1]);
    assert_eq!(whole(&[1.0, 0.1, 2.5]), [1000, 100, 2500]);
    assert_eq!(whole(&[f64::from(u32::MAX), f64::from(u32::MAX) / 2.0]), [u32::MAX, u32::MAX / 2 + 1]);
    assert_eq!(whole(&[]), [0u32; 0]);
}

#[test]
fn thousands_of_endpoints_keep_a_tenth_of_a_weight() {
    let mut weights = vec![1000; 5000];
    weights[7] = 100;
    let round = RoundRobin::new(&weights, &mut Dice::new(1));
    let picks: Vec<usize> = (0..10 * 5000).map(|_| round.pick().unwrap()).collect();
    let turns = |index| picks.iter().filter(|pick| **pick == index).count();
    assert!(turns(7) <= 2 && turns(8) >= 9, "{} and {}", turns(7), turns(8));
}
