//! Policies are edited under load: each edit holds from then on, no request is lost, and nothing is forgotten of what
//! was not edited.

use crate::shop::{Shop, get, rate_limit, rules};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;
use weft_testkit::load::Load;
use weft_testkit::mesh::Mesh;
use weft_testkit::{Act, Answer, Gate, RawClient, Upstream, eventually};

/// Answers 503 while the flag is up.
async fn failing_while(flag: &Arc<AtomicBool>) -> Upstream {
    let flag = flag.clone();
    Upstream::start(move |_| match flag.load(Ordering::SeqCst) {
        true => Act::Answer(Answer::status(503)),
        false => Act::Answer(Answer::ok("")),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_is_edited_under_load_holds_at_once_and_loses_nothing() {
    let failing = Arc::new(AtomicBool::new(true));
    let (flaky, fine) = (failing_while(&failing).await, Upstream::answering(Answer::ok("")).await);
    let calm = Upstream::answering(Answer::ok("")).await;
    let services = [("order", &[flaky.address(), fine.address()][..]), ("calm", &[calm.address()][..])];
    let shop = Shop::of(&services).await;
    shop.treat("order", "{outlierDetection: {consecutive5xxErrors: 0}}").await;
    let load = Load::get(shop.gateway.at(8080), "shop", "/calm", 300).start().await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for _ in 0..30 {
            statuses.push(shop.get("/order").await.status);
        }
        statuses
    };
    assert!(statuses().await.contains(&503));
    for attempts in [1, 0, 2] {
        let more = format!("retry: {{codes: [503], attempts: {attempts}}}");
        shop.mesh.route("all", "edge", &rules(&["order", "calm"], &more));
        shop.mesh.live(&shop.gateway).await;
        assert_eq!(statuses().await.contains(&503), attempts == 0, "{attempts} attempts");
    }
    let report = load.stop().await;
    report.assert_flawless();
    assert_eq!(report.closed, 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ejection_outlives_edits_of_everything_else_and_ends_with_its_policy() {
    let failing = Arc::new(AtomicBool::new(true));
    let (bad, fine) = (failing_while(&failing).await, Upstream::answering(Answer::ok("")).await);
    let shop = Shop::of(&[("order", &[bad.address(), fine.address()])]).await;
    let address = bad.address();
    let detection = "outlierDetection: {consecutive5xxErrors: 5, maxEjectionPercent: 100, baseEjectionTime: 1h}";
    shop.treat("order", &format!("{{{detection}}}")).await;
    let load = Load::get(shop.gateway.at(8080), "shop", "/order", 300).start().await;
    shop.told(address, &["ejected for 3600s (ejection 1)"]).await;
    load.more(20).await;
    let met = bad.seen().len();
    let edits = [
        format!("{{connectionPool: {{http: {{http2MaxRequests: 1000}}}}, {detection}}}"),
        format!("{{connectionPool: {{tcp: {{maxConnections: 1000}}}}, {detection}}}"),
        format!("{{loadBalancer: {{simple: ROUND_ROBIN}}, {detection}}}"),
        format!("{{loadBalancer: {{simple: RANDOM}}, retryBudget: {{percent: 10}}, {detection}}}"),
        "{outlierDetection: {consecutive5xxErrors: 7, maxEjectionPercent: 100, interval: 1s, baseEjectionTime: 1h}}"
            .to_owned(),
    ];
    for edit in &edits {
        shop.treat("order", edit).await;
        load.more(100).await;
        assert_eq!(bad.seen().len(), met, "after {edit}");
    }
    shop.mesh.route("all", "edge", &rules(&["order"], "retry: {codes: [503], attempts: 1}"));
    shop.mesh.live(&shop.gateway).await;
    load.more(100).await;
    assert_eq!(bad.seen().len(), met);
    failing.store(false, Ordering::SeqCst);
    // the members are as they were, in another order, with one more
    let third = Upstream::answering(Answer::ok("")).await;
    shop.mesh.service("order", ("http", 8080), &[third.address(), fine.address(), bad.address()]);
    shop.mesh.live(&shop.gateway).await;
    third.has_seen(20).await;
    assert_eq!(bad.seen().len(), met);
    // the time that an ejection lasts is as the policy says now
    shop.treat("order", "{outlierDetection: {maxEjectionPercent: 100, interval: 100ms, baseEjectionTime: 100ms}}")
        .await;
    shop.told(address, &["returned after"]).await;
    bad.has_seen(met + 10).await;
    let report = load.stop().await;
    assert_eq!(report.failures.values().sum::<u64>(), 0, "{report:?}");
    let failed = report.statuses.get(&503).copied().unwrap_or_default();
    assert!(failed as usize <= met, "none but those that ejected it: {report:?}");
    let again = shop.happenings(address).await;
    assert!(!again.iter().any(|what| what.contains("(ejection 2)")), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_count_on_through_edits_of_their_limit() {
    let gate = Gate::closed();
    let held = gate.clone();
    let order = Upstream::start(move |_| Act::Answer(Answer::ok("").behind(&held))).await;
    let calm = Upstream::answering(Answer::ok("")).await;
    let shop = Shop::of(&[("order", &[order.address()][..]), ("calm", &[calm.address()])]).await;
    shop.treat("order", "{connectionPool: {http: {http2MaxRequests: 3}}}").await;
    let load = Load::get(shop.gateway.at(8080), "shop", "/calm", 300).start().await;
    let mut served = JoinSet::new();
    let hold = async |served: &mut JoinSet<u16>, count: usize| {
        let before = order.seen().len();
        for _ in 0..count {
            let address = shop.gateway.at(8080);
            served.spawn(async move {
                let mut client = RawClient::connect(address).await;
                client.send(get("/order")).await;
                client.response().await.status
            });
        }
        order.has_seen(before + count).await;
    };
    hold(&mut served, 3).await;
    for (edit, room) in [
        ("{connectionPool: {http: {http2MaxRequests: 3, idleTimeout: 10s}}}", 0),
        ("{connectionPool: {http: {http2MaxRequests: 5}}}", 2),
        ("{connectionPool: {http: {http2MaxRequests: 2}}}", 0),
        ("{connectionPool: {http: {http2MaxRequests: 6}}, loadBalancer: {simple: RANDOM}}", 1),
    ] {
        shop.treat("order", edit).await;
        hold(&mut served, room).await;
        let reply = shop.get("/order").await;
        assert_eq!((reply.status, reply.header("x-envoy-overloaded")), (503, Some("true")), "{edit}");
    }
    gate.open();
    assert_eq!(served.join_all().await, [200; 6]);
    let report = load.stop().await;
    report.assert_flawless();
    assert_eq!(report.closed, 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_budget_that_is_spent_stays_spent_through_edits() {
    let order = Upstream::answering(Answer::status(503)).await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 1}").await;
    let budget =
        |percent: u32| format!("retryBudget: {{percent: {percent}, minRetryConcurrency: 5, budgetInterval: 1h}}");
    shop.treat("order", &format!("{{{}}}", budget(20))).await;
    // how many tries a number of requests makes at the upstream
    let tries = async |requests: usize| {
        let before = order.seen().len();
        for _ in 0..requests {
            assert_eq!(shop.get("/order").await.status, 503);
        }
        order.seen().len() - before
    };
    assert_eq!(tries(50).await, 50 + 10, "a fifth more");
    for edit in ["connectionPool: {http: {http2MaxRequests: 100}}", "loadBalancer: {simple: RANDOM}"] {
        shop.treat("order", &format!("{{{edit}, {}}}", budget(20))).await;
        assert_eq!(tries(2).await, 2, "five would be free to a budget that forgot what was spent: {edit}");
    }
    assert_eq!(tries(1).await, 2, "a fifth of 55: what they were a share of is not forgotten either");
    shop.treat("order", &format!("{{{}}}", budget(40))).await;
    assert_eq!(tries(5).await, 5 + 5, "11 of 22 are left");
    shop.treat("order", &format!("{{{}}}", budget(10))).await;
    assert_eq!(tries(5).await, 5, "16 of 6 are spent");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_in_flight_count_on_through_edits_of_their_budget() {
    let gate = Gate::closed();
    let (held, met) = (gate.clone(), Mutex::new(HashSet::new()));
    // the first try of each path fails, the second one waits
    let order = Upstream::start(move |request| {
        match met.lock().unwrap_or_else(PoisonError::into_inner).insert(request.uri.path().to_owned()) {
            true => Act::Answer(Answer::status(503)),
            false => Act::Answer(Answer::ok("").behind(&held)),
        }
    })
    .await;
    let shop = Shop::with(&[("order", &[order.address()])], "retry: {codes: [503], attempts: 1}").await;
    let mut served = JoinSet::new();
    let retry = async |served: &mut JoinSet<u16>, path: String| {
        let (address, before) = (shop.gateway.at(8080), order.seen().len());
        served.spawn(async move {
            let mut client = RawClient::connect(address).await;
            client.send(get(&path)).await;
            client.response().await.status
        });
        order.has_seen(before + 2).await;
    };
    for number in 0..3 {
        retry(&mut served, format!("/order/{number}")).await;
    }
    let refused = async |path: &str| {
        let before = order.seen().len();
        assert_eq!(shop.get(path).await.status, 503);
        assert_eq!(order.seen().len(), before + 1, "three retries are in flight, as many as may be: {path}");
    };
    refused("/order/by-default").await;
    for (edit, room) in [
        ("{loadBalancer: {simple: RANDOM}}", 0),
        ("{retryBudget: {percent: 10}}", 0),
        ("{connectionPool: {http: {maxRetries: 5}}}", 2),
        ("{retryBudget: {minRetryConcurrency: 6}}", 1),
        ("{connectionPool: {http: {http2MaxRequests: 100}}}", 0),
    ] {
        shop.treat("order", edit).await;
        for number in 0..room {
            retry(&mut served, format!("/order/{room}/{number}")).await;
        }
        refused(&format!("/order/{edit}").replace([' ', '{', '}'], "")).await;
    }
    gate.open();
    assert_eq!(served.join_all().await, [200; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_were_taken_stay_taken_through_edits_of_other_limits() {
    let order = Upstream::answering(Answer::ok("")).await;
    let calm = Upstream::answering(Answer::ok("")).await;
    let shop = Shop::of(&[("order", &[order.address()][..]), ("calm", &[calm.address()])]).await;
    let hourly = |requests: u32| {
        format!("limits: [{{name: hourly, key: [{{pathPrefix: /order}}], requests: {requests}, per: 1h}}]")
    };
    shop.limit("kept", &hourly(5)).await;
    let load = Load::get(shop.gateway.at(8080), "shop", "/calm", 300).start().await;
    for _ in 0..5 {
        assert_eq!(shop.get("/order").await.status, 200);
    }
    let other = |requests: u32| {
        format!("limits: [{{name: other, key: [{{pathPrefix: /elsewhere}}], requests: {requests}, per: 1h}}]")
    };
    for requests in [1, 2] {
        shop.limit("other", &other(requests)).await;
        assert_eq!(shop.get("/order").await.status, 429);
    }
    shop.treat("order", "{connectionPool: {http: {http2MaxRequests: 100}}}").await;
    shop.mesh.route("all", "edge", &rules(&["order", "calm"], "retry: {codes: [503]}"));
    shop.mesh.live(&shop.gateway).await;
    assert_eq!(shop.get("/order").await.status, 429);
    // the limit itself: as it is now, from then on
    shop.mesh.write("limit-kept.yaml", &rate_limit("kept", &format!("mode: Shadow\n  {}", hourly(5))));
    shop.mesh.live(&shop.gateway).await;
    assert_eq!(shop.get("/order").await.status, 200);
    shop.mesh.remove("limit-kept.yaml");
    shop.mesh.live(&shop.gateway).await;
    let report = load.stop().await;
    report.assert_flawless();
    assert_eq!(report.closed, 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_a_limit_that_was_lowered_go_as_they_are_given_back() {
    let gate = Gate::closed();
    let held = gate.clone();
    let order = Upstream::start(move |_| Act::Answer(Answer::ok("").behind(&held))).await;
    let shop = Shop::of(&[("order", &[order.address()])]).await;
    shop.treat("order", "{connectionPool: {tcp: {maxConnections: 8}}}").await;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let address = shop.gateway.at(8080);
        callers.spawn(async move {
            let mut client = RawClient::connect(address).await;
            client.send(get("/order")).await;
            client.response().await.status
        });
    }
    order.has_seen(8).await;
    shop.treat("order", "{connectionPool: {tcp: {maxConnections: 2}}}").await;
    gate.open();
    assert_eq!(callers.join_all().await, [200; 8]);
    let load = Load::get(shop.gateway.at(8080), "shop", "/order", 200).start().await;
    load.more(100).await;
    load.stop().await.assert_flawless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_is_edited_under_load_hits_whom_it_names_and_nobody_else() {
    let mut mesh = Mesh::start().await;
    let order = Upstream::answering(Answer::ok("")).await;
    mesh.service("order", ("http", 8080), &[order.address()]);
    let caller = mesh.pod("caller", &[("http", 8080)]);
    let sidecar = mesh.sidecar(&caller).await;
    let load = Load::get(sidecar.outbound(), "order:8080", "/", 300).start().await;
    let doomed = async || {
        let mut client = RawClient::connect(sidecar.outbound()).await;
        client.send("GET / HTTP/1.1\r\nhost: order:8080\r\nx-doomed: yes\r\n\r\n").await;
        client.response().await.status
    };
    assert_eq!(doomed().await, 200);
    for (percent, expected) in [(100, 418), (0, 200), (100, 418)] {
        let abort = format!("{{abort: {{httpStatus: 418, percentage: {{value: {percent}}}}}}}");
        mesh.write("fault.yaml", &format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: order, namespace: default}}\nspec:\n  hosts: [order]\n  http:\n  - match: [{{headers: {{x-doomed: {{exact: \"yes\"}}}}}}]\n    fault: {abort}\n    route: [{{destination: {{host: order}}}}]\n  - route: [{{destination: {{host: order}}}}]\n"));
        mesh.live(&sidecar).await;
        for _ in 0..10 {
            assert_eq!(doomed().await, expected, "{percent} %");
        }
    }
    mesh.remove("fault.yaml");
    // a file that is gone for a moment only is not taken for removed
    eventually("the end of the fault", || async { (doomed().await == 200).then_some(()) }).await;
    let report = load.stop().await;
    report.assert_flawless();
    assert_eq!(report.closed, 0, "{report:?}");
    let aborted = sidecar.logged("/", 1).await.into_iter().filter(|record| record["response_flags"] == "FI").count();
    assert!(aborted >= 20, "{aborted} are recorded as faults");
}
