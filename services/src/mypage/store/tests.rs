use super::*;
use crate::event::Trace;

fn line() -> Line {
    Line { customer_id: 100, product_id: 1, product_name: Some("TV".into()), qty: 5 }
}

/// Records of order 1 in one partition, from `offset` on.
fn records(offset: u64, what: impl IntoIterator<Item = What>) -> Vec<Record> {
    let record = |(i, what): (usize, What)| {
        let new = Event::new(1, Trace::default(), what).to_record();
        Record {
            partition: 3,
            offset: offset + i as u64,
            id: new.id,
            key: new.key,
            headers: new.headers,
            value: new.value,
        }
    };
    what.into_iter().enumerate().map(record).collect()
}

fn started() -> What {
    What::DeliveryStarted { delivery_id: 9, line: line() }
}

fn canceled() -> What {
    What::DeliveryCanceled { delivery_id: 9, line: line() }
}

fn short() -> What {
    What::InventoryShort { product_id: 1, qty: 5, stock: 0 }
}

fn decreased() -> What {
    What::InventoryDecreased { product_id: 1, qty: 5, stock: 95 }
}

fn texts(page: &Page) -> Vec<&str> {
    page.notifications.iter().map(|n| n.text.as_str()).collect()
}

fn after(what: impl IntoIterator<Item = What>) -> Page {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.handle(&records(0, what)).unwrap();
    store.get(1).unwrap().unwrap()
}

#[test]
fn a_page_follows_its_order_and_delivery() {
    let page = after([What::OrderPlaced(line()), started(), decreased()]);
    assert_eq!((page.order_status.as_deref(), page.delivery_status.as_deref()), (Some("PLACED"), Some("STARTED")));
    assert_eq!((page.customer_id, page.delivery_id, page.qty), (Some(100), Some(9), Some(5)));
    assert_eq!(texts(&page), ["Your order is on its way."]);
}

#[test]
fn a_cancel_that_is_read_first_is_not_undone() {
    let page = after([What::OrderPlaced(line()), What::OrderCanceled(line()), canceled(), started(), decreased()]);
    assert_eq!((page.order_status.as_deref(), page.delivery_status.as_deref()), (Some("CANCELED"), Some("CANCELED")));
    assert_eq!(texts(&page), ["The delivery of your order was canceled."]);
}

#[test]
fn each_change_of_the_delivery_is_told_once() {
    let page = after([What::OrderPlaced(line()), started(), short(), decreased(), canceled()]);
    let told = [
        "Your order is on its way.",
        "Your order waits for new stock.",
        "Your order is on its way.",
        "The delivery of your order was canceled.",
    ];
    assert_eq!(texts(&page), told);
}

#[test]
fn what_comes_again_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let all = records(0, [What::OrderPlaced(line()), started(), short()]);
    assert_eq!(store.handle(&all[..2]).unwrap(), 2);
    assert_eq!(store.handle(&all).unwrap(), 1);
    assert_eq!(store.position(3).unwrap(), 3);
    assert_eq!(store.get(1).unwrap().unwrap().notifications.len(), 2);
}

#[test]
fn strangers_events_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut all = records(0, [started(), What::OrderPlaced(line())]);
    all[0].value = "{}".into();
    assert_eq!(store.handle(&all).unwrap(), 2);
    assert_eq!(store.get(1).unwrap().unwrap().order_status.as_deref(), Some("PLACED"));
}

#[test]
fn a_customer_sees_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.handle(&records(0, [What::OrderPlaced(line())])).unwrap();
    let paging = Paging { page: 0, size: 10 };
    assert_eq!(store.list(Some(100), paging).unwrap().1, 1);
    assert_eq!(store.list(Some(101), paging).unwrap().1, 0);
    assert_eq!(store.list(None, paging).unwrap().0[0].order_id, 1);
}
