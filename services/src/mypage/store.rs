//! The view behind my page, in an SQLite file of its own.
//!
//! An order's events reach the log from three services, so a cancel may be read before the start
//! of the delivery that it cancels. Therefore each event only moves its own part of the page, and
//! `CANCELED` is where both parts end.

use crate::consume::Handler;
use crate::event::{Event, Line, What};
use crate::log::Record;
use crate::rest::paging::Paging;
use crate::sqlite::{self, Durability, int, positions, unsigned};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use std::path::Path;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS pages (
        order_id INTEGER PRIMARY KEY,
        customer_id INTEGER,
        product_id INTEGER,
        product_name TEXT,
        qty INTEGER,
        order_status TEXT,
        delivery_id INTEGER,
        delivery_status TEXT,
        updated_at TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS pages_by_customer ON pages (customer_id, order_id);
    CREATE TABLE IF NOT EXISTS notifications (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        order_id INTEGER NOT NULL,
        at TEXT NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS notifications_by_order ON notifications (order_id, number);";

const COLUMNS: &str =
    "order_id, customer_id, product_id, product_name, qty, order_status, delivery_id, delivery_status, updated_at";

/// One order's part of the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page {
    pub(crate) order_id: u64,
    pub(crate) customer_id: Option<u64>,
    pub(crate) product_id: Option<u64>,
    pub(crate) product_name: Option<String>,
    pub(crate) qty: Option<u64>,
    /// `PLACED` or `CANCELED`.
    pub(crate) order_status: Option<String>,
    pub(crate) delivery_id: Option<u64>,
    /// `STARTED`, `BACKORDERED` (waits for stock) or `CANCELED`; none before delivery has heard of the order.
    pub(crate) delivery_status: Option<String>,
    pub(crate) updated_at: String,
    /// What the customer was told, oldest first.
    pub(crate) notifications: Vec<Notification>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Notification {
    pub(crate) at: String,
    pub(crate) text: String,
}

pub(crate) struct Store {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

impl Store {
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Store> {
        // A view that lost its last transactions also lost their positions, and reads those events again.
        let open = || sqlite::open(&folder.join("mypage.db"), Durability::Recent, &[SCHEMA, positions::SCHEMA]);
        Ok(Store { writer: Mutex::new(open()?), reader: Mutex::new(open()?) })
    }

    pub(crate) fn get(&self, order_id: u64) -> anyhow::Result<Option<Page>> {
        let connection = self.reader.lock();
        let sql = format!("SELECT {COLUMNS} FROM pages WHERE order_id = ?1");
        let page = connection.prepare_cached(&sql)?.query_row([int(order_id)], page).optional()?;
        page.map(|page| with_notifications(&connection, page)).transpose()
    }

    /// A page of pages, of one customer or of all, and how many there are in all.
    pub(crate) fn list(&self, customer: Option<u64>, paging: Paging) -> anyhow::Result<(Vec<Page>, u64)> {
        let connection = self.reader.lock();
        let filter = if customer.is_some() { "customer_id = ?1" } else { "?1 IS NULL" };
        let customer = customer.map(int);
        let count = format!("SELECT count(*) FROM pages WHERE {filter}");
        let total = connection.prepare_cached(&count)?.query_row([customer], |row| row.get(0))?;
        let sql = format!("SELECT {COLUMNS} FROM pages WHERE {filter} ORDER BY order_id LIMIT ?2 OFFSET ?3");
        let mut statement = connection.prepare_cached(&sql)?;
        let pages = statement.query_map(params![customer, int(paging.size), int(paging.skip())], page)?;
        let pages = pages.map(|page| with_notifications(&connection, page?)).collect::<anyhow::Result<_>>()?;
        Ok((pages, unsigned(total)))
    }
}

fn page(row: &Row<'_>) -> rusqlite::Result<Page> {
    let number = |i: usize| row.get::<_, Option<i64>>(i).map(|n| n.map(unsigned));
    Ok(Page {
        order_id: unsigned(row.get(0)?),
        customer_id: number(1)?,
        product_id: number(2)?,
        product_name: row.get(3)?,
        qty: number(4)?,
        order_status: row.get(5)?,
        delivery_id: number(6)?,
        delivery_status: row.get(7)?,
        updated_at: row.get(8)?,
        notifications: Vec::new(),
    })
}

fn with_notifications(connection: &Connection, mut page: Page) -> anyhow::Result<Page> {
    let sql = "SELECT at, text FROM notifications WHERE order_id = ?1 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let rows =
        statement.query_map([int(page.order_id)], |row| Ok(Notification { at: row.get(0)?, text: row.get(1)? }))?;
    page.notifications = rows.collect::<rusqlite::Result<_>>()?;
    Ok(page)
}

impl Handler for Store {
    fn group(&self) -> &'static str {
        "mypage"
    }

    fn position(&self, partition: u32) -> anyhow::Result<u64> {
        Ok(positions::get(&self.reader.lock(), partition)?)
    }

    fn handle(&self, records: &[Record]) -> anyhow::Result<usize> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        let applied = positions::advance(&transaction, records, |event| Ok(apply(&transaction, event)?))?;
        transaction.commit()?;
        Ok(applied)
    }
}

/// Which part of the page an event moves, and where to.
fn apply(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    if let What::OrderRejected {} | What::PaymentApproved { .. } | What::PaymentRefunded { .. } = &event.what {
        // An order that was not taken has no page, and one that is not taken yet may be paid already.
        return Ok(());
    }
    let at = event.timestamp.to_string();
    let order = int(event.order_id);
    let sql = "INSERT INTO pages (order_id, updated_at) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET updated_at = excluded.updated_at";
    connection.prepare_cached(sql)?.execute(params![order, at])?;
    let (column, status, delivery) = match &event.what {
        What::OrderPlaced(line) => {
            remember(connection, order, line)?;
            ("order_status", "PLACED", None)
        }
        What::OrderCanceled(line) => {
            remember(connection, order, line)?;
            ("order_status", "CANCELED", None)
        }
        What::DeliveryStarted { delivery_id, .. } => ("delivery_status", "STARTED", Some(*delivery_id)),
        What::DeliveryCanceled { delivery_id, .. } => ("delivery_status", "CANCELED", Some(*delivery_id)),
        What::InventoryShort { .. } => ("delivery_status", "BACKORDERED", None),
        What::InventoryDecreased { .. } => ("delivery_status", "STARTED", None),
        What::InventoryIncreased { .. }
        | What::OrderRejected {}
        | What::PaymentApproved { .. }
        | What::PaymentRefunded { .. } => return Ok(()),
    };
    if let Some(delivery) = delivery {
        let sql = "UPDATE pages SET delivery_id = ?2 WHERE order_id = ?1";
        connection.prepare_cached(sql)?.execute(params![order, int(delivery)])?;
    }
    let sql = format!(
        "UPDATE pages SET {column} = ?2 WHERE order_id = ?1 AND coalesce({column}, '') NOT IN ('CANCELED', ?2)"
    );
    let moved = connection.prepare_cached(&sql)?.execute(params![order, status])? == 1;
    if moved && column == "delivery_status" {
        let text = match status {
            "STARTED" => "Your order is on its way.",
            "BACKORDERED" => "Your order waits for new stock.",
            _ => "The delivery of your order was canceled.",
        };
        let sql = "INSERT INTO notifications (order_id, at, text) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![order, at, text])?;
    }
    Ok(())
}

fn remember(connection: &Connection, order: i64, line: &Line) -> rusqlite::Result<()> {
    let sql = "UPDATE pages SET customer_id = ?2, product_id = ?3, product_name = ?4, qty = ?5 WHERE order_id = ?1";
    let row = params![order, int(line.customer_id), int(line.product_id), line.product_name, int(line.qty)];
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

#[cfg(test)]
mod tests;
