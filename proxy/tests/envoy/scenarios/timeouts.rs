//! How long a request may take.

use crate::scenario::{
    Call, HostKind, Scenario, get, get_inside, grpc, grpc_status, held, never, ok, scenario, stalled,
};
use std::time::Duration;
use weft_model::cluster::Protocol;
use weft_model::retry::RetryOn;

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = of_the_route();
    all.extend(asked());
    all.extend(idle());
    all
}

fn of_the_route() -> Vec<Scenario> {
    vec![
        scenario("timeout: the route's")
            .host([never()])
            .timeout(100)
            .send(get())
            .with_details()
            .expect("504 UT response_timeout; hosts 1"),
        scenario("timeout: the route's, while the answer is under way")
            .host([stalled()])
            .timeout(200)
            .send(get())
            .with_details()
            .expect("200 UT response_timeout@a broken; hosts 1"),
        scenario("timeout: the route's, of an answer in time")
            .host([ok()])
            .timeout(2000)
            .send(get())
            .expect("200@a; hosts 1"),
        scenario("timeout: the upstream is told the route's")
            .host([ok()])
            .timeout(2000)
            .send(get())
            .sees(["x-envoy-expected-rq-timeout-ms"])
            .expect("200@a; hosts 1; x-envoy-expected-rq-timeout-ms 2000"),
        scenario("timeout: the upstream is told that of one try")
            .host([ok()])
            .timeout(2000)
            .retry(RetryOn::SERVER_ERROR, |policy| policy.per_try_timeout = Some(Duration::from_millis(1500)))
            .send(get())
            .sees(["x-envoy-expected-rq-timeout-ms"])
            .expect("200@a; hosts 1; x-envoy-expected-rq-timeout-ms 1500"),
        scenario("timeout: without one the upstream is told nothing")
            .host([ok()])
            .send(get())
            .sees(["x-envoy-expected-rq-timeout-ms"])
            .expect("200@a; hosts 1; x-envoy-expected-rq-timeout-ms -"),
        scenario("timeout: of a try alone, without retries")
            .host([never()])
            .forward(|forward| forward.backend_timeout = Some(Duration::from_millis(100)))
            .send(get())
            .with_details()
            .expect("504 UT upstream_per_try_timeout; hosts 1"),
        scenario("timeout: connecting takes too long")
            .host_that_is(HostKind::Deaf)
            .cluster(|cluster| cluster.connect_timeout = Duration::from_millis(150))
            .send(get())
            .with_details()
            .expect("503 UF upstream_reset_before_response_started{connection_timeout}; hosts 0"),
        scenario("timeout: connecting takes too long, and is retried")
            .host_that_is(HostKind::Deaf)
            .cluster(|cluster| cluster.connect_timeout = Duration::from_millis(150))
            .retry(RetryOn::CONNECT_FAILURE, |_| ())
            .send(get())
            .expect("503 UF,URX; hosts 0"),
        scenario("timeout: the route's, while connecting")
            .host_that_is(HostKind::Deaf)
            .timeout(150)
            .send(get())
            .with_details()
            .expect("504 UT response_timeout; hosts 0"),
        scenario("timeout: the route's, while waiting for a connection")
            .host([held()])
            .limits(|limits| limits.max_connections = 1)
            .timeout(400)
            .start(1, get())
            .arrived(1)
            .start(1, get())
            .uncounted()
            .expect("2x 504 UT; hosts some"),
    ]
}

fn asked() -> Vec<Scenario> {
    let with = |name: &'static str, value: &str| get_inside().with(name, value);
    let by_grpc =
        |name| scenario(name).host([never(), grpc_status("0")]).cluster(|cluster| cluster.protocol = Protocol::Http2);
    vec![
        scenario("timeout: the caller's is shorter")
            .host([never()])
            .timeout(3000)
            .send(with("x-envoy-upstream-rq-timeout-ms", "100"))
            .with_details()
            .expect("504 UT response_timeout; hosts 1"),
        scenario("timeout: the caller's without the route's")
            .host([never()])
            .send(with("x-envoy-upstream-rq-timeout-ms", "100"))
            .expect("504 UT; hosts 1"),
        scenario("timeout: the caller's is longer")
            .host([ok()])
            .timeout(1000)
            .send(with("x-envoy-upstream-rq-timeout-ms", "2000"))
            .sees(["x-envoy-expected-rq-timeout-ms"])
            .expect("200@a; hosts 1; x-envoy-expected-rq-timeout-ms 2000"),
        scenario("timeout: the caller wants none")
            .host([ok()])
            .timeout(1000)
            .send(with("x-envoy-upstream-rq-timeout-ms", "0"))
            .sees(["x-envoy-expected-rq-timeout-ms"])
            .expect("200@a; hosts 1; x-envoy-expected-rq-timeout-ms -"),
        scenario("timeout: the caller's of a try")
            .host([never(), ok()])
            .send(with("x-envoy-upstream-rq-per-try-timeout-ms", "250").with("x-envoy-retry-on", "5xx"))
            .expect("200@a; hosts 2"),
        scenario("timeout: the caller wants 204 in place of 504")
            .host([never()])
            .timeout(100)
            .send(with("x-envoy-upstream-rq-timeout-alt-response", "1"))
            .expect("204 UT; hosts 1"),
        scenario("timeout: what a proxy before us expects")
            .host([ok()])
            .timeout(2000)
            .send(with("x-envoy-expected-rq-timeout-ms", "100"))
            .sees(["x-envoy-expected-rq-timeout-ms"])
            .expect("200@a; hosts 1; x-envoy-expected-rq-timeout-ms 2000")
            .differs(
                "nobody should work on an answer for which nobody waits (Envoy's respect_expected_rq_timeout)",
                "200@a; hosts 1; x-envoy-expected-rq-timeout-ms 100",
            ),
        by_grpc("timeout: grpc-timeout")
            .forward(|forward| forward.grpc_timeout_max = Some(Duration::ZERO))
            .send(grpc().with("grpc-timeout", "100m"))
            .with_details()
            .expect("200 grpc 4 max_duration_timeout; hosts 1"),
        by_grpc("timeout: grpc-timeout, capped")
            .forward(|forward| forward.grpc_timeout_max = Some(Duration::from_millis(100)))
            .send(grpc().with("grpc-timeout", "5S"))
            .expect("200 grpc 4; hosts 1"),
        by_grpc("timeout: grpc-timeout where it is not looked at")
            .timeout(150)
            .send(grpc().with("grpc-timeout", "10m"))
            .with_details()
            .expect("200 grpc 14 UT response_timeout; hosts 1"),
    ]
}

fn idle() -> Vec<Scenario> {
    let tenth = Some(Duration::from_millis(100));
    let posted = Call { body: "hello", ..get() };
    vec![
        scenario("idle: before the answer")
            .host([never()])
            .forward(|forward| forward.idle_timeout = tenth)
            .send(get())
            .send(posted)
            .with_details()
            .expect("2x 504 SI stream_idle_timeout; hosts 2"),
        scenario("idle: while the answer is under way")
            .host([stalled()])
            .forward(|forward| forward.idle_timeout = tenth)
            .send(get())
            .with_details()
            .expect("200 SI stream_idle_timeout@a broken; hosts 1"),
        scenario("idle: a gRPC call before its answer")
            .host([never()])
            .cluster(|cluster| cluster.protocol = Protocol::Http2)
            .forward(|forward| forward.idle_timeout = tenth)
            .send(grpc())
            .expect("200 grpc 14 SI; hosts 1"),
    ]
}
