//! Who is ejected, for how long, and who returns. Decides only: the events say what was done to the monitors.

use super::judges::{Look, by_failure_percentage, by_slowness, by_success_rate};
use super::monitor::{Ejection, Interval, Monitor};
use super::{Cause, Decision, Event, Origin, ReturnedBy};
use crate::Dice;
use std::borrow::Borrow;
use std::time::{Duration, Instant};
use weft_model::outlier::OutlierDetection;

/// The outlier detection of one cluster. The hosts handed in are always all hosts of the cluster, over all priorities. `&mut`:
/// of two that see the last room, one comes too late.
#[derive(Debug)]
pub struct Detector {
    policy: OutlierDetection,
}

impl Detector {
    pub fn new(policy: OutlierDetection) -> Self {
        Detector { policy }
    }

    pub fn policy(&self) -> &OutlierDetection {
        &self.policy
    }

    /// Hosts that are ejected stay so, for the time that the new policy says.
    pub fn update(&mut self, policy: OutlierDetection) {
        self.policy = policy;
    }

    /// Decides about a host that is taken for an outlier. `None`: it is ejected already, or there is no such host any more.
    pub fn trip<H: Borrow<Monitor>>(
        &mut self,
        hosts: &[H],
        host: usize,
        cause: Cause,
        now: Instant,
        dice: &mut Dice,
    ) -> Option<Event> {
        let monitor = hosts.get(host)?.borrow();
        if monitor.is_ejected() {
            return None;
        }
        let enforcing = self.enforcing(&cause);
        let decision = match self.no_room(hosts) {
            Some(refusal) => refusal,
            None if dice.below(100) >= enforcing => Decision::NotEnforced { enforcing },
            None => self.eject(monitor, cause, now, dice),
        };
        monitor.reset_consecutive(&cause);
        Some(Event { host, cause, decision })
    }

    /// To be called each [`interval`](OutlierDetection::interval): hosts whose time is over return, the interval's
    /// numbers are judged, and new ones begin.
    pub fn sweep<H: Borrow<Monitor>>(&mut self, hosts: &[H], now: Instant, dice: &mut Dice) -> Vec<Event> {
        let mut events = Vec::new();
        let mut looks = Vec::with_capacity(hosts.len());
        for (host, monitor) in hosts.iter().map(Borrow::borrow).enumerate() {
            events.extend(self.check_for_return(host, monitor, now));
            let interval = monitor.take_interval(now);
            if !monitor.is_ejected() {
                looks.push((host, interval));
            }
        }
        for (host, cause) in self.outliers(&looks) {
            events.extend(self.trip(hosts, host, cause, now, dice));
        }
        events
    }

    /// The host passed an active health check. `None`: it was not ejected, or the policy lets it serve its time.
    pub fn restore<H: Borrow<Monitor>>(&mut self, hosts: &[H], host: usize, now: Instant) -> Option<Event> {
        let monitor = hosts.get(host)?.borrow();
        self.policy.healthy_check_restores.then(|| give_back(host, monitor, ReturnedBy::HealthCheck, now)).flatten()
    }

    /// When that host's ejection is over; it returns at the first sweep from then on. `None`: it is not ejected.
    pub fn ejected_until(&self, monitor: &Monitor) -> Option<Instant> {
        let record = monitor.record();
        let ejection = record.ejection?;
        ejection.since.checked_add(self.length(record.backoff, ejection.jitter))
    }

    /// The policy is taken away: all hosts return.
    pub fn release<H: Borrow<Monitor>>(self, hosts: &[H], now: Instant) -> Vec<Event> {
        let hosts = hosts.iter().map(Borrow::borrow).enumerate();
        hosts.filter_map(|(host, monitor)| give_back(host, monitor, ReturnedBy::NoPolicy, now)).collect()
    }

    /// What stands against one more ejection.
    fn no_room<H: Borrow<Monitor>>(&self, hosts: &[H]) -> Option<Decision> {
        let of = hosts.len();
        let ejected = hosts.iter().filter(|host| (*host).borrow().is_ejected()).count();
        let percent = self.policy.max_ejection_percent.min(100);
        let fits = 100 * (ejected + 1) <= percent as usize * of;
        let first = ejected == 0 && self.policy.always_eject_one_host;
        match () {
            () if !fits && !first => Some(Decision::Overflow { ejected, of, percent }),
            () if self.policy.keep_one_host && ejected + 1 >= of => Some(Decision::LastHost { of }),
            () => None,
        }
    }

    fn eject(&self, monitor: &Monitor, cause: Cause, now: Instant, dice: &mut Dice) -> Decision {
        let (base, max) = (self.policy.base_ejection_time, self.policy.max_ejection_time);
        let jitter_ms = u64::try_from(self.policy.max_ejection_time_jitter.as_millis()).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(dice.below_u64(jitter_ms.saturating_add(1)));
        let backoff = {
            let mut record = monitor.record();
            if base.saturating_mul(record.backoff) < max.saturating_add(base) {
                record.backoff = record.backoff.saturating_add(1);
            }
            record.backoff
        };
        let number = monitor.eject(Ejection { cause, since: now, jitter });
        Decision::Ejected { length: self.length(backoff, jitter), number }
    }

    /// Returns the host if its time is over; one that behaves gets its back-off forgotten step by step.
    fn check_for_return(&self, host: usize, monitor: &Monitor, now: Instant) -> Option<Event> {
        let mut record = monitor.record();
        match record.ejection {
            Some(ejection) => {
                let length = self.length(record.backoff, ejection.jitter);
                drop(record);
                let over = now.saturating_duration_since(ejection.since) >= length;
                over.then(|| give_back(host, monitor, ReturnedBy::Time, now)).flatten()
            }
            None => {
                let behaved = |returned| now.saturating_duration_since(returned) >= self.policy.interval;
                if record.returned.is_some_and(behaved) {
                    record.backoff = record.backoff.saturating_sub(1);
                }
                None
            }
        }
    }

    fn length(&self, backoff: u32, jitter: Duration) -> Duration {
        let time = self.policy.base_ejection_time.saturating_mul(backoff).min(self.policy.max_ejection_time);
        time.saturating_add(jitter)
    }

    /// Against whom the interval speaks, in Envoy's order.
    fn outliers(&self, looks: &[Look<Interval>]) -> Vec<Look<Cause>> {
        let policy = &self.policy;
        let mut outliers = Vec::new();
        for origin in [Origin::External, Origin::Local] {
            let rates: Vec<_> = looks
                .iter()
                .map(|(host, interval)| match origin {
                    Origin::External => (*host, interval.external),
                    Origin::Local => (*host, interval.local),
                })
                .collect();
            outliers.extend(by_success_rate(&policy.success_rate, origin, &rates));
            outliers.extend(by_failure_percentage(&policy.failure_percentage, origin, &rates));
        }
        if let Some(slow) = &policy.slow {
            outliers.extend(by_slowness(slow, looks));
        }
        outliers
    }

    fn enforcing(&self, cause: &Cause) -> u32 {
        let policy = &self.policy;
        match cause {
            Cause::Consecutive5xx { .. } => policy.consecutive_5xx.enforcing,
            Cause::ConsecutiveGatewayFailure { .. } => policy.consecutive_gateway_failure.enforcing,
            Cause::ConsecutiveLocalOriginFailure { .. } => policy.consecutive_local_origin_failure.enforcing,
            Cause::SuccessRate { origin: Origin::External, .. } => policy.success_rate.enforcing,
            Cause::SuccessRate { origin: Origin::Local, .. } => policy.success_rate.enforcing_local_origin,
            Cause::FailurePercentage { origin: Origin::External, .. } => policy.failure_percentage.enforcing,
            Cause::FailurePercentage { origin: Origin::Local, .. } => policy.failure_percentage.enforcing_local_origin,
            Cause::Slow { .. } => 100,
        }
    }
}

fn give_back(host: usize, monitor: &Monitor, by: ReturnedBy, now: Instant) -> Option<Event> {
    let Ejection { cause, since, .. } = monitor.ejection()?;
    monitor.give_back(now);
    let after = now.saturating_duration_since(since);
    Some(Event { host, cause, decision: Decision::Returned { after, by } })
}
