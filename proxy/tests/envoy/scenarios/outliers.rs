//! Outlier detection: who is left out, and for how long.
//!
//! Envoy ejects on its main thread and a request on a worker may come first, so the requests that must not meet the
//! ejected host wait for the ejection.

use crate::scenario::{HostKind, Scenario, get, never, ok, reset, scenario, status};
use std::time::Duration;
use weft_model::outlier::{Consecutive, FailurePercentage, OutlierDetection, SuccessRate};
use weft_model::retry::RetryOn;

pub(crate) fn all() -> Vec<Scenario> {
    let mut all = consecutive();
    all.extend(local_origin());
    all.extend(rates());
    all
}

fn at(threshold: u32) -> Consecutive {
    Consecutive { threshold, enforcing: 100 }
}

fn off() -> Consecutive {
    Consecutive { threshold: 5, enforcing: 0 }
}

/// Counts gateway failures alone.
fn gateway(outlier: &mut OutlierDetection, threshold: u32) {
    (outlier.consecutive_5xx, outlier.consecutive_gateway_failure) = (off(), at(threshold));
}

fn consecutive() -> Vec<Scenario> {
    vec![
        scenario("outlier: consecutive 5xx eject a host")
            .host([ok()])
            .host([status(500)])
            .outlier(|outlier| outlier.consecutive_5xx = at(3))
            .send_times(6, get())
            .ejected(1)
            .send_times(4, get())
            .unordered()
            .expect("7x 200@a, 3x 500@b; hosts 7+3"),
        scenario("outlier: 10 % of two hosts is none")
            .host([ok()])
            .host([status(500)])
            .outlier(|outlier| (outlier.consecutive_5xx, outlier.max_ejection_percent) = (at(2), 10))
            .send_times(8, get())
            .ejected(0)
            .unordered()
            .expect("4x 200@a, 4x 500@b; hosts 4+4"),
        scenario("outlier: always_eject_one_host does, whatever the percentage")
            .host([ok()])
            .host([status(500)])
            .outlier(|outlier| {
                (outlier.consecutive_5xx, outlier.max_ejection_percent) = (at(2), 10);
                outlier.always_eject_one_host = true;
            })
            .send_times(4, get())
            .ejected(1)
            .send_times(2, get())
            .unordered()
            .expect("4x 200@a, 2x 500@b; hosts 4+2"),
        scenario("outlier: 50 % of two failing hosts is one")
            .host([status(500)])
            .host([status(500)])
            .outlier(|outlier| (outlier.consecutive_5xx, outlier.max_ejection_percent) = (at(2), 50))
            .send_times(4, get())
            .ejected(1)
            .send_times(4, get())
            .anonymous()
            .expect("8x 500; hosts 6+2"),
        scenario("outlier: a success in between is a new beginning")
            .host([status(500), status(500), ok()])
            .script([status(500), status(500), ok(), status(500), status(500), ok()])
            .outlier(|outlier| outlier.consecutive_5xx = at(3))
            .send_times(6, get())
            .ejected(0)
            .expect("2x 500@a, 200@a, 2x 500@a, 200@a; hosts 6"),
        scenario("outlier: a 499 is a success")
            .host([status(500), status(499), status(500), status(499), ok()])
            .outlier(|outlier| outlier.consecutive_5xx = at(2))
            .send_times(5, get())
            .ejected(0)
            .expect("500@a, 499@a, 500@a, 499@a, 200@a; hosts 5"),
        scenario("outlier: enforcing 0 ejects nobody")
            .host([status(500)])
            .outlier(|outlier| outlier.consecutive_5xx = Consecutive { threshold: 2, enforcing: 0 })
            .send_times(4, get())
            .ejected(0)
            .expect("4x 500@a; hosts 4"),
        scenario("outlier: gateway failures eject a host")
            .host([status(502), status(503), status(504), ok()])
            .outlier(|outlier| gateway(outlier, 3))
            .send_times(3, get())
            .ejected(1)
            .send(get())
            .expect("502@a, 503@a, 504@a, 503 UH; hosts 3"),
        scenario("outlier: a 500 is no gateway failure")
            .host([status(500)])
            .outlier(|outlier| gateway(outlier, 2))
            .send_times(4, get())
            .ejected(0)
            .expect("4x 500@a; hosts 4"),
        scenario("outlier: a 501 between two 503s is a new beginning for gateway failures")
            .host([status(503), status(501), status(503), status(501), ok()])
            .outlier(|outlier| gateway(outlier, 2))
            .send_times(5, get())
            .ejected(0)
            .expect("503@a, 501@a, 503@a, 501@a, 200@a; hosts 5"),
        scenario("outlier: when all are ejected and there is no panic, none is healthy")
            .host([status(500)])
            .outlier(|outlier| outlier.consecutive_5xx = at(2))
            .send_times(2, get())
            .ejected(1)
            .send(get())
            .with_details()
            .expect("2x 500 via_upstream@a, 503 UH no_healthy_upstream; hosts 2"),
        scenario("outlier: in panic the ejected are used")
            .host([status(500)])
            .outlier(|outlier| outlier.consecutive_5xx = at(2))
            .cluster(|cluster| cluster.balancing.panic_threshold = 50)
            .send_times(2, get())
            .ejected(1)
            .send_times(2, get())
            .expect("4x 500@a; hosts 4"),
        scenario("outlier: an ejected host returns after the base time")
            .host([status(500), status(500), ok()])
            .outlier(|outlier| {
                outlier.consecutive_5xx = at(2);
                outlier.interval = Duration::from_millis(100);
                outlier.base_ejection_time = Duration::from_secs(1);
            })
            .send_times(2, get())
            .ejected(1)
            .send(get())
            .until(get(), "200")
            .ejected(0)
            .expect("2x 500@a, 503 UH, 200@a; hosts 2"),
        scenario("outlier: error codes stand in for every 5xx")
            .host([status(500), status(500), status(429), status(429)])
            .outlier(|outlier| {
                outlier.consecutive_5xx = at(2);
                outlier.error_codes = vec![429];
            })
            .send_times(4, get())
            .ejected(1)
            .send(get())
            .expect("2x 500@a, 2x 429@a, 503 UH; hosts 4"),
    ]
}

fn local_origin() -> Vec<Scenario> {
    vec![
        scenario("outlier: a connect failure counts as a 5xx")
            .host_that_is(HostKind::Absent)
            .retry(RetryOn::RETRIABLE_4XX, |_| ())
            .outlier(|outlier| outlier.consecutive_5xx = at(2))
            .send_times(2, get())
            .ejected(1)
            .send(get())
            .expect("2x 503 UF, 503 UH; hosts 0"),
        scenario("outlier: a connect failure counts as a gateway failure")
            .host_that_is(HostKind::Absent)
            .retry(RetryOn::RETRIABLE_4XX, |_| ())
            .outlier(|outlier| gateway(outlier, 2))
            .send_times(2, get())
            .ejected(1)
            .send(get())
            .expect("2x 503 UF, 503 UH; hosts 0"),
        scenario("outlier: a reset counts as a 5xx")
            .host([reset()])
            .outlier(|outlier| outlier.consecutive_5xx = at(2))
            .send_times(2, get())
            .ejected(1)
            .send(get())
            .expect("2x 503 UC, 503 UH; hosts 2"),
        scenario("outlier: a timeout counts as a gateway failure")
            .host([never()])
            .outlier(|outlier| gateway(outlier, 2))
            .timeout(100)
            .send_times(2, get())
            .ejected(1)
            .send(get())
            .expect("2x 504 UT, 503 UH; hosts 2"),
        scenario("outlier: split, connect failures have a count of their own")
            .host_that_is(HostKind::Absent)
            .retry(RetryOn::RETRIABLE_4XX, |_| ())
            .outlier(|outlier| {
                outlier.split_external_local_origin_errors = true;
                (outlier.consecutive_5xx, outlier.consecutive_local_origin_failure) = (at(1), at(3));
            })
            .send_times(3, get())
            .ejected(1)
            .send(get())
            .expect("3x 503 UF, 503 UH; hosts 0"),
        scenario("outlier: split, a timeout is of local origin")
            .host([never()])
            .outlier(|outlier| {
                outlier.split_external_local_origin_errors = true;
                (outlier.consecutive_5xx, outlier.consecutive_local_origin_failure) = (at(1), at(2));
            })
            .timeout(100)
            .send_times(3, get())
            .expect("3x 504 UT; hosts 3")
            .differs(
                "to Envoy the connection that each request got is a success of local origin, so timeouts never come to two in a row; to us timeouts are what they are",
                "2x 504 UT, 503 UH; hosts 2",
            ),
        scenario("outlier: split, an answer of 500 is not of local origin")
            .host([status(500)])
            .outlier(|outlier| {
                outlier.split_external_local_origin_errors = true;
                (outlier.consecutive_5xx, outlier.consecutive_local_origin_failure) = (off(), at(1));
            })
            .send_times(3, get())
            .ejected(0)
            .expect("3x 500@a; hosts 3"),
    ]
}

fn rates() -> Vec<Scenario> {
    let quick = |outlier: &mut OutlierDetection| {
        outlier.consecutive_5xx = off();
        outlier.interval = Duration::from_millis(300);
        outlier.success_rate.enforcing = 0;
    };
    vec![
        scenario("outlier: a failure percentage over its threshold ejects")
            .host([ok()])
            .host([status(500)])
            .outlier(|outlier| {
                quick(outlier);
                outlier.failure_percentage = FailurePercentage {
                    enforcing: 100,
                    minimum_hosts: 2,
                    request_volume: 4,
                    ..FailurePercentage::default()
                };
            })
            .until_ejected(1)
            .send_times(4, get())
            .expect("4x 200@a; hosts 4+0"),
        scenario("outlier: a success rate far under the mean ejects")
            .host([ok()])
            .host([ok()])
            .host([status(500)])
            .outlier(|outlier| {
                quick(outlier);
                outlier.success_rate =
                    SuccessRate { minimum_hosts: 3, request_volume: 4, stdev_factor: 1000, ..SuccessRate::default() };
            })
            .until_ejected(1)
            .send_times(4, get())
            .unordered()
            .expect("2x 200@a, 2x 200@b; hosts 2+2+0"),
    ]
}
