//! Services are killed while orders come in through the gateway. At the end the account is right.

use crate::mesh::{Mesh, ask, kill};
use crate::shop::{all, knob, shop_with_stock};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Enough for all that a run can order.
const REGISTERED: u64 = 1_000_000;

fn line(qty: u64) -> Value {
    json!({ "productId": 1, "productName": "TV", "qty": qty, "customerId": 100 })
}

fn place(mesh: &Mesh, orders: usize, qty: u64) {
    for _ in 0..orders {
        let answer = mesh.post("/orders", line(qty));
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
}

/// Waits until every order has its one delivery and the inventory agrees with both; returns how many orders there are.
fn settled(mesh: &Mesh) -> usize {
    mesh.until("the gateway has heard that all are ready", |mesh| {
        let fine = |path| mesh.try_get(path).is_some_and(|answer| answer.status == 200);
        ["/orders", "/deliveries", "/inventories/1"].into_iter().all(fine).then_some(())
    });
    // an order that was cut off half taken is still decided about, so that what was read before may be otherwise now
    let (orders, deliveries) = mesh.until("each order has its delivery", |mesh| {
        let (orders, deliveries) = (all(mesh, "/orders"), all(mesh, "/deliveries"));
        let status: BTreeMap<String, bool> =
            orders.iter().map(|o| (o["orderId"].to_string(), o["status"] == "CANCELED")).collect();
        let agree = |d: &Value| status.get(&d["orderId"].to_string()) == Some(&(d["status"] == "CANCELED"));
        (deliveries.len() >= orders.len() && deliveries.iter().all(agree)).then_some((orders, deliveries))
    });
    let shipped: u64 = orders.iter().filter(|o| o["status"] == "PLACED").map(|o| o["qty"].as_u64().unwrap()).sum();
    assert_eq!(deliveries.len(), orders.len(), "nothing is delivered twice");
    let inventory = mesh.until("the inventory has heard of all", |mesh| {
        let inventory = mesh.get("/inventories/1").json();
        (inventory["shipped"] == shipped).then_some(inventory)
    });
    assert_eq!(inventory["stock"].as_u64().unwrap() + shipped, REGISTERED, "{inventory}");
    orders.len()
}

#[test]
fn orders_are_taken_while_delivery_is_dead_and_none_is_delivered_twice() {
    let mesh = shop_with_stock(40, REGISTERED);
    for round in 1..=2 {
        place(&mesh, 10, 2);
        let before = mesh.pid("delivery-0", "app");
        kill(before, Signal::KILL);
        place(&mesh, 10, 3);
        mesh.until("delivery runs again", |mesh| {
            let pod = mesh.pod("delivery-0")?;
            (pod["ready"] == true && pod["app"]["pid"] != before).then_some(())
        });
        assert_eq!(settled(&mesh), round * 20);
    }
}

/// What a pod's app says of its consumer: how many partitions are its, how many events it has handled.
fn progress(mesh: &Mesh, pod: &str) -> (usize, u64) {
    let address = mesh.pod(pod).unwrap()["app_address"].as_str().unwrap().to_owned();
    let answer = ask(format!("{address}:8080").parse().unwrap(), "GET", "/actuator/events", &[], "").unwrap();
    let consumer = &answer.json()["consumers"][0];
    (consumer["lag"].as_object().unwrap().len(), consumer["handled"].as_u64().unwrap())
}

#[test]
fn two_deliveries_handle_each_event_once() {
    let mesh = shop_with_stock(41, REGISTERED);
    assert!(mesh.weft(&["scale", "delivery", "2"]).status.success());
    let both = ["delivery-0", "delivery-1"];
    mesh.until("each has half of the partitions", |mesh| {
        (mesh.pod("delivery-1")?["ready"] == true).then_some(())?;
        let [(one, _), (other, _)] = both.map(|pod| progress(mesh, pod));
        (one > 0 && one == other).then_some(())
    });
    place(&mesh, 60, 2);
    assert_eq!(settled(&mesh), 60);
    // Product reads the same events in a group of its own.
    let shares = mesh.until("both groups have handled every event", |mesh| {
        let [(_, one), (_, other)] = both.map(|pod| progress(mesh, pod));
        (one + other >= progress(mesh, "product-0").1 && progress(mesh, "product-0").1 >= 240).then_some([one, other])
    });
    let events = progress(&mesh, "product-0").1;
    println!("two deliveries: {shares:?} of {events} events");
    assert_eq!(shares[0] + shares[1], events);
    assert!(shares[0] > 0 && shares[1] > 0, "both have a share");
}

/// Orders and sometimes cancels, until `stop`. What was cut off may or may not have been taken.
fn customer(mesh: &Mesh, mut dice: fastrand::Rng, taken: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let json = [("content-type", "application/json")];
        let order = line(dice.u64(1..5)).to_string();
        let Ok(answer) = ask(mesh.gateway(8080), "POST", "/orders", &json, &order) else { continue };
        match answer.status {
            201 => taken.fetch_add(1, Ordering::AcqRel),
            // nobody there, or it went away in the middle
            502..=504 => continue,
            status => panic!("{status}: {}", answer.body),
        };
        if dice.u8(..4) == 0 {
            let path = format!("/orders/{}", answer.json()["orderId"]);
            let _ = ask(mesh.gateway(8080), "DELETE", &path, &[], "");
        }
    }
}

/// Kills one service after another, each once it is ready again and a few more orders came in.
fn murders(mesh: &Mesh, mut dice: fastrand::Rng, kills: u64, taken: &AtomicU64) {
    for _ in 0..kills {
        let enough = taken.load(Ordering::Acquire) + dice.u64(1..12);
        mesh.until("orders are taken", |_| (taken.load(Ordering::Acquire) >= enough).then_some(()));
        let victim = ["order-0", "delivery-0", "product-0", "payment-0"][dice.usize(..4)];
        // Its sidecar now and then: what is in flight there is cut off too.
        let part = if dice.u8(..5) == 0 { "sidecar" } else { "app" };
        mesh.until(&format!("{victim} is ready"), |mesh| (mesh.pod(victim)?["ready"] == true).then_some(()));
        kill(mesh.pid(victim, part), Signal::KILL);
    }
}

#[test]
fn killed_at_random_under_orders_the_account_is_right() {
    let mesh = shop_with_stock(42, REGISTERED);
    let (seed, kills) = (knob("WEFT_LIVE_SEED", fastrand::u64(..)), knob("WEFT_LIVE_KILLS", 6));
    println!("WEFT_LIVE_SEED={seed} WEFT_LIVE_KILLS={kills}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let (taken, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let dice = dice.fork();
            scope.spawn(|| customer(&mesh, dice, &taken, &stop));
        }
        let murders = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            murders(&mesh, dice, kills, &taken);
        }));
        stop.store(true, Ordering::Release);
        murders.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    mesh.until("all are ready again", |mesh| {
        mesh.fleet()["pods"].as_array()?.iter().all(|pod| pod["ready"] == true).then_some(())
    });
    let orders = settled(&mesh);
    assert!(orders as u64 >= taken.load(Ordering::Acquire), "what was confirmed is there");
    println!("{kills} kills, {orders} orders, {}", mesh.get("/inventories/1").body);
}
