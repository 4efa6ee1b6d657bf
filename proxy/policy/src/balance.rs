//! Which endpoint answers, and which of several weighted backends.
//!
//! Everything is prepared when the endpoints change; a pick allocates nothing and takes a time that does
//! not grow with the number of endpoints (binary search by weight apart). Indices are those of the weights that were handed in:
//! the caller lists the endpoints that may be picked at all.

mod least_request;
mod round_robin;
mod split;
#[cfg(test)]
mod tests;

use crate::Dice;
pub use least_request::LeastRequest;
pub use round_robin::RoundRobin;
pub use split::Split;

/// One of the model's balancers over a list of endpoints. Shared by all workers.
#[derive(Debug)]
pub enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Split),
}

impl Balancer {
    /// The dice decide where round robin begins, so that proxies that start together do not move in step.
    pub fn new(kind: weft_model::cluster::Balancer, weights: &[u32], dice: &mut Dice) -> Balancer {
        use weft_model::cluster::Balancer as Kind;
        match kind {
            Kind::RoundRobin => Balancer::RoundRobin(RoundRobin::new(weights, dice)),
            Kind::LeastRequest { choices, .. } => Balancer::LeastRequest(LeastRequest::new(choices, weights)),
            Kind::Random => Balancer::Random(Split::new(weights.iter().copied())),
            Kind::PeakEwma { .. } | Kind::RingHash { .. } | Kind::Maglev { .. } => {
                Balancer::LeastRequest(LeastRequest::new(2, weights))
            }
        }
    }

    /// The index of the endpoint to send to; `None` when there is none. `load` tells the requests that an endpoint is busy with.
    pub fn pick(&self, dice: &mut Dice, load: impl Fn(usize) -> u32) -> Option<usize> {
        match self {
            Balancer::RoundRobin(round) => round.pick(),
            Balancer::LeastRequest(least) => least.pick(dice, load),
            Balancer::Random(split) => split.pick(dice),
        }
    }
}
