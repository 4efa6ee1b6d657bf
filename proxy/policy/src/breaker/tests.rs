use super::*;
use crate::testing::epoch;
use proptest::prelude::*;
use std::time::Duration;
use weft_model::breaker::Priority::{Default as Usual, High};

const fn thresholds(retries: RetryLimit) -> Thresholds {
    Thresholds { retries, ..Thresholds::ENVOY }
}

fn with_budget(budget: RetryBudget) -> CircuitBreakers {
    CircuitBreakers { default: thresholds(RetryLimit::Budget(budget)), ..CircuitBreakers::default() }
}

fn envoy() -> CircuitBreakers {
    CircuitBreakers { default: Thresholds::ENVOY, high: Thresholds::ENVOY, ..CircuitBreakers::default() }
}

/// Takes until it is refused.
fn all<T>(mut take: impl FnMut() -> Result<T, Overflow>) -> (Vec<T>, Overflow) {
    let mut permits = Vec::new();
    loop {
        match take() {
            Ok(permit) => permits.push(permit),
            Err(overflow) => return (permits, overflow),
        }
    }
}

#[test]
fn of_1024_held_requests_the_next_overflows() {
    let now = epoch();
    let breaker = Breaker::new(envoy(), now);
    let (held, overflow) = all(|| breaker.request(Usual, now));
    assert_eq!((held.len(), overflow), (1024, Overflow::Requests { limit: 1024 }));
    assert_eq!(overflow.to_string(), "all 1024 requests of max_requests are in flight");
    let gauges = breaker.gauges(Usual, now);
    assert!(gauges.rq_open() && !gauges.cx_open() && !gauges.rq_pending_open());
    assert_eq!((gauges.active, gauges.remaining_rq), (1024, 0));
    assert_eq!(breaker.overflows().upstream_rq_pending_overflow, 1);
    drop(held);
    assert_eq!(breaker.gauges(Usual, now).active, 0);
    assert!(breaker.request(Usual, now).is_ok());
}

#[test]
fn the_fourth_concurrent_retry_is_refused() {
    let now = epoch();
    let breaker = Breaker::new(envoy(), now);
    let (held, overflow) = all(|| breaker.retry(Usual, now));
    assert_eq!((held.len(), overflow), (3, Overflow::Retries { limit: 3 }));
    assert!(breaker.gauges(Usual, now).rq_retry_open());
    assert_eq!(breaker.overflows(), Overflows { upstream_rq_retry_overflow: 1, ..Overflows::default() });
}

#[test]
fn a_budget_of_20_percent_passes_20_of_100_and_3_of_1() {
    let now = epoch();
    let breaker = Breaker::new(with_budget(RetryBudget::ENVOY), now);
    let one = breaker.request(Usual, now).unwrap();
    let (held, overflow) = all(|| breaker.retry(Usual, now));
    assert_eq!(held.len(), 3);
    assert_eq!(
        overflow.to_string(),
        "all 3 retries of the retry budget are spent: 20 % of 1 requests active and pending, at least 3"
    );
    drop((one, held));
    let active: Vec<_> = (0..60).map(|_| breaker.request(Usual, now).unwrap()).collect();
    let pending: Vec<_> = (0..40).map(|_| breaker.pending(Usual).unwrap()).collect();
    assert_eq!(breaker.gauges(Usual, now).remaining_retries, 20);
    assert_eq!(all(|| breaker.retry(Usual, now)).0.len(), 20);
    drop((active, pending));
}

#[test]
fn retries_are_no_base_for_more_of_them_unless_the_budget_is_of_all_tries() {
    let now = epoch();
    for (budget, allowed, of) in [
        (RetryBudget::default(), 20, "20 % of 100 first tries active and pending, at least 3"),
        (RetryBudget::ENVOY, 24, "20 % of 124 requests active and pending, at least 3"),
    ] {
        let breaker = Breaker::new(with_budget(budget), now);
        let active: Vec<_> = (0..60).map(|_| breaker.request(Usual, now).unwrap()).collect();
        let pending: Vec<_> = (0..40).map(|_| breaker.pending(Usual).unwrap()).collect();
        let (retries, overflow) = all(|| {
            let retry = breaker.retry(Usual, now)?;
            // now one of them waits for a connection, now it has one
            let waits = breaker.gauges(Usual, now).retries.is_multiple_of(2);
            Ok((retry, if waits { breaker.pending_again(Usual)? } else { breaker.again(Usual)? }))
        });
        assert_eq!(retries.len(), allowed);
        assert!(overflow.to_string().ends_with(of), "{overflow}");
        drop((active, pending));
        assert_eq!(breaker.gauges(Usual, now).remaining_retries, 0, "those that go on are over the floor");
        drop(retries);
        assert_eq!(breaker.gauges(Usual, now).remaining_retries, 3);
        assert_eq!(breaker.share_of(Usual, now), 0);
    }
}

#[test]
fn a_budget_with_an_interval_is_a_share_of_the_requests_begun_within_it() {
    let start = epoch();
    let budget = RetryBudget { of: ShareOf::BegunWithin(Duration::from_secs(10)), min_concurrency: 10, percent: 20.0 };
    let breaker = Breaker::new(with_budget(budget), start);
    (0..100).for_each(|_| drop(breaker.request(Usual, start).unwrap()));
    let (retries, overflow) = all(|| breaker.retry(Usual, start));
    assert_eq!(retries.len(), 20);
    let text = "all 20 retries of the retry budget are spent: 20 % of 100 requests begun within 10s, at least 10";
    assert_eq!(overflow.to_string(), text);
    drop(retries);
    let later = start + Duration::from_secs(9);
    assert!(breaker.retry(Usual, later).is_err(), "ended retries count within the interval");
    assert!(breaker.gauges(Usual, later).rq_retry_open());
    let next = start + Duration::from_secs(10);
    assert_eq!(all(|| breaker.retry(Usual, next)).0.len(), 10, "the floor");
}

#[test]
fn an_interval_of_nothing_is_a_budget_of_what_is_in_flight() {
    let now = epoch();
    let budget = RetryBudget { of: ShareOf::BegunWithin(Duration::ZERO), ..RetryBudget::ENVOY };
    let breaker = Breaker::new(with_budget(budget), now);
    drop(all(|| breaker.retry(Usual, now)));
    assert!(breaker.retry(Usual, now).is_ok(), "ended retries are given back");
}

#[test]
fn pending_requests_and_connections_have_limits_of_their_own() {
    let now = epoch();
    let limits = Thresholds { max_pending_requests: 2, max_connections: 3, ..Thresholds::ENVOY };
    let breaker = Breaker::new(CircuitBreakers { default: limits, ..CircuitBreakers::default() }, now);
    let (pending, overflow) = all(|| breaker.pending(Usual));
    assert_eq!((pending.len(), overflow), (2, Overflow::Pending { limit: 2 }));
    let host = HostConnections::default();
    let (connections, overflow) = all(|| breaker.connection(Usual, &host));
    assert_eq!((connections.len(), overflow, host.count()), (3, Overflow::Connections { limit: 3 }, 3));
    let gauges = breaker.gauges(Usual, now);
    assert!(gauges.cx_open() && gauges.rq_pending_open() && !gauges.rq_open());
    let counted = Overflows { upstream_cx_overflow: 1, upstream_rq_pending_overflow: 1, upstream_rq_retry_overflow: 0 };
    assert_eq!(breaker.overflows(), counted);
    drop((pending, connections));
    assert_eq!((breaker.gauges(Usual, now).connections, host.count()), (0, 0));
}

#[test]
fn a_host_has_its_own_limit_of_connections() {
    let now = epoch();
    let breaker = Breaker::new(CircuitBreakers { max_connections_per_host: Some(2), ..envoy() }, now);
    let hosts = [HostConnections::default(), HostConnections::default()];
    let (first, overflow) = all(|| breaker.connection(Usual, &hosts[0]));
    assert_eq!((first.len(), overflow), (2, Overflow::HostConnections { limit: 2 }));
    assert_eq!(breaker.gauges(Usual, now).connections, 2, "a refused connection is given back to its cluster");
    assert!(breaker.connection(High, &hosts[1]).is_ok());
    assert_eq!(breaker.overflows().upstream_cx_overflow, 1);
}

#[test]
fn priorities_do_not_share_limits() {
    let now = epoch();
    let high = Thresholds { max_requests: 1, ..Thresholds::ENVOY };
    let breaker = Breaker::new(CircuitBreakers { high, ..envoy() }, now);
    let (held, _) = all(|| breaker.request(High, now));
    assert_eq!(held.len(), 1);
    assert!(breaker.request(Usual, now).is_ok());
    assert_eq!((breaker.gauges(High, now).active, breaker.gauges(Usual, now).active), (1, 0));
}

#[test]
fn what_is_unlimited_is_never_open() {
    let now = epoch();
    let breaker = Breaker::new(CircuitBreakers::default(), now);
    let held: Vec<_> = (0..5000).map(|_| breaker.request(Usual, now).unwrap()).collect();
    assert!(!breaker.gauges(Usual, now).rq_open());
    drop(held);
}

#[test]
fn an_edit_keeps_what_is_in_flight() {
    let now = epoch();
    let before = Breaker::new(envoy(), now);
    let held: Vec<_> = (0..10).map(|_| before.request(Usual, now).unwrap()).collect();
    let fewer = Thresholds { max_requests: 10, ..Thresholds::ENVOY };
    let after = Breaker::resume(CircuitBreakers { default: fewer, ..CircuitBreakers::default() }, &before, now);
    assert_eq!(after.request(Usual, now).unwrap_err(), Overflow::Requests { limit: 10 });
    drop(before);
    drop(held);
    assert_eq!(after.gauges(Usual, now).active, 0);
}

#[test]
fn an_edit_keeps_the_interval_of_a_budget() {
    let now = epoch();
    let budget =
        |percent| RetryBudget { percent, of: ShareOf::BegunWithin(Duration::from_secs(10)), min_concurrency: 0 };
    let before = Breaker::new(with_budget(budget(20.0)), now);
    (0..10).for_each(|_| drop(before.request(Usual, now).unwrap()));
    drop(before.retry(Usual, now).unwrap());
    let after = Breaker::resume(with_budget(budget(50.0)), &before, now);
    assert_eq!(all(|| after.retry(Usual, now)).0.len(), 4);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "only threads can show what threads do to each other")]
fn threads_never_get_more_than_the_limit() {
    let now = epoch();
    let limits = Thresholds {
        max_requests: 5,
        retries: RetryLimit::Budget(RetryBudget {
            of: ShareOf::BegunWithin(Duration::from_secs(9)),
            ..RetryBudget::ENVOY
        }),
        ..Thresholds::ENVOY
    };
    let breaker = Arc::new(Breaker::new(CircuitBreakers { default: limits, ..CircuitBreakers::default() }, now));
    let allowed = Arc::new(AtomicU32::new(0));
    let workers = (0..4).map(|_| {
        let (breaker, allowed) = (Arc::clone(&breaker), Arc::clone(&allowed));
        std::thread::spawn(move || {
            for _ in 0..2000 {
                let permit = breaker.request(Usual, now);
                assert!(breaker.gauges(Usual, now).active <= 5);
                if permit.is_ok() && breaker.retry(Usual, now).is_ok() {
                    allowed.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    });
    workers.collect::<Vec<_>>().into_iter().for_each(|worker| worker.join().unwrap());
    let begun = breaker.share_of(Usual, now);
    assert!(u64::from(allowed.load(Ordering::Relaxed)) <= (begun / 5).max(3));
    let gauges = breaker.gauges(Usual, now);
    assert_eq!((gauges.active, gauges.retries), (0, 0));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Request,
    Pending,
    Retry { waits: bool },
    GiveBack(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Request),
        1 => Just(Step::Pending),
        4 => any::<bool>().prop_map(|waits| Step::Retry { waits }),
        3 => any::<usize>().prop_map(Step::GiveBack),
        1 => (0u64..3_000).prop_map(Step::Wait),
    ]
}

fn share() -> impl Strategy<Value = ShareOf> {
    let within = (1u64..5_000).prop_map(|ms| ShareOf::BegunWithin(Duration::from_millis(ms)));
    prop_oneof![Just(ShareOf::FirstTries), Just(ShareOf::AllTries), within]
}

/// What one step holds until it is given back. Of a retry, its place in the budget and its place among the requests.
type Held = (Which, Permit, Option<Permit>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Which {
    First,
    Retry,
}

proptest! {
    #[test]
    fn a_budget_never_exceeds_its_share(
        percent in 0.0f64..=100.0,
        min_concurrency in 0u32..5,
        of in share(),
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let mut now = epoch();
        let budget = RetryBudget { percent, of, min_concurrency };
        let breaker = Breaker::new(with_budget(budget), now);
        let mut held = Vec::<Held>::new();
        for step in steps {
            match step {
                Step::Request => held.extend(breaker.request(Usual, now).map(|it| (Which::First, it, None))),
                Step::Pending => held.extend(breaker.pending(Usual).map(|it| (Which::First, it, None))),
                Step::GiveBack(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                Step::GiveBack(_) => {}
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Retry { waits } => {
                    let Ok(permit) = breaker.retry(Usual, now) else { continue };
                    let gauges = breaker.gauges(Usual, now);
                    let first_tries = held.iter().filter(|(which, ..)| *which == Which::First).count() as u64;
                    let (spent, of) = match (breaker.lately(Usual), of) {
                        (Some(lately), _) => (lately.retries.sum(now), lately.begun.sum(now)),
                        (None, ShareOf::FirstTries) => (u64::from(gauges.retries), first_tries),
                        (None, _) => (u64::from(gauges.retries), u64::from(gauges.active + gauges.pending)),
                    };
                    let at_work = if waits { breaker.pending_again(Usual) } else { breaker.again(Usual) };
                    held.push((Which::Retry, permit, at_work.ok()));
                    let share = percent * of as f64 / 100.0;
                    prop_assert!(spent as f64 <= share.max(f64::from(min_concurrency)), "{spent} of {of}");
                }
            }
        }
        held.clear();
        let gauges = breaker.gauges(Usual, now);
        prop_assert_eq!((gauges.active, gauges.pending, gauges.retries), (0, 0, 0));
    }
}
