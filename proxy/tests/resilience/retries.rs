//! What is tried again, where, how often and for how long.

use crate::shop::{Shop, get};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use weft_testkit::client::body;
use weft_testkit::mesh::Mesh;
use weft_testkit::{Act, Answer, Client, Gate, RawClient, Upstream, nobody};

/// Gives the first acts to the first requests, one each, then `last` to all others.
async fn in_turn(first: &'static [fn() -> Act], last: fn() -> Act) -> Upstream {
    let turn = AtomicUsize::new(0);
    Upstream::start(move |_| {
        let turn = turn.fetch_add(1, Ordering::SeqCst);
        first.get(turn).unwrap_or(&last)()
    })
    .await
}

fn fine() -> Act {
    Act::Answer(Answer::ok("fine"))
}

fn unavailable() -> Act {
    Act::Answer(Answer::status(503))
}

fn never() -> Act {
    Act::Never
}

async fn post(shop: &Shop, bytes: usize) -> (u16, String) {
    let mut client = Client::http1(shop.gateway.at(8080)).await;
    let whole: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    let request = client.request("POST", "shop", "/order").body(body(whole)).expect("a request");
    let reply = client.send(request).await;
    (reply.status.as_u16(), reply.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_status_is_tried_again_and_the_attempts_are_counted() {
    let order = in_turn(&[unavailable, unavailable], fine).await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 2}").await;
    let reply = shop.get("/order").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "fine"));
    let counts: Vec<_> =
        order.seen().iter().map(|seen| seen.header("x-envoy-attempt-count").map(str::to_owned)).collect();
    assert_eq!(counts.len(), 3);
    assert_eq!(counts[1..], [Some("2".to_owned()), Some("3".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_attempts_the_caller_gets_the_last_answer_and_the_flag_urx() {
    let order = in_turn(&[], unavailable).await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 2}").await;
    assert_eq!(shop.get("/order").await.status, 503);
    assert_eq!(order.seen().len(), 3);
    let record = shop.gateway.logged("/order", 1).await.remove(0);
    assert_eq!(record["response_flags"], "URX", "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_retry_an_answer_is_an_answer_and_another_status_is_not_tried_again() {
    let order = in_turn(&[], unavailable).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    assert_eq!(shop.get("/order").await.status, 503);
    assert_eq!(order.seen().len(), 1);
    let order = Upstream::answering(Answer::status(500)).await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [502, 503], attempts: 2}").await;
    assert_eq!(shop.get("/order").await.status, 500);
    assert_eq!(order.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_to_another_endpoint() {
    let (bad, good) = (in_turn(&[], unavailable).await, in_turn(&[], fine).await);
    let shop = Shop::with(&[("order", &[bad.address(), good.address()])], "retry: {codes: [503], attempts: 1}").await;
    // nobody is ejected in this test, so that the bad one is met again and again
    shop.treat("order", "{outlierDetection: {consecutive5xxErrors: 0}}").await;
    for _ in 0..60 {
        assert_eq!(shop.get("/order").await.status, 200);
    }
    assert_eq!(good.seen().len(), 60);
    assert!(bad.seen().len() > 10, "{}", bad.seen().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_connect_goes_to_another_endpoint_even_with_a_body_and_without_a_policy() {
    let mut elsewhere = Mesh::start().await;
    let dead = elsewhere.pod("dead", &[("http", 8080)]).app(8080);
    let good = Upstream::start(|_| Act::Echo).await;
    let shop = Shop::of(&[("order", &[dead, good.address()])]).await;
    for size in [0, 1, 1 << 10, 1 << 20].repeat(5) {
        let (status, text) = post(&shop, size).await;
        assert_eq!(status, 200, "{size} bytes: {text}");
    }
    let shop = Shop::of(&[("order", &[nobody()])]).await;
    assert_eq!(post(&shop, 10).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_up_to_64_kib_is_replayed_whole_and_a_larger_one_is_not_sent_twice() {
    const MOST: usize = 64 << 10;
    for size in [1, 10_000, MOST] {
        let order = in_turn(&[unavailable], fine).await;
        let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 2}").await;
        assert_eq!(post(&shop, size).await.0, 200, "{size} bytes");
        let seen = order.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].body.len(), size);
        assert!(seen[0].body == seen[1].body, "the second body of {size} bytes differs");
    }
    let order = in_turn(&[unavailable], fine).await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 2}").await;
    assert_eq!(post(&shop, MOST + 1).await.0, 503);
    assert_eq!(order.seen().len(), 1);
    assert_eq!(order.last().body.len(), MOST + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_takes_too_long_is_given_up_for_another() {
    let order = in_turn(&[never], fine).await;
    let more = "retry: {attempts: 2}\ntimeouts: {request: 10s, backendRequest: 200ms}";
    let shop = Shop::with(&[("order", &[order.address()])], more).await;
    let began = Instant::now();
    let reply = shop.get("/order").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "fine"), "{reply:?}");
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(order.seen().len(), 2);
    order.has_open(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_timeout_covers_all_tries_and_waits() {
    let order = in_turn(&[], never).await;
    let more = "retry: {attempts: 20}\ntimeouts: {request: 500ms, backendRequest: 200ms}";
    let shop = Shop::with(&[("order", &[order.address()])], more).await;
    let began = Instant::now();
    let reply = shop.get("/order").await;
    let took = began.elapsed();
    assert_eq!(reply.status, 504);
    assert!(took >= Duration::from_millis(490), "{took:?}");
    assert!((1..=3).contains(&order.seen().len()), "of 20 tries {}", order.seen().len());
    let record = shop.gateway.logged("/order", 1).await.remove(0);
    assert_eq!(
        (&record["response_flags"], &record["response_code_details"]),
        (&"UT".into(), &"response_timeout".into())
    );
    order.has_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_ends_the_work_upstream_and_the_tries() {
    let order = in_turn(&[unavailable], never).await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 5}").await;
    let mut client = RawClient::connect(shop.gateway.at(8080)).await;
    client.send(get("/order")).await;
    order.has_seen(2).await;
    drop(client);
    order.has_open(0).await;
    // it is over for good when it is recorded
    let record = shop.gateway.logged("/order", 1).await.remove(0);
    assert!(record["response_flags"].as_str().is_some_and(|flags| flags.contains("DC")), "{record}");
    assert_eq!(order.seen().len(), 2);
}

/// `callers` ask at once and get a 503 at once, which the route says to try again; the tries wait at the upstream. Gives the
/// number of those.
async fn retries_at_once(callers: usize, policy: &str) -> usize {
    let (first, second) = (Gate::closed(), Gate::closed());
    let asked = Arc::new(AtomicUsize::new(0));
    let (held, later, count) = (first.clone(), second.clone(), asked.clone());
    let order = Upstream::start(move |_| {
        let gate = if count.fetch_add(1, Ordering::SeqCst) < callers { &held } else { &later };
        Act::Answer(Answer::status(503).behind(gate))
    })
    .await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 1}").await;
    shop.treat("order", policy).await;
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let address = shop.gateway.at(8080);
        asking.spawn(async move {
            let mut client = RawClient::connect(address).await;
            client.send(get("/order")).await;
            client.response().await.status
        });
    }
    order.has_seen(callers).await;
    first.open();
    // whoever is not tried again is answered; the others wait at the upstream
    let mut refused = 0;
    weft_testkit::in_time("all of them are refused or tried again", async {
        while refused + order.seen().len() < 2 * callers {
            tokio::select! {
                Some(status) = asking.join_next() => {
                    assert_eq!(status.expect("no panic"), 503);
                    refused += 1;
                }
                () = order.has_seen(2 * callers - refused) => {}
            }
        }
    })
    .await;
    let retries = order.seen().len() - callers;
    second.open();
    asking.join_all().await;
    retries
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_budget_is_a_fifth_of_what_is_in_flight_and_at_least_three() {
    let retries = retries_at_once(100, "{}").await;
    println!("{retries} retries at once of 100 requests");
    assert!((4..=20).contains(&retries), "{retries}");
    assert_eq!(retries_at_once(3, "{}").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn max_retries_and_a_written_budget_are_kept_to_the_number() {
    assert_eq!(retries_at_once(40, "{connectionPool: {http: {maxRetries: 4}}}").await, 4);
    let retries = retries_at_once(40, "{retryBudget: {percent: 50, minRetryConcurrency: 2}}").await;
    assert!((3..=20).contains(&retries), "{retries}");
    assert_eq!(retries_at_once(40, "{retryBudget: {percent: 0, minRetryConcurrency: 2}}").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_outside_says_how_often_or_how_long_to_try() {
    let order = in_turn(&[], unavailable).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    let mut client = RawClient::connect(shop.gateway.at(8080)).await;
    let asks = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 10\r\nx-envoy-upstream-rq-timeout-ms: 1\r\nx-weft-retry: outer\r\nx-envoy-expected-rq-timeout-ms: 1\r\nx-envoy-attempt-count: 9\r\n";
    client.send(format!("GET /order HTTP/1.1\r\nhost: shop\r\n{asks}\r\n")).await;
    assert_eq!(client.response().await.status, 503);
    let seen = order.seen();
    assert_eq!(seen.len(), 1);
    let passed: Vec<_> = seen[0]
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-envoy-") || *name == "x-weft-retry")
        .collect();
    assert!(passed.is_empty(), "{passed:?}");
}
