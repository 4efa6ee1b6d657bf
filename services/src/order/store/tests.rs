use super::*;

/// Nobody else takes a draft within a test, …
const LONG: Duration = Duration::from_secs(3600);
/// … or everybody may at once.
const NOW: Duration = Duration::ZERO;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn draft(qty: u64) -> Draft {
    let line = Line { customer_id: 100, product_id: 1, product_name: None, qty };
    let key = Uuid::new_v4();
    Draft { line, stock_check: "in stock: 100".into(), amount: 1000 * qty, key, trace: Trace::default() }
}

fn place(store: &Store, qty: u64) -> Order {
    let id = store.begin(&draft(qty), LONG).unwrap();
    store.place(id, 70 + id).unwrap().unwrap()
}

fn types(store: &Store) -> Vec<String> {
    store.pending(100).unwrap().into_iter().map(|(_, r)| format!("{} {}", r.headers[0].1, r.key)).collect()
}

#[test]
fn orders_count_from_one_and_each_is_laid_down_once() {
    let (_folder, store) = store();
    let first = place(&store, 5);
    place(&store, 6);
    assert_eq!((first.order_id, first.payment_id, first.amount), (1, 71, 5000));
    assert_eq!(store.get(1).unwrap(), Some(first));
    assert_eq!(types(&store), ["OrderPlaced 1", "OrderPlaced 2"]);
}

#[test]
fn an_order_that_is_not_paid_yet_is_in_no_list_and_told_to_nobody() {
    let (_folder, store) = store();
    let id = store.begin(&draft(5), LONG).unwrap();
    assert_eq!(store.get(id).unwrap(), None);
    assert_eq!(store.cancel(id, Trace::default()).unwrap(), None);
    assert_eq!(store.list(Paging { page: 0, size: 9 }).unwrap(), (vec![], 0));
    assert!(types(&store).is_empty());
}

#[test]
fn a_draft_is_taken_once_whoever_comes_first() {
    let (_folder, store) = store();
    let (paid, unpaid) = (store.begin(&draft(5), LONG).unwrap(), store.begin(&draft(6), LONG).unwrap());
    let placed = store.place(paid, 71).unwrap();
    store.reject(paid).unwrap();
    assert_eq!(store.place(paid, 71).unwrap(), placed);
    store.reject(unpaid).unwrap();
    store.reject(unpaid).unwrap();
    assert_eq!(store.place(unpaid, 72).unwrap(), None);
    assert_eq!(types(&store), ["OrderPlaced 1", "OrderRejected 2"]);
}

#[test]
fn an_id_does_not_come_again_after_its_draft_was_rejected() {
    let (_folder, store) = store();
    let id = store.begin(&draft(5), LONG).unwrap();
    store.reject(id).unwrap();
    assert_eq!(store.begin(&draft(5), LONG).unwrap(), id + 1);
}

#[test]
fn drafts_expire_and_a_restart_finds_them() {
    let (folder, store) = store();
    let old = store.begin(&draft(5), NOW).unwrap();
    store.begin(&draft(6), LONG).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.expired(9).unwrap(), [old]);
    store.place(old, 71).unwrap();
    assert!(store.expired(9).unwrap().is_empty());
}

#[test]
fn canceling_twice_tells_the_others_once() {
    let (_folder, store) = store();
    place(&store, 5);
    let canceled = store.cancel(1, Trace::default()).unwrap().unwrap();
    assert_eq!(canceled.status, "CANCELED");
    assert_eq!(store.cancel(1, Trace::default()).unwrap(), Some(canceled));
    assert_eq!(store.cancel(2, Trace::default()).unwrap(), None);
    assert_eq!(types(&store), ["OrderPlaced 1", "OrderCanceled 1"]);
}

#[test]
fn what_was_relayed_is_gone_and_numbers_do_not_come_again() {
    let (_folder, store) = store();
    place(&store, 1);
    let (number, _) = store.pending(10).unwrap().remove(0);
    store.relayed(number).unwrap();
    assert!(store.pending(10).unwrap().is_empty());
    place(&store, 1);
    assert!(store.pending(10).unwrap()[0].0 > number);
}

#[test]
fn replicas_see_each_others_orders() {
    let (folder, one) = store();
    let other = Store::open(folder.path()).unwrap();
    place(&one, 1);
    assert_eq!(place(&other, 1).order_id, 2);
    let (orders, total) = one.list(Paging { page: 1, size: 1 }).unwrap();
    assert_eq!((orders.len(), orders[0].order_id, total), (1, 2, 2));
}
