//! A ledger: entries are added, never changed and never taken out, and the money of an order is the sum of its
//! entries.
//!
//! It is SQLite, not for its queries but for its constraints. That an order is charged once and refunded
//! once is no matter of this code being right, or of two replicas looking at the right moment: the file has room for one
//! entry of a kind per order, and triggers refuse every edit.
//!
//! A cancel may be heard before the charge that it cancels: the charge may still be on its way through
//! some proxy. It leaves a `VOID` entry, and the charge that comes too late finds it and is refused.

use crate::consume::Handler;
use crate::event::{Event, Trace, What};
use crate::log::{NewRecord, Record};
use crate::relay::Outbox;
use crate::rest::paging::Paging;
use crate::sqlite::{self, Durability, int, outbox, positions, unsigned};
use crate::worker::Wake;
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Serialize;
use std::path::Path;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS ledger (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        order_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        amount INTEGER NOT NULL,
        customer_id INTEGER,
        idempotency_key TEXT UNIQUE,
        at TEXT NOT NULL,
        UNIQUE (order_id, kind),
        CHECK (kind = 'CHARGE' AND amount > 0 OR kind = 'REFUND' AND amount < 0 OR kind = 'VOID' AND amount = 0)
    );
    CREATE INDEX IF NOT EXISTS ledger_by_kind ON ledger (kind, number);
    CREATE TRIGGER IF NOT EXISTS ledger_is_never_changed BEFORE UPDATE ON ledger
        BEGIN SELECT raise(ABORT, 'a ledger is never changed'); END;
    CREATE TRIGGER IF NOT EXISTS ledger_forgets_nothing BEFORE DELETE ON ledger
        BEGIN SELECT raise(ABORT, 'a ledger forgets nothing'); END;";

/// Charges, each with the refund that it may have had. Add a WHERE.
const PAYMENTS: &str = "
    SELECT charge.number, charge.order_id, charge.customer_id, charge.amount, charge.at, refund.at, charge.idempotency_key
    FROM ledger AS charge LEFT JOIN ledger AS refund ON refund.order_id = charge.order_id AND refund.kind = 'REFUND'
    WHERE charge.kind = 'CHARGE'";

/// What is to be paid.
#[derive(Clone, Debug)]
pub(crate) struct Bill {
    pub(crate) order_id: u64,
    pub(crate) customer_id: Option<u64>,
    /// In the currency's smallest unit.
    pub(crate) amount: u64,
    pub(crate) key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Status {
    Approved,
    Refunded,
}

/// A payment as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payment {
    pub(crate) payment_id: u64,
    pub(crate) order_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) customer_id: Option<u64>,
    pub(crate) amount: u64,
    pub(crate) status: Status,
    pub(crate) approved_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refunded_at: Option<String>,
    #[serde(skip)]
    key: Option<String>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Charged {
    Now(Payment),
    Before(Payment),
}

/// Why nothing is charged.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    /// The order is paid, but by a bill that says something else.
    Differs(Payment),
    Canceled(u64),
    /// The key belongs to this other order.
    KeyReused(u64),
}

pub(crate) struct Store {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    laid_down: Wake,
}

impl Store {
    /// Opens the ledger in `folder`; `laid_down` is called when there is something to relay.
    pub(crate) fn open(folder: &Path, laid_down: Wake) -> anyhow::Result<Store> {
        let schemas = [SCHEMA, outbox::SCHEMA, positions::SCHEMA];
        let open = || sqlite::open(&folder.join("ledger.db"), Durability::Committed, &schemas);
        Ok(Store { writer: Mutex::new(open()?), reader: Mutex::new(open()?), laid_down })
    }

    /// Charges an order, unless it has been charged; `PaymentApproved` is then in the outbox.
    pub(crate) fn charge(&self, bill: Bill, trace: Trace) -> anyhow::Result<Result<Charged, Refused>> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        if let Some(settled) = settled(&transaction, &bill)? {
            return Ok(settled);
        }
        let at = Timestamp::now().to_string();
        let Bill { order_id, customer_id, amount, key } = bill;
        let sql = "INSERT INTO ledger (order_id, kind, amount, customer_id, idempotency_key, at)
                   VALUES (?1, 'CHARGE', ?2, ?3, ?4, ?5)";
        let row = params![int(order_id), int(amount), customer_id.map(int), key, at];
        transaction.prepare_cached(sql)?.execute(row)?;
        let payment_id = unsigned(transaction.last_insert_rowid());
        outbox::lay_down(&transaction, &Event::new(order_id, trace, What::PaymentApproved { payment_id, amount }))?;
        transaction.commit()?;
        let status = Status::Approved;
        let (approved_at, refunded_at) = (at, None);
        Ok(Ok(Charged::Now(Payment {
            payment_id,
            order_id,
            customer_id,
            amount,
            status,
            approved_at,
            refunded_at,
            key,
        })))
    }

    pub(crate) fn get(&self, id: u64) -> anyhow::Result<Option<Payment>> {
        let sql = format!("{PAYMENTS} AND charge.number = ?1");
        Ok(self.reader.lock().prepare_cached(&sql)?.query_row([int(id)], payment).optional()?)
    }

    /// A page of payments, of one order or of all, and how many there are in all.
    pub(crate) fn list(&self, order: Option<u64>, paging: Paging) -> anyhow::Result<(Vec<Payment>, u64)> {
        let connection = self.reader.lock();
        let filter = if order.is_some() { "charge.order_id = ?1" } else { "?1 IS NULL" };
        let order = order.map(int);
        let count = format!("SELECT count(*) FROM ledger AS charge WHERE charge.kind = 'CHARGE' AND {filter}");
        let total = connection.prepare_cached(&count)?.query_row([order], |row| row.get(0))?;
        let sql = format!("{PAYMENTS} AND {filter} ORDER BY charge.number LIMIT ?2 OFFSET ?3");
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_map(params![order, int(paging.size), int(paging.skip())], payment)?;
        Ok((found.collect::<rusqlite::Result<_>>()?, unsigned(total)))
    }
}

/// What a bill comes to that is not to be charged any more.
fn settled(connection: &Connection, bill: &Bill) -> anyhow::Result<Option<Result<Charged, Refused>>> {
    if has(connection, bill.order_id, "VOID")? {
        return Ok(Some(Err(Refused::Canceled(bill.order_id))));
    }
    if let Some(paid) = of_order(connection, bill.order_id)? {
        let same_key = bill.key.is_none() || paid.key.is_none() || bill.key == paid.key;
        return Ok(Some(if paid.amount != bill.amount || !same_key {
            Err(Refused::Differs(paid))
        } else if paid.status == Status::Refunded {
            Err(Refused::Canceled(bill.order_id))
        } else {
            Ok(Charged::Before(paid))
        }));
    }
    let sql = "SELECT order_id FROM ledger WHERE idempotency_key = ?1";
    let other = connection.prepare_cached(sql)?.query_row([&bill.key], |row| row.get(0)).optional()?;
    Ok(other.map(|order| Err(Refused::KeyReused(unsigned(order)))))
}

/// The order was canceled, or given up: what it paid goes back, and what it may still pay is refused.
fn refund(connection: &Connection, event: &Event) -> anyhow::Result<()> {
    let order = event.order_id;
    let (kind, amount, told) = match of_order(connection, order)? {
        Some(Payment { payment_id, amount, status: Status::Approved, .. }) => {
            ("REFUND", -int(amount), Some(What::PaymentRefunded { payment_id, amount }))
        }
        Some(Payment { status: Status::Refunded, .. }) => return Ok(()),
        None if has(connection, order, "VOID")? => return Ok(()),
        None => ("VOID", 0, None),
    };
    let sql = "INSERT INTO ledger (order_id, kind, amount, at) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![int(order), kind, amount, Timestamp::now().to_string()])?;
    told.map_or(Ok(()), |what| outbox::lay_down(connection, &event.follow(what)))
}

fn of_order(connection: &Connection, order: u64) -> rusqlite::Result<Option<Payment>> {
    let sql = format!("{PAYMENTS} AND charge.order_id = ?1");
    connection.prepare_cached(&sql)?.query_row([int(order)], payment).optional()
}

fn has(connection: &Connection, order: u64, kind: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM ledger WHERE order_id = ?1 AND kind = ?2")?
        .exists(params![int(order), kind])
}

fn payment(row: &Row<'_>) -> rusqlite::Result<Payment> {
    let refunded_at: Option<String> = row.get(5)?;
    Ok(Payment {
        payment_id: unsigned(row.get(0)?),
        order_id: unsigned(row.get(1)?),
        customer_id: row.get::<_, Option<i64>>(2)?.map(unsigned),
        amount: unsigned(row.get(3)?),
        status: if refunded_at.is_some() { Status::Refunded } else { Status::Approved },
        approved_at: row.get(4)?,
        refunded_at,
        key: row.get(6)?,
    })
}

impl Handler for Store {
    fn group(&self) -> &'static str {
        "payment"
    }

    fn position(&self, partition: u32) -> anyhow::Result<u64> {
        Ok(positions::get(&self.reader.lock(), partition)?)
    }

    fn handle(&self, records: &[Record]) -> anyhow::Result<usize> {
        let mut connection = self.writer.lock();
        let transaction = sqlite::writing(&mut connection)?;
        let applied = positions::advance(&transaction, records, |event| match event.what {
            What::OrderCanceled(_) | What::OrderRejected {} => refund(&transaction, event),
            _ => Ok(()),
        })?;
        transaction.commit()?;
        self.laid_down.call();
        Ok(applied)
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

#[cfg(test)]
mod tests;
