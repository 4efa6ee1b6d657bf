//! What follows from what endpoints answer.

use crate::kit::{Driven, NEVER, SOON, check, cluster, http};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use weft_model::health_check::{HealthCheck, Probe};
use weft_model::outlier::{Consecutive, OutlierDetection};
use weft_testkit::{Act, Answer, Gate, Upstream};

/// Answers the checks one after the other as `script` says, the last of it for ever, and everything else with 200.
async fn patient(script: Vec<Answer>) -> (Upstream, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let upstream = Upstream::start(move |head| match head.uri.path() {
        "/healthz" => {
            let number = count.fetch_add(1, Ordering::SeqCst);
            Act::Answer(script[number.min(script.len() - 1)].clone())
        }
        _ => Act::Answer(Answer::ok("")),
    })
    .await;
    (upstream, asked)
}

fn well() -> Answer {
    Answer::ok("")
}

fn held() -> Answer {
    Answer::ok("").behind(&Gate::closed())
}

async fn asked(count: &AtomicUsize, times: usize) {
    let often_enough = || async { (count.load(Ordering::SeqCst) >= times).then_some(()) };
    weft_testkit::eventually(&format!("check number {times}"), often_enough).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_serves_from_its_first_success_and_not_before() {
    let gate = Gate::closed();
    let (upstream, count) = patient(vec![well().behind(&gate), held()]).await;
    let check = HealthCheck { healthy_threshold: 3, ..check(http()) };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    asked(&count, 1).await;
    assert_eq!(plane.get("/").await.status, 503);
    gate.open();
    plane.answers(200).await;
    assert!(count.load(Ordering::SeqCst) <= 2, "one success was enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_outside_both_ranges_is_unhealthy_at_once() {
    let gate = Gate::closed();
    let (upstream, _) = patient(vec![well(), Answer::status(404).behind(&gate), held()]).await;
    let check = HealthCheck { unhealthy_threshold: 3, ..check(http()) };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    plane.answers(200).await;
    gate.open();
    plane.answers(503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retriable_status_counts_towards_the_threshold() {
    let gate = Gate::closed();
    let (upstream, count) = patient(vec![well(), Answer::status(500), Answer::status(500).behind(&gate), held()]).await;
    let check = HealthCheck { unhealthy_threshold: 2, ..check(http()) };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    asked(&count, 3).await;
    assert_eq!(plane.get("/").await.status, 200, "one of two");
    gate.open();
    plane.answers(503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_was_unhealthy_must_pass_as_often_as_the_threshold_says() {
    let gate = Gate::closed();
    let (upstream, count) = patient(vec![Answer::status(404), well(), well().behind(&gate), held()]).await;
    let check = HealthCheck { healthy_threshold: 2, ..check(http()) };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    asked(&count, 3).await;
    assert_eq!(plane.get("/").await.status, 503, "one of two");
    gate.open();
    plane.answers(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_checks_of_a_cluster_must_pass() {
    let (gate, quick) = (Gate::closed(), Arc::new(AtomicUsize::new(0)));
    let (count, behind) = (quick.clone(), gate.clone());
    let upstream = Upstream::start(move |head| match head.method.as_str() {
        "OPTIONS" => Act::Answer(well().behind(&behind)),
        _ => {
            count.fetch_add(1, Ordering::SeqCst);
            Act::Answer(well())
        }
    })
    .await;
    let slow = Probe::Http {
        host: String::new(),
        path: "/".into(),
        method: "OPTIONS".into(),
        expected: vec![],
        retriable: vec![],
        http2: false,
    };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check(http()), check(slow)])).await;
    asked(&quick, 2).await;
    assert_eq!(plane.get("/").await.status, 503, "one passes, the other has not answered");
    gate.open();
    plane.answers(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_traffic_is_asked_at_an_interval_of_its_own() {
    let (upstream, count) = patient(vec![well()]).await;
    let check = HealthCheck { interval: NEVER, no_traffic_interval: SOON, ..check(http()) };
    let _plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    asked(&count, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_traffic_is_asked_at_the_usual_interval() {
    let gate = Gate::closed();
    let (upstream, count) = patient(vec![well().behind(&gate), well()]).await;
    let check = HealthCheck { interval: SOON, no_traffic_interval: NEVER, ..check(http()) };
    let mut calm = cluster(&[upstream.address()], vec![check]);
    calm.balancing.panic_threshold = 100; // traffic before the first check ends
    let plane = Driven::by(calm).await;
    let reply = plane.get("/").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    gate.open();
    asked(&count, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_to_traffic_may_say_that_the_endpoint_is_unwell() {
    let gate = Gate::closed();
    let checks = Arc::new(AtomicUsize::new(0));
    let (count, behind) = (checks.clone(), gate.clone());
    let upstream = Upstream::start(move |head| match head.uri.path() {
        "/healthz" => match count.fetch_add(1, Ordering::SeqCst) {
            0 => Act::Answer(well()),
            _ => Act::Answer(well().behind(&behind)),
        },
        "/dying" => Act::Answer(well().header("x-envoy-immediate-health-check-fail", "true")),
        _ => Act::Answer(well()),
    })
    .await;
    let check = HealthCheck { unhealthy_threshold: 9, healthy_threshold: 2, ..check(http()) };
    let plane = Driven::by(cluster(&[upstream.address()], vec![check])).await;
    plane.answers(200).await;
    asked(&checks, 2).await;
    assert_eq!(plane.get("/dying").await.status, 200);
    assert_eq!(plane.get("/").await.status, 503, "at once");
    gate.open();
    plane.answers(200).await;
    assert!(checks.load(Ordering::SeqCst) >= 3, "it is well again after as many successes as the threshold says");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_an_endpoint_is_unwell_means_nothing_without_health_checks() {
    let unwell = Answer::ok("").header("x-envoy-immediate-health-check-fail", "true");
    let upstream = Upstream::answering(unwell).await;
    let plane = Driven::by(cluster(&[upstream.address()], vec![])).await;
    for _ in 0..3 {
        assert_eq!(plane.get("/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_passes_its_check_returns_from_its_ejection() {
    let gate = Gate::closed();
    let checks = Arc::new(AtomicUsize::new(0));
    let (count, behind) = (checks.clone(), gate.clone());
    let upstream = Upstream::start(move |head| match head.uri.path() {
        "/healthz" => match count.fetch_add(1, Ordering::SeqCst) {
            0 => Act::Answer(well()),
            _ => Act::Answer(well().behind(&behind)),
        },
        "/broken" => Act::Answer(Answer::status(500)),
        _ => Act::Answer(well()),
    })
    .await;
    let mut strict = cluster(&[upstream.address()], vec![check(http())]);
    strict.outlier = Some(OutlierDetection {
        consecutive_5xx: Consecutive { threshold: 1, enforcing: 100 },
        max_ejection_percent: 100,
        base_ejection_time: NEVER,
        max_ejection_time: NEVER,
        ..OutlierDetection::default()
    });
    let plane = Driven::by(strict).await;
    plane.answers(200).await;
    asked(&checks, 2).await;
    assert_eq!(plane.get("/broken").await.status, 500);
    assert_eq!(plane.get("/").await.status, 503, "ejected");
    gate.open();
    plane.answers(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_serve_go_on_when_checks_are_added_and_taken_away() {
    let gate = Gate::closed();
    let (upstream, count) = patient(vec![Answer::status(404).behind(&gate), held()]).await;
    let with = |check: Option<HealthCheck>| cluster(&[upstream.address()], check.into_iter().collect());
    let mut plane = Driven::by(with(None)).await;
    assert_eq!(plane.get("/").await.status, 200);
    plane.put(with(Some(check(http())))).await;
    asked(&count, 1).await;
    assert_eq!(plane.get("/").await.status, 200, "it served before anybody asked");
    gate.open();
    plane.answers(503).await;
    plane.put(with(None)).await;
    assert_eq!(plane.get("/").await.status, 200, "nobody asks any more");
    plane.put(with(Some(HealthCheck { unhealthy_threshold: 2, ..check(http()) }))).await;
    assert_eq!(plane.get("/").await.status, 200);
}
