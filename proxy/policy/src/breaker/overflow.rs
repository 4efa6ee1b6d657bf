//! Why a breaker refused, in words.

use std::fmt;
use weft_model::breaker::{RetryBudget, ShareOf};

/// A limit that is reached. Nothing was sent, so it is safe to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Overflow {
    Requests {
        limit: u32,
    },
    Pending {
        limit: u32,
    },
    Connections {
        limit: u32,
    },
    HostConnections {
        limit: u32,
    },
    Retries {
        limit: u32,
    },
    /// `limit` retries are what the budget allows of that many requests.
    Budget {
        limit: u64,
        of: u64,
        budget: RetryBudget,
    },
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Overflow::Requests { limit } => write!(f, "all {limit} requests of max_requests are in flight"),
            Overflow::Pending { limit } => {
                write!(f, "all {limit} requests of max_pending_requests are waiting for a connection")
            }
            Overflow::Connections { limit } => write!(f, "all {limit} connections of max_connections are taken"),
            Overflow::HostConnections { limit } => {
                write!(f, "all {limit} connections of max_connections_per_host are taken")
            }
            Overflow::Retries { limit } => write!(f, "all {limit} retries of max_retries are in flight"),
            Overflow::Budget { limit, of, budget } => {
                let RetryBudget { percent, min_concurrency, .. } = budget;
                write!(f, "all {limit} retries of the retry budget are spent: {percent} % of {of} ")?;
                match budget.of {
                    ShareOf::FirstTries => f.write_str("first tries active and pending")?,
                    ShareOf::AllTries => f.write_str("requests active and pending")?,
                    ShareOf::BegunWithin(interval) => write!(f, "requests begun within {interval:?}")?,
                }
                write!(f, ", at least {min_concurrency}")
            }
        }
    }
}

impl std::error::Error for Overflow {}
