//! The event log, in Kafka's notions: topic, key, partition, offset, consumer group.
//!
//! The services talk to these traits only, so that a real Kafka can take the embedded log's place.
//! What the rest of the shop leans on, and every implementation must keep:
//!
//! - Records with one key lie in one partition; offsets in a partition start at 0, rise by one, and
//!   a record that has been appended never changes.
//! - Appending is idempotent by the record's id: whoever is unsure whether an append happened
//!   simply does it again.
//! - A partition has one owner within a group at a time, *nearly*: an owner that was stopped for
//!   longer than its lease may wake up beside its successor. Therefore a consumer keeps its position
//!   in its own store, in the transaction of its effects, and skips what lies before it; the
//!   offsets committed here only tell others how far a group has come.

mod groups;
mod partition;
mod sqlite;

pub(crate) use sqlite::SqliteLog;

use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// A record to append.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewRecord {
    /// The record is taken once, however often it is appended.
    pub(crate) id: Uuid,
    /// Decides the partition.
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) value: String,
}

/// A record as the log keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) value: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The store behind the log failed; trying again later is safe.
    #[error("event log {place}: {source}")]
    Store { place: String, source: rusqlite::Error },
    #[error("event log {place}: {source}")]
    Io { place: String, source: std::io::Error },
    /// The reader remembers a log that had more in it: this one was removed or replaced.
    #[error(
        "event log {place}: partition {partition} ends at offset {end}, but this service has already handled up to {position}; \
         the log was replaced under the service's data: bring the log back, or remove the data of all services too"
    )]
    OutOfRange { place: String, partition: u32, end: u64, position: u64 },
}

/// Where records are appended and consumers come from.
pub(crate) trait EventLog: Send + Sync {
    /// Appends all of `records`, in their order, or none. Those whose id the log has already are left out.
    /// Returns how many were new.
    fn append(&self, topic: &str, records: &[NewRecord]) -> Result<usize, LogError>;

    /// Joins `group`: the partitions of `topic` are shared among its members.
    fn join(&self, group: &str, topic: &str) -> Result<Box<dyn Consumer>, LogError>;
}

/// A member of a consumer group. Dropping it without [`leave`](Consumer::leave) is like being
/// killed: its partitions move when its lease ends.
pub(crate) trait Consumer: Send {
    /// The name under which it joined.
    fn member(&self) -> &str;

    /// Renews the lease when that is due, taking and giving back partitions as members come and go.
    /// Returns the partitions that are newly this member's; [`seek`](Consumer::seek) before the next poll.
    fn renew(&mut self) -> Result<Vec<u32>, LogError>;

    /// Reads `partition` from `offset` on. Without it, reading starts at the offset committed for the group.
    fn seek(&mut self, partition: u32, offset: u64);

    /// At most `max` next records of the partitions owned; does not wait. Within a partition they are in order.
    fn poll(&mut self, max: usize) -> Result<Vec<Record>, LogError>;

    /// Waits until something was appended, or until `limit` has passed.
    fn wait(&mut self, limit: Duration) -> Result<(), LogError>;

    /// Tells the group that all before `offset` has been handled.
    fn commit(&mut self, offsets: &[(u32, u64)]) -> Result<(), LogError>;

    /// The partitions owned, with how many of their records have not been polled yet.
    fn lag(&self) -> Result<Vec<(u32, u64)>, LogError>;

    /// Gives the partitions back at once.
    fn leave(self: Box<Self>) -> Result<(), LogError>;
}
