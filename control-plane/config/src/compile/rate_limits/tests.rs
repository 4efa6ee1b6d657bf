use super::*;
use proptest::prelude::*;

fn bucket(requests: u32, per: Duration, burst: u32) -> (u32, u32, Duration) {
    let TokenBucket { max_tokens, tokens_per_fill, fill_interval } = token_bucket(requests, per, burst);
    (max_tokens, tokens_per_fill, fill_interval)
}

#[test]
fn fills_are_small_and_exact_and_not_under_50_ms() {
    let ms = Duration::from_millis;
    assert_eq!(bucket(10, ms(1000), 20), (20, 1, ms(100)));
    assert_eq!(bucket(1, ms(60_000), 1), (1, 1, ms(60_000)));
    assert_eq!(bucket(100, ms(1000), 100), (100, 5, ms(50)));
    assert_eq!(bucket(30, ms(1000), 30), (30, 3, ms(100)), "two would take 66.66… ms");
    assert_eq!(
        bucket(7, ms(1000), 7),
        (7, 1, Duration::from_nanos(142_857_143)),
        "rounded up by a part of a nanosecond"
    );
    assert_eq!(bucket(1000, ms(1000), 10), (10, 10, ms(10)), "a burst is never overfilled");
}

proptest! {
    /// Never more than was asked for, and less by at most a nanosecond per fill.
    #[test]
    fn the_steady_rate_is_the_one_written(
        requests in 1u32..=1_000_000_000,
        per_ms in 1u64..=86_400_000,
        burst in 1u32..=1_000_000_000,
    ) {
        let per = Duration::from_millis(per_ms);
        let bucket = token_bucket(requests, per, burst);
        prop_assert_eq!(bucket.max_tokens, burst);
        prop_assert!((1..=burst).contains(&bucket.tokens_per_fill));
        let (tokens, interval) = (u128::from(bucket.tokens_per_fill), bucket.fill_interval.as_nanos());
        let wanted = u128::from(requests) * interval;
        let given = tokens * per.as_nanos();
        prop_assert!(given <= wanted, "{bucket:?}");
        prop_assert!(wanted - given < u128::from(requests), "{bucket:?}");
        prop_assert!(bucket.fill_interval >= LEAST_INTERVAL || bucket.tokens_per_fill == burst, "{bucket:?}");
    }
}
