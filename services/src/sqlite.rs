//! Opening an SQLite file that several processes share and any of which may be killed.
//!
//! WAL mode lets readers go on while one writes, and what a killed writer had not committed is
//! ignored by whoever opens next. Everyone who writes begins with `BEGIN IMMEDIATE`: a
//! transaction that starts by reading and then wants to write can be refused in WAL mode at once
//! (`SQLITE_BUSY_SNAPSHOT`), whatever the busy timeout says.

pub(crate) mod outbox;
pub(crate) mod positions;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// Others hold the write lock for one small transaction at a time; who waits this long has found something broken.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much a power cut may take with it; a killed process loses nothing in either case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Durability {
    /// `synchronous=FULL`: each commit is on the disk. For what another store relies on having happened.
    Committed,
    /// `synchronous=NORMAL`: the last commits may be lost, consistently. For leases and for what can be redone.
    Recent,
}

/// Opens `path`, creating it and its folder, and runs `schemas`, which must be repeatable.
pub(crate) fn open(path: &Path, durability: Durability, schemas: &[&str]) -> anyhow::Result<Connection> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Two processes that switch a new file to WAL at the same moment can lock each other out.
    let lock = File::create(path.with_extension("lock"))?;
    lock.lock()?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let synchronous = match durability {
        Durability::Committed => "FULL",
        Durability::Recent => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {} COMMIT;", schemas.concat()))?;
    Ok(connection)
}

/// A transaction that will write.
pub(crate) fn writing(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// SQLite's integers have a sign; all that we store stays far below where it matters.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The way back: what we stored was never negative.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
