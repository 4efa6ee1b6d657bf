mod rates;

use super::*;
use crate::Dice;
use crate::testing::epoch;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Instant;
use weft_model::outlier::{Consecutive, OutlierDetection};

const INTERVAL: Duration = Duration::from_secs(10);

/// A cluster and its detector in virtual time.
struct Kit {
    detector: Detector,
    hosts: Vec<Arc<Monitor>>,
    now: Instant,
    dice: Dice,
}

impl Kit {
    fn new(hosts: usize, policy: OutlierDetection) -> Kit {
        let now = epoch();
        let hosts = (0..hosts).map(|_| Arc::new(Monitor::new(now))).collect();
        Kit { detector: Detector::new(policy), hosts, now, dice: Dice::new(1) }
    }

    fn report(&mut self, host: usize, outcome: Outcome) -> Vec<Event> {
        let causes = self.hosts[host].report(self.detector.policy(), outcome);
        causes.filter_map(|cause| self.detector.trip(&self.hosts, host, cause, self.now, &mut self.dice)).collect()
    }

    fn statuses(&mut self, host: usize, statuses: &[u16]) -> Vec<Decision> {
        let events = statuses.iter().flat_map(|status| self.report(host, Outcome::Status(*status)));
        events.map(|event| event.decision).collect()
    }

    /// Waits for the next interval.
    fn sweep(&mut self) -> Vec<Event> {
        self.now += INTERVAL;
        self.detector.sweep(&self.hosts, self.now, &mut self.dice)
    }

    /// Sweeps until the host is back; how long that took.
    fn until_returned(&mut self, host: usize) -> Duration {
        let began = self.now;
        while self.hosts[host].is_ejected() {
            self.sweep();
        }
        self.now - began
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].is_ejected()).collect()
    }
}

fn percent(max_ejection_percent: u32) -> OutlierDetection {
    OutlierDetection { max_ejection_percent, ..OutlierDetection::default() }
}

fn ejected(decisions: &[Decision]) -> bool {
    matches!(decisions, [Decision::Ejected { .. }])
}

#[test]
fn of_5_hosts_a_failing_one_is_not_ejected_at_10_percent_and_is_at_20() {
    let mut kit = Kit::new(5, percent(10));
    assert_eq!(kit.statuses(0, &[500; 5]), [Decision::Overflow { ejected: 0, of: 5, percent: 10 }]);
    assert_eq!(kit.ejected(), []);
    let mut kit = Kit::new(5, percent(20));
    assert_eq!(kit.statuses(0, &[500; 4]), []);
    assert_eq!(kit.statuses(0, &[500]), [Decision::Ejected { length: Duration::from_secs(30), number: 1 }]);
    assert_eq!(kit.statuses(1, &[500; 5]), [Decision::Overflow { ejected: 1, of: 5, percent: 20 }]);
    assert_eq!(kit.ejected(), [0]);
}

#[test]
fn ejections_last_30_60_90_seconds_and_at_most_300() {
    let mut kit = Kit::new(1, percent(100));
    for number in 1..=15 {
        let length = Duration::from_secs(300.min(30 * u64::from(number)));
        assert_eq!(kit.statuses(0, &[500; 5]), [Decision::Ejected { length, number }]);
        assert_eq!(kit.until_returned(0), length);
    }
    assert_eq!(kit.hosts[0].ejections(), 15);
}

#[test]
fn hosts_return_only_at_a_sweep() {
    let policy = OutlierDetection { base_ejection_time: Duration::from_secs(12), ..percent(100) };
    let mut kit = Kit::new(2, policy);
    kit.statuses(0, &[500; 5]);
    assert_eq!(kit.until_returned(0), Duration::from_secs(20));
}

#[test]
fn the_time_shrinks_by_one_base_per_sweep_that_a_host_behaves() {
    let mut kit = Kit::new(1, percent(100));
    for _ in 0..4 {
        kit.statuses(0, &[500; 5]);
        kit.until_returned(0);
    }
    kit.sweep();
    kit.sweep();
    let length = Duration::from_secs(30 * 3);
    assert_eq!(kit.statuses(0, &[500; 5]), [Decision::Ejected { length, number: 5 }]);
    kit.until_returned(0);
    (0..10).for_each(|_| drop(kit.sweep()));
    let length = Duration::from_secs(30);
    assert_eq!(kit.statuses(0, &[500; 5]), [Decision::Ejected { length, number: 6 }]);
}

#[test]
fn jitter_makes_an_ejection_longer_by_at_most_itself() {
    let policy = OutlierDetection { max_ejection_time_jitter: Duration::from_millis(3), ..percent(100) };
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut kit = Kit { dice: Dice::new(seed), ..Kit::new(1, policy.clone()) };
        match kit.statuses(0, &[500; 5])[..] {
            [Decision::Ejected { length, .. }] => seen.insert((length - Duration::from_secs(30)).as_millis()),
            ref other => panic!("seed {seed}: {other:?}"),
        };
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_499_resets() {
    let mut kit = Kit::new(1, percent(100));
    assert_eq!(kit.statuses(0, &[500, 500, 500, 500, 499, 500, 500, 500, 500]), []);
    assert!(ejected(&kit.statuses(0, &[599])));
}

#[test]
fn a_501_between_two_503s_resets_the_gateway_counter() {
    let off = Consecutive { threshold: 5, enforcing: 0 };
    let gateway = Consecutive { threshold: 2, enforcing: 100 };
    let policy = OutlierDetection { consecutive_5xx: off, consecutive_gateway_failure: gateway, ..percent(100) };
    let mut kit = Kit::new(1, policy);
    assert_eq!(kit.statuses(0, &[503, 501, 502]), []);
    assert!(ejected(&kit.statuses(0, &[504])));
}

#[test]
fn a_threshold_fires_once_until_the_next_reset() {
    let host = Monitor::new(epoch());
    let policy = OutlierDetection::default();
    let causes: Vec<_> = (0..20).flat_map(|_| host.report(&policy, Outcome::Status(500))).collect();
    assert_eq!(causes, [Cause::Consecutive5xx { failures: 5 }]);
    host.report(&policy, Outcome::Status(200)).for_each(drop);
    assert_eq!((0..20).flat_map(|_| host.report(&policy, Outcome::Status(500))).count(), 1);
}

#[test]
fn what_is_enforced_never_is_said_and_not_done() {
    let mut kit = Kit::new(1, percent(100));
    let decisions = kit.statuses(0, &[503; 5]);
    assert_eq!(decisions[0], Decision::NotEnforced { enforcing: 0 }, "gateway failures are only watched by default");
    assert!(ejected(&decisions[1..]));
}

#[test]
fn a_lost_roll_begins_the_count_anew() {
    let policy = OutlierDetection { consecutive_5xx: Consecutive { threshold: 5, enforcing: 0 }, ..percent(100) };
    let mut kit = Kit::new(1, policy);
    assert_eq!(kit.statuses(0, &[500; 12]), [Decision::NotEnforced { enforcing: 0 }; 2]);
}

#[test]
fn a_share_of_the_cases_is_enforced() {
    let policy = OutlierDetection { consecutive_5xx: Consecutive { threshold: 1, enforcing: 30 }, ..percent(100) };
    let hits = (0..10_000).filter(|seed| {
        let mut kit = Kit { dice: Dice::new(*seed), ..Kit::new(1, policy.clone()) };
        ejected(&kit.statuses(0, &[500]))
    });
    let hits = hits.count() as u32;
    crate::dice::tests::assert_shares(0, &[30, 70], &[hits, 10_000 - hits]);
}

#[test]
fn without_a_split_local_failures_count_as_statuses() {
    use Outcome::{ConnectFailed, LocalTimeout, Reset};
    let mut kit = Kit::new(1, percent(100));
    for outcome in [ConnectFailed, LocalTimeout, Reset, ConnectFailed] {
        assert_eq!(kit.report(0, outcome), []);
    }
    let events = kit.report(0, Outcome::Status(500));
    assert_eq!(events[0].cause, Cause::Consecutive5xx { failures: 5 });
    let host = Monitor::new(epoch());
    let trips = [ConnectFailed, LocalTimeout, ConnectFailed, LocalTimeout, ConnectFailed]
        .into_iter()
        .flat_map(|outcome| host.report(&OutlierDetection::default(), outcome));
    assert_eq!(trips.count(), 2, "as 503 and 504 they are gateway failures too");
}

#[test]
fn with_a_split_local_failures_feed_only_their_own_counter() {
    let policy = OutlierDetection { split_external_local_origin_errors: true, ..percent(100) };
    let mut kit = Kit::new(1, policy);
    for _ in 0..4 {
        assert_eq!(kit.report(0, Outcome::ConnectFailed), []);
        assert_eq!(kit.statuses(0, &[]), []);
    }
    assert_eq!(kit.report(0, Outcome::Connected), []);
    for outcome in [Outcome::LocalTimeout; 4] {
        assert_eq!(kit.report(0, outcome), []);
    }
    let events = kit.report(0, Outcome::ConnectFailed);
    assert_eq!(events[0].cause, Cause::ConsecutiveLocalOriginFailure { failures: 5 });
    assert_eq!(kit.ejected(), [0]);
}

#[test]
fn error_codes_replace_the_rule_for_5xx() {
    let host = Monitor::new(epoch());
    let policy = OutlierDetection { error_codes: vec![429, 503], ..OutlierDetection::default() };
    let trips = |statuses: &[u16]| {
        statuses.iter().flat_map(|status| host.report(&policy, Outcome::Status(*status))).collect::<Vec<_>>()
    };
    assert_eq!(trips(&[500; 20]), []);
    assert_eq!(trips(&[429, 503, 429, 503, 429]), [Cause::Consecutive5xx { failures: 5 }]);
    assert_eq!(trips(&[500]), [], "what is not listed is a success");
    assert_eq!(trips(&[503; 5]).len(), 2, "a listed gateway failure remains one");
}

#[test]
fn the_first_ejection_may_skip_the_percentage() {
    let mut kit = Kit::new(5, OutlierDetection { always_eject_one_host: true, ..percent(10) });
    assert!(ejected(&kit.statuses(0, &[500; 5])));
    assert_eq!(kit.statuses(1, &[500; 5]), [Decision::Overflow { ejected: 1, of: 5, percent: 10 }]);
}

#[test]
fn the_last_host_is_kept() {
    let mut kit = Kit::new(2, OutlierDetection::safe());
    assert!(ejected(&kit.statuses(0, &[500; 5])));
    assert_eq!(kit.statuses(1, &[500; 5]), [Decision::LastHost { of: 2 }]);
    let mut kit = Kit::new(1, OutlierDetection { always_eject_one_host: true, keep_one_host: true, ..percent(0) });
    assert_eq!(kit.statuses(0, &[500; 5]), [Decision::LastHost { of: 1 }]);
}

#[test]
fn a_passed_health_check_restores_at_once_and_resets_the_counters() {
    let mut kit = Kit::new(1, percent(100));
    kit.statuses(0, &[500; 9]);
    kit.now += Duration::from_secs(3);
    let event = kit.detector.restore(&kit.hosts, 0, kit.now).unwrap();
    assert_eq!(
        event.to_string(),
        "returned after 3.0s, as it passed a health check; it had been ejected for: 5 failed requests in a row"
    );
    assert_eq!(kit.detector.restore(&kit.hosts, 0, kit.now), None);
    assert_eq!(kit.statuses(0, &[500; 4]), []);
    assert!(ejected(&kit.statuses(0, &[500])));
    kit.detector.update(OutlierDetection { healthy_check_restores: false, ..percent(100) });
    assert_eq!(kit.detector.restore(&kit.hosts, 0, kit.now), None);
}

#[test]
fn a_policy_update_keeps_ejections() {
    let mut kit = Kit::new(2, percent(100));
    kit.statuses(0, &[500; 5]);
    kit.detector.update(OutlierDetection { base_ejection_time: Duration::from_secs(50), ..percent(10) });
    assert_eq!(kit.ejected(), [0]);
    assert_eq!(kit.until_returned(0), Duration::from_secs(50));
}

#[test]
fn a_policy_taken_away_returns_all() {
    let mut kit = Kit::new(2, percent(100));
    kit.statuses(0, &[500; 5]);
    let events = kit.detector.release(&kit.hosts, kit.now);
    let by = ReturnedBy::NoPolicy;
    assert_eq!(events[0].decision, Decision::Returned { after: Duration::ZERO, by });
    assert!(!kit.hosts[0].is_ejected());
}

#[test]
fn a_cause_for_a_host_that_is_gone_is_ignored() {
    let mut kit = Kit::new(1, percent(100));
    let cause = Cause::Consecutive5xx { failures: 5 };
    assert_eq!(kit.detector.trip(&kit.hosts, 1, cause, kit.now, &mut kit.dice), None);
    assert_eq!(kit.detector.trip::<Arc<Monitor>>(&[], 0, cause, kit.now, &mut kit.dice), None);
}

#[test]
fn refusals_are_said_in_words() {
    let mut kit = Kit::new(5, percent(10));
    let event = (0..5).flat_map(|_| kit.report(0, Outcome::Status(500))).next().unwrap();
    assert_eq!(
        event.to_string(),
        "not ejected, as 0 of 5 hosts are and one more is over max_ejection_percent, 10 %: 5 failed requests in a row"
    );
    let mut kit = Kit::new(1, OutlierDetection::safe());
    let event = (0..5).flat_map(|_| kit.report(0, Outcome::Status(500))).next().unwrap();
    assert_eq!(event.to_string(), "not ejected, as it is the last one left of 1: 5 failed requests in a row");
}

proptest! {
    #[test]
    fn an_ejection_never_leaves_fewer_than_promised(
        hosts in 1usize..12,
        max_percent in 0u32..=100,
        keep_one_host: bool,
        always_eject_one_host: bool,
        failing in proptest::collection::vec(0usize..12, 1..100),
    ) {
        let policy = OutlierDetection { keep_one_host, always_eject_one_host, ..percent(max_percent) };
        let mut kit = Kit::new(hosts, policy);
        for host in failing {
            kit.statuses(host % hosts, &[500; 5]);
            if host == 0 {
                kit.sweep();
            }
            let ejected = kit.ejected().len();
            let allowed = (hosts * max_percent as usize / 100).max(usize::from(always_eject_one_host));
            prop_assert!(ejected <= allowed, "{ejected} of {hosts} at {max_percent} %");
            prop_assert!(!keep_one_host || ejected < hosts);
        }
        let longest = kit.now + Duration::from_secs(310);
        while kit.now < longest {
            kit.sweep();
        }
        prop_assert_eq!(kit.ejected(), Vec::<usize>::new());
    }
}

#[test]
fn an_ejection_tells_until_when_it_lasts_and_the_next_one_lasts_longer() {
    let mut kit = Kit::new(1, percent(100));
    let until = |kit: &Kit| kit.detector.ejected_until(&kit.hosts[0]);
    assert_eq!(until(&kit), None);
    for times in 1..=3 {
        kit.statuses(0, &[500; 5]);
        assert_eq!(until(&kit), Some(kit.now + Duration::from_secs(30) * times));
        assert_eq!(kit.until_returned(0), Duration::from_secs(30) * times);
        assert_eq!(until(&kit), None);
    }
}
