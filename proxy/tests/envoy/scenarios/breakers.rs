//! Circuit breakers: what is refused, and what is not counted.

use crate::scenario::{Scenario, forward, get, held, ok, scenario, status, to};
use weft_model::breaker::{Priority, RetryBudget, RetryLimit, ShareOf};
use weft_model::cluster::Protocol;
use weft_model::retry::RetryOn;

const OVERLOADED: [&str; 1] = ["x-envoy-overloaded"];

pub(crate) fn all() -> Vec<Scenario> {
    vec![
        scenario("breaker: one request more than max_requests is refused")
            .host([held()])
            .limits(|limits| limits.max_requests = 1)
            .start(1, get())
            .arrived(1)
            .send(get())
            .open()
            .answered(1)
            .send(get())
            .with_headers(OVERLOADED)
            .with_details()
            .expect("2x 200 via_upstream@a, 503 UO upstream_reset_before_response_started{overflow} x-envoy-overloaded=true; hosts 2"),
        scenario("breaker: max_requests counts over HTTP/2 too")
            .host([held()])
            .cluster(|cluster| cluster.protocol = Protocol::Http2)
            .limits(|limits| limits.max_requests = 2)
            .start(2, get())
            .arrived(2)
            .send(get())
            .open()
            .with_headers(OVERLOADED)
            .expect("2x 200@a, 503 UO x-envoy-overloaded=true; hosts 2"),
        scenario("breaker: a request of high priority has limits of its own")
            .host([held()])
            .cluster(|cluster| cluster.breakers.high.max_requests = 1)
            .limits(|limits| limits.max_requests = 1)
            .and_route("/high", {
                let mut route = to("");
                forward(&mut route).priority = Priority::High;
                route
            })
            .start(1, get())
            .arrived(1)
            .start(1, get().by("/high"))
            .arrived(2)
            .send(get())
            .send(get().by("/high"))
            .open()
            .expect("2x 200@a, 2x 503 UO; hosts 2"),
        scenario("breaker: one request more than max_pending_requests is refused")
            .host([held()])
            .limits(|limits| (limits.max_connections, limits.max_pending_requests) = (1, 1))
            .start(1, get())
            .arrived(1)
            .start(2, get())
            .answered(1)
            .open()
            .with_headers(OVERLOADED)
            .with_connections()
            .expect("2x 200@a, 503 UO x-envoy-overloaded=true; hosts 2; connections 1"),
        scenario("breaker: what is over max_connections waits")
            .host([held()])
            .limits(|limits| limits.max_connections = 1)
            .start(3, get())
            .arrived(1)
            .open()
            .with_connections()
            .expect("3x 200@a; hosts 3; connections 1"),
        scenario("breaker: without max_pending_requests nothing waits for a connection")
            .host([ok()])
            .limits(|limits| limits.max_pending_requests = 0)
            .send_times(2, get())
            .expect("2x 503 UO; hosts 0"),
        scenario("breaker: what it refuses is not retried")
            .host([held()])
            .limits(|limits| limits.max_requests = 1)
            .retry(RetryOn::SERVER_ERROR | RetryOn::RESET, |_| ())
            .start(1, get())
            .arrived(1)
            .send(get())
            .open()
            .expect("200@a, 503 UO; hosts 1"),
        scenario("breaker: one retry more than max_retries is not made")
            .host([status(503), held()])
            .limits(|limits| limits.retries = RetryLimit::Concurrent(1))
            .script([status(503), held(), status(503), ok()])
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .start(1, get())
            .arrived(2)
            .send(get())
            .open()
            .with_headers(OVERLOADED)
            .with_details()
            .expect("200 via_upstream@a, 503 UO via_upstream@a; hosts 3"),
        scenario("breaker: max_retries 0 allows none")
            .host([status(503), ok()])
            .limits(|limits| limits.retries = RetryLimit::Concurrent(0))
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get())
            .expect("503 UO@a; hosts 1"),
        scenario("breaker: a budget allows its least number of retries")
            .host([ok()])
            .script([status(503), held(), status(503), ok()])
            .limits(|limits| limits.retries = budget(20.0, 1))
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .start(1, get())
            .arrived(2)
            .send(get())
            .open()
            .expect("200@a, 503 UO@a; hosts 3"),
        scenario("breaker: a budget of all requests allows a retry to each")
            .host([ok()])
            .script([status(503), held(), status(503), held()])
            .limits(|limits| limits.retries = budget(100.0, 0))
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .start(1, get())
            .arrived(2)
            .start(1, get())
            .arrived(4)
            .open()
            .expect("2x 200@a; hosts 4"),
        scenario("breaker: a budget of nothing allows no retry")
            .host([status(503), ok()])
            .limits(|limits| limits.retries = budget(0.0, 0))
            .retry(RetryOn::SERVER_ERROR, |_| ())
            .send(get())
            .expect("503 UO@a; hosts 1"),
        scenario("pool: a connection carries no more than max_requests_per_connection")
            .host([ok()])
            .cluster(|cluster| cluster.pool.max_requests_per_connection = Some(2))
            .send_times(5, get())
            .with_connections()
            .expect("5x 200@a; hosts 5; connections 3"),
        scenario("pool: a connection is used again")
            .host([ok()])
            .send_times(5, get())
            .with_connections()
            .expect("5x 200@a; hosts 5; connections 1"),
    ]
}

fn budget(percent: f64, min_concurrency: u32) -> RetryLimit {
    RetryLimit::Budget(RetryBudget { percent, of: ShareOf::AllTries, min_concurrency })
}
