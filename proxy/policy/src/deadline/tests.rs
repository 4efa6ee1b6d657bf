use super::*;
use proptest::prelude::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn limits() -> Limits {
    Limits { global: Some(MS(15_000)), per_try: Some(MS(4000)), ..Limits::default() }
}

fn resolve(limits: Limits, pairs: &[(&'static str, &'static str)]) -> (Option<Duration>, Option<Duration>) {
    let timeouts = limits.resolve(&headers(pairs), false);
    (timeouts.global, timeouts.per_try)
}

#[test]
fn the_callers_timeouts_come_before_the_routes() {
    assert_eq!(resolve(limits(), &[]), (Some(MS(15_000)), Some(MS(4000))));
    assert_eq!(resolve(limits(), &[("x-envoy-upstream-rq-timeout-ms", "5000")]), (Some(MS(5000)), Some(MS(4000))));
    let per_try = "x-envoy-upstream-rq-per-try-timeout-ms";
    assert_eq!(resolve(limits(), &[(per_try, "70")]), (Some(MS(15_000)), Some(MS(70))));
    assert_eq!(resolve(Limits::default(), &[(per_try, "70")]), (None, Some(MS(70))));
}

#[test]
fn zero_is_no_timeout_and_what_is_no_number_is_passed_over() {
    assert_eq!(resolve(limits(), &[("x-envoy-upstream-rq-timeout-ms", "0")]), (None, Some(MS(4000))));
    assert_eq!(resolve(limits(), &[("x-envoy-upstream-rq-per-try-timeout-ms", "0")]), (Some(MS(15_000)), None));
    for value in ["", "-1", "1s", "1.5", "99999999999999999999"] {
        assert_eq!(resolve(limits(), &[("x-envoy-upstream-rq-timeout-ms", value)]).0, Some(MS(15_000)), "{value}");
    }
    let zero = Limits { global: Some(Duration::ZERO), per_try: Some(Duration::ZERO), ..Limits::default() };
    assert_eq!(resolve(zero, &[]), (None, None));
}

#[test]
fn a_timeout_of_a_try_that_is_not_shorter_than_the_global_one_is_ignored() {
    for per_try in ["15000", "15001"] {
        let asked = [("x-envoy-upstream-rq-per-try-timeout-ms", per_try)];
        assert_eq!(resolve(limits(), &asked), (Some(MS(15_000)), None));
    }
    assert_eq!(resolve(limits(), &[("x-envoy-upstream-rq-timeout-ms", "4000")]), (Some(MS(4000)), None));
}

#[test]
fn what_a_proxy_before_us_expects_is_obeyed_only_when_it_is_trusted() {
    let asked = headers(&[("x-envoy-expected-rq-timeout-ms", "900"), ("x-envoy-upstream-rq-timeout-ms", "2000")]);
    assert_eq!(limits().resolve(&asked, true).global, Some(MS(900)));
    assert_eq!(limits().resolve(&asked, false).global, Some(MS(2000)));
    let unreadable = headers(&[("x-envoy-expected-rq-timeout-ms", "x"), ("x-envoy-upstream-rq-timeout-ms", "2000")]);
    assert_eq!(limits().resolve(&unreadable, true).global, Some(MS(15_000)));
    let without = headers(&[("x-envoy-upstream-rq-timeout-ms", "2000")]);
    assert_eq!(limits().resolve(&without, true).global, Some(MS(2000)));
}

#[test]
fn hedging_and_the_alternative_response_are_asked_for_by_header() {
    let hedges = |limits: Limits, value| {
        limits.resolve(&headers(&[("x-envoy-hedge-on-per-try-timeout", value)]), false).hedge_on_per_try_timeout
    };
    let on = Limits { hedge_on_per_try_timeout: true, ..limits() };
    assert!(hedges(limits(), "true") && !hedges(limits(), "yes"));
    assert!(!hedges(on, "false") && hedges(on, "yes"));
    assert!(limits().resolve(&headers(&[("x-envoy-upstream-rq-timeout-alt-response", "1")]), false).alt_response);
    assert!(!limits().resolve(&headers(&[]), false).alt_response);
}

#[test]
fn grpc_timeout_is_read_only_of_grpc_and_only_when_the_route_caps_it() {
    let global = |max, kind, timeout| {
        let limits = Limits { grpc_timeout_max: max, per_try: None, ..limits() };
        limits.resolve(&headers(&[("content-type", kind), ("grpc-timeout", timeout)]), false).global
    };
    let grpc = "application/grpc";
    assert_eq!(global(None, grpc, "1S"), Some(MS(15_000)));
    assert_eq!(global(Some(MS(3000)), "application/json", "1S"), Some(MS(15_000)));
    assert_eq!(global(Some(MS(3000)), "application/grpc-web", "1S"), Some(MS(15_000)));
    assert_eq!(global(Some(MS(3000)), grpc, "1S"), Some(MS(1000)));
    assert_eq!(global(Some(MS(3000)), "application/grpc+proto", "1M"), Some(MS(3000)));
    assert_eq!(global(Some(Duration::ZERO), grpc, "1M"), Some(MS(60_000)), "zero is no cap");
    assert_eq!(global(Some(MS(3000)), grpc, "soon"), Some(MS(15_000)));
    assert_eq!(global(Some(MS(3000)), grpc, "0m"), Some(Duration::ZERO), "it is over already");
    assert_eq!(global(Some(Duration::ZERO), grpc, "99999999H"), Some(LONGEST));
}

#[test]
fn the_upstream_is_told_what_is_left() {
    let timeouts = limits().resolve(&headers(&[]), false);
    assert_eq!(timeouts.expected(Duration::ZERO), Some(MS(4000)));
    assert_eq!(timeouts.expected(MS(12_000)), Some(MS(3000)));
    assert_eq!(timeouts.expected(MS(15_000)), Some(MS(1)), "zero would be any time");
    assert_eq!(timeouts.left(MS(16_000)), Some(Duration::ZERO));
    let hedging = Timeouts { hedge_on_per_try_timeout: true, ..timeouts };
    assert_eq!(hedging.expected(MS(1000)), Some(MS(14_000)));
    assert_eq!(Timeouts::default().expected(MS(1000)), None);
    assert_eq!(Timeouts { per_try: Some(MS(5)), ..Timeouts::default() }.expected(MS(1000)), Some(MS(5)));
}

#[test]
fn the_headers_of_a_try_are_written_over_the_callers() {
    let told = |limits: Limits| {
        let pairs =
            [("content-type", "application/grpc"), ("grpc-timeout", "1H"), ("x-envoy-expected-rq-timeout-ms", "1")];
        let mut sent = headers(&pairs);
        limits.resolve(&sent, false).tell(MS(1500), &mut sent);
        ["x-envoy-expected-rq-timeout-ms", "grpc-timeout"].map(|name| sent[name].to_str().unwrap().to_owned())
    };
    assert_eq!(told(Limits { per_try: None, ..limits() }), ["13500", "1H"], "not ours to write");
    let capped = Limits { grpc_timeout_max: Some(MS(9000)), per_try: None, ..limits() };
    assert_eq!(told(capped), ["7500", "7500m"]);
    assert_eq!(told(Limits::default()), ["1", "1H"], "nothing to tell");
    let mut sent = headers(&[]);
    limits().resolve(&sent, false).tell(Duration::from_micros(11_000_100), &mut sent);
    assert_eq!(
        sent["x-envoy-expected-rq-timeout-ms"], "4000",
        "a begun millisecond of the elapsed time counts for nothing"
    );
}

#[test]
fn grpc_timeouts_are_up_to_eight_digits_and_a_unit() {
    let second = Duration::from_secs(1);
    for (text, expected) in [
        ("1H", Some(3600 * second)),
        ("2M", Some(120 * second)),
        ("3S", Some(3 * second)),
        ("4m", Some(MS(4))),
        ("5u", Some(Duration::from_micros(5))),
        ("00000006n", Some(Duration::from_nanos(6))),
        ("123456789n", None),
        ("S", None),
        ("", None),
        ("1", None),
        ("1s", None),
        ("+1S", None),
        (" 1S", None),
        ("1 S", None),
    ] {
        assert_eq!(parse_grpc_timeout(text.as_bytes()), expected, "{text}");
    }
    for (timeout, expected) in [
        (MS(99_999_999), "99999999m"),
        (MS(100_000_000), "100000S"),
        (Duration::from_secs(100_000_000), "1666666M"),
        (Duration::from_secs(99_999_999 * 60 + 60), "1666666H"),
        (Duration::MAX, "99999999H"),
        (Duration::from_nanos(1), "0m"),
    ] {
        assert_eq!(format_grpc_timeout(timeout), expected);
    }
}

proptest! {
    #[test]
    fn whatever_a_caller_sends_the_timeouts_cover_each_other(
        values in prop::collection::vec("[0-9]{0,22}|[ -~]{0,9}", 4),
        trust: bool,
        grpc: bool,
        elapsed: u64,
    ) {
        let names = [x_envoy::UPSTREAM_RQ_TIMEOUT_MS, x_envoy::UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, x_envoy::EXPECTED_RQ_TIMEOUT_MS, GRPC_TIMEOUT];
        let mut asked: HeaderMap =
            names.into_iter().zip(&values).map(|(name, value)| (name, HeaderValue::from_str(value).unwrap())).collect();
        if grpc {
            asked.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        let limits = Limits { grpc_timeout_max: Some(Duration::ZERO), ..limits() };
        let timeouts = limits.resolve(&asked, trust);
        if let (Some(global), Some(per_try)) = (timeouts.global, timeouts.per_try) {
            prop_assert!(per_try < global);
        }
        prop_assert!(timeouts.global.is_none_or(|global| global <= LONGEST));
        timeouts.tell(Duration::from_millis(elapsed), &mut asked);
        let told = parse_grpc_timeout(asked[GRPC_TIMEOUT].as_bytes());
        prop_assert!(!timeouts.tells_grpc || timeouts.expected(Duration::ZERO).is_none() || told.is_some());
    }

    #[test]
    fn a_grpc_timeout_is_parsed_from_any_bytes_or_not_at_all(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        parse_grpc_timeout(&bytes);
    }

    #[test]
    fn a_formatted_grpc_timeout_is_never_longer(secs: u64, nanos in 0u32..1_000_000_000) {
        let timeout = Duration::new(secs, nanos);
        let text = format_grpc_timeout(timeout);
        prop_assert!(text.len() <= 9);
        prop_assert!(parse_grpc_timeout(text.as_bytes()).unwrap() <= timeout);
    }
}
