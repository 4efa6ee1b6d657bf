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

    /// True for that share of the throws.
    pub fn within(&mut self, share: Share) -> bool {
        self.below(Share::ALL.millionths()) < share.millionths()
    }
}
