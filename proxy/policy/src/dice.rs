//! Randomness that is handed in: whoever decides by chance takes a [`Dice`], so a test that gives
//! the seed gets the same decisions again.
//!
//! The generator is wyrand (Wang Yi): 64 bits of state, one multiplication per throw, good enough to spread load, not for secrets.

use weft_model::route::Share;

/// A small seeded generator.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    /// Evenly one of `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u32
    }

    /// As [`Dice::below`], for sums of weights.
    pub fn below_u64(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Evenly in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True for that share of the throws.
    pub fn within(&mut self, share: Share) -> bool {
        self.below(Share::ALL.millionths()) < share.millionths()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Fails when counts this far from their weights have a probability under about one in 10^6 (chi-square).
    pub(crate) fn assert_shares(seed: u64, weights: &[u32], counts: &[u32]) {
        let (weight_sum, count_sum): (u32, u32) = (weights.iter().sum(), counts.iter().sum());
        let mut statistic = 0.0;
        for (weight, count) in weights.iter().zip(counts) {
            let expected = f64::from(count_sum) * f64::from(*weight) / f64::from(weight_sum);
            match *weight {
                0 => assert_eq!(*count, 0, "seed {seed}: weight 0 was picked"),
                _ => statistic += (f64::from(*count) - expected).powi(2) / expected,
            }
        }
        let freedom = weights.iter().filter(|weight| **weight > 0).count() as f64 - 1.0;
        // Wilson and Hilferty's approximation of the quantile 4.75 standard deviations out
        let bound = freedom * (1.0 - 2.0 / (9.0 * freedom) + 4.75 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
        assert!(
            statistic < bound,
            "seed {seed}: chi-square {statistic:.1} over {bound:.1}: {counts:?} for {weights:?}"
        );
    }

    #[test]
    fn throws_are_even() {
        for seed in [0, 1, u64::MAX] {
            let mut dice = Dice::new(seed);
            let mut counts = [0; 7];
            (0..70_000).for_each(|_| counts[dice.below(7) as usize] += 1);
            assert_shares(seed, &[1; 7], &counts);
        }
    }

    #[test]
    fn the_same_seed_throws_the_same() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            [dice.next_u64(), dice.next_u64(), dice.next_u64()]
        };
        assert_eq!(throws(42), throws(42));
        assert_ne!(throws(42), throws(43));
    }

    #[test]
    fn shares_are_kept_and_their_ends_are_exact() {
        let mut dice = Dice::new(9);
        assert!((0..1000).all(|_| dice.within(Share::ALL)));
        assert!(!(0..1000).any(|_| dice.within(Share::NONE)));
        let tenth = Share::ratio(1, 10).unwrap();
        let hits = (0..50_000).filter(|_| dice.within(tenth)).count() as u32;
        assert_shares(9, &[1, 9], &[hits, 50_000 - hits]);
        assert_eq!(dice.below(0), 0);
    }
}
