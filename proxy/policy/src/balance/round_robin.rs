//! Each in turn; a weight of 3 has three turns, spread over the round.

use crate::Dice;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The longest round of unequal weights, or ten turns per endpoint if that is more. Longer ones are scaled down, which moves a
/// share by at most one turn of these.
const MAX_TURNS: u64 = 4096;

/// Weighted round robin. Several workers may pick from one.
#[derive(Debug)]
pub struct RoundRobin {
    endpoints: usize,
    /// Whose turn it is, when weights differ; empty when they are all equal.
    turns: Box<[u32]>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// A weight of 0 counts as 1.
    pub fn new(weights: &[u32], dice: &mut Dice) -> Self {
        let turns = turns(weights);
        let round = if turns.is_empty() { weights.len() } else { turns.len() };
        let start = dice.below_u64(round as u64) as usize;
        RoundRobin { endpoints: weights.len(), turns, next: AtomicUsize::new(start) }
    }

    pub fn pick(&self) -> Option<usize> {
        if self.endpoints == 0 {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        match &*self.turns {
            [] => Some(turn % self.endpoints),
            turns => Some(turns[turn % turns.len()] as usize),
        }
    }
}

/// Earliest deadline first: the k-th of an endpoint's `w` turns is due at `(k + ½) / w` of the round.
fn turns(weights: &[u32]) -> Box<[u32]> {
    let weight = |index: usize| u64::from(weights[index].max(1));
    if weights.windows(2).all(|pair| pair[0].max(1) == pair[1].max(1)) {
        return Box::default();
    }
    let divisor = (0..weights.len()).map(weight).fold(0, greatest_common_divisor).max(1);
    let total: u64 = (0..weights.len()).map(weight).sum::<u64>() / divisor;
    let most = MAX_TURNS.max(10 * weights.len() as u64);
    let scaled = |index: usize| match weight(index) / divisor {
        weight if total <= most => weight,
        weight => ((weight * most + total / 2) / total).max(1),
    };
    let mut due: Vec<(u64, u32)> = (0..weights.len())
        .flat_map(|index| {
            let weight = scaled(index);
            (0..weight).map(move |turn| (((2 * turn + 1) << 32) / (2 * weight), index as u32))
        })
        .collect();
    due.sort_unstable();
    due.into_iter().map(|(_, index)| index).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
