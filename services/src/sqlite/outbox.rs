//! An outbox (`relay`) as a table beside a service's own, so that an event is laid down in the
//! transaction of what it tells.

use super::{int, unsigned};
use crate::event::Event;
use crate::log::NewRecord;
use rusqlite::Connection;

// AUTOINCREMENT: a number is never given twice, though the outbox is mostly empty.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        record TEXT NOT NULL
    );";

pub(crate) fn lay_down(connection: &Connection, event: &Event) -> anyhow::Result<()> {
    let record = serde_json::to_string(&event.to_record())?;
    connection.prepare_cached("INSERT INTO outbox (record) VALUES (?1)")?.execute([record])?;
    Ok(())
}

/// The oldest `max`, each with its number.
pub(crate) fn pending(connection: &Connection, max: usize) -> anyhow::Result<Vec<(u64, NewRecord)>> {
    let mut statement = connection.prepare_cached("SELECT number, record FROM outbox ORDER BY number LIMIT ?1")?;
    let rows = statement.query_map([int(max as u64)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| row.map_err(Into::into).and_then(|(n, json)| Ok((unsigned(n), serde_json::from_str(&json)?))))
        .collect()
}

/// Forgets all up to number `last`.
pub(crate) fn relayed(connection: &Connection, last: u64) -> anyhow::Result<()> {
    connection.prepare_cached("DELETE FROM outbox WHERE number <= ?1")?.execute([int(last)])?;
    Ok(())
}
