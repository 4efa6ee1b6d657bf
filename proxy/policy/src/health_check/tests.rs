use super::*;
use crate::dice::tests::assert_shares;
use proptest::prelude::*;

fn check(unhealthy_threshold: u32, healthy_threshold: u32) -> HealthCheck {
    HealthCheck {
        timeout: Duration::from_secs(1),
        interval: Duration::from_secs(5),
        no_traffic_interval: Duration::from_secs(60),
        interval_jitter: Duration::ZERO,
        unhealthy_threshold,
        healthy_threshold,
        reuse_connection: true,
        probe: Probe::Tcp { send: Vec::new(), receive: Vec::new() },
    }
}

/// `.` for a success, `f` for a failure, `u` for unwell; the changes are `+` and `-`.
fn changes(check: &HealthCheck, results: &str) -> String {
    changes_of(Checker::default(), check, results)
}

fn changes_of(mut checker: Checker, check: &HealthCheck, results: &str) -> String {
    let record = |result| {
        let result = match result {
            '.' => CheckResult::Success,
            'f' => CheckResult::Failure,
            _ => CheckResult::Unwell,
        };
        match checker.record(check, result) {
            Some(Change::Healthy) => '+',
            Some(Change::Unhealthy) => '-',
            None => ' ',
        }
    };
    results.chars().map(record).collect()
}

#[test]
fn the_first_success_marks_healthy_and_later_ones_by_the_threshold() {
    assert_eq!(changes(&check(2, 3), ".ff..."), "+ -  +");
    assert_eq!(changes(&check(2, 3), "f..."), "   +", "only the very first check is believed at once");
}

#[test]
fn an_endpoint_that_served_before_is_healthy_until_found_not_to_be() {
    assert_eq!(changes_of(Checker::trusted(), &check(2, 3), ".ff..."), "  -  +");
    assert_eq!(changes_of(Checker::trusted(), &check(2, 3), "u..."), "-  +");
}

#[test]
fn failures_must_come_in_a_row() {
    assert_eq!(changes(&check(3, 2), ".ff.fff"), "+     -");
    assert_eq!(changes(&check(1, 3), ".f..f..."), "+-     +");
}

#[test]
fn an_endpoint_that_says_that_it_is_unwell_is_unhealthy_at_once() {
    assert_eq!(changes(&check(5, 2), ".u"), "+-");
    assert_eq!(changes(&check(5, 2), ".u.u.."), "+-   +");
    assert_eq!(changes(&check(0, 0), ".f."), "+-+", "thresholds of 0 are 1");
}

#[test]
fn a_status_is_expected_or_retriable_or_else_unwell() {
    let probe = |expected: Vec<RangeInclusive<u16>>, retriable| Probe::Http {
        host: String::new(),
        path: "/healthz".into(),
        method: "GET".into(),
        expected,
        retriable,
        http2: false,
    };
    let (default, ranges) = (probe(vec![], vec![]), probe(vec![201..=204], vec![204..=204, 500..=599]));
    assert_eq!([200, 201, 503].map(|status| CheckResult::of_status(&default, status)), {
        [CheckResult::Success, CheckResult::Unwell, CheckResult::Unwell]
    });
    assert_eq!([200, 204, 503, 404].map(|status| CheckResult::of_status(&ranges, status)), {
        [CheckResult::Unwell, CheckResult::Success, CheckResult::Failure, CheckResult::Unwell]
    });
}

#[test]
fn the_next_check_comes_after_the_interval_with_even_jitter() {
    let seed = 5;
    let mut dice = Dice::new(seed);
    assert_eq!(next_delay(&check(1, 1), true, &mut dice), Duration::from_secs(5));
    assert_eq!(next_delay(&check(1, 1), false, &mut dice), Duration::from_secs(60));
    let jittered = HealthCheck { interval_jitter: Duration::from_secs(2), ..check(1, 1) };
    let mut counts = [0; 2];
    for _ in 0..10_000 {
        counts[next_delay(&jittered, true, &mut dice).as_secs() as usize - 5] += 1;
    }
    assert_shares(seed, &[1, 1], &counts);
    let endless = HealthCheck { interval: Duration::MAX, interval_jitter: Duration::MAX, ..check(1, 1) };
    assert_eq!(next_delay(&endless, true, &mut dice), Duration::MAX);
}

proptest! {
    #[test]
    fn changes_alternate_and_begin_with_healthy(results in "[.fu]{0,60}", unhealthy in 0u32..5, healthy in 0u32..5) {
        let found: String = changes(&check(unhealthy, healthy), &results).split_whitespace().collect();
        prop_assert!("+-".repeat(31).starts_with(&found), "{}", found);
    }
}
