//! How far a store that is fed by events has come (`consume`), as a table beside its own.

use super::{int, unsigned};
use crate::event::Event;
use crate::log::Record;
use rusqlite::{Connection, OptionalExtension as _, params};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS positions (
        partition INTEGER PRIMARY KEY,
        next INTEGER NOT NULL
    );";

/// The offset from which on `partition` has not been handled yet.
pub(crate) fn get(connection: &Connection, partition: u32) -> rusqlite::Result<u64> {
    let sql = "SELECT next FROM positions WHERE partition = ?1";
    let next = connection.prepare_cached(sql)?.query_row([partition], |row| row.get(0)).optional()?;
    Ok(next.map_or(0, unsigned))
}

/// Hands the events that have not been handled yet to `apply`, and moves on past them; how many records that were.
/// `connection` is in a transaction that is given up if this fails.
pub(crate) fn advance(
    connection: &Connection,
    records: &[Record],
    mut apply: impl FnMut(&Event) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut applied = 0;
    for record in records {
        if record.offset < get(connection, record.partition)? {
            continue;
        }
        applied += 1;
        match Event::from_record(record) {
            Ok(event) => apply(&event)?,
            Err(error) => tracing::debug!(id = %record.id, %error, "not an event of ours"),
        }
        let sql =
            "INSERT INTO positions (partition, next) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET next = excluded.next";
        connection.prepare_cached(sql)?.execute(params![record.partition, int(record.offset + 1)])?;
    }
    Ok(applied)
}
