//! Services are killed at any instant while orders come in. At the end the account is right.

use crate::world::{Process, World};
use fastrand::Rng;
use reqwest::Method;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Enough for everything that a run can order.
const REGISTERED: u64 = 1_000_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test]
async fn delivery_killed_while_orders_come_in_catches_up_and_ships_nothing_twice() {
    let (world, [order, mut delivery, product, _payment]) = World::open_shop().await;
    world.register(&product, REGISTERED).await;
    for round in 0..3 {
        for _ in 0..10 {
            world.place(&order, 1).await;
        }
        delivery.kill();
        for _ in 0..10 {
            world.place(&order, 1).await;
        }
        world.restart(&mut delivery).await;
        if round == 1 {
            // Once with everything handled, else with much in flight.
            world.settled(&order, &delivery, &product, REGISTERED).await;
        }
    }
    assert_eq!(world.settled(&order, &delivery, &product, REGISTERED).await, 60);
}

/// Orders and cancels until `stop`. A request that was cut off may or may not have been taken.
async fn customers(world: &World, addresses: &[String], mut dice: Rng, taken: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let url = &addresses[dice.usize(..addresses.len())];
        let body = json!({ "productId": 1, "productName": "TV", "qty": dice.u64(1..5), "customerId": dice.u64(1..9) });
        if let Ok((status, order)) = world.ask(Method::POST, format!("{url}/orders"), Some(body)).await {
            if status == 503 {
                assert!(order["detail"].as_str().unwrap().contains("pay a little later"), "{order}");
                continue;
            }
            assert_eq!(status, 201, "{order}");
            taken.fetch_add(1, Ordering::AcqRel);
            if dice.u8(..4) == 0 {
                let cancel = format!("{url}/orders/{}", order["orderId"]);
                // Cut off, it may not be canceled: `settled` asks what became of it.
                let _ = world.ask(Method::DELETE, cancel, None).await;
            }
        }
        // Refused connections come back at once; the others must have their turn.
        tokio::task::yield_now().await;
    }
}

/// Kills one after another, each after a few more orders, and starts it again, some at once and some a few orders later.
async fn murders(world: &World, all: &mut [Process], mut dice: Rng, kills: u64, taken: &AtomicU64) {
    let more = async |n: u64| {
        let enough = taken.load(Ordering::Acquire) + n;
        crate::world::until("orders are taken", || {
            std::future::ready((taken.load(Ordering::Acquire) >= enough).then_some(()))
        })
        .await;
    };
    let orders = all.iter().filter(|p| p.service == "order").count();
    for _ in 0..kills {
        more(dice.u64(1..12)).await;
        let chosen = dice.usize(..all.len());
        let victim = &mut all[chosen];
        victim.kill();
        // Without a mesh, order knows one payment only.
        let needed = victim.service == "payment" || victim.service == "order" && orders == 1;
        if !needed && dice.bool() {
            more(dice.u64(1..12)).await;
        }
        world.restart(victim).await;
    }
}

async fn torture(world: World, mut services: Vec<Process>, kills: u64) {
    let seed = number("WEFT_SHOP_SEED", fastrand::u64(..));
    println!("WEFT_SHOP_SEED={seed} WEFT_SHOP_KILLS={kills}");
    let mut dice = Rng::with_seed(seed);
    let find = |all: &[Process], name| all.iter().position(|p| p.service == name).unwrap();
    world.register(&services[find(&services, "product")], REGISTERED).await;
    let addresses: Vec<String> = services.iter().filter(|p| p.service == "order").map(|p| p.url("")).collect();
    let (taken, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (one, two) = (dice.fork(), dice.fork());
    tokio::join!(
        customers(&world, &addresses, one, &taken, &stop),
        customers(&world, &addresses, two, &taken, &stop),
        async {
            murders(&world, &mut services, dice, kills, &taken).await;
            stop.store(true, Ordering::Release);
        }
    );
    let at = |name| &services[find(&services, name)];
    let orders = world.settled(at("order"), at("delivery"), at("product"), REGISTERED).await;
    let inventory = world.get(at("product"), "/inventories/1").await;
    println!("{kills} kills, {orders} orders, {inventory}");
    assert!(orders as u64 >= taken.load(Ordering::Acquire), "no order that was answered is lost");
}

#[tokio::test]
async fn killed_at_random_nothing_is_lost_and_nothing_counts_twice() {
    let (world, services) = World::open_shop().await;
    torture(world, services.into(), number("WEFT_SHOP_KILLS", 15)).await;
}

#[tokio::test]
async fn two_of_each_killed_at_random_keep_one_truth() {
    let (world, services) = World::open_shop().await;
    let mut services = Vec::from(services);
    for service in ["order", "delivery", "product", "payment"] {
        services.push(world.start(service).await);
    }
    torture(world, services, number("WEFT_SHOP_KILLS", 15)).await;
}
