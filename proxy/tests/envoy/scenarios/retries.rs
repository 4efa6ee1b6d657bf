//! Retries that the route asks for.

use crate::scenario::{
    Call, HostKind, Play, Scenario, answer, get, grpc, grpc_status, never, ok, reset, scenario, stalled, status,
};
use std::time::Duration;
use weft_model::balancer::{Balancer, HashSource};
use weft_model::cluster::Protocol;
use weft_model::retry::RetryOn;
use weft_model::route::{HeaderMatch, StringMatch};
use weft_testkit::{Act, Answer};

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = statuses();
    all.extend(no_response());
    all.extend(by_grpc_status());
    all.extend(counts());
    all.extend(elsewhere());
    all.extend(per_try());
    all
}

/// One host that does this first, and answers 200 to the retry.
fn then_ok(name: &'static str, first: Play, on: RetryOn) -> Scenario {
    scenario(name).host([first, ok()]).retry(on, |_| ()).send(get())
}

fn rate_limited(status: u16) -> Play {
    answer(Answer::status(status).header("x-envoy-ratelimited", "true"))
}

fn statuses() -> Vec<Scenario> {
    let other_header = || answer(Answer::status(200).header("x-again", "yes"));
    let again = HeaderMatch { name: "x-again".into(), value: StringMatch::Exact("yes".into()), invert: false };
    vec![
        scenario("retry: without a policy there is none")
            .host([status(503), ok()])
            .send(get())
            .expect("503@a; hosts 1"),
        then_ok("retry 5xx: a 503", status(503), RetryOn::SERVER_ERROR).expect("200@a; hosts 2"),
        then_ok("retry 5xx: a 500", status(500), RetryOn::SERVER_ERROR).expect("200@a; hosts 2"),
        then_ok("retry 5xx: not a 499", status(499), RetryOn::SERVER_ERROR).expect("499@a; hosts 1"),
        then_ok("retry gateway-error: a 502", status(502), RetryOn::GATEWAY_ERROR).expect("200@a; hosts 2"),
        then_ok("retry gateway-error: a 504", status(504), RetryOn::GATEWAY_ERROR).expect("200@a; hosts 2"),
        then_ok("retry gateway-error: not a 500", status(500), RetryOn::GATEWAY_ERROR).expect("500@a; hosts 1"),
        then_ok("retry retriable-4xx: a 409", status(409), RetryOn::RETRIABLE_4XX).expect("200@a; hosts 2"),
        then_ok("retry retriable-4xx: not a 404", status(404), RetryOn::RETRIABLE_4XX).expect("404@a; hosts 1"),
        then_ok("retry retriable-status-codes: a listed one", status(418), RetryOn::RETRIABLE_STATUS_CODES)
            .forward(|forward| forward.retry.as_mut().unwrap().status_codes = vec![418])
            .expect("200@a; hosts 2"),
        then_ok("retry retriable-status-codes: not another", status(503), RetryOn::RETRIABLE_STATUS_CODES)
            .forward(|forward| forward.retry.as_mut().unwrap().status_codes = vec![418])
            .expect("503@a; hosts 1"),
        then_ok("retry retriable-headers: a header that fits", other_header(), RetryOn::RETRIABLE_HEADERS)
            .forward(|forward| forward.retry.as_mut().unwrap().headers = vec![again])
            .expect("200@a; hosts 2"),
        then_ok("retry envoy-ratelimited: a response that is", rate_limited(429), RetryOn::ENVOY_RATELIMITED)
            .expect("200@a; hosts 2"),
        then_ok("retry envoy-ratelimited: not a mere 429", status(429), RetryOn::ENVOY_RATELIMITED)
            .expect("429@a; hosts 1"),
        then_ok("retry 5xx: not what is rate limited", rate_limited(503), RetryOn::SERVER_ERROR)
            .expect("503@a; hosts 1"),
        then_ok(
            "retry 5xx: what an overloaded proxy refused",
            answer(Answer::status(503).header("x-envoy-overloaded", "true")),
            RetryOn::SERVER_ERROR,
        )
        .expect("200@a; hosts 2")
        .differs("whoever is over its limits is not asked again at once", "503@a; hosts 1"),
    ]
}

fn no_response() -> Vec<Scenario> {
    let http2 = |scenario: Scenario| scenario.cluster(|cluster| cluster.protocol = Protocol::Http2);
    let refused = |name| http2(scenario(name).host_that_is(HostKind::Refusing)).send(get());
    vec![
        then_ok("retry reset: a reset", reset(), RetryOn::RESET).expect("200@a; hosts 2"),
        then_ok("retry reset: not a 503", status(503), RetryOn::RESET).expect("503@a; hosts 1"),
        then_ok("retry 5xx: a reset", reset(), RetryOn::SERVER_ERROR).expect("200@a; hosts 2"),
        then_ok("retry gateway-error: a reset", reset(), RetryOn::GATEWAY_ERROR).expect("200@a; hosts 2"),
        then_ok("retry connect-failure: not a reset", reset(), RetryOn::CONNECT_FAILURE).expect("503 UC; hosts 1"),
        then_ok("retry reset-before-request: not a reset after it", reset(), RetryOn::RESET_BEFORE_REQUEST)
            .expect("503 UC; hosts 1"),
        then_ok(
            "retry retriable-status-codes: not a reset, though 503 is listed",
            reset(),
            RetryOn::RETRIABLE_STATUS_CODES,
        )
        .forward(|forward| forward.retry.as_mut().unwrap().status_codes = vec![503])
        .expect("503 UC; hosts 1"),
        http2(then_ok("retry reset: an HTTP/2 stream's", reset(), RetryOn::RESET)).expect("200@a; hosts 2"),
        absent("retry connect-failure: until the limit", RetryOn::CONNECT_FAILURE).expect("503 UF,URX; hosts 0"),
        absent("retry reset-before-request: a connect failure", RetryOn::RESET_BEFORE_REQUEST)
            .expect("503 UF,URX; hosts 0"),
        absent("retry reset: a connect failure", RetryOn::RESET).expect("503 UF,URX; hosts 0"),
        absent("retry 5xx: a connect failure", RetryOn::SERVER_ERROR).expect("503 UF,URX; hosts 0"),
        absent("retry gateway-error: a connect failure", RetryOn::GATEWAY_ERROR).expect("503 UF,URX; hosts 0"),
        absent("retry refused-stream: not a connect failure", RetryOn::REFUSED_STREAM).expect("503 UF; hosts 0"),
        scenario("retry connect-failure: another host")
            .host([ok()])
            .host_that_is(HostKind::Absent)
            .retry(RetryOn::CONNECT_FAILURE, |_| ())
            .send_times(4, get())
            .expect("4x 200@a; hosts 4+0"),
        refused("retry refused-stream: it is").retry(RetryOn::REFUSED_STREAM, |_| ()).expect("200; hosts 2"),
        refused("retry 5xx: a refused stream").retry(RetryOn::SERVER_ERROR, |_| ()).expect("200; hosts 2"),
        refused("retry connect-failure: not a refused stream")
            .retry(RetryOn::CONNECT_FAILURE, |_| ())
            .expect("503 UR; hosts 1"),
        refused("a refused stream without a policy").expect("503 UR; hosts 1").differs(UNSENT, "200; hosts 2"),
        scenario("a connect failure without a policy, and another host")
            .host([ok()])
            .host_that_is(HostKind::Absent)
            .send_times(4, get())
            .unordered()
            .expect("2x 200@a, 2x 503 UF; hosts 2+0")
            .differs(UNSENT, "4x 200@a; hosts 4+0"),
        scenario("a connect failure without a policy, and no other host")
            .host_that_is(HostKind::Absent)
            .send(get())
            .expect("503 UF; hosts 0"),
    ]
}

/// Why requests without a policy may be answered all the same.
const UNSENT: &str = "without a policy, what was provably not sent is offered to another endpoint";

fn absent(name: &'static str, on: RetryOn) -> Scenario {
    scenario(name).host_that_is(HostKind::Absent).retry(on, |_| ()).send(get())
}

fn by_grpc_status() -> Vec<Scenario> {
    let first = |name, code: &str, on| {
        scenario(name)
            .host([grpc_status(code), grpc_status("0")])
            .cluster(|cluster| cluster.protocol = Protocol::Http2)
            .retry(on, |_| ())
            .send(grpc())
    };
    let trailing = Answer::ok("x").header("content-type", "application/grpc").trailer("grpc-status", "14");
    let again = "200 grpc 0@a; hosts 2";
    vec![
        first("retry cancelled", "1", RetryOn::CANCELLED).expect(again),
        first("retry deadline-exceeded", "4", RetryOn::DEADLINE_EXCEEDED).expect(again),
        first("retry internal", "13", RetryOn::INTERNAL).expect(again),
        first("retry resource-exhausted", "8", RetryOn::RESOURCE_EXHAUSTED).expect(again),
        first("retry unavailable", "14", RetryOn::UNAVAILABLE).expect(again),
        first("retry unavailable: not internal", "13", RetryOn::UNAVAILABLE).expect("200 grpc 13@a; hosts 1"),
        first("retry 5xx: not a gRPC status", "14", RetryOn::SERVER_ERROR).expect("200 grpc 14@a; hosts 1"),
        scenario("retry unavailable: not in the trailers")
            .host([answer(trailing), grpc_status("0")])
            .cluster(|cluster| cluster.protocol = Protocol::Http2)
            .retry(RetryOn::UNAVAILABLE, |_| ())
            .send(grpc())
            .expect("200 grpc 14@a; hosts 1"),
    ]
}

/// Why there is no `URX`.
pub(super) const NO_LIMIT: &str = "where no retry is allowed at all, no limit of them was exceeded";

fn counts() -> Vec<Scenario> {
    let posted = Call { body: "hello", ..get() };
    vec![
        scenario("retry: one is the default")
            .host([status(503), status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get())
            .with_details()
            .expect("503 URX via_upstream@a; hosts 2"),
        scenario("retry: num_retries of them")
            .host([status(503), status(503), status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.num_retries = 3)
            .send(get())
            .expect("200@a; hosts 4"),
        scenario("retry: num_retries 0 is none")
            .host([status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.num_retries = 0)
            .send(get())
            .expect("503 URX@a; hosts 1")
            .differs(NO_LIMIT, "503@a; hosts 1"),
        scenario("retry: what fails otherwise at last is told")
            .host([status(503), reset()])
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get())
            .expect("503 UC,URX; hosts 2"),
        scenario("retry: the body is sent again")
            .host([status(503), Play::Act(Act::Echo)])
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(posted)
            .with_body()
            .expect("200 \"hello\"; hosts 2"),
    ]
}

fn elsewhere() -> Vec<Scenario> {
    let hashed = |name| {
        scenario(name)
            .equal_hosts(2)
            .balancer(Balancer::RING_HASH)
            .hashed_by(HashSource::Header("x-key".into()))
            .script([status(503), ok()])
            .anonymous()
    };
    vec![
        scenario("retry: another host in turn")
            .equal_hosts(2)
            .script([status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get())
            .anonymous()
            .expect("200; hosts 1+1"),
        hashed("retry: by hash the same host")
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get().with("x-key", "one"))
            .expect("200; hosts 2+0"),
        hashed("retry: by hash another host, when previous ones are avoided")
            .retry(RetryOn::SERVER_ERROR, |policy| {
                (policy.avoid_previous_hosts, policy.host_selection_attempts) = (true, 20);
            })
            .send(get().with("x-key", "one"))
            .expect("200; hosts 1+1")
            .differs(
                "who chooses by hash wants that host, as in Istio, which drops the predicate then",
                "200; hosts 2+0",
            ),
        scenario("retry: the only host again, though previous ones are avoided")
            .host([status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.avoid_previous_hosts = true)
            .send(get())
            .expect("200@a; hosts 2"),
        scenario("retry: another priority, when previous ones are avoided")
            .host([status(503)])
            .host_with([ok()], |host| host.priority = 1)
            .retry(RetryOn::SERVER_ERROR, |policy| policy.avoid_previous_priorities = Some(1))
            .send_times(2, get())
            .expect("2x 200@b; hosts 2+2"),
    ]
}

fn per_try() -> Vec<Scenario> {
    let quarter = Some(Duration::from_millis(250));
    vec![
        scenario("retry: after a per-try timeout")
            .host([never(), ok()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_timeout = quarter)
            .send(get())
            .expect("200@a; hosts 2"),
        scenario("retry gateway-error: a per-try timeout")
            .host([never(), ok()])
            .retry(RetryOn::GATEWAY_ERROR, |policy| policy.per_try_timeout = quarter)
            .send(get())
            .expect("200@a; hosts 2"),
        scenario("retry reset: a per-try timeout")
            .host([never(), ok()])
            .retry(RetryOn::RESET, |policy| policy.per_try_timeout = quarter)
            .send(get())
            .expect("200@a; hosts 2"),
        scenario("retry connect-failure: not a per-try timeout")
            .host([never(), ok()])
            .retry(RetryOn::CONNECT_FAILURE, |policy| policy.per_try_timeout = quarter)
            .send(get())
            .with_details()
            .expect("504 UT upstream_per_try_timeout; hosts 1"),
        scenario("retry: a per-try timeout at the limit")
            .host([never()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_timeout = quarter)
            .send(get())
            .with_details()
            .expect("504 URX,UT upstream_per_try_timeout; hosts 2"),
        scenario("retry: a per-try timeout not under the route's is none")
            .host([never(), ok()])
            .timeout(150)
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_timeout = Some(Duration::from_millis(150)))
            .send(get())
            .with_details()
            .expect("504 UT response_timeout; hosts 1"),
        scenario("retry: a per-try timeout ends with the response's start")
            .host([stalled()])
            .timeout(600)
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_timeout = quarter)
            .send(get())
            .with_details()
            .expect("200 UT response_timeout@a broken; hosts 1"),
        scenario("retry: the route's timeout covers all tries, and is not retried")
            .host([never()])
            .timeout(700)
            .retry(RetryOn::SERVER_ERROR, |policy| {
                (policy.per_try_timeout, policy.num_retries) = (quarter, 10);
            })
            .send(get())
            .with_details()
            .uncounted()
            .expect("504 UT response_timeout; hosts some"),
        scenario("retry: a hedge at the per-try timeout")
            .host([never(), ok()])
            .retry(RetryOn::SERVER_ERROR, |policy| {
                (policy.per_try_timeout, policy.hedge_on_per_try_timeout) = (quarter, true);
            })
            .send(get())
            .expect("200@a; hosts 2"),
        scenario("retry: a per-try idle timeout")
            .host([never(), ok()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_idle_timeout = quarter)
            .send(get())
            .expect("200@a; hosts 2"),
        scenario("retry: a per-try idle timeout at the limit")
            .host([never()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_idle_timeout = quarter)
            .send(get())
            .with_details()
            .expect("504 URX,UT upstream_per_try_idle_timeout; hosts 2"),
        scenario("retry: a per-try idle timeout holds until the answer's end")
            .host([stalled()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_idle_timeout = quarter)
            .send(get())
            .with_details()
            .expect("200 UT upstream_per_try_idle_timeout@a broken; hosts 1"),
    ]
}
