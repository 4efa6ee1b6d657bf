use super::*;
use crate::event::{Line, Trace};
use std::cell::Cell;

struct Shop {
    store: Store,
    next: Cell<u64>,
    _folder: tempfile::TempDir,
}

impl Shop {
    fn new() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        Shop { store: Store::open(folder.path(), Wake::default()).unwrap(), next: Cell::new(0), _folder: folder }
    }

    fn hear(&self, order: u64, what: What) -> Record {
        let new = Event::new(order, Trace { request_id: Some("r".into()), ..Trace::default() }, what).to_record();
        let offset = self.next.replace(self.next.get() + 1);
        let record = Record { partition: 0, offset, id: new.id, key: new.key, headers: new.headers, value: new.value };
        assert_eq!(self.store.handle(std::slice::from_ref(&record)).unwrap(), 1);
        record
    }

    fn started(&self, order: u64, product_id: u64, qty: u64) -> Record {
        let line = Line { customer_id: 100, product_id, product_name: None, qty };
        self.hear(order, What::DeliveryStarted { delivery_id: order, line })
    }

    fn canceled(&self, order: u64, product_id: u64, qty: u64) -> Record {
        let line = Line { customer_id: 100, product_id, product_name: None, qty };
        self.hear(order, What::DeliveryCanceled { delivery_id: order, line })
    }

    fn register(&self, product_id: u64, stock: u64) {
        self.store.register(Some(product_id), None, stock).unwrap().unwrap();
    }

    fn add(&self, product_id: u64, add: u64) -> Result<Inventory, Refused> {
        let edit = Edit { add_stock: Some(add), stock_max: 1000, ..Edit::default() };
        self.store.edit(product_id, edit).unwrap().unwrap()
    }

    /// Stock, shipped, backorders of product 1, after checking that nothing got lost.
    fn state(&self) -> (u64, u64, u64) {
        let i = self.store.get(1).unwrap().unwrap();
        assert_eq!(i.stock + i.shipped, i.registered);
        assert_eq!(i.backorders, self.store.queue(&self.store.env.read_txn().unwrap(), 1).unwrap().len() as u64);
        (i.stock, i.shipped, i.backorders)
    }

    fn told(&self) -> Vec<String> {
        let told = self.store.pending(100).unwrap();
        told.into_iter().map(|(_, r)| format!("{} {}", r.headers[0].1, r.key)).collect()
    }
}

#[test]
fn goods_leave_and_come_back() {
    let shop = Shop::new();
    shop.register(1, 100);
    shop.started(1, 1, 5);
    assert_eq!(shop.state(), (95, 5, 0));
    shop.canceled(1, 1, 5);
    assert_eq!(shop.state(), (100, 0, 0));
    assert_eq!(shop.told(), ["InventoryDecreased 1", "InventoryIncreased 1"]);
}

#[test]
fn ids_count_from_one_and_are_not_taken_twice() {
    let shop = Shop::new();
    let id = |product_id| shop.store.register(product_id, Some("TV".into()), 1).unwrap().map(|i| i.product_id);
    assert_eq!((id(None), id(Some(7)), id(None), id(Some(7))), (Ok(1), Ok(7), Ok(8), Err(Refused::Exists(7))));
    let (page, total) = shop.store.list(Paging { page: 1, size: 2 }).unwrap();
    assert_eq!((page.len(), page[0].product_id, total), (1, 8, 3));
}

#[test]
fn what_comes_again_is_skipped() {
    let shop = Shop::new();
    shop.register(1, 100);
    let record = shop.started(1, 1, 5);
    assert_eq!(shop.store.handle(&[record]).unwrap(), 0);
    assert_eq!((shop.state(), shop.store.position(0).unwrap()), ((95, 5, 0), 1));
}

#[test]
fn a_second_start_of_the_same_order_takes_nothing() {
    let shop = Shop::new();
    shop.register(1, 100);
    shop.started(1, 1, 5);
    shop.started(1, 1, 5);
    assert_eq!((shop.state(), shop.told()), ((95, 5, 0), vec!["InventoryDecreased 1".into()]));
}

#[test]
fn a_cancel_that_overtakes_its_start_leaves_the_stock_alone() {
    let shop = Shop::new();
    shop.register(1, 100);
    shop.canceled(1, 1, 5);
    shop.started(1, 1, 5);
    assert_eq!((shop.state(), shop.told()), ((100, 0, 0), vec![]));
}

#[test]
fn a_shortage_is_resolved_when_stock_is_registered_first_come_first_served() {
    let shop = Shop::new();
    shop.register(1, 3);
    shop.started(1, 1, 5);
    shop.started(2, 1, 2);
    assert_eq!(shop.state(), (3, 0, 2), "the second waits behind the first");
    shop.add(1, 3).unwrap();
    assert_eq!(shop.state(), (1, 5, 1));
    shop.add(1, 1).unwrap();
    assert_eq!(shop.state(), (0, 7, 0));
    assert_eq!(shop.told(), ["InventoryShort 1", "InventoryShort 2", "InventoryDecreased 1", "InventoryDecreased 2"]);
    let (_, late) = shop.store.pending(10).unwrap().remove(3);
    assert!(late.headers.contains(&("x-request-id".into(), "r".into())), "told in the name of who ordered");
}

#[test]
fn what_was_ordered_before_it_was_registered_is_delivered_then() {
    let shop = Shop::new();
    shop.started(1, 1, 5);
    shop.started(2, 1, 5);
    shop.canceled(2, 1, 5);
    shop.register(1, 100);
    assert_eq!((shop.state(), shop.told().len()), ((95, 5, 0), 3));
}

#[test]
fn who_gives_up_waiting_lets_the_next_through() {
    let shop = Shop::new();
    shop.register(1, 3);
    shop.started(1, 1, 5);
    shop.started(2, 1, 2);
    shop.canceled(1, 1, 5);
    assert_eq!(shop.state(), (1, 2, 0));
    assert_eq!(shop.told(), ["InventoryShort 1", "InventoryShort 2", "InventoryDecreased 2"]);
}

#[test]
fn edits_keep_the_account() {
    let shop = Shop::new();
    shop.register(1, 100);
    shop.started(1, 1, 5);
    let edit = Edit { stock: Some(10), name: Some("TV".into()), stock_max: 1000, add_stock: None };
    let edited = shop.store.edit(1, edit).unwrap().unwrap().unwrap();
    assert_eq!((edited.stock, edited.shipped, edited.registered), (10, 5, 15));
    assert_eq!(shop.add(1, 991), Err(Refused::TooMuch(1001)));
    assert!(shop.store.edit(2, Edit::default()).unwrap().is_none());
    assert_eq!(shop.state(), (10, 5, 0));
}

#[test]
fn a_late_relay_does_not_take_newer_events_along() {
    let shop = Shop::new();
    shop.register(1, 100);
    shop.started(1, 1, 5);
    let (number, _) = shop.store.pending(10).unwrap().remove(0);
    shop.store.relayed(number).unwrap();
    shop.started(2, 1, 5);
    shop.store.relayed(number).unwrap();
    assert_eq!(shop.told(), ["InventoryDecreased 2"]);
}
