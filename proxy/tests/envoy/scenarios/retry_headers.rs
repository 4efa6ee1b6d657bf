//! Retries that the caller asks for, by `x-envoy-*` headers.

use super::retries::NO_LIMIT;
use crate::scenario::{Play, Scenario, answer, get, get_inside, grpc, grpc_status, ok, scenario, status};
use weft_model::cluster::Protocol;
use weft_model::retry::RetryOn;
use weft_testkit::Answer;

pub(crate) fn all() -> Vec<Scenario> {
    let first = |name, first: Play| scenario(name).host([first, ok()]);
    vec![
        first("asked to retry: retry-on without a policy", status(503))
            .send(get_inside().with("x-envoy-retry-on", "5xx"))
            .expect("200@a; hosts 2"),
        first("asked to retry: retry-on adds to the policy", status(409))
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get_inside().with("x-envoy-retry-on", "retriable-4xx"))
            .expect("200@a; hosts 2"),
        first("asked to retry: max-retries without retry-on asks for nothing", status(503))
            .send(get_inside().with("x-envoy-max-retries", "3"))
            .expect("503@a; hosts 1"),
        scenario("asked to retry: max-retries is more than the policy's")
            .host([status(503), status(503), status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get_inside().with("x-envoy-max-retries", "3"))
            .expect("200@a; hosts 4"),
        scenario("asked to retry: max-retries is less than the policy's")
            .host([status(503), status(503), status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |policy| policy.num_retries = 3)
            .send(get_inside().with("x-envoy-max-retries", "1"))
            .expect("503 URX@a; hosts 2"),
        first("asked to retry: max-retries 0", status(503))
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get_inside().with("x-envoy-max-retries", "0"))
            .expect("503 URX@a; hosts 1")
            .differs(NO_LIMIT, "503@a; hosts 1"),
        first("asked to retry: a status code", status(418))
            .send(
                get_inside()
                    .with("x-envoy-retry-on", "retriable-status-codes")
                    .with("x-envoy-retriable-status-codes", "404, 418"),
            )
            .expect("200@a; hosts 2"),
        first("asked to retry: a status code without retry-on asks for nothing", status(418))
            .send(get_inside().with("x-envoy-retriable-status-codes", "418"))
            .expect("418@a; hosts 1"),
        first("asked to retry: a header name", answer(Answer::status(200).header("x-again", "no")))
            .send(
                get_inside().with("x-envoy-retry-on", "retriable-headers").with("x-envoy-retriable-header-names", "X-Again"),
            )
            .expect("200@a; hosts 2"),
        scenario("asked to retry: retry-grpc-on")
            .host([grpc_status("14"), grpc_status("0")])
            .cluster(|cluster| cluster.protocol = Protocol::Http2)
            .send(grpc().sent_inside().with("x-envoy-retry-grpc-on", "unavailable"))
            .expect("200 grpc 0@a; hosts 2"),
        scenario("asked to retry: a gRPC reason in retry-on")
            .host([grpc_status("14"), grpc_status("0")])
            .cluster(|cluster| cluster.protocol = Protocol::Http2)
            .send(grpc().sent_inside().with("x-envoy-retry-on", "unavailable"))
            .expect("200 grpc 14@a; hosts 1"),
        first("asked to retry: what is not known is passed over", status(503))
            .send(get_inside().with("x-envoy-retry-on", "whenever,5xx"))
            .expect("200@a; hosts 2"),
        first("asked to retry: by somebody who is not inside", status(503))
            .send(get().with("x-envoy-retry-on", "5xx"))
            .expect("503@a; hosts 1")
            .differs(
                "Envoy wants x-forwarded-for with one address, of a range that it was told; to us everyone is inside but at the edge",
                "200@a; hosts 2",
            ),
        first("asked to retry: the upstream does not see what was asked", ok())
            .timeout(3000)
            .send(
                get_inside()
                    .with("x-envoy-retry-on", "5xx")
                    .with("x-envoy-max-retries", "2")
                    .with("x-envoy-upstream-rq-timeout-ms", "2000")
                    .with("x-envoy-retriable-status-codes", "418")
                    .with("x-envoy-retriable-header-names", "x-again")
                    .with("x-envoy-upstream-rq-per-try-timeout-ms", "1000"),
            )
            .sees([
                "x-envoy-retry-on",
                "x-envoy-max-retries",
                "x-envoy-upstream-rq-timeout-ms",
                "x-envoy-retriable-status-codes",
                "x-envoy-retriable-header-names",
                "x-envoy-upstream-rq-per-try-timeout-ms",
                "x-envoy-expected-rq-timeout-ms",
            ])
            .expect("200@a; hosts 1; x-envoy-retry-on -; x-envoy-max-retries -; x-envoy-upstream-rq-timeout-ms -; x-envoy-retriable-status-codes -; x-envoy-retriable-header-names -; x-envoy-upstream-rq-per-try-timeout-ms -; x-envoy-expected-rq-timeout-ms 1000"),
    ]
}
