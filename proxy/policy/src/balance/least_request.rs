//! To whoever is least busy, of a few picked at random: close to the best choice without looking at everybody
//! (Mitzenmacher's power of two choices), and without a herd running to the one that was idle a moment ago.

use crate::Dice;

/// With unequal weights, at most so many endpoints are weighed per pick.
const WINDOW: usize = 64;

/// Least request, as Envoy's.
#[derive(Clone, Debug)]
pub struct LeastRequest {
    endpoints: usize,
    choices: u32,
    bias: f64,
    /// Empty when they are all equal.
    weights: Box<[u32]>,
}

impl LeastRequest {
    /// Fewer than two choices count as two (Envoy's minimum); a weight of 0 as 1. `bias` is Envoy's `active_request_bias`, at
    /// least 0: how much requests in flight count against a greater weight.
    pub fn new(choices: u32, bias: f64, weights: &[u32]) -> Self {
        let equal = weights.windows(2).all(|pair| pair[0].max(1) == pair[1].max(1));
        let kept = if equal { Box::default() } else { weights.iter().map(|weight| (*weight).max(1)).collect() };
        LeastRequest { endpoints: weights.len(), choices: choices.max(2), bias, weights: kept }
    }

    pub fn pick(&self, dice: &mut Dice, load: impl Fn(usize) -> u32) -> Option<usize> {
        match self.endpoints {
            0 => None,
            1 => Some(0),
            _ if !self.weights.is_empty() => Some(self.pick_by_weight(dice, load)),
            2 => Some(pick_of_two(dice, 2, load)),
            endpoints if self.choices == 2 => Some(pick_of_two(dice, endpoints as u32, load)),
            endpoints => Some(self.pick_of_many(dice, endpoints as u32, load)),
        }
    }

    /// A random place and a random stride; one that comes round to a place again has a choice less. As many
    /// choices as endpoints look at all of them.
    fn pick_of_many(&self, dice: &mut Dice, endpoints: u32, load: impl Fn(usize) -> u32) -> usize {
        let start = dice.below(endpoints);
        let stride = if self.choices >= endpoints { 1 } else { 1 + dice.below(endpoints - 1) };
        let mut best = start as usize;
        let mut least = load(best);
        let mut at = u64::from(start);
        for _ in 1..self.choices.min(endpoints) {
            at = (at + u64::from(stride)) % u64::from(endpoints);
            let candidate = at as usize;
            let candidate_load = load(candidate);
            if candidate_load < least {
                (best, least) = (candidate, candidate_load);
            }
        }
        best
    }

    /// In proportion to weight / (active + 1)^bias, Envoy's rule for unequal weights, over a window of endpoints that
    /// begins anywhere.
    fn pick_by_weight(&self, dice: &mut Dice, load: impl Fn(usize) -> u32) -> usize {
        let endpoints = self.weights.len();
        let window = endpoints.min(WINDOW);
        let start = if window < endpoints { dice.below(endpoints as u32) as usize } else { 0 };
        let mut ends = [0u64; WINDOW];
        let mut sum = 0;
        for (offset, end) in ends[..window].iter_mut().enumerate() {
            let index = (start + offset) % endpoints;
            sum += self.scaled_weight(self.weights[index], load(index));
            *end = sum;
        }
        let throw = dice.below_u64(sum);
        (start + ends[..window].partition_point(|end| *end <= throw).min(window - 1)) % endpoints
    }

    fn scaled_weight(&self, weight: u32, active: u32) -> u64 {
        let scaled = u64::from(weight) << 16;
        let share = match self.bias {
            1.0 => scaled / (u64::from(active) + 1),
            bias => (scaled as f64 / (f64::from(active) + 1.0).powf(bias.max(0.0))) as u64,
        };
        share.max(1)
    }
}

/// Two that differ; of equally busy ones the first.
pub(super) fn pick_of_two<L: PartialOrd>(dice: &mut Dice, endpoints: u32, load: impl Fn(usize) -> L) -> usize {
    let first = dice.below(endpoints) as usize;
    let second = (first + 1 + dice.below(endpoints - 1) as usize) % endpoints as usize;
    if load(second) < load(first) { second } else { first }
}
