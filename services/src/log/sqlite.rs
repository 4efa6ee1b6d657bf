//! The embedded event log: an SQLite file that the services of one machine share.
//!
//! SQLite because it is the one embedded store that was made for several processes with a writer
//! that may be killed at any instant. Records are written with `synchronous=FULL`: a consumer
//! commits to its own store what it read here, so nothing read here may be forgotten by a power cut.
//! Who owns which partition is in a second file (`groups`), so that heartbeats neither wake the
//! readers nor wait for the disk.
//!
//! Readers notice an append by SQLite's `data_version`, which costs a few microseconds to ask and
//! changes when any other connection has committed; they ask every few milliseconds.
//!
//! All records are kept: a service that joins later begins with the shop's first order.

use super::groups::{Groups, Lease};
use super::{Consumer, EventLog, LogError, NewRecord, Record, partition};
use crate::sqlite::{self, Durability, int, unsigned};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The most members of a group that can have work at the same time. A topic keeps the number it was made with.
const PARTITIONS: u32 = 8;

/// A reader looks for news this soon after it last found some, …
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(2);
/// … and, doubling, this seldom when nothing happens.
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(20);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS topics (
        name TEXT PRIMARY KEY,
        partitions INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS records (
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        id TEXT NOT NULL UNIQUE,
        key TEXT NOT NULL,
        headers TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (topic, partition, offset)
    );";

pub(crate) struct SqliteLog {
    folder: PathBuf,
    writer: Mutex<Connection>,
}

impl SqliteLog {
    /// Opens the log in `folder`, creating it if need be.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<SqliteLog> {
        Ok(SqliteLog { folder: folder.to_owned(), writer: Mutex::new(connect(folder)?) })
    }
}

fn failed(place: &Path) -> impl Fn(rusqlite::Error) -> LogError + Copy {
    move |source| LogError::Store { place: place.display().to_string(), source }
}

fn connect(folder: &Path) -> anyhow::Result<Connection> {
    sqlite::open(&folder.join("log.db"), Durability::Committed, &[SCHEMA])
}

/// The number of partitions of `topic`, which is made if there is none.
fn partitions(connection: &Connection, topic: &str) -> rusqlite::Result<u32> {
    let known = "SELECT partitions FROM topics WHERE name = ?1";
    if let Some(n) = connection.prepare_cached(known)?.query_row([topic], |row| row.get(0)).optional()? {
        return Ok(n);
    }
    let insert = "INSERT INTO topics (name, partitions) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    connection.prepare_cached(insert)?.execute(params![topic, PARTITIONS])?;
    connection.prepare_cached(known)?.query_row([topic], |row| row.get(0))
}

/// The offset that the next record of the partition will have.
fn end(connection: &Connection, topic: &str, partition: u32) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(offset) + 1, 0) FROM records WHERE topic = ?1 AND partition = ?2";
    connection.prepare_cached(sql)?.query_row(params![topic, partition], |row| row.get(0)).map(unsigned)
}

impl EventLog for SqliteLog {
    fn append(&self, topic: &str, records: &[NewRecord]) -> Result<usize, LogError> {
        let mut connection = self.writer.lock();
        append(&mut connection, topic, records).map_err(failed(&self.folder))
    }

    fn join(&self, group: &str, topic: &str) -> Result<Box<dyn Consumer>, LogError> {
        let place = || self.folder.display().to_string();
        let opened = |e: anyhow::Error| LogError::Io { place: place(), source: std::io::Error::other(e) };
        let connection = connect(&self.folder).map_err(opened)?;
        let partitions = partitions(&connection, topic).map_err(failed(&self.folder))?;
        let groups = Groups::open(&self.folder).map_err(opened)?;
        let lease = Lease::new(groups, group, topic, partitions, format!("{}-{}", std::process::id(), Uuid::new_v4()));
        let version = data_version(&connection).map_err(failed(&self.folder))?;
        Ok(Box::new(SqliteConsumer {
            folder: self.folder.clone(),
            topic: topic.into(),
            connection,
            lease,
            next: BTreeMap::new(),
            version,
            turn: 0,
        }))
    }
}

fn append(connection: &mut Connection, topic: &str, records: &[NewRecord]) -> rusqlite::Result<usize> {
    let transaction = sqlite::writing(connection)?;
    let partitions = partitions(&transaction, topic)?;
    let mut new = 0;
    let sql = "INSERT INTO records (topic, partition, offset, id, key, headers, value)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING";
    for record in records {
        let partition = partition::of(&record.key, partitions);
        let offset = int(end(&transaction, topic, partition)?);
        let headers = serde_json::to_string(&record.headers).expect("pairs of strings always have a JSON form");
        let id = record.id.to_string();
        let row = params![topic, partition, offset, id, record.key, headers, record.value];
        new += transaction.prepare_cached(sql)?.execute(row)?;
    }
    transaction.commit()?;
    Ok(new)
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

struct SqliteConsumer {
    folder: PathBuf,
    topic: String,
    connection: Connection,
    lease: Lease,
    /// Per partition owned: the offset to read next.
    next: BTreeMap<u32, u64>,
    /// `data_version` as of before the last poll.
    version: i64,
    /// Which partition the next poll begins with, so that a full one cannot starve the others.
    turn: usize,
}

impl SqliteConsumer {
    fn read(&self, partition: u32, from: u64, max: usize) -> Result<Vec<Record>, LogError> {
        let sql = "SELECT offset, id, key, headers, value FROM records
                   WHERE topic = ?1 AND partition = ?2 AND offset >= ?3 ORDER BY offset LIMIT ?4";
        let records = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![self.topic, partition, int(from), int(max as u64)], |row| {
                let id: String = row.get(1)?;
                let headers: String = row.get(3)?;
                Ok(Record {
                    partition,
                    offset: unsigned(row.get(0)?),
                    id: id.parse().unwrap_or_default(),
                    key: row.get(2)?,
                    headers: serde_json::from_str(&headers).unwrap_or_default(),
                    value: row.get(4)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<Record>>>()
        };
        let records = records().map_err(failed(&self.folder))?;
        if records.is_empty() && from > 0 {
            let end = end(&self.connection, &self.topic, partition).map_err(failed(&self.folder))?;
            if from > end {
                let place = self.folder.display().to_string();
                return Err(LogError::OutOfRange { place, partition, end, position: from });
            }
        }
        Ok(records)
    }
}

impl Consumer for SqliteConsumer {
    fn member(&self) -> &str {
        self.lease.member()
    }

    fn renew(&mut self) -> Result<Vec<u32>, LogError> {
        if !self.lease.due() {
            return Ok(Vec::new());
        }
        let owned = self.lease.renew().map_err(failed(&self.folder))?;
        self.next.retain(|partition, _| owned.contains_key(partition));
        let new: Vec<u32> = owned.keys().filter(|p| !self.next.contains_key(p)).copied().collect();
        self.next.extend(new.iter().map(|p| (*p, owned[p])));
        Ok(new)
    }

    fn seek(&mut self, partition: u32, offset: u64) {
        if let Some(next) = self.next.get_mut(&partition) {
            *next = offset;
        }
    }

    fn poll(&mut self, max: usize) -> Result<Vec<Record>, LogError> {
        self.version = data_version(&self.connection).map_err(failed(&self.folder))?;
        let owned: Vec<(u32, u64)> = self.next.iter().map(|(p, o)| (*p, *o)).collect();
        self.turn = self.turn.wrapping_add(1);
        let mut records = Vec::new();
        for i in 0..owned.len() {
            let (partition, from) = owned[(self.turn.wrapping_add(i)) % owned.len()];
            records.extend(self.read(partition, from, max - records.len())?);
            if records.len() >= max {
                break;
            }
        }
        for record in &records {
            self.next.insert(record.partition, record.offset + 1);
        }
        Ok(records)
    }

    fn wait(&mut self, limit: Duration) -> Result<(), LogError> {
        let until = Instant::now() + limit;
        let mut pause = LOOK_AGAIN_MIN;
        loop {
            if data_version(&self.connection).map_err(failed(&self.folder))? != self.version {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    fn commit(&mut self, offsets: &[(u32, u64)]) -> Result<(), LogError> {
        self.lease.commit(offsets).map_err(failed(&self.folder))
    }

    fn lag(&self) -> Result<Vec<(u32, u64)>, LogError> {
        let behind = |(partition, next): (&u32, &u64)| {
            let end = end(&self.connection, &self.topic, *partition).map_err(failed(&self.folder))?;
            Ok((*partition, end.saturating_sub(*next)))
        };
        self.next.iter().map(behind).collect()
    }

    fn leave(self: Box<Self>) -> Result<(), LogError> {
        let SqliteConsumer { lease, folder, .. } = *self;
        lease.leave().map_err(failed(&folder))
    }
}

#[cfg(test)]
mod tests;
