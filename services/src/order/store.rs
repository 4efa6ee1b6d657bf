//! Orders in SQLite: rows, ids in sequence, and the outbox in the order's own transaction.

use crate::event::{Event, Line, Trace, What};
use crate::log::NewRecord;
use crate::relay::Outbox;
use crate::rest::paging::Paging;
use crate::sqlite::{self, Durability, int, unsigned};
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use std::path::Path;

// AUTOINCREMENT: a number is never given twice, though the outbox is mostly empty.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        product_id INTEGER NOT NULL,
        product_name TEXT,
        qty INTEGER NOT NULL,
        customer_id INTEGER NOT NULL,
        status TEXT NOT NULL,
        stock_check TEXT NOT NULL,
        placed_at TEXT NOT NULL,
        canceled_at TEXT
    );
    CREATE TABLE IF NOT EXISTS outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        record TEXT NOT NULL
    );";

const COLUMNS: &str = "id, product_id, product_name, qty, customer_id, status, stock_check, placed_at, canceled_at";

/// An order as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) order_id: u64,
    #[serde(flatten)]
    pub(crate) line: Line,
    /// `PLACED` or `CANCELED`; how the delivery goes is on my page.
    pub(crate) status: String,
    pub(crate) stock_check: String,
    pub(crate) placed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) canceled_at: Option<String>,
}

/// Writers wait for the disk; readers have a connection of their own, so that they need not.
pub(crate) struct Store {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

impl Store {
    /// Opens the orders in `folder`.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Store> {
        let open = || sqlite::open(&folder.join("orders.db"), Durability::Committed, SCHEMA);
        Ok(Store { writer: Mutex::new(open()?), reader: Mutex::new(open()?) })
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        Ok(self.reader.lock().query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))?)
    }

    /// Takes an order; `OrderPlaced` is in the outbox.
    pub(crate) fn place(&self, line: Line, stock_check: String, trace: Trace) -> anyhow::Result<Order> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        let placed_at = Timestamp::now().to_string();
        let sql = "INSERT INTO orders (product_id, product_name, qty, customer_id, status, stock_check, placed_at)
                   VALUES (?1, ?2, ?3, ?4, 'PLACED', ?5, ?6)";
        let (product, customer) = (int(line.product_id), int(line.customer_id));
        let row = params![product, line.product_name, int(line.qty), customer, stock_check, placed_at];
        transaction.prepare_cached(sql)?.execute(row)?;
        let order_id = unsigned(transaction.last_insert_rowid());
        lay_down(&transaction, &Event::new(order_id, trace, What::OrderPlaced(line.clone())))?;
        transaction.commit()?;
        Ok(Order { order_id, line, status: "PLACED".into(), stock_check, placed_at, canceled_at: None })
    }

    /// Cancels an order, if it is not canceled yet; `OrderCanceled` is then in the outbox.
    pub(crate) fn cancel(&self, id: u64, trace: Trace) -> anyhow::Result<Option<Order>> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        let sql = "UPDATE orders SET status = 'CANCELED', canceled_at = ?2 WHERE id = ?1 AND status = 'PLACED'";
        let canceled = transaction.prepare_cached(sql)?.execute(params![int(id), Timestamp::now().to_string()])?;
        let order = get(&transaction, id)?;
        if let Some(order) = order.as_ref().filter(|_| canceled == 1) {
            lay_down(&transaction, &Event::new(id, trace, What::OrderCanceled(order.line.clone())))?;
        }
        transaction.commit()?;
        Ok(order)
    }

    pub(crate) fn get(&self, id: u64) -> anyhow::Result<Option<Order>> {
        Ok(get(&self.reader.lock(), id)?)
    }

    /// A page of orders, and how many there are in all.
    pub(crate) fn list(&self, paging: Paging) -> anyhow::Result<(Vec<Order>, u64)> {
        let connection = self.reader.lock();
        let total = connection.prepare_cached("SELECT count(*) FROM orders")?.query_row([], |row| row.get(0))?;
        let sql = format!("SELECT {COLUMNS} FROM orders ORDER BY id LIMIT ?1 OFFSET ?2");
        let mut statement = connection.prepare_cached(&sql)?;
        let orders = statement.query_map(params![int(paging.size), int(paging.skip())], order)?;
        Ok((orders.collect::<rusqlite::Result<_>>()?, unsigned(total)))
    }
}

impl Outbox for Store {
    fn pending(&self, max: usize) -> anyhow::Result<Vec<(u64, NewRecord)>> {
        let connection = self.reader.lock();
        let mut statement = connection.prepare_cached("SELECT number, record FROM outbox ORDER BY number LIMIT ?1")?;
        let rows =
            statement.query_map([int(max as u64)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| row.map_err(Into::into).and_then(|(n, json)| Ok((unsigned(n), serde_json::from_str(&json)?))))
            .collect()
    }

    fn relayed(&self, last: u64) -> anyhow::Result<()> {
        self.writer.lock().prepare_cached("DELETE FROM outbox WHERE number <= ?1")?.execute([int(last)])?;
        Ok(())
    }
}

fn lay_down(connection: &Connection, event: &Event) -> anyhow::Result<()> {
    let record = serde_json::to_string(&event.to_record())?;
    connection.prepare_cached("INSERT INTO outbox (record) VALUES (?1)")?.execute([record])?;
    Ok(())
}

fn get(connection: &Connection, id: u64) -> rusqlite::Result<Option<Order>> {
    let sql = format!("SELECT {COLUMNS} FROM orders WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([int(id)], order).optional()
}

fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
        order_id: unsigned(row.get(0)?),
        line: Line {
            product_id: unsigned(row.get(1)?),
            product_name: row.get(2)?,
            qty: unsigned(row.get(3)?),
            customer_id: unsigned(row.get(4)?),
        },
        status: row.get(5)?,
        stock_check: row.get(6)?,
        placed_at: row.get(7)?,
        canceled_at: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(qty: u64) -> Line {
        Line { customer_id: 100, product_id: 1, product_name: None, qty }
    }

    fn types(store: &Store) -> Vec<String> {
        store.pending(100).unwrap().into_iter().map(|(_, r)| format!("{} {}", r.headers[0].1, r.key)).collect()
    }

    #[test]
    fn orders_count_from_one_and_each_is_laid_down_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = store.place(line(5), "in stock: 100".into(), Trace::default()).unwrap();
        store.place(line(6), "in stock: 95".into(), Trace::default()).unwrap();
        assert_eq!(first.order_id, 1);
        assert_eq!(store.get(1).unwrap(), Some(first));
        assert_eq!(types(&store), ["OrderPlaced 1", "OrderPlaced 2"]);
    }

    #[test]
    fn canceling_twice_tells_the_others_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.place(line(5), String::new(), Trace::default()).unwrap();
        let canceled = store.cancel(1, Trace::default()).unwrap().unwrap();
        assert_eq!(canceled.status, "CANCELED");
        assert_eq!(store.cancel(1, Trace::default()).unwrap(), Some(canceled));
        assert_eq!(store.cancel(2, Trace::default()).unwrap(), None);
        assert_eq!(types(&store), ["OrderPlaced 1", "OrderCanceled 1"]);
    }

    #[test]
    fn what_was_relayed_is_gone_and_numbers_do_not_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.place(line(1), String::new(), Trace::default()).unwrap();
        let (number, _) = store.pending(10).unwrap().remove(0);
        store.relayed(number).unwrap();
        assert!(store.pending(10).unwrap().is_empty());
        store.place(line(1), String::new(), Trace::default()).unwrap();
        assert!(store.pending(10).unwrap()[0].0 > number);
    }

    #[test]
    fn replicas_see_each_others_orders() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap());
        one.place(line(1), String::new(), Trace::default()).unwrap();
        assert_eq!(other.place(line(1), String::new(), Trace::default()).unwrap().order_id, 2);
        let (orders, total) = one.list(Paging { page: 1, size: 1 }).unwrap();
        assert_eq!((orders.len(), orders[0].order_id, total), (1, 2, 2));
    }
}
