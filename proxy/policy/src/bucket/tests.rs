use super::*;
use proptest::prelude::*;
use std::thread::scope;

const SECOND: Duration = Duration::from_secs(1);

fn rate(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Rate {
    Rate::compile(&rate_limit::TokenBucket { max_tokens, tokens_per_fill, fill_interval }).unwrap()
}

/// Base of all times; never looked at.
fn start() -> Instant {
    // an `Instant` can only be read from the clock; every test counts from it
    #[expect(clippy::disallowed_methods, reason = "the only way to an Instant")]
    Instant::now()
}

fn passes(bucket: &TokenBucket, now: Instant, tries: u32) -> u32 {
    (0..tries).filter(|_| bucket.take(now).is_ok()).count() as u32
}

#[test]
fn burst_then_steady() {
    let born = start();
    let bucket = TokenBucket::new(rate(10, 10, SECOND), born);
    for expected in (0..10).rev() {
        assert_eq!(bucket.take(born), Ok(Remaining { limit: 10, tokens: expected, reset: SECOND }));
    }
    assert_eq!(bucket.take(born), Err(Refused { limit: 10, retry_after: SECOND }));
    let almost = born + SECOND - Duration::from_nanos(1);
    assert_eq!(bucket.take(almost), Err(Refused { limit: 10, retry_after: Duration::from_nanos(1) }));
    assert_eq!(passes(&bucket, born + SECOND, 20), 10);
}

#[test]
fn never_more_than_max_after_idling() {
    let born = start();
    let bucket = TokenBucket::new(rate(10, 3, SECOND), born);
    assert_eq!(passes(&bucket, born + 1000 * SECOND, 20), 10);
    assert_eq!(passes(&bucket, born + 1002 * SECOND, 20), 6);
    assert_eq!(passes(&bucket, born + 100_000_000 * SECOND, 20), 10);
    let generous = TokenBucket::new(rate(2, 50, SECOND), born);
    assert_eq!(passes(&generous, born, 20), 2);
    assert_eq!(passes(&generous, born + SECOND, 20), 2);
}

#[test]
fn a_token_given_back_is_there_again() {
    let born = start();
    let bucket = TokenBucket::new(rate(2, 1, SECOND), born);
    assert_eq!(passes(&bucket, born, 3), 2);
    bucket.give_back();
    assert_eq!(passes(&bucket, born, 3), 1);
    bucket.give_back();
    assert_eq!(passes(&bucket, born + 10 * SECOND, 9), 2, "never above the maximum");
}

#[test]
fn a_debt_is_waited_for_and_is_a_whole_bucket_at_most() {
    let rate = rate(4, 2, SECOND);
    let owing = |times: u32| (0..times).fold(0, |mark, _| rate.owe(mark, 0));
    let wait = |mark| rate.take(mark, 0).unwrap_err().retry_after;
    assert_eq!(wait(owing(4)), SECOND);
    assert_eq!(wait(owing(5)), SECOND);
    assert_eq!(wait(owing(6)), 2 * SECOND);
    assert_eq!(wait(owing(8)), 3 * SECOND);
    assert_eq!(owing(1000), owing(8));
}

#[test]
fn callers_at_once_never_take_more_than_there_is() {
    let born = start();
    let bucket = TokenBucket::new(rate(1000, 100, SECOND), born);
    let total: u32 = scope(|scope| {
        let later = |caller: u32| born + caller * SECOND; // clocks that disagree
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                scope.spawn({
                    let bucket = &bucket;
                    move || passes(bucket, later(caller), 1000)
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert!((1000..=1300).contains(&total), "{total}");
    assert_eq!(passes(&bucket, born, 1), 0, "a clock that lags gives nothing twice");
}

#[test]
fn a_bucket_that_could_never_work_is_refused() {
    let error = |max_tokens, tokens_per_fill, fill_interval| {
        Rate::compile(&rate_limit::TokenBucket { max_tokens, tokens_per_fill, fill_interval }).unwrap_err().to_string()
    };
    assert!(error(0, 1, SECOND).contains("max_tokens is 0"));
    assert!(error(1, 0, SECOND).contains("tokens_per_fill is 0"));
    assert!(error(1, 1, Duration::ZERO).contains("fill_interval is 0"));
    assert!(error(2, 2, Duration::from_nanos(1)).contains("no limit"));
}

proptest! {
    /// Against a bucket that is filled step by step.
    #[test]
    fn tokens_are_never_negative_nor_above_the_burst(
        max in 1u32..50,
        per_fill in 1u32..60,
        interval in 1u64..2000,
        steps in prop::collection::vec((0u64..5000, 0u32..20), 1..40),
    ) {
        let interval = interval.max(u64::from(per_fill));
        let born = start();
        let bucket = TokenBucket::new(rate(max, per_fill, Duration::from_nanos(interval)), born);
        let (mut age, mut filled, mut tokens) = (0, 0, max);
        for (pause, tries) in steps {
            age += pause;
            while filled < age / interval {
                filled += 1;
                tokens = (tokens + per_fill).min(max);
            }
            for _ in 0..tries {
                let now = born + Duration::from_nanos(age);
                let to_fill = Duration::from_nanos(interval - age % interval);
                let expected = match tokens.checked_sub(1) {
                    Some(left) => Ok(Remaining { limit: max, tokens: left, reset: to_fill }),
                    None => Err(Refused { limit: max, retry_after: to_fill }),
                };
                prop_assert_eq!(bucket.take(now), expected);
                tokens = tokens.saturating_sub(1);
            }
        }
    }

    #[test]
    fn any_times_and_rates_are_survived(
        max in 1u32..,
        per_fill in 1u32..,
        interval in 1u64..,
        ages in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let fill_interval = Duration::from_nanos(interval);
        let bucket = rate_limit::TokenBucket { max_tokens: max, tokens_per_fill: per_fill, fill_interval };
        let Ok(rate) = Rate::compile(&bucket) else { return Ok(()) };
        let mut mark = 0;
        for age in ages {
            if let Ok((after, remaining)) = rate.take(mark, age) {
                prop_assert!(after > mark && remaining.tokens < max);
                mark = after;
            }
            mark = rate.owe(mark, age).max(mark);
            rate.is_full(mark, age);
        }
    }
}
