//! Two processes of one service share its work and its truth.

use crate::world::{Process, World, until};
use serde_json::Value;
use std::collections::BTreeSet;

/// What a process says of its consumer: partitions owned, events handled.
async fn progress(world: &World, process: &Process) -> (BTreeSet<String>, u64) {
    let body = world.get(process, "/actuator/events").await;
    let consumer = &body["consumers"][0];
    (consumer["lag"].as_object().unwrap().keys().cloned().collect(), consumer["handled"].as_u64().unwrap())
}

/// Both answer with the same list, but for the host in its links.
async fn agree(world: &World, one: &Process, other: &Process, path: &str, rel: &str) {
    let list = async |process: &Process| {
        let mut all = world.all(process, path, rel).await;
        all.iter_mut().for_each(|r| r["_links"] = Value::Null);
        all
    };
    let (one, other) = (list(one).await, list(other).await);
    assert!(one == other, "{one:?}\n{other:?}");
}

async fn shared(world: &World, one: &Process, other: &Process) {
    until("each owns half of the partitions", || async {
        let ((a, _), (b, _)) = (progress(world, one).await, progress(world, other).await);
        (a.len() == 4 && b.len() == 4 && a.is_disjoint(&b)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_deliveries_handle_each_event_once_and_both_know_all() {
    let (world, [order, one, product, _payment]) = World::open_shop().await;
    let other = world.start("delivery").await;
    shared(&world, &one, &other).await;
    world.register(&product, 1000).await;
    for _ in 0..60 {
        world.place(&order, 2).await;
    }
    world.settled(&order, &one, &product, 1000).await;
    agree(&world, &one, &other, "/deliveries", "deliveries").await;
    let events: u64 = world.told().iter().map(|(_, times)| times).sum();
    let (a, b) = until("all events are handled", || async {
        let ((_, a), (_, b)) = (progress(&world, &one).await, progress(&world, &other).await);
        (a + b >= events).then_some((a, b))
    })
    .await;
    assert_eq!(a + b, events);
    assert!(a > 0 && b > 0, "both have a share: {a} and {b} of {events}");
}

#[tokio::test]
async fn a_killed_replicas_share_moves_to_the_other() {
    let (world, [order, one, product, _payment]) = World::open_shop().await;
    let mut other = world.start("delivery").await;
    shared(&world, &one, &other).await;
    world.register(&product, 1000).await;
    other.kill();
    for _ in 0..30 {
        world.place(&order, 1).await;
    }
    world.settled(&order, &one, &product, 1000).await;
    assert_eq!(progress(&world, &one).await.0.len(), 8);
}

#[tokio::test]
async fn replicas_of_order_and_product_agree() {
    let (world, [order, delivery, product, _payment]) = World::open_shop().await;
    let (order2, product2) = (world.start("order").await, world.start("product").await);
    world.register(&product2, 1000).await;
    for _ in 0..10 {
        tokio::join!(world.place(&order, 1), world.place(&order2, 1), world.place(&order2, 1));
    }
    assert_eq!(world.settled(&order2, &delivery, &product, 1000).await, 30);
    agree(&world, &order, &order2, "/orders", "orders").await;
    assert_eq!(world.get(&product, "/inventories/1").await["stock"], 970);
    assert_eq!(world.get(&product2, "/inventories/1").await["stock"], 970);
}
