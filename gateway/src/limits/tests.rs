use super::*;
use proptest::prelude::*;
use weft_model::rate_limit;
use weft_policy::bucket::TokenBucket;

fn rate(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Rate {
    Rate::compile(&rate_limit::TokenBucket { max_tokens, tokens_per_fill, fill_interval }).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_bucket_that_is_refilled_at_once_is_counted_as_it_is() {
    let now = Instant::now();
    let windowed = Windowed::new(rate(3, 3, SECOND), now);
    for tokens in [2, 1, 0] {
        assert_eq!(windowed.take(7, now), Ok(Remaining { limit: 3, tokens, reset: SECOND }));
    }
    assert_eq!(windowed.take(7, now + SECOND / 4), Err(Refused { limit: 3, retry_after: SECOND * 3 / 4 }));
    assert!(windowed.take(7, now + SECOND).is_ok());
}

#[test]
fn a_burst_is_halved_and_the_long_run_is_not() {
    let now = Instant::now();
    let windowed = Windowed::new(rate(20, 1, SECOND), now);
    assert_eq!((windowed.allowed, windowed.window), (10, SECOND * 10));
}

#[test]
fn what_is_left_is_told_when_a_key_is_counted_on_its_own() {
    let now = Instant::now();
    let windowed = Windowed::new(rate(3, 3, SECOND), now);
    assert_eq!(windowed.tokens(7, now), 3);
    windowed.take(7, now).unwrap();
    assert_eq!((windowed.tokens(7, now), windowed.tokens(7, now + SECOND)), (2, 3));
}

#[test]
fn a_key_has_its_whole_burst_when_nobody_was_counted_for_a_window() {
    let now = Instant::now();
    let windowed = Windowed::new(rate(20, 1, SECOND), now);
    assert_eq!(windowed.tokens(7, now), 20);
    windowed.take(8, now).unwrap();
    let in_windows = |windows: u32| windowed.tokens(7, now + windowed.window * windows);
    assert_eq!([in_windows(0), in_windows(1), in_windows(2)], [10, 10, 20]);
}

#[test]
fn no_rate_is_too_much() {
    let now = Instant::now();
    for (max, per_fill, interval) in [(u32::MAX, 1, Duration::MAX), (1, 1, Duration::from_nanos(1))] {
        let windowed = Windowed::new(rate(max, per_fill, interval), now);
        assert!(windowed.take(7, now + SECOND).is_ok(), "{max} {per_fill} {interval:?}");
    }
}

proptest! {
    #[test]
    fn a_key_that_is_alone_never_has_more_than_its_bucket(
        most in 1..30_u32, refill in 1..30_u32, steps in proptest::collection::vec(0..1500_u64, 1..300)
    ) {
        let rate = rate(most, refill, SECOND);
        let mut now = Instant::now();
        let (windowed, bucket) = (Windowed::new(rate, now), TokenBucket::new(rate, now));
        for step in steps {
            now += Duration::from_millis(step.saturating_sub(1000));
            if windowed.take(7, now).is_ok() {
                prop_assert!(bucket.take(now).is_ok());
            }
        }
    }

    #[test]
    fn keys_that_come_together_have_no_more_than_alone(keys in proptest::collection::vec(0..50_u64, 1..500)) {
        let now = Instant::now();
        let windowed = Windowed::new(rate(4, 4, SECOND), now);
        let mut passed = std::collections::BTreeMap::new();
        for key in keys {
            *passed.entry(key).or_insert(0) += u32::from(windowed.take(key, now).is_ok());
        }
        prop_assert!(passed.values().all(|passed| *passed <= 4));
    }
}
