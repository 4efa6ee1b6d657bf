//! Whom an interval's numbers speak against: straight from the numbers, before anybody asks whether there is room.

use super::monitor::{Interval, Rate};
use super::{Cause, Origin};
use std::time::Duration;
use weft_model::outlier::{FailurePercentage, Slow, SuccessRate};

/// A host in question and what it did.
pub(super) type Look<T> = (usize, T);

/// Hosts under mean - `stdev_factor` / 1000 population standard deviations of the hosts with enough requests, if those are
/// enough.
pub(super) fn by_success_rate(policy: &SuccessRate, origin: Origin, looks: &[Look<Rate>]) -> Vec<Look<Cause>> {
    let judged = with_volume(looks, policy.request_volume);
    if judged.is_empty() || judged.len() < policy.minimum_hosts as usize {
        return Vec::new();
    }
    let hosts = judged.len();
    let mean = judged.iter().map(|(_, rate)| rate.percent()).sum::<f64>() / hosts as f64;
    let variance = judged.iter().map(|(_, rate)| (rate.percent() - mean).powi(2)).sum::<f64>() / hosts as f64;
    let deviation = variance.sqrt();
    let threshold = mean - deviation * f64::from(policy.stdev_factor) / 1000.0;
    let under = judged.into_iter().filter(|(_, rate)| rate.percent() < threshold);
    let cause = |of: Rate| Cause::SuccessRate {
        origin,
        rate: of.percent(),
        threshold,
        mean,
        deviation,
        requests: of.requests,
        hosts,
    };
    under.map(|(host, rate)| (host, cause(rate))).collect()
}

/// Hosts of whose requests at least `threshold` percent failed.
pub(super) fn by_failure_percentage(
    policy: &FailurePercentage,
    origin: Origin,
    looks: &[Look<Rate>],
) -> Vec<Look<Cause>> {
    let judged = with_volume(looks, policy.request_volume);
    if judged.len() < policy.minimum_hosts as usize {
        return Vec::new();
    }
    let threshold = policy.threshold;
    let over = judged.into_iter().filter(|(_, rate)| 100.0 - rate.percent() >= f64::from(threshold));
    let cause =
        |of: Rate| Cause::FailurePercentage { origin, failed: 100.0 - of.percent(), threshold, requests: of.requests };
    over.map(|(host, rate)| (host, cause(rate))).collect()
}

/// Hosts whose mean time is over `factor` times that of all others together, and over the floor.
pub(super) fn by_slowness(policy: &Slow, looks: &[Look<Interval>]) -> Vec<Look<Cause>> {
    let all_requests: u64 = looks.iter().map(|(_, interval)| interval.requests()).sum();
    let all_time: Duration = looks.iter().fold(Duration::ZERO, |sum, (_, interval)| sum.saturating_add(interval.time));
    let slow = looks.iter().filter_map(|(host, interval)| {
        let requests = interval.requests();
        let mean = mean_of(interval.time, requests)?;
        let others = mean_of(all_time.saturating_sub(interval.time), all_requests - requests)?;
        let volume = u64::from(policy.request_volume);
        // Who is silent is sent little, by balancers that look at the load: the others' answers stand in for its own.
        let silent = interval.answered == 0 && all_requests - requests >= volume;
        let enough = requests >= volume || silent;
        let over = mean > policy.floor && mean.as_secs_f64() > policy.factor * others.as_secs_f64();
        let cause = Cause::Slow { mean, others, answered: interval.answered, unanswered: interval.unanswered };
        (enough && over).then_some((*host, cause))
    });
    slow.collect()
}

fn with_volume(looks: &[Look<Rate>], volume: u32) -> Vec<Look<Rate>> {
    let enough = |rate: &Rate| rate.requests > 0 && rate.requests >= u64::from(volume);
    looks.iter().filter(|(_, rate)| enough(rate)).copied().collect()
}

/// `None` of nothing.
fn mean_of(time: Duration, requests: u64) -> Option<Duration> {
    let nanos = time.as_nanos().checked_div(u128::from(requests))?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

impl Rate {
    /// Of successes; asked only where there were requests.
    fn percent(&self) -> f64 {
        100.0 * self.successes as f64 / self.requests as f64
    }
}

impl Interval {
    fn requests(&self) -> u64 {
        self.answered + self.unanswered
    }
}
