//! What is judged at each interval: success rates, failure percentages, times to answer.

use super::*;
use weft_model::outlier::{Slow, SuccessRate};

impl Kit {
    /// Each host answers so many of its 100 requests well, none fails often in a row.
    fn rates(&mut self, successes: &[usize]) {
        for (host, successes) in successes.iter().enumerate() {
            for request in 0..100 {
                let failed = (request * (100 - successes)) % 100 + (100 - successes) > 99;
                self.report(host, Outcome::Status(if failed { 500 } else { 200 }));
            }
        }
    }
}

/// Judges rates alone.
fn by_rates() -> OutlierDetection {
    OutlierDetection { consecutive_5xx: Consecutive { threshold: 0, enforcing: 100 }, ..percent(100) }
}

#[test]
fn a_success_rate_of_50_among_100s_is_ejected() {
    let mut kit = Kit::new(5, by_rates());
    kit.rates(&[50, 100, 100, 100, 100]);
    let events = kit.sweep();
    let cause = Cause::SuccessRate {
        origin: Origin::External,
        rate: 50.0,
        threshold: 52.0,
        mean: 90.0,
        deviation: 20.0,
        requests: 100,
        hosts: 5,
    };
    let decision = Decision::Ejected { length: Duration::from_secs(30), number: 1 };
    assert_eq!(events, [Event { host: 0, cause, decision }]);
    assert_eq!(
        events[0].to_string(),
        "ejected for 30s (ejection 1): 50.0 % of its 100 requests succeeded, under 52.0 % \
         (the mean of 5 hosts is 90.0 %, their standard deviation 20.0)"
    );
    assert_eq!(kit.sweep(), [], "the numbers of one interval are not those of the next");
}

#[test]
fn success_rates_need_hosts_and_volume() {
    let mut kit = Kit::new(4, by_rates());
    kit.rates(&[50, 100, 100, 100]);
    assert_eq!(kit.sweep(), [], "4 of the 5 hosts");
    let success_rate = SuccessRate { request_volume: 101, ..SuccessRate::default() };
    let mut kit = Kit::new(5, OutlierDetection { success_rate, ..by_rates() });
    kit.rates(&[50, 100, 100, 100, 100]);
    assert_eq!(kit.sweep(), [], "100 of the 101 requests");
}

#[test]
fn a_failure_percentage_at_its_threshold_is_ejected() {
    let mut policy = by_rates();
    policy.success_rate.enforcing = 0;
    policy.failure_percentage.enforcing = 100;
    policy.success_rate.minimum_hosts = 6;
    let mut kit = Kit::new(5, policy);
    kit.rates(&[15, 16, 50, 15, 100]);
    let events = kit.sweep();
    assert_eq!(events.iter().map(|event| event.host).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(
        events[1].to_string(),
        "ejected for 30s (ejection 1): 85.0 % of its 100 requests failed, the threshold is 85 %"
    );
}

#[test]
fn a_host_ejected_by_its_rate_is_ejected_once() {
    let mut policy = by_rates();
    policy.failure_percentage.enforcing = 100;
    let mut kit = Kit::new(5, policy);
    kit.rates(&[10, 100, 100, 100, 100]);
    assert_eq!(kit.sweep().len(), 1);
    assert_eq!(kit.hosts[0].ejections(), 1);
}

fn slow() -> OutlierDetection {
    OutlierDetection { slow: Some(Slow::default()), ..by_rates() }
}

#[test]
fn a_host_far_slower_than_the_others_is_ejected() {
    let mut kit = Kit::new(3, slow());
    for (host, took_ms) in [1100, 200, 210].into_iter().enumerate() {
        for _ in 0..3 {
            let waiting = kit.hosts[host].began(kit.now);
            waiting.answered(kit.now + Duration::from_millis(took_ms));
        }
    }
    let events = kit.sweep();
    assert_eq!(kit.ejected(), [0]);
    assert_eq!(
        events[0].to_string(),
        "ejected for 30s (ejection 1): it took 1.1s on average (3 answered, 0 not), the other hosts 205.0ms"
    );
}

#[test]
fn a_host_that_does_not_answer_at_all_is_ejected() {
    let mut kit = Kit::new(2, slow());
    let held: Vec<_> = (0..3).map(|_| kit.hosts[1].began(kit.now)).collect();
    kit.hosts[0].began(kit.now).answered(kit.now + Duration::from_millis(5));
    let events = kit.sweep();
    assert!(matches!(events[0].cause, Cause::Slow { mean: INTERVAL, answered: 0, unanswered: 3, .. }), "{events:?}");
    drop(held);
}

#[test]
fn a_host_with_one_request_that_it_does_not_answer_is_ejected_when_the_others_answer() {
    let mut kit = Kit::new(2, slow());
    let held = kit.hosts[1].began(kit.now);
    for _ in 0..3 {
        kit.hosts[0].began(kit.now).answered(kit.now + Duration::from_millis(5));
    }
    kit.sweep();
    assert_eq!(kit.ejected(), [1]);
    drop(held);
}

#[test]
fn a_host_whose_callers_give_up_one_by_one_is_ejected_when_the_others_answer() {
    let mut kit = Kit::new(2, slow());
    for _ in 0..2 {
        kit.hosts[1].began(kit.now).given_up(kit.now + Duration::from_secs(3));
    }
    for _ in 0..3 {
        kit.hosts[0].began(kit.now).answered(kit.now + Duration::from_millis(5));
    }
    let events = kit.sweep();
    assert_eq!(kit.ejected(), [1]);
    assert!(events[0].to_string().contains("it took 3.0s on average (0 answered, 2 not)"), "{events:?}");
}

#[test]
fn a_request_that_begins_while_the_hosts_are_judged_speaks_against_nobody() {
    let mut kit = Kit::new(2, slow());
    for host in &kit.hosts {
        (0..3).for_each(|_| host.began(kit.now).answered(kit.now + Duration::from_millis(5)));
    }
    let after_the_look = kit.hosts[0].began(kit.now + INTERVAL + Duration::from_millis(1));
    assert_eq!(kit.sweep(), []);
    drop(after_the_look);
}

#[test]
fn slow_needs_others_volume_and_the_floor() {
    let mut kit = Kit::new(2, slow());
    let alone: Vec<_> = (0..3).map(|_| kit.hosts[0].began(kit.now)).collect();
    assert_eq!(kit.sweep(), [], "nobody to compare with");
    drop(alone);
    kit.sweep();
    let few: Vec<_> = (0..2).map(|_| kit.hosts[0].began(kit.now)).collect();
    kit.hosts[1].began(kit.now).answered(kit.now);
    assert_eq!(kit.sweep(), [], "two requests");
    drop(few);
    for _ in 0..3 {
        kit.hosts[0].began(kit.now).answered(kit.now + Duration::from_millis(900));
        kit.hosts[1].began(kit.now).answered(kit.now);
    }
    assert_eq!(kit.sweep(), [], "under the floor");
}

proptest! {
    #[test]
    fn mean_times_are_those_of_a_list(
        steps in proptest::collection::vec((0u64..4, 0u64..5_000), 1..60),
    ) {
        let mut kit = Kit::new(1, OutlierDetection::default());
        let (mut waiting, mut time, mut answered, mut given_up) = (Vec::new(), Duration::ZERO, 0, 0);
        for (step, ms) in steps {
            kit.now += Duration::from_millis(ms);
            match step {
                end @ (0 | 1) if !waiting.is_empty() => {
                    let (request, began): (Waiting, Instant) = waiting.swap_remove(ms as usize % waiting.len());
                    time += kit.now - began;
                    if end == 0 {
                        request.answered(kit.now);
                        answered += 1;
                    } else {
                        request.given_up(kit.now);
                        given_up += 1;
                    }
                }
                2 if !waiting.is_empty() => drop(waiting.pop()),
                _ => waiting.push((kit.hosts[0].began(kit.now), kit.now)),
            }
        }
        let age: Duration = waiting.iter().map(|(_, began)| kit.now - *began).sum();
        let interval = kit.hosts[0].take_interval(kit.now);
        prop_assert_eq!((interval.answered, interval.unanswered), (answered, given_up + waiting.len() as u64));
        prop_assert_eq!(interval.time, time + age);
    }
}
