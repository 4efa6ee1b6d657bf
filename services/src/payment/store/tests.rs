use super::*;
use crate::event::Line;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Wake::default()).unwrap();
    (folder, store)
}

fn bill(order_id: u64, amount: u64, key: Option<&str>) -> Bill {
    Bill { order_id, customer_id: Some(100), amount, key: key.map(Into::into) }
}

fn charge(store: &Store, bill: Bill) -> Result<Charged, Refused> {
    store.charge(bill, Trace::default()).unwrap()
}

/// The payment of a bill that was charged just now.
fn charged(store: &Store, bill: Bill) -> Payment {
    match charge(store, bill) {
        Ok(Charged::Now(payment)) => payment,
        other => panic!("{other:?}"),
    }
}

fn record(offset: u64, event: &Event) -> Record {
    let NewRecord { id, key, headers, value } = event.to_record();
    Record { partition: 0, offset, id, key, headers, value }
}

fn canceled(order: u64) -> Event {
    let line = Line { customer_id: 100, product_id: 1, product_name: None, qty: 5 };
    Event::new(order, Trace::default(), What::OrderCanceled(line))
}

fn rejected(order: u64) -> Event {
    Event::new(order, Trace::default(), What::OrderRejected {})
}

fn told(store: &Store) -> Vec<String> {
    store.pending(100).unwrap().into_iter().map(|(_, r)| format!("{} {}", r.headers[0].1, r.key)).collect()
}

#[test]
fn asking_again_charges_nothing_more() {
    let (_folder, store) = store();
    let first = charged(&store, bill(7, 500, Some("k")));
    assert_eq!((first.payment_id, first.status), (1, Status::Approved));
    for again in [bill(7, 500, Some("k")), bill(7, 500, None)] {
        assert_eq!(charge(&store, again), Ok(Charged::Before(first.clone())));
    }
    assert_eq!(told(&store), ["PaymentApproved 7"]);
    assert_eq!(store.list(None, Paging { page: 0, size: 9 }).unwrap(), (vec![first], 1));
}

#[test]
fn a_bill_that_says_something_else_is_refused() {
    let (_folder, store) = store();
    let first = charged(&store, bill(7, 500, Some("k")));
    for other in [bill(7, 501, Some("k")), bill(7, 500, Some("another"))] {
        assert_eq!(charge(&store, other), Err(Refused::Differs(first.clone())));
    }
    assert_eq!(charge(&store, bill(8, 500, Some("k"))), Err(Refused::KeyReused(7)));
    charged(&store, bill(8, 500, None));
    charged(&store, bill(9, 500, None));
}

#[test]
fn a_canceled_order_gets_its_money_back_once() {
    let (_folder, store) = store();
    charged(&store, bill(7, 500, None));
    charged(&store, bill(8, 300, None));
    let records = [record(0, &canceled(7)), record(1, &rejected(7)), record(2, &canceled(7))];
    assert_eq!(store.handle(&records).unwrap(), 3);
    assert_eq!(store.handle(&records).unwrap(), 0, "what came before is skipped");
    assert_eq!(told(&store), ["PaymentApproved 7", "PaymentApproved 8", "PaymentRefunded 7"]);
    assert_eq!(store.get(1).unwrap().unwrap().status, Status::Refunded);
    assert_eq!(store.list(Some(8), Paging { page: 0, size: 9 }).unwrap().0[0].status, Status::Approved);
    assert_eq!(charge(&store, bill(7, 500, None)), Err(Refused::Canceled(7)));
}

#[test]
fn a_charge_that_its_cancel_has_overtaken_is_refused() {
    let (_folder, store) = store();
    store.handle(&[record(0, &rejected(7)), record(1, &canceled(7))]).unwrap();
    assert_eq!(charge(&store, bill(7, 500, None)), Err(Refused::Canceled(7)));
    assert_eq!(store.list(None, Paging { page: 0, size: 9 }).unwrap(), (vec![], 0));
    assert!(told(&store).is_empty());
}

#[test]
fn replicas_keep_one_ledger() {
    let (folder, one) = store();
    let other = Store::open(folder.path(), Wake::default()).unwrap();
    let first = charged(&one, bill(7, 500, None));
    assert_eq!(charge(&other, bill(7, 500, None)), Ok(Charged::Before(first)));
}

#[test]
fn the_file_itself_refuses_edits_and_second_charges() {
    let (_folder, store) = store();
    charged(&store, bill(7, 500, None));
    let ledger = store.writer.lock();
    for edit in [
        "UPDATE ledger SET amount = 1",
        "DELETE FROM ledger",
        "INSERT INTO ledger (order_id, kind, amount, at) VALUES (7, 'CHARGE', 500, '')",
        "INSERT INTO ledger (order_id, kind, amount, at) VALUES (7, 'REFUND', 500, '')",
    ] {
        assert!(ledger.execute(edit, []).is_err(), "{edit}");
    }
}
