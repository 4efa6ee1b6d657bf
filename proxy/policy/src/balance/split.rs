//! By chance, in proportion to weight.

use crate::Dice;

/// Weighted backends of a route, or endpoints picked at random.
#[derive(Clone, Debug)]
pub struct Split {
    /// `ends[i]` is the sum of the weights up to and with `i`.
    ends: Box<[u64]>,
    /// The only one with a weight: no dice are needed.
    only: Option<usize>,
}

impl Split {
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut sum = 0;
        let mut weighted = Vec::new();
        let ends = weights.into_iter().enumerate().map(|(index, weight)| {
            if weight > 0 {
                weighted.push(index);
            }
            sum += u64::from(weight);
            sum
        });
        let ends = ends.collect();
        Split { ends, only: if let [only] = weighted[..] { Some(only) } else { None } }
    }

    /// In proportion to weight; weight 0 is never picked, and with no weight at all nothing is.
    pub fn pick(&self, dice: &mut Dice) -> Option<usize> {
        if self.only.is_some() {
            return self.only;
        }
        let total = self.ends.last().copied().filter(|total| *total > 0)?;
        let throw = dice.below_u64(total);
        Some(self.ends.partition_point(|end| *end <= throw))
    }
}
