//! XBackendTrafficPolicies: what a Service's owner says of its callers. Of several for one Service the oldest counts for each of
//! its parts, then the first by name, as the Gateway API settles such conflicts (GEP-713). What a DestinationRule says of retries
//! (`retryBudget`, `maxRetries`) is its callers' own word and stands in its place.

use super::index::Index;
use super::precedence::Age;
use super::resilience;
use crate::kinds::{BackendTrafficPolicy, RetryConstraint};
use crate::{Key, Object};
use weft_model::balancer::Persistence;
use weft_model::breaker::{RetryBudget, ShareOf};

/// The policies of a Service, what counts first.
pub(crate) fn of_service<'i>(index: &'i Index, service: &Key) -> Vec<(&'i Object, &'i BackendTrafficPolicy)> {
    let is_meant = |object: &Object, policy: &BackendTrafficPolicy| {
        let mut targets = policy.target_refs.iter();
        object.key.namespace == service.namespace
            && targets.any(|target| target.is("", "Service") && target.name == service.name)
    };
    let mut policies: Vec<_> = index.backend_policies().filter(|(object, policy)| is_meant(object, policy)).collect();
    policies.sort_by_cached_key(|(object, _)| Age::of(object));
    policies
}

/// Its `retryConstraint`, with the rate that is always allowed counted over the budget's own interval, rounded up.
pub(crate) fn retry_budget(index: &Index, service: &Key) -> Option<RetryBudget> {
    let policies = of_service(index, service);
    let RetryConstraint { percent, interval, min_retry_rate: rate, .. } =
        policies.into_iter().find_map(|(_, policy)| policy.retry_constraint.as_ref())?;
    let retries = (u128::from(rate.count) * interval.as_millis()).div_ceil(rate.interval.as_millis());
    Some(RetryBudget {
        percent: f64::from(*percent),
        of: ShareOf::BegunWithin(*interval),
        min_concurrency: u32::try_from(retries).unwrap_or(u32::MAX),
    })
}

/// Its `sessionPersistence`, for every route that has none of its own.
pub(crate) fn persistence(index: &Index, service: &Key) -> Option<Persistence> {
    let policies = of_service(index, service);
    policies.into_iter().find_map(|(object, policy)| {
        let written = policy.session_persistence.as_ref()?;
        Some(resilience::persistence(written, &format!("{}-{}", object.key.namespace, object.key.name)))
    })
}
