//! Circuit breakers.
//!
//! All limits are written, because Envoy's own would be 1024 of everything and 3 retries. [`weft_model::breaker::Trip`] travels in our
//! metadata: Envoy has none. So does it that a budget is of [`ShareOf::FirstTries`], which stands above what Envoy would make of it.
//! The limit of connections to one host is written for both priorities, and read when they agree.
//!
//! Normal form: a budget of what began within an interval of 0 is one of all tries.

use super::super::numbers;
use super::super::parts::{self, At, Decoded, apart, each, refuse};
use cds::circuit_breakers::{Thresholds as Wire, thresholds::RetryBudget as WireBudget};
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use serde::{Deserialize, Serialize};
use weft_model::breaker::{CircuitBreakers, RetryBudget, RetryLimit, ShareOf, Thresholds, Trip};

const PRIORITIES: [RoutingPriority; 2] = [RoutingPriority::Default, RoutingPriority::High];

/// Of which priorities the retry budget is a share of first tries.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OfFirstTries {
    default: bool,
    high: bool,
}

/// What Envoy has no field for.
#[derive(Default)]
pub(super) struct Ours {
    pub(super) trip: Option<Trip>,
    pub(super) of_first_tries: Option<OfFirstTries>,
}

pub(super) fn ours(breakers: &CircuitBreakers) -> Ours {
    let of = |thresholds: &Thresholds| match thresholds.retries {
        RetryLimit::Budget(budget) => budget.of == ShareOf::FirstTries,
        RetryLimit::Concurrent(_) => false,
    };
    let of = OfFirstTries { default: of(&breakers.default), high: of(&breakers.high) };
    Ours { trip: breakers.trip, of_first_tries: Some(of).filter(|of| *of != OfFirstTries::default()) }
}

pub(super) fn encode(breakers: &CircuitBreakers) -> cds::CircuitBreakers {
    let per_host = |most: u32| {
        PRIORITIES.map(|priority| Wire {
            priority: priority as i32,
            max_connections: parts::number(most),
            ..Default::default()
        })
    };
    cds::CircuitBreakers {
        thresholds: vec![
            encode_thresholds(RoutingPriority::Default, &breakers.default),
            encode_thresholds(RoutingPriority::High, &breakers.high),
        ],
        per_host_thresholds: breakers.max_connections_per_host.map(per_host).into_iter().flatten().collect(),
    }
}

fn encode_thresholds(priority: RoutingPriority, thresholds: &Thresholds) -> Wire {
    let (max_retries, retry_budget) = match &thresholds.retries {
        RetryLimit::Concurrent(most) => (parts::number(*most), None),
        RetryLimit::Budget(budget) => (None, Some(encode_budget(budget))),
    };
    Wire {
        priority: priority as i32,
        max_connections: parts::number(thresholds.max_connections),
        max_pending_requests: parts::number(thresholds.max_pending_requests),
        max_requests: parts::number(thresholds.max_requests),
        max_retries,
        retry_budget,
        track_remaining: true,
        max_connection_pools: None,
    }
}

fn encode_budget(budget: &RetryBudget) -> WireBudget {
    WireBudget {
        budget_percent: numbers::percent(budget.percent),
        budget_interval: match budget.of {
            ShareOf::BegunWithin(interval) => Some(parts::duration(interval)),
            ShareOf::FirstTries | ShareOf::AllTries => None,
        },
        min_retry_concurrency: parts::number(budget.min_concurrency),
    }
}

/// What is left out has Envoy's limits.
pub(super) fn decode(breakers: Option<cds::CircuitBreakers>, ours: Ours) -> Decoded<CircuitBreakers> {
    apart!(breakers.unwrap_or_default() => cds::CircuitBreakers {
        read: thresholds, per_host_thresholds;
        ignored: ;
        refused:
    });
    let thresholds = each("thresholds", thresholds, decode_thresholds)?;
    let of = |priority, of_first_tries: bool| {
        // as in Envoy, the first one of a priority counts
        let first = thresholds.iter().find(|(of, _)| *of == priority);
        let mut thresholds = first.map_or(Thresholds::ENVOY, |(_, thresholds)| *thresholds);
        if let RetryLimit::Budget(budget) = &mut thresholds.retries
            && of_first_tries
        {
            budget.of = ShareOf::FirstTries;
        }
        thresholds
    };
    let of_first_tries = ours.of_first_tries.unwrap_or_default();
    Ok(CircuitBreakers {
        default: of(RoutingPriority::Default, of_first_tries.default),
        high: of(RoutingPriority::High, of_first_tries.high),
        max_connections_per_host: decode_per_host(per_host_thresholds)?,
        trip: ours.trip,
    })
}

fn decode_thresholds(thresholds: Wire) -> Decoded<(RoutingPriority, Thresholds)> {
    apart!(thresholds => Wire {
        read: priority, max_connections, max_pending_requests, max_requests, max_retries, retry_budget, max_connection_pools;
        ignored: track_remaining;
        refused:
    });
    if numbers::count(max_connection_pools, u32::MAX) != u32::MAX {
        return refuse("max_connection_pools", "is not supported by this proxy");
    }
    let default = Thresholds::ENVOY;
    let retries = match retry_budget {
        Some(budget) => RetryLimit::Budget(decode_budget(budget).at("retry_budget")?),
        None => max_retries.map_or(default.retries, |most| RetryLimit::Concurrent(most.value)),
    };
    let thresholds = Thresholds {
        max_connections: numbers::count(max_connections, default.max_connections),
        max_pending_requests: numbers::count(max_pending_requests, default.max_pending_requests),
        max_requests: numbers::count(max_requests, default.max_requests),
        retries,
    };
    Ok((read_priority(priority)?, thresholds))
}

fn decode_budget(budget: WireBudget) -> Decoded<RetryBudget> {
    let default = RetryBudget::ENVOY;
    let interval = parts::read_limit("budget_interval", budget.budget_interval, None)?;
    Ok(RetryBudget {
        percent: numbers::read_percent("budget_percent", budget.budget_percent, default.percent)?,
        of: interval.map_or(default.of, ShareOf::BegunWithin),
        min_concurrency: numbers::count(budget.min_retry_concurrency, default.min_concurrency),
    })
}

fn decode_per_host(thresholds: Vec<Wire>) -> Decoded<Option<u32>> {
    let limits = each("per_host_thresholds", thresholds, |thresholds| {
        apart!(thresholds => Wire {
            read: priority, max_connections;
            ignored: track_remaining;
            refused: max_pending_requests, max_requests, max_retries, retry_budget, max_connection_pools
        });
        Ok((read_priority(priority)?, max_connections.map(|most| most.value)))
    })?;
    let of = |priority| limits.iter().find(|(of, _)| *of == priority).and_then(|(_, most)| *most);
    match PRIORITIES.map(of) {
        [Some(default), Some(high)] if default != high => {
            refuse("per_host_thresholds", "one max_connections for both priorities is supported by this proxy")
        }
        [None, Some(_)] => refuse("per_host_thresholds", "max_connections is missing for the priority DEFAULT"),
        [default, _] => Ok(default),
    }
}

fn read_priority(priority: i32) -> Decoded<RoutingPriority> {
    RoutingPriority::try_from(priority).or_else(|_| refuse("priority", format!("{priority} is no priority")))
}
