use super::*;
use crate::event::Trace;

fn line() -> Line {
    Line { customer_id: 100, product_id: 1, product_name: Some("TV".into()), qty: 5 }
}

/// Records of order 7 in one partition.
fn records(what: impl IntoIterator<Item = What>) -> Vec<Record> {
    let trace = Trace { traceparent: Some("00-t-s-01".into()), ..Trace::default() };
    let record = |(offset, what)| {
        let new = Event::new(7, trace.clone(), what).to_record();
        Record { partition: 2, offset: offset as u64, id: new.id, key: new.key, headers: new.headers, value: new.value }
    };
    what.into_iter().enumerate().map(record).collect()
}

fn short() -> What {
    What::InventoryShort { product_id: 1, qty: 5, stock: 0 }
}

fn decreased() -> What {
    What::InventoryDecreased { product_id: 1, qty: 5, stock: 95 }
}

fn told(store: &Store) -> Vec<String> {
    store.pending(100).unwrap().into_iter().map(|(_, r)| r.headers[0].1.clone()).collect()
}

/// The only delivery's states, and what was told, after `what`.
fn after(what: impl IntoIterator<Item = What>) -> (Vec<Status>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Wake::default()).unwrap();
    store.handle(&records(what)).unwrap();
    let (deliveries, total) = store.list(Paging { page: 0, size: 10 }).unwrap();
    assert_eq!((total, deliveries[0].delivery_id, deliveries[0].order_id), (1, 1, 7));
    (deliveries[0].history.iter().map(|c| c.status).collect(), told(&store))
}

#[test]
fn an_order_starts_a_delivery_and_its_cancel_ends_it() {
    let (states, told) = after([What::OrderPlaced(line()), What::OrderCanceled(line())]);
    assert_eq!(states, [Status::Started, Status::Canceled]);
    assert_eq!(told, ["DeliveryStarted", "DeliveryCanceled"]);
}

#[test]
fn a_cancel_that_overtakes_its_order_wins() {
    let (states, told) = after([What::OrderCanceled(line()), What::OrderPlaced(line())]);
    assert_eq!(states, [Status::Canceled]);
    assert_eq!(told, ["DeliveryCanceled"], "what was never started is not shipped");
}

#[test]
fn a_shortage_waits_until_there_is_stock() {
    let (states, told) = after([What::OrderPlaced(line()), short(), decreased(), decreased()]);
    assert_eq!(states, [Status::Started, Status::Backordered, Status::Started]);
    assert_eq!(told, ["DeliveryStarted"]);
}

#[test]
fn a_canceled_delivery_stays_canceled() {
    let (states, _) = after([What::OrderPlaced(line()), What::OrderCanceled(line()), short(), decreased()]);
    assert_eq!(states, [Status::Started, Status::Canceled]);
}

#[test]
fn two_replicas_that_handle_the_same_events_do_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let one = Store::open(folder.path(), Wake::default()).unwrap();
    let other = Store::open(folder.path(), Wake::default()).unwrap();
    let all = records([What::OrderPlaced(line()), What::OrderCanceled(line())]);
    assert_eq!(one.handle(&all[..1]).unwrap(), 1);
    assert_eq!(other.handle(&all).unwrap(), 1);
    assert_eq!(one.handle(&all).unwrap(), 0);
    assert_eq!((one.position(2).unwrap(), told(&one)), (2, vec!["DeliveryStarted".into(), "DeliveryCanceled".into()]));
}

#[test]
fn a_late_relay_does_not_take_newer_events_along() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Wake::default()).unwrap();
    let all = records([What::OrderPlaced(line()), What::OrderCanceled(line())]);
    store.handle(&all[..1]).unwrap();
    let (number, record) = store.pending(10).unwrap().remove(0);
    assert!(record.headers.contains(&("traceparent".into(), "00-t-s-01".into())));
    store.relayed(number).unwrap();
    store.handle(&all).unwrap();
    store.relayed(number).unwrap();
    assert_eq!(told(&store), ["DeliveryCanceled"]);
}
