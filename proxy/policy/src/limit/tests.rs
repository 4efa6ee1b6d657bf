use super::*;
use http::Method;
use proptest::prelude::*;
use weft_model::rate_limit::{KeyPart, LimitAnswer};

const SECOND: Duration = Duration::from_secs(1);
const SEED: [u64; 2] = [3, 4];

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the only way to an Instant")]
    Instant::now()
}

fn bucket(name: &str, key: Vec<KeyPart>, max_tokens: u32) -> rate_limit::Bucket {
    let limit = rate_limit::TokenBucket { max_tokens, tokens_per_fill: max_tokens, fill_interval: SECOND };
    rate_limit::Bucket { name: name.into(), key, limit, max_keys: 100 }
}

fn spec(buckets: Vec<rate_limit::Bucket>) -> RateLimit {
    RateLimit { name: "shop/orders".into(), mode: Mode::Enforce, buckets, answer: LimitAnswer::default() }
}

fn limiter(buckets: Vec<rate_limit::Bucket>, now: Instant) -> Limiter {
    Limiter::compile(&spec(buckets), SEED, now).unwrap()
}

/// One request in parts that a test may change.
#[derive(Clone)]
struct Call {
    host: &'static str,
    path: &'static str,
    method: Method,
    headers: HeaderMap,
    client: IpAddr,
    caller: Option<&'static str>,
}

impl Default for Call {
    fn default() -> Self {
        let client = IpAddr::from([10, 0, 0, 1]);
        Call { host: "shop", path: "/orders", method: Method::GET, headers: HeaderMap::new(), client, caller: None }
    }
}

impl Call {
    fn of(client: u32) -> Call {
        Call { client: IpAddr::from(client.to_be_bytes()), ..Call::default() }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Call {
        self.headers.append(name, HeaderValue::from_static(value));
        self
    }

    fn check<'l>(&self, limiter: &'l Limiter, now: Instant) -> Decision<'l> {
        let (host, path, method, headers) = (self.host, self.path, &self.method, &self.headers);
        let head = Head { host, path, query: None, method, headers };
        limiter.check(&Request { head: &head, client: self.client, caller: self.caller }, now)
    }

    /// How many of twenty pass.
    fn passes(&self, limiter: &Limiter, now: Instant) -> usize {
        (0..20).filter(|_| matches!(self.check(limiter, now), Decision::Pass(Some(_)))).count()
    }
}

#[test]
fn burst_then_steady() {
    let now = start();
    for key in [vec![], vec![KeyPart::ClientIp]] {
        let limiter = limiter(vec![bucket("all", key, 10)], now);
        assert_eq!(Call::default().passes(&limiter, now), 10);
        assert_eq!(Call::default().passes(&limiter, now + SECOND / 2), 0);
        assert_eq!(Call::default().passes(&limiter, now + SECOND), 10);
        assert_eq!(Call::default().passes(&limiter, now + 1000 * SECOND), 10, "never more than max after idling");
    }
}

#[test]
fn each_value_of_a_key_has_a_bucket() {
    let now = start();
    let user = || Call::default().with("x-user", "ann");
    let cases = [
        (KeyPart::ClientIp, Call::of(1), Call::of(2)),
        (KeyPart::Header("x-user".into()), user(), Call::default().with("x-user", "bob")),
        (KeyPart::Header("x-user".into()), user(), user().with("x-user", "ann")),
        (KeyPart::Header("host".into()), Call::default(), Call { host: "other", ..Call::default() }),
        (KeyPart::Path, Call::default(), Call { path: "/products", ..Call::default() }),
        (KeyPart::Method, Call::default(), Call { method: Method::POST, ..Call::default() }),
        (
            KeyPart::Caller,
            Call { caller: Some("ns/a/sa/order"), ..Call::default() },
            Call { caller: Some("ns/b/sa/order"), ..Call::default() },
        ),
    ];
    for (part, one, other) in cases {
        let limiter = limiter(vec![bucket("each", vec![part.clone()], 3)], now);
        let passes = [&one, &other, &one, &other].map(|call| call.passes(&limiter, now));
        assert_eq!(passes, [3, 3, 0, 0], "{part:?}");
    }
}

#[test]
fn the_same_client_over_ipv4_and_mapped_into_ipv6_has_one_bucket() {
    let now = start();
    let limiter = limiter(vec![bucket("each", vec![KeyPart::ClientIp], 3)], now);
    let mapped = Call { client: "::ffff:0.0.0.1".parse().unwrap(), ..Call::default() };
    assert_eq!([Call::of(1), mapped].map(|call| call.passes(&limiter, now)), [3, 0]);
}

#[test]
fn parts_of_a_key_do_not_run_into_each_other() {
    let now = start();
    let key = vec![KeyPart::Header("a".into()), KeyPart::Header("b".into())];
    let limiter = limiter(vec![bucket("each", key, 1)], now);
    let pairs = [("x", "yz"), ("xy", "z"), ("xyz", ""), ("", "xyz")];
    assert!(pairs.iter().all(|(a, b)| Call::default().with("a", a).with("b", b).passes(&limiter, now) == 1));
}

#[test]
fn a_request_that_lacks_a_part_of_the_key_falls_into_no_bucket() {
    let now = start();
    let cases = [
        (KeyPart::Header("x-user".into()), Call::default()),
        (KeyPart::Caller, Call::default()),
        (KeyPart::HeaderIs { name: "x-tier".into(), value: "free".into() }, Call::default().with("x-tier", "paid")),
        (KeyPart::HeaderIs { name: "x-tier".into(), value: "free".into() }, Call::default()),
        (KeyPart::HeaderIs { name: "host".into(), value: "other".into() }, Call::default()),
        (KeyPart::PathPrefix("/orders/1".into()), Call::default()),
        (KeyPart::PathPrefix("/orders".into()), Call { path: "/ordersx", ..Call::default() }),
    ];
    for (part, call) in cases {
        let limiter = limiter(vec![bucket("some", vec![part.clone()], 1)], now);
        let decisions = [(); 2].map(|()| call.check(&limiter, now));
        assert_eq!(decisions, [Decision::Pass(None); 2], "{part:?}");
    }
}

#[test]
fn requests_under_a_prefix_or_with_a_value_share_one_bucket() {
    let now = start();
    let under = limiter(vec![bucket("under", vec![KeyPart::PathPrefix("/orders/".into())], 2)], now);
    let paths = ["/orders", "/orders/1"].map(|path| Call { path, ..Call::default() });
    assert_eq!(paths.map(|call| call.passes(&under, now)), [2, 0]);
    let all = limiter(vec![bucket("all", vec![KeyPart::PathPrefix("/".into())], 2)], now);
    assert_eq!(Call::default().passes(&all, now), 2);
    let free = KeyPart::HeaderIs { name: "x-tier".into(), value: "free".into() };
    let tier = limiter(vec![bucket("tier", vec![free], 2)], now);
    assert_eq!([1, 2].map(|client| Call::of(client).with("x-tier", "free").passes(&tier, now)), [2, 0]);
}

#[test]
fn every_bucket_must_pass_and_the_tightest_is_reported() {
    let now = start();
    let limiter = limiter(vec![bucket("all", vec![], 5), bucket("client", vec![KeyPart::ClientIp], 3)], now);
    let pass = |limit, tokens| Decision::Pass(Some(Remaining { limit, tokens, reset: SECOND }));
    let refuse = |bucket, limit| Decision::Refuse(Refusal { bucket, limit, retry_after: SECOND });
    let decisions = [1, 1, 1, 1, 2, 2, 2].map(|client| Call::of(client).check(&limiter, now));
    assert_eq!(
        decisions,
        [pass(3, 2), pass(3, 1), pass(3, 0), refuse("client", 3), pass(5, 1), pass(5, 0), refuse("all", 5)]
    );
}

#[test]
fn a_refused_request_takes_nothing_from_the_buckets_before() {
    let now = start();
    let buckets = vec![
        bucket("all", vec![], 9),
        bucket("method", vec![KeyPart::Method], 9),
        bucket("client", vec![KeyPart::ClientIp], 3),
    ];
    let limiter = limiter(buckets, now);
    assert_eq!([1, 2, 3, 4].map(|client| Call::of(client).passes(&limiter, now)), [3, 3, 3, 0]);
}

#[test]
fn a_shadow_lets_through_and_says_what_it_would_refuse() {
    let now = start();
    let spec = RateLimit { mode: Mode::Shadow, ..spec(vec![bucket("all", vec![], 1)]) };
    let limiter = Limiter::compile(&spec, SEED, now).unwrap();
    assert!(matches!(Call::default().check(&limiter, now), Decision::Pass(Some(_))));
    let refusal = Refusal { bucket: "all", limit: 1, retry_after: SECOND };
    assert_eq!(Call::default().check(&limiter, now), Decision::Shadowed(refusal));
}

/// The exactly counted keys of the only bucket.
fn keys(limiter: &Limiter) -> u32 {
    let [Bucket { tokens: Tokens::PerKey { keyed, .. }, .. }] = &*limiter.buckets else { panic!("one bucket per key") };
    keyed.len()
}

#[test]
fn no_more_than_max_keys_are_kept_and_the_others_are_limited_by_the_sketch() {
    let now = start();
    let limiter = limiter(vec![bucket("client", vec![KeyPart::ClientIp], 3)], now);
    let passes: Vec<usize> = (0..300).map(|client| Call::of(client).passes(&limiter, now)).collect();
    assert_eq!(keys(&limiter), 100);
    assert!(passes[..100].iter().all(|passes| *passes == 3), "known keys are counted exactly: {passes:?}");
    assert!(passes[100..].iter().all(|passes| *passes <= 3), "{passes:?}");
    assert!(passes[100..].iter().sum::<usize>() > 500, "few share all their cells: {passes:?}");
    assert!((0..300).all(|client| Call::of(client).passes(&limiter, now) == 0));
}

#[test]
fn keys_whose_buckets_are_full_again_make_room() {
    let now = start();
    let limiter = limiter(vec![bucket("client", vec![KeyPart::ClientIp], 3)], now);
    (0..100).for_each(|client| assert_eq!(Call::of(client).passes(&limiter, now), 3));
    let later = now + SECOND;
    for client in 100..100_000 {
        assert!(matches!(Call::of(client).check(&limiter, later + client * SECOND), Decision::Pass(Some(_))));
    }
    assert!(keys(&limiter) < 50, "{}", keys(&limiter));
}

#[test]
fn a_key_in_use_is_not_forgotten() {
    let now = start();
    let limiter = limiter(vec![bucket("client", vec![KeyPart::ClientIp], 3)], now);
    assert_eq!(Call::of(0).passes(&limiter, now), 3);
    (1..5000).for_each(|client| {
        Call::of(client).check(&limiter, now);
    });
    assert_eq!(Call::of(0).passes(&limiter, now), 0);
}

#[test]
fn without_exact_keys_the_sketch_decides_alone() {
    let now = start();
    let none = rate_limit::Bucket { max_keys: 0, ..bucket("client", vec![KeyPart::ClientIp], 3) };
    let limiter = limiter(vec![none], now);
    assert_eq!([1, 2].map(|client| Call::of(client).passes(&limiter, now)), [3, 3]);
    assert_eq!(Call::of(1).passes(&limiter, now + SECOND), 3);
}

#[test]
fn a_key_that_moves_from_the_sketch_to_the_table_takes_its_tokens_along() {
    let now = start();
    let mut one = bucket("client", vec![KeyPart::ClientIp], 3);
    (one.max_keys, one.limit.tokens_per_fill) = (1, 1);
    let limiter = limiter(vec![one], now);
    assert!(matches!(Call::of(1).check(&limiter, now), Decision::Pass(Some(_))), "by the table, full after a second");
    assert_eq!(Call::of(2).passes(&limiter, now + SECOND / 2), 3, "by the sketch");
    assert_eq!(Call::of(2).passes(&limiter, now + SECOND), 1, "by the table, where the first makes room");
    assert_eq!(keys(&limiter), 1);
}

#[derive(Debug)]
struct Nobody;

impl Overflow for Nobody {
    fn take(&self, _key: u64, _now: Instant) -> Result<Remaining, Refused> {
        Err(Refused { limit: 7, retry_after: SECOND })
    }

    fn tokens(&self, _key: u64, _now: Instant) -> u32 {
        0
    }
}

#[test]
fn an_overflow_may_be_brought_along() {
    let now = start();
    let none = rate_limit::Bucket { max_keys: 0, ..bucket("client", vec![KeyPart::ClientIp], 3) };
    let limiter = Limiter::with_overflow(&spec(vec![none]), SEED, now, |_, _| Box::new(Nobody)).unwrap();
    let refusal = Refusal { bucket: "client", limit: 7, retry_after: SECOND };
    assert_eq!(Call::default().check(&limiter, now), Decision::Refuse(refusal));
}

#[test]
fn answers_say_whole_seconds_rounded_up() {
    let mut answer = HeaderMap::new();
    Remaining { limit: 10, tokens: 4, reset: SECOND + Duration::from_nanos(1) }.write(&mut answer);
    let names = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
    assert_eq!(names.map(|name| answer[name].to_str().unwrap()), ["10", "4", "2"]);
    let refusal = Refusal { bucket: "all", limit: 10, retry_after: Duration::from_millis(20) };
    refusal.write(&mut answer);
    assert_eq!(names.map(|name| answer[name].to_str().unwrap()), ["10", "0", "1"]);
    assert_eq!(refusal.retry_after_seconds(), 1);
}

#[test]
fn what_cannot_be_compiled_is_refused_with_its_place() {
    let error = |bucket| Limiter::compile(&spec(vec![bucket]), SEED, start()).unwrap_err().to_string();
    let text = error(bucket("b", vec![], 0));
    assert_eq!(text, "rate limit \"shop/orders\", bucket \"b\": max_tokens is 0: nothing would ever pass");
    let text = error(bucket("b", vec![KeyPart::Header("x y".into())], 1));
    assert_eq!(text, "rate limit \"shop/orders\", bucket \"b\": \"x y\" is no HTTP header name");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Few keys in a tiny table, so that they are counted exactly, forgotten and taken up by the sketch in turn.
    #[test]
    fn a_key_never_passes_more_often_than_its_rate_allows(
        max_keys in 0u32..4,
        per_fill in 1u32..5,
        calls in prop::collection::vec((0u32..6, 0u64..700), 1..200),
    ) {
        let born = start();
        let limit = rate_limit::TokenBucket { max_tokens: 4, tokens_per_fill: per_fill, fill_interval: SECOND };
        let spec = spec(vec![rate_limit::Bucket { max_keys, limit, ..bucket("client", vec![KeyPart::ClientIp], 4) }]);
        let limiter = Limiter::compile(&spec, SEED, born).unwrap();
        let mut age = 0;
        let mut passed: Vec<(u32, u64)> = Vec::new();
        for (client, pause) in calls {
            age += pause;
            let now = born + Duration::from_millis(age);
            if let Decision::Pass(_) = Call::of(client).check(&limiter, now) {
                passed.push((client, age));
            }
        }
        for (index, (client, from)) in passed.iter().enumerate() {
            let own = passed[index..].iter().filter(|(other, _)| other == client);
            for (count, (_, to)) in own.enumerate() {
                // a fill may lie on either end, and table and sketch are not filled at the same moment
                let fills = (to - from) / 1000 + 2;
                let allowed = 4 + fills * u64::from(per_fill);
                prop_assert!((count as u64) < allowed, "client {} {}..{}", client, from, to);
            }
        }
    }
}
