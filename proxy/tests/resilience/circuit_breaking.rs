//! Limits of connections, of requests that wait for one, and of requests in flight: kept to the number over all workers.

use crate::shop::{Shop, get};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use weft_testkit::raw::RawReply;
use weft_testkit::{Act, Answer, Client, Gate, RawClient, Upstream, eventually};

/// Asks `times` over one connection as fast as it is answered; gives each reply and how long it took.
async fn ask_on(address: std::net::SocketAddr, times: usize) -> Vec<(RawReply, Duration)> {
    let mut client = RawClient::connect(address).await;
    let mut replies = Vec::new();
    for _ in 0..times {
        let began = Instant::now();
        client.send(get("/order")).await;
        replies.push((client.response().await, began.elapsed()));
    }
    replies
}

fn assert_overloaded(reply: &RawReply) {
    assert_eq!((reply.status, reply.header("x-envoy-overloaded")), (503, Some("true")), "{reply:?}");
}

/// Holds `count` requests at the upstream, each on a connection of its own.
async fn hold(shop: &Shop, order: &Upstream, count: usize) -> JoinSet<u16> {
    let mut held = JoinSet::new();
    let before = order.seen().len();
    for number in 0..count {
        let address = shop.gateway.at(8080);
        held.spawn(async move {
            let mut client = RawClient::connect(address).await;
            client.send(get("/order/held")).await;
            client.response().await.status
        });
        order.has_seen(before + number + 1).await;
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn one_customer_of_the_fun_shop_is_always_served() {
    let order = Upstream::answering(Answer::ok("fun")).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat("order", "{connectionPool: {http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}}").await;
    for (reply, _) in ask_on(shop.gateway.at(8080), 200).await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(order.connections(), 200, "one request on each connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_customers_of_the_fun_shop_some_are_refused_at_once() {
    let order = Upstream::answering(Answer::ok("fun")).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat(
        "order",
        "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}}",
    )
    .await;
    let mut customers = JoinSet::new();
    for _ in 0..10 {
        customers.spawn(ask_on(shop.gateway.at(8080), 100));
    }
    let replies: Vec<_> = customers.join_all().await.concat();
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|(reply, _)| reply.status == 200);
    println!("{} served, {} refused", served.len(), refused.len());
    assert!(!served.is_empty() && !refused.is_empty());
    for (reply, _) in &refused {
        assert_overloaded(reply);
    }
    let mut times: Vec<Duration> = refused.iter().map(|(_, took)| *took).collect();
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_millis(50), "refused at once: {:?}", times[times.len() / 2]);
    assert_eq!(order.seen().len(), served.len(), "what is refused goes nowhere");
    assert_eq!(order.most_at_once(), 1);
    let records = shop.gateway.logged("/order", 1000).await;
    let refusals: Vec<_> = records.iter().filter(|record| record["response_code"] == 503).collect();
    assert_eq!(refusals.len(), refused.len());
    for record in refusals {
        assert_eq!(record["response_flags"], "UO", "{record}");
        assert_eq!(record["response_code_details"], "upstream_reset_before_response_started{overflow}", "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_all_workers_one_request_at_a_time_and_starves_nobody() {
    let order = Upstream::answering(Answer::ok("")).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat("order", "{connectionPool: {tcp: {maxConnections: 1}}}").await;
    // so many that the kernel gives some to each of the two workers
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        callers.spawn(ask_on(shop.gateway.at(8080), 25));
    }
    for (reply, _) in callers.join_all().await.concat() {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!((order.seen().len(), order.most_at_once()), (400, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_kept_by_one_worker_does_not_stand_in_the_way_of_the_other() {
    let order = Upstream::answering(Answer::ok("")).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat("order", "{connectionPool: {tcp: {maxConnections: 1}}}").await;
    // each finds the one connection idle, at its own worker or at the other
    for _ in 0..30 {
        assert_eq!(shop.get("/order").await.status, 200);
    }
    assert_eq!(order.most_at_once(), 1);
    assert!(order.connections() > 1, "of 30 connections none came to the other worker: {}", order.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_connection_waits_within_the_limit_and_is_served_when_one_is_free() {
    let gate = Gate::closed();
    let held = gate.clone();
    let order = Upstream::start(move |_| Act::Answer(Answer::ok("").behind(&held))).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat("order", "{connectionPool: {tcp: {maxConnections: 2}, http: {http1MaxPendingRequests: 3}}}").await;
    let mut served = hold(&shop, &order, 2).await;
    let mut refused = JoinSet::new();
    let address = shop.gateway.at(8080);
    // three wait, whichever they are; the others are told so while those still wait
    for _ in 0..8 {
        refused.spawn(async move { ask_on(address, 1).await.remove(0).0 });
    }
    for _ in 0..5 {
        assert_overloaded(&refused.join_next().await.expect("five are refused").expect("no panic"));
    }
    gate.open();
    for reply in refused.join_all().await {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    while let Some(status) = served.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
    }
    assert_eq!((order.seen().len(), order.most_at_once()), (5, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_limited_over_both_versions_of_http() {
    const LIMIT: usize = 40;
    let gate = Gate::closed();
    let held = gate.clone();
    let order = Upstream::start(move |_| Act::Answer(Answer::ok("").behind(&held))).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat("order", &format!("{{connectionPool: {{http: {{http2MaxRequests: {LIMIT}}}}}}}")).await;
    let mut served = hold(&shop, &order, LIMIT).await;
    for _ in 0..4 {
        assert_overloaded(&shop.get("/order").await);
    }
    let mut client = Client::http2(shop.gateway.at(8080)).await;
    let reply = client.get("shop", "/order").await;
    assert_eq!((reply.status.as_u16(), reply.header("x-envoy-overloaded")), (503, Some("true")));
    gate.open();
    while let Some(status) = served.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
    }
    assert_eq!(order.most_at_once(), LIMIT);
    eventually("room again", || async { (shop.get("/order").await.status == 200).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overflow_is_never_tried_again() {
    let gate = Gate::closed();
    let held = gate.clone();
    let order = Upstream::start(move |_| Act::Answer(Answer::ok("").behind(&held))).await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 5, backoff: 100ms}").await;
    shop.treat("order", "{connectionPool: {http: {http2MaxRequests: 1}}}").await;
    let mut served = hold(&shop, &order, 1).await;
    let began = Instant::now();
    assert_overloaded(&shop.get("/order").await);
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "five retries would have waited as long: {:?}",
        began.elapsed()
    );
    gate.open();
    assert_eq!(served.join_next().await.expect("one is held").expect("no panic"), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_the_queue_or_the_flight_makes_room() {
    let order = Upstream::start(|_| Act::Never).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat("order", "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}").await;
    let mut flying = RawClient::connect(shop.gateway.at(8080)).await;
    flying.send(get("/order/flying")).await;
    order.has_seen(1).await;
    let mut waiting = RawClient::connect(shop.gateway.at(8080)).await;
    waiting.send(get("/order/waiting")).await;
    shop.measures("default", "pending_requests", 1).await;
    assert_overloaded(&shop.get("/order").await);
    drop(flying);
    order.has_seen(2).await;
    drop(waiting);
    shop.gateway.logged("/order/flying", 1).await;
    shop.gateway.logged("/order/waiting", 1).await;
    let mut next = RawClient::connect(shop.gateway.at(8080)).await;
    next.send(get("/order/next")).await;
    eventually("the next one at the upstream", || async {
        order.seen().iter().any(|seen| seen.uri.path() == "/order/next").then_some(())
    })
    .await;
}
