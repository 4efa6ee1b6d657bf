use super::*;
use http::HeaderValue;
use proptest::prelude::*;
use weft_model::retry::{Backoff, RateLimitedBackoff, ResetFormat, ResetHeader};
use weft_model::route::StringMatch;

const NO_LIMIT: Clock = Clock { left: None, unix: Duration::from_secs(1_000_000) };

fn compile(policy: RetryPolicy) -> Policy {
    Policy::compile(&policy).unwrap()
}

fn on(reasons: RetryOn, num_retries: u32) -> RetryPolicy {
    RetryPolicy { on: reasons, num_retries, ..RetryPolicy::default() }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn response(status: u16, headers: &HeaderMap) -> Outcome<'_> {
    Outcome::Response { status: StatusCode::from_u16(status).unwrap(), headers }
}

fn ask(attempts: &mut Attempts, policy: &Policy, outcome: &Outcome<'_>, method: &Method) -> Verdict {
    attempts.should_retry(policy, outcome, Request { method, replayable: true }, || NO_LIMIT, &mut Dice::new(1))
}

/// The tries of a request of which every one ends so, and why there was no further one.
fn tries(policy: &Policy, asked: &HeaderMap, outcome: &Outcome<'_>) -> (u32, Option<Reason>) {
    let Some(mut attempts) = Attempts::begin(policy, Some(asked)) else { return (1, None) };
    loop {
        if let Verdict::No(reason) = ask(&mut attempts, policy, outcome, &Method::POST) {
            return (attempts.count(), Some(reason));
        }
    }
}

/// Whether `reasons` alone ask for a retry after that outcome.
fn is_retried(reasons: RetryOn, outcome: &Outcome<'_>) -> bool {
    let policy = RetryPolicy { status_codes: vec![418], headers: vec![retry_me()], ..on(reasons, 2) };
    match tries(&compile(policy), &HeaderMap::new(), outcome) {
        (3, Some(Reason::LimitExceeded)) => true,
        (1, Some(Reason::NotAsked | Reason::Overloaded)) => false,
        other => panic!("{reasons:?} after {outcome:?}: {other:?}"),
    }
}

fn retry_me() -> HeaderMatch {
    HeaderMatch { name: "x-retry".into(), value: StringMatch::Exact("me".into()), invert: false }
}

#[test]
fn attempt_counts_per_retry_on_value() {
    let none = HeaderMap::new();
    let retry_me = headers(&[("x-retry", "me")]);
    let limited = headers(&[("x-envoy-ratelimited", "true")]);
    let grpc = ["1", "4", "13", "8", "14"].map(|status| headers(&[("grpc-status", status)]));
    let outcomes = [
        ("500", response(500, &none)),
        ("502", response(502, &none)),
        ("503", response(503, &none)),
        ("504", response(504, &none)),
        ("409", response(409, &none)),
        ("404", response(404, &none)),
        ("418", response(418, &none)),
        ("200", response(200, &none)),
        ("header", response(200, &retry_me)),
        ("limited", response(429, &limited)),
        ("cancelled", response(200, &grpc[0])),
        ("deadline", response(200, &grpc[1])),
        ("internal", response(200, &grpc[2])),
        ("exhausted", response(200, &grpc[3])),
        ("unavailable", response(200, &grpc[4])),
        ("connect", Outcome::ConnectFailure),
        ("unsent", Outcome::Reset { before_request_sent: true }),
        ("reset", Outcome::Reset { before_request_sent: false }),
        ("refused", Outcome::RefusedStream),
        ("per-try", Outcome::PerTryTimeout),
        ("overflow", Outcome::LocalOverflow),
    ];
    let expected = [
        ("5xx", "500 502 503 504 connect unsent reset refused per-try"),
        ("gateway-error", "502 503 504 connect unsent reset refused per-try"),
        ("reset", "connect unsent reset refused per-try"),
        ("reset-before-request", "connect unsent"),
        ("connect-failure", "connect"),
        ("envoy-ratelimited", "limited"),
        ("retriable-4xx", "409"),
        ("refused-stream", "refused"),
        ("retriable-status-codes", "418"),
        ("retriable-headers", "header"),
        ("http3-post-connect-failure", ""),
        ("cancelled", "cancelled"),
        ("deadline-exceeded", "deadline"),
        ("internal", "internal"),
        ("resource-exhausted", "exhausted"),
        ("unavailable", "unavailable"),
    ];
    assert_eq!(expected.map(|(name, _)| name).to_vec(), RetryOn::all_names().collect::<Vec<_>>());
    for (name, retried) in expected {
        let reasons = RetryOn::named(name).unwrap();
        let found: Vec<&str> =
            outcomes.iter().filter(|(_, outcome)| is_retried(reasons, outcome)).map(|(name, _)| *name).collect();
        assert_eq!(found.join(" "), retried, "{name}");
    }
}

#[test]
fn no_policy_retries_nothing_and_a_policy_once_unless_it_says_how_often() {
    let failed = Outcome::ConnectFailure;
    assert!(Attempts::begin(&Policy::default(), Some(&HeaderMap::new())).is_none());
    assert!(Attempts::begin(&compile(on(RetryOn::SERVER_ERROR, 0)), Some(&HeaderMap::new())).is_none());
    let default = RetryPolicy { on: RetryOn::SERVER_ERROR, ..RetryPolicy::default() };
    assert_eq!(tries(&compile(default), &HeaderMap::new(), &failed), (2, Some(Reason::LimitExceeded)));
}

#[test]
fn an_overloaded_upstream_and_a_local_overflow_are_never_retried() {
    let overloaded = headers(&[("x-envoy-overloaded", "true")]);
    let everything = RetryOn::all_names().filter_map(RetryOn::named).fold(RetryOn::NONE, |all, reason| all | reason);
    let policy = compile(on(everything, 5));
    for outcome in [response(503, &overloaded), Outcome::LocalOverflow] {
        assert_eq!(tries(&policy, &HeaderMap::new(), &outcome), (1, Some(Reason::Overloaded)));
    }
}

#[test]
fn a_rate_limited_response_is_retried_only_when_that_is_listed() {
    let limited = headers(&[("x-envoy-ratelimited", "true")]);
    let outcome = response(503, &limited);
    assert!(!is_retried(RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR, &outcome));
    assert!(is_retried(RetryOn::SERVER_ERROR | RetryOn::ENVOY_RATELIMITED, &outcome));
}

#[test]
fn request_headers_ask_for_retries_on_a_route_without_a_policy() {
    let none = HeaderMap::new();
    let unavailable = headers(&[("grpc-status", "14")]);
    let listed = headers(&[("x-later", "5")]);
    let cases = [
        (headers(&[("x-envoy-retry-on", "nonsense, 5xx")]), response(500, &none), 2),
        (headers(&[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "3")]), response(500, &none), 4),
        (headers(&[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "0")]), response(500, &none), 1),
        (headers(&[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "-3")]), response(500, &none), 2),
        (headers(&[("x-envoy-retry-on", "5xx"), ("x-envoy-max-retries", "9999999999")]), response(500, &none), 2),
        (headers(&[("x-envoy-max-retries", "3")]), response(500, &none), 1),
        (headers(&[("x-envoy-retry-on", "unavailable")]), response(200, &unavailable), 1),
        (headers(&[("x-envoy-retry-grpc-on", "unavailable")]), response(200, &unavailable), 2),
        (headers(&[("x-envoy-retry-grpc-on", "5xx")]), response(500, &none), 1),
        (
            headers(&[
                ("x-envoy-retry-on", "retriable-status-codes"),
                ("x-envoy-retriable-status-codes", "a,404 ,99999"),
            ]),
            response(404, &none),
            2,
        ),
        (
            headers(&[("x-envoy-retry-on", "retriable-headers"), ("x-envoy-retriable-header-names", "b c, X-Later")]),
            response(200, &listed),
            2,
        ),
    ];
    for (asked, outcome, expected) in cases {
        assert_eq!(tries(&Policy::default(), &asked, &outcome).0, expected, "{asked:?}");
    }
}

#[test]
fn request_headers_add_to_the_policy() {
    let policy = compile(RetryPolicy { status_codes: vec![418], ..on(RetryOn::RETRIABLE_STATUS_CODES, 4) });
    let none = HeaderMap::new();
    let asked = headers(&[
        ("x-envoy-retriable-status-codes", "404"),
        ("x-envoy-retry-on", "reset"),
        ("x-envoy-max-retries", "2"),
    ]);
    for outcome in [response(418, &none), response(404, &none), Outcome::PerTryTimeout] {
        assert_eq!(tries(&policy, &asked, &outcome).0, 3);
    }
    assert_eq!(tries(&policy, &none, &response(418, &none)).0, 5);
}

#[test]
fn only_idempotent_methods_are_repeated_where_the_policy_says_so() {
    let policy = compile(RetryPolicy { idempotent_only: true, ..on(RetryOn::SERVER_ERROR, 1) });
    let none = HeaderMap::new();
    let verdict = |outcome: &Outcome<'_>, method: &Method| {
        ask(&mut Attempts::begin(&policy, Some(&none)).unwrap(), &policy, outcome, method)
    };
    let sent = [response(500, &none), Outcome::Reset { before_request_sent: false }, Outcome::PerTryTimeout];
    let unsent = [Outcome::ConnectFailure, Outcome::RefusedStream, Outcome::Reset { before_request_sent: true }];
    for method in [Method::POST, Method::PATCH, Method::CONNECT] {
        assert!(sent.iter().all(|outcome| verdict(outcome, &method) == Verdict::No(Reason::NotIdempotent)));
        assert!(unsent.iter().all(|outcome| matches!(verdict(outcome, &method), Verdict::Retry { .. })));
    }
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE] {
        assert!(sent.iter().all(|outcome| matches!(verdict(outcome, &method), Verdict::Retry { .. })));
    }
}

#[test]
fn a_body_that_is_gone_is_not_retried() {
    let policy = compile(on(RetryOn::SERVER_ERROR, 1));
    let mut attempts = Attempts::begin(&policy, Some(&HeaderMap::new())).unwrap();
    let request = Request { method: &Method::GET, replayable: false };
    let verdict = attempts.should_retry(&policy, &Outcome::PerTryTimeout, request, || NO_LIMIT, &mut Dice::new(1));
    assert_eq!(verdict, Verdict::No(Reason::NotReplayable));
}

#[test]
fn timeout_covering_tries() {
    let backoff = Backoff { base: Duration::from_secs(10), max: Duration::from_secs(10) };
    let policy = compile(RetryPolicy { backoff, ..on(RetryOn::SERVER_ERROR, 1) });
    for seed in 0..200 {
        let begin = || Attempts::begin(&policy, Some(&HeaderMap::new())).unwrap();
        let ask = |clock| {
            let request = Request { method: &Method::GET, replayable: true };
            begin().should_retry(&policy, &Outcome::PerTryTimeout, request, || clock, &mut Dice::new(seed))
        };
        let Verdict::Retry { after } = ask(NO_LIMIT) else { panic!("seed {seed}: without a limit there is a retry") };
        let left = |left| ask(Clock { left: Some(left), ..NO_LIMIT });
        assert_eq!(left(after), Verdict::No(Reason::DeadlinePassed), "seed {seed}");
        assert_eq!(left(Duration::ZERO), Verdict::No(Reason::DeadlinePassed), "seed {seed}");
        assert_eq!(left(after + Duration::from_nanos(1)), Verdict::Retry { after }, "seed {seed}");
    }
}

/// The shortest and the longest of 10,000 waits before each retry, in milliseconds.
fn backoff_bounds(policy: &Policy, outcome: &Outcome<'_>, seed: u64, retries: usize) -> Vec<(u128, u128)> {
    let mut dice = Dice::new(seed);
    let mut bounds = vec![(u128::MAX, 0); retries];
    for _ in 0..10_000 {
        let mut attempts = Attempts::begin(policy, Some(&HeaderMap::new())).unwrap();
        for bound in &mut bounds {
            let request = Request { method: &Method::GET, replayable: true };
            let verdict = attempts.should_retry(policy, outcome, request, || NO_LIMIT, &mut dice);
            let Verdict::Retry { after } = verdict else { panic!("seed {seed}: {verdict:?}") };
            *bound = (bound.0.min(after.as_millis()), bound.1.max(after.as_millis()));
        }
    }
    bounds
}

#[test]
fn backoff_bounds_over_10_000_samples() {
    for seed in [1, 2, 3] {
        let policy = compile(on(RetryOn::SERVER_ERROR, 6));
        let bounds = backoff_bounds(&policy, &Outcome::ConnectFailure, seed, 6);
        assert_eq!(bounds, [(0, 24), (0, 49), (0, 99), (0, 199), (0, 249), (0, 249)], "seed {seed}");
    }
}

#[test]
fn no_wait_is_shorter_than_the_least() {
    let policy = |least_ms| {
        compile(RetryPolicy {
            min_wait: Duration::from_millis(least_ms),
            rate_limited_backoff: Some(RateLimitedBackoff {
                reset_headers: vec![ResetHeader { name: "retry-after".into(), format: ResetFormat::Seconds }],
                max_interval: Duration::from_secs(1),
            }),
            ..on(RetryOn::SERVER_ERROR, 3)
        })
    };
    let (plain, limited) = (headers(&[]), headers(&[("retry-after", "1")]));
    let seed = 3;
    let bounds = |least_ms, headers, retries| backoff_bounds(&policy(least_ms), &response(503, headers), seed, retries);
    assert_eq!(bounds(400, &plain, 3), [(400, 424), (400, 449), (400, 499)], "added to every step of the back-off");
    assert_eq!(bounds(400, &limited, 1), [(1000, 1499)], "a longer wait that the response asks for stands");
    assert_eq!(bounds(2000, &limited, 1), [(2000, 2000)], "a shorter one does not");
}

#[test]
fn backoff_under_a_millisecond_is_a_millisecond() {
    let backoff = Backoff { base: Duration::from_micros(10), max: Duration::from_micros(500) };
    let policy = compile(RetryPolicy { backoff, ..on(RetryOn::SERVER_ERROR, 2) });
    assert_eq!(backoff_bounds(&policy, &Outcome::ConnectFailure, 1, 2), [(0, 0), (0, 0)]);
}

fn rate_limited() -> Policy {
    let header = |name: &str, format| ResetHeader { name: name.into(), format };
    let reset_headers =
        vec![header("retry-after", ResetFormat::Seconds), header("x-ratelimit-reset", ResetFormat::UnixTimestamp)];
    let rate_limited_backoff = Some(RateLimitedBackoff { reset_headers, max_interval: Duration::from_secs(300) });
    compile(RetryPolicy { rate_limited_backoff, ..on(RetryOn::SERVER_ERROR, 1) })
}

#[test]
fn a_response_says_when_to_come_back() {
    let cases = [
        (headers(&[("retry-after", "2")]), (2000, 2999)),
        (headers(&[("x-ratelimit-reset", "1000002")]), (2000, 2999)),
        (headers(&[("retry-after", "301"), ("x-ratelimit-reset", "1000300")]), (300_000, 449_999)),
    ];
    for (said, (least, most)) in cases {
        let (shortest, longest) = backoff_bounds(&rate_limited(), &response(503, &said), 7, 1)[0];
        assert!(least <= shortest && longest <= most, "{said:?}: {shortest} to {longest}");
        assert!(longest - shortest > (most - least) * 9 / 10, "{said:?}: {shortest} to {longest}");
    }
}

#[test]
fn what_a_response_says_beyond_the_maximum_in_the_past_or_in_no_number_is_not_obeyed() {
    let unreadable = [
        ("retry-after", "301"),
        ("retry-after", "0"),
        ("retry-after", "soon"),
        ("retry-after", "99999999999999999999"),
        ("retry-after", "18446744073709551615"),
        ("x-ratelimit-reset", "999999"),
        ("x-other", "2"),
    ];
    for pair in unreadable {
        let said = headers(&[pair]);
        assert_eq!(backoff_bounds(&rate_limited(), &response(503, &said), 7, 1), [(0, 24)], "{pair:?}");
    }
}

#[test]
fn previous_host_avoided() {
    let policy = RetryPolicy { avoid_previous_hosts: true, host_selection_attempts: 3, ..RetryPolicy::default() };
    let policy = compile(policy);
    let mut tried = Tried::default();
    let pick = |tried: &mut Tried<&'static str>, picks: &[&'static str]| {
        let mut picks = picks.iter().copied();
        let host = tried.pick(&policy, || picks.next());
        (host, picks.len())
    };
    assert_eq!(pick(&mut tried, &["a", "b"]), (Some("a"), 1));
    assert_eq!(pick(&mut tried, &["a", "a", "b", "c"]), (Some("b"), 1));
    assert_eq!(pick(&mut tried, &["a", "b", "b", "a", "c"]), (Some("a"), 1), "the last pick is taken");
    assert_eq!(pick(&mut tried, &[]), (None, 0));
    let mut careless = Tried::default();
    let default = Policy::default();
    assert!((0..3).all(|_| careless.pick(&default, || Some("a")) == Some("a")));
}

#[test]
fn previous_priorities_are_looked_at_anew_after_so_many_tries() {
    let avoided = |every: Option<u32>| {
        let policy = compile(RetryPolicy { avoid_previous_priorities: every, ..RetryPolicy::default() });
        (0..6).map(|tries| policy.priorities_to_avoid(tries)).collect::<Vec<_>>()
    };
    assert_eq!(avoided(None), [0, 0, 0, 0, 0, 0]);
    assert_eq!(avoided(Some(1)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(avoided(Some(2)), [0, 0, 2, 2, 4, 4]);
}

#[test]
fn a_request_of_many_tries_remembers_few_hosts() {
    let policy = compile(RetryPolicy { avoid_previous_hosts: true, ..RetryPolicy::default() });
    let mut tried = Tried::default();
    let mut hosts = 0..100_000;
    while tried.pick(&policy, || hosts.next()).is_some() {}
    assert!(size_of_val(&tried) < 64);
    let mut picks = [99_999, 1].into_iter();
    assert_eq!(tried.pick(&policy, || picks.next()), Some(1), "the latest is known, the first no more");
}

#[test]
fn what_cannot_be_compiled_is_refused_by_name() {
    let error = |policy: RetryPolicy| Policy::compile(&policy).unwrap_err().to_string();
    let backoff = Backoff { base: Duration::from_millis(2), max: Duration::from_millis(1) };
    let text = error(RetryPolicy { backoff, ..RetryPolicy::default() });
    assert_eq!(text, "retry back-off: the maximum 1ms is shorter than the base 2ms");
    let header = HeaderMatch { name: "x y".into(), ..retry_me() };
    let text = error(RetryPolicy { headers: vec![header], ..RetryPolicy::default() });
    assert_eq!(text, "retriable header \"x y\": this is no HTTP header name");
    let reset_headers = vec![ResetHeader { name: "a b".into(), format: ResetFormat::Seconds }];
    let rate_limited_backoff = Some(RateLimitedBackoff { reset_headers, max_interval: Duration::MAX });
    let text = error(RetryPolicy { rate_limited_backoff, ..RetryPolicy::default() });
    assert_eq!(text, "rate limited back-off: \"a b\" is no HTTP header name");
}

proptest! {
    #[test]
    fn whatever_a_caller_sends_is_read_or_passed_over(
        values in prop::collection::vec((0..crate::x_envoy::CONSUMED.len(), prop::collection::vec(32u8..=255, 0..40)), 0..8),
        seed: u64,
    ) {
        let mut asked = HeaderMap::new();
        for (name, value) in &values {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                asked.append(&crate::x_envoy::CONSUMED[*name], value);
            }
        }
        let policy = Policy::default();
        if let Some(mut attempts) = Attempts::begin(&policy, Some(&asked)) {
            let request = Request { method: &Method::GET, replayable: true };
            attempts.should_retry(&policy, &Outcome::ConnectFailure, request, || NO_LIMIT, &mut Dice::new(seed));
        }
    }

    #[test]
    fn whatever_a_response_says_a_wait_is_within_its_bounds(value in "[ -~]{0,30}", unix: u64, seed: u64) {
        let policy = rate_limited();
        let mut said = HeaderMap::new();
        said.insert("retry-after", HeaderValue::from_str(&value).unwrap());
        said.insert("x-ratelimit-reset", HeaderValue::from_str(&value).unwrap());
        let mut attempts = Attempts::begin(&policy, Some(&HeaderMap::new())).unwrap();
        let request = Request { method: &Method::GET, replayable: true };
        let clock = Clock { left: None, unix: Duration::from_secs(unix) };
        let verdict = attempts.should_retry(&policy, &response(503, &said), request, || clock, &mut Dice::new(seed));
        let Verdict::Retry { after } = verdict else { panic!("{verdict:?}") };
        prop_assert!(after < Duration::from_secs(450));
    }
}
