//! All scenarios, by topic. What Envoy does in each stands beside it, as it was seen.

mod balancing;
mod breakers;
mod faults;
mod grpc;
mod missing;
mod outliers;
mod rate_limits;
mod retries;
mod retry_headers;
mod timeouts;

use crate::scenario::Scenario;

pub(crate) fn all() -> Vec<Scenario> {
    [
        breakers::all(),
        outliers::all(),
        retries::all(),
        retry_headers::all(),
        timeouts::all(),
        balancing::all(),
        rate_limits::all(),
        faults::all(),
        grpc::all(),
        missing::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
