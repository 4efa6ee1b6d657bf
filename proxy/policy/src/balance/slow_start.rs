//! A host that has just begun is not given its whole share at once: caches are cold and connections are yet to be made, and under
//! least request it would even look like the best choice of all.
//!
//! Weights are those of the moment in which a picker is built, so that a pick costs nothing more; [`rebuild_at`] says when the next
//! step is due.

use super::Host;
use std::time::{Duration, Instant};
use weft_model::balancer::SlowStart;

/// A window is climbed in so many steps, but no faster than [`LEAST_STEP`].
const STEPS: u32 = 100;
const LEAST_STEP: Duration = Duration::from_millis(100);

/// Envoy's `weight * max(min_weight_percent, t^(1 / aggression))`, where t is the fraction of the window that is over.
pub(super) fn weight(host: &Host<'_>, rule: Option<&SlowStart>, now: Instant) -> f64 {
    let whole = f64::from(host.weight.max(1));
    match rule.zip(host.since) {
        Some((rule, since)) if is_starting(since, rule, now) => {
            let passed = now.saturating_duration_since(since).as_secs_f64() / rule.window.as_secs_f64();
            let least = (rule.min_weight_percent / 100.0).clamp(0.0, 1.0);
            whole * passed.powf(1.0 / rule.aggression.max(f64::MIN_POSITIVE)).max(least)
        }
        _ => whole,
    }
}

/// When weights have grown enough for another picker; `None` when none grows.
pub(super) fn rebuild_at(hosts: &[Host<'_>], rule: &SlowStart, now: Instant) -> Option<Instant> {
    let growing = hosts.iter().filter_map(|host| host.since).any(|since| is_starting(since, rule, now));
    growing.then(|| now + (rule.window / STEPS).max(LEAST_STEP))
}

fn is_starting(since: Instant, rule: &SlowStart, now: Instant) -> bool {
    now.saturating_duration_since(since) < rule.window
}
