//! Orders in SQLite: rows, ids in sequence, and the outbox in the order's own transaction.
//!
//! An order begins as a *draft*: it has its id, which payment charges it under, and is in no list. Then somebody takes
//! the draft, once: into an order, when it is paid, or to reject it, when it is not known to be.
//! Both are one transaction with the event that says so, so that whatever is killed in between, and whoever else takes
//! the draft meanwhile, an order is placed or its money goes back, never both and never neither.

use crate::event::{Event, Line, Trace, What};
use crate::log::NewRecord;
use crate::relay::Outbox;
use crate::rest::paging::Paging;
use crate::sqlite::{self, Durability, int, outbox, unsigned};
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

// AUTOINCREMENT: a number is never given twice, though there is mostly no draft.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        id INTEGER PRIMARY KEY,
        product_id INTEGER NOT NULL,
        product_name TEXT,
        qty INTEGER NOT NULL,
        customer_id INTEGER NOT NULL,
        status TEXT NOT NULL,
        stock_check TEXT NOT NULL,
        amount INTEGER NOT NULL,
        payment_id INTEGER NOT NULL,
        placed_at TEXT NOT NULL,
        canceled_at TEXT
    );
    CREATE TABLE IF NOT EXISTS drafts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        expires_at_ms INTEGER NOT NULL,
        draft TEXT NOT NULL
    );";

const COLUMNS: &str =
    "id, product_id, product_name, qty, customer_id, status, stock_check, amount, payment_id, placed_at, canceled_at";

/// An order that is to be paid.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Draft {
    pub(crate) line: Line,
    pub(crate) stock_check: String,
    /// In the currency's smallest unit.
    pub(crate) amount: u64,
    /// Payment's idempotency key. Not made of the id: one of an earlier shop with payment's data still there would pass
    /// for paid.
    pub(crate) key: Uuid,
    pub(crate) trace: Trace,
}

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
    /// In the currency's smallest unit.
    pub(crate) amount: u64,
    pub(crate) payment_id: u64,
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
        let open = || sqlite::open(&folder.join("orders.db"), Durability::Committed, &[SCHEMA, outbox::SCHEMA]);
        Ok(Store { writer: Mutex::new(open()?), reader: Mutex::new(open()?) })
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        Ok(self.reader.lock().query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))?)
    }

    /// Keeps a draft and gives it its order's id. Once it has expired, others may take it too.
    pub(crate) fn begin(&self, draft: &Draft, expires_in: Duration) -> anyhow::Result<u64> {
        let connection = self.writer.lock();
        let expires_at_ms = Timestamp::now().as_millisecond().saturating_add(i64::try_from(expires_in.as_millis())?);
        let sql = "INSERT INTO drafts (expires_at_ms, draft) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute(params![expires_at_ms, serde_json::to_string(draft)?])?;
        Ok(unsigned(connection.last_insert_rowid()))
    }

    /// Makes an order of its draft, which payment `payment_id` has paid; `OrderPlaced` is in the outbox. If another has
    /// taken the draft, this is what became of it: the order, or none if it was rejected.
    pub(crate) fn place(&self, id: u64, payment_id: u64) -> anyhow::Result<Option<Order>> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        let Some(Draft { line, stock_check, amount, trace, .. }) = take(&transaction, id)? else {
            return Ok(get(&transaction, id)?);
        };
        let placed_at = Timestamp::now().to_string();
        let sql = format!("INSERT INTO orders ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, 'PLACED', ?6, ?7, ?8, ?9, NULL)");
        let (product, customer) = (int(line.product_id), int(line.customer_id));
        let (qty, amount_stored, payment) = (int(line.qty), int(amount), int(payment_id));
        let row =
            params![int(id), product, line.product_name, qty, customer, stock_check, amount_stored, payment, placed_at];
        transaction.prepare_cached(&sql)?.execute(row)?;
        outbox::lay_down(&transaction, &Event::new(id, trace, What::OrderPlaced(line.clone())))?;
        transaction.commit()?;
        let (status, canceled_at) = ("PLACED".into(), None);
        Ok(Some(Order { order_id: id, line, status, stock_check, amount, payment_id, placed_at, canceled_at }))
    }

    /// Gives a draft up, whether it was paid or not: `OrderRejected` is in the outbox. If another has taken the
    /// draft, nothing happens.
    pub(crate) fn reject(&self, id: u64) -> anyhow::Result<()> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        if let Some(Draft { trace, .. }) = take(&transaction, id)? {
            outbox::lay_down(&transaction, &Event::new(id, trace, What::OrderRejected {}))?;
        }
        Ok(transaction.commit()?)
    }

    /// The oldest `max` drafts that whoever began them has had time to take.
    pub(crate) fn expired(&self, max: u64) -> anyhow::Result<Vec<u64>> {
        let connection = self.reader.lock();
        let sql = "SELECT id FROM drafts WHERE expires_at_ms <= ?1 ORDER BY id LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let ids = statement.query_map(params![Timestamp::now().as_millisecond(), int(max)], |row| row.get(0))?;
        ids.map(|id| Ok(unsigned(id?))).collect()
    }

    /// Cancels an order, if it is not canceled yet; `OrderCanceled` is then in the outbox.
    pub(crate) fn cancel(&self, id: u64, trace: Trace) -> anyhow::Result<Option<Order>> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        let sql = "UPDATE orders SET status = 'CANCELED', canceled_at = ?2 WHERE id = ?1 AND status = 'PLACED'";
        let canceled = transaction.prepare_cached(sql)?.execute(params![int(id), Timestamp::now().to_string()])?;
        let order = get(&transaction, id)?;
        if let Some(order) = order.as_ref().filter(|_| canceled == 1) {
            outbox::lay_down(&transaction, &Event::new(id, trace, What::OrderCanceled(order.line.clone())))?;
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
        outbox::pending(&self.reader.lock(), max)
    }

    fn relayed(&self, last: u64) -> anyhow::Result<()> {
        outbox::relayed(&self.writer.lock(), last)
    }
}

/// Takes a draft out, if it is still there.
fn take(connection: &Connection, id: u64) -> anyhow::Result<Option<Draft>> {
    let sql = "DELETE FROM drafts WHERE id = ?1 RETURNING draft";
    let draft: Option<String> = connection.prepare_cached(sql)?.query_row([int(id)], |row| row.get(0)).optional()?;
    Ok(draft.map(|json| serde_json::from_str(&json)).transpose()?)
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
        amount: unsigned(row.get(7)?),
        payment_id: unsigned(row.get(8)?),
        placed_at: row.get(9)?,
        canceled_at: row.get(10)?,
    })
}

#[cfg(test)]
mod tests;
