//! Rate limits at the gateway, by its callers' addresses.

use crate::shop::{Shop, connect_from, get};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use weft_testkit::raw::RawReply;
use weft_testkit::{Answer, RawClient, Upstream};

const TEN_PER_CLIENT: &str = "limits: [{name: per-client, key: [{clientIP: {}}], requests: 10, per: 1s}]";

/// Asks every so often over one connection; gives the replies, and how long it took.
async fn ask_every(interval: Duration, times: usize, mut client: RawClient) -> (Vec<RawReply>, Duration) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut replies, began) = (Vec::new(), Instant::now());
    for _ in 0..times {
        tick.tick().await;
        client.send(get("/order")).await;
        replies.push(client.response().await);
    }
    (replies, began.elapsed())
}

fn passed(replies: &[RawReply]) -> usize {
    replies.iter().filter(|reply| reply.status == 200).count()
}

async fn shop() -> (Shop, Upstream) {
    let order = Upstream::answering(Answer::ok("")).await;
    (Shop::of(&[("order", &[order.address()])]).await, order)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_below_their_limit_pass_whole_and_one_above_it_passes_at_its_rate() {
    let (shop, order) = shop().await;
    shop.limit("clients", TEN_PER_CLIENT).await;
    let gateway = shop.gateway.at(8080);
    let mut clients = JoinSet::new();
    for number in 0..100_u8 {
        clients.spawn(async move {
            let source = SocketAddr::new(Ipv4Addr::new(127, 40, number, 7).into(), 0);
            ask_every(Duration::from_millis(200), 15, connect_from(source, gateway).await).await.0
        });
    }
    let greedy = connect_from("127.41.0.1:0".parse().expect("an address"), gateway).await;
    let (replies, took) = ask_every(Duration::from_millis(10), 300, greedy).await;
    // ten at once, and then ten a second
    let steady = (passed(&replies) as f64 - 10.0) / took.as_secs_f64();
    println!("{} of {} passed in {took:?}: {steady:.2} a second", passed(&replies), replies.len());
    assert!((9.0..=11.0).contains(&steady), "{steady} a second");
    let modest = clients.join_all().await;
    assert_eq!(modest.iter().map(|replies| passed(replies)).sum::<usize>(), 1500);
    assert_eq!(order.seen().len(), 1500 + passed(&replies), "what is refused goes nowhere");
}

/// Asks so often, as each of these clients in turn; gives how many were refused.
async fn ask_as(clients: Vec<Ipv4Addr>, times: usize, gateway: SocketAddr) -> usize {
    let mut refused = 0;
    for client in clients {
        let mut connection = connect_from(SocketAddr::new(client.into(), 0), gateway).await;
        for _ in 0..times {
            connection.send(get("/order")).await;
            refused += usize::from(connection.response().await.status != 200);
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_clients_below_their_limit_none_is_refused_and_the_next_one_is_held_to_its_own() {
    const TIMES: usize = 2;
    let (shop, order) = shop().await;
    shop.limit("clients", TEN_PER_CLIENT).await;
    let gateway = shop.gateway.at(8080);
    let clients: Vec<Ipv4Addr> =
        (0..40).flat_map(|third| (0..250).map(move |last| Ipv4Addr::new(127, 42, third, last))).collect();
    let (mut asking, began) = (JoinSet::new(), Instant::now());
    for some in clients.chunks(100) {
        asking.spawn(ask_as(some.to_vec(), TIMES, gateway));
    }
    let refused: usize = asking.join_all().await.into_iter().sum();
    println!("{} clients asked {TIMES} times each within {:?}", clients.len(), began.elapsed());
    assert_eq!((refused, order.seen().len()), (0, clients.len() * TIMES));
    let began = Instant::now();
    let refused = ask_as(vec![Ipv4Addr::new(127, 43, 0, 1)], 100, gateway).await;
    let most = 10 + (began.elapsed().as_secs_f64() * 10.0).ceil() as usize;
    assert!((10..=most).contains(&(100 - refused)), "{} of 100 passed, {most} were to", 100 - refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why_and_when_to_come_back_and_what_passes_says_how_much_is_left() {
    let (shop, _order) = shop().await;
    shop.limit("hourly", "limits: [{name: hourly, key: [{clientIP: {}}], requests: 3, per: 1h}]").await;
    for left in ["2", "1", "0"] {
        let reply = shop.get("/order").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-limit"), Some("3"), "{reply:?}");
        assert_eq!(reply.header("ratelimit-remaining"), Some(left), "{reply:?}");
    }
    let reply = shop.get("/order").await;
    assert_eq!(reply.status, 429);
    assert_eq!((reply.header("ratelimit-limit"), reply.header("ratelimit-remaining")), (Some("3"), Some("0")));
    assert_eq!(reply.header("x-envoy-ratelimited"), Some("true"));
    for name in ["retry-after", "ratelimit-reset"] {
        let seconds: u64 = reply.header(name).and_then(|value| value.parse().ok()).expect(name);
        assert!((1100..=1200).contains(&seconds), "a third of an hour, less what has passed: {name}: {seconds}");
    }
    assert!(reply.text().contains("hourly"), "{}", reply.text());
    let records = shop.gateway.logged("/order", 4).await;
    let refused = records.iter().find(|record| record["response_code"] == 429).expect("it is recorded");
    assert_eq!(refused["response_flags"], "RL", "{refused}");
    assert_eq!(refused["response_code_details"], "local_rate_limited", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_its_address_whatever_it_says_of_itself() {
    let (shop, _order) = shop().await;
    shop.limit("hourly", "limits: [{name: hourly, key: [{clientIP: {}}], requests: 2, per: 1h}]").await;
    let mut statuses = Vec::new();
    for turn in 0..4 {
        let mut client = RawClient::connect(shop.gateway.at(8080)).await;
        let claim = format!("x-forwarded-for: 10.0.0.{turn}\r\nx-envoy-external-address: 10.0.0.{turn}\r\n");
        client.send(format!("GET /order HTTP/1.1\r\nhost: shop\r\n{claim}\r\n")).await;
        statuses.push(client.response().await.status);
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_all_pass_and_those_over_the_limit_are_counted() {
    let (shop, order) = shop().await;
    let spec = "mode: Shadow\n  limits: [{name: hourly, key: [{clientIP: {}}], requests: 3, per: 1h}]";
    shop.limit("shadow", spec).await;
    for _ in 0..8 {
        assert_eq!(shop.get("/order").await.status, 200);
    }
    assert_eq!(order.seen().len(), 8);
    let page = shop.gateway.metrics().await;
    let counted = page.lines().find(|line| !line.starts_with('#') && line.contains("shadow"));
    assert_eq!(counted.and_then(|line| line.rsplit(' ').next()), Some("5"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_must_pass_every_limit_whose_key_it_has() {
    let (shop, _order) = shop().await;
    let spec = "limits: [{name: all, requests: 5, per: 1h}, {name: free, key: [{header: {name: x-plan, value: free}}], requests: 2, per: 1h}]\n  answer: {status: 503, body: come back later, headers: false}";
    shop.limit("plans", spec).await;
    let ask = async |plan: &str| {
        let mut client = RawClient::connect(shop.gateway.at(8080)).await;
        client.send(format!("GET /order HTTP/1.1\r\nhost: shop\r\nx-plan: {plan}\r\n\r\n")).await;
        client.response().await
    };
    for expected in [200, 200, 503, 503] {
        assert_eq!(ask("free").await.status, expected);
    }
    // those refused took nothing of the limit for all
    for expected in [200, 200, 200, 503] {
        let reply = ask("paid").await;
        assert_eq!(reply.status, expected);
        assert_eq!(reply.header("ratelimit-limit"), None);
        assert!(expected == 200 || reply.text().trim_end() == "come back later", "{reply:?}");
    }
}
