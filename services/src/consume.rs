//! The loop that brings events from the log into a service's own store.
//!
//! At-least-once becomes exactly-once here, in one place: the store's [`Handler::handle`] changes its
//! state, remembers how far it has come in the partition and lays down the events that follow, all
//! in one transaction, and it skips what lies before its position. So a kill at any instant, a
//! lease that was lost, and two members that both believe to own a partition all end the same:
//! each event has had its effect once.

use crate::log::{Consumer, EventLog, LogError, Record};
use crate::worker::Stop;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The most records of one transaction: enough to catch up fast, few enough to renew the lease in time.
const BATCH: usize = 64;
/// How long a wait for news may take before the lease is looked at again.
const LOOK_UP: Duration = Duration::from_millis(200);
/// After a failure: the first pause, doubled up to the last.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A store that is fed by events.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The consumer group: all replicas of one projection.
    fn group(&self) -> &'static str;

    /// The offset from which on `partition` has not been handled yet.
    fn position(&self, partition: u32) -> anyhow::Result<u64>;

    /// Applies `records` in one transaction with the new positions and the events that follow.
    /// Records before the position are skipped, and so are those that mean nothing here.
    /// Returns how many lay at or after the position. Fails only if nothing was applied.
    fn handle(&self, records: &[Record]) -> anyhow::Result<usize>;
}

/// What a consumer is doing, for whoever asks `/actuator/events`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    pub(crate) group: &'static str,
    pub(crate) member: String,
    /// Per partition owned: how many records wait to be handled.
    pub(crate) lag: BTreeMap<u32, u64>,
    /// Events handled since this process started.
    pub(crate) handled: u64,
    /// Events that came again and were skipped.
    pub(crate) skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

pub(crate) type SharedProgress = Arc<Mutex<Progress>>;

/// Runs until `stop`; then gives the partitions back.
pub(crate) fn run(log: &dyn EventLog, topic: &str, handler: &dyn Handler, progress: &SharedProgress, stop: &Stop) {
    let mut pause = RETRY_MIN;
    while !stop.is_set() {
        // A consumer that failed is replaced by a new one, as after a restart.
        match consume(log, topic, handler, progress, stop) {
            Ok(()) => return,
            Err(error) => {
                let text = format!("{error:#}");
                tracing::error!(group = handler.group(), error = text, "handling events failed; trying again");
                progress.lock().error = Some(text);
            }
        }
        stop.wait(pause);
        pause = (pause * 2).min(RETRY_MAX);
    }
}

fn consume(
    log: &dyn EventLog,
    topic: &str,
    handler: &dyn Handler,
    progress: &SharedProgress,
    stop: &Stop,
) -> anyhow::Result<()> {
    let mut consumer = log.join(handler.group(), topic)?;
    {
        let mut progress = progress.lock();
        progress.group = handler.group();
        progress.member = consumer.member().into();
    }
    let result = (|| {
        while !stop.is_set() {
            if step(&mut *consumer, handler, progress)? == 0 {
                consumer.wait(LOOK_UP)?;
            }
        }
        anyhow::Ok(())
    })();
    consumer.leave()?;
    result
}

/// Renews the lease and handles one batch. Returns its size.
fn step(consumer: &mut dyn Consumer, handler: &dyn Handler, progress: &SharedProgress) -> anyhow::Result<usize> {
    let new = consumer.renew()?;
    if !new.is_empty() {
        tracing::info!(group = handler.group(), partitions = ?new, "partitions assigned");
    }
    for partition in new {
        consumer.seek(partition, handler.position(partition)?);
    }
    let records = consumer.poll(BATCH)?;
    let applied = if records.is_empty() { 0 } else { handler.handle(&records)? };
    if !records.is_empty() {
        let reached: BTreeMap<u32, u64> = records.iter().map(|r| (r.partition, r.offset + 1)).collect();
        consumer.commit(&reached.into_iter().collect::<Vec<_>>())?;
    }
    observe(consumer, progress, applied, records.len() - applied)?;
    Ok(records.len())
}

fn observe(consumer: &dyn Consumer, progress: &SharedProgress, applied: usize, skipped: usize) -> Result<(), LogError> {
    let lag = consumer.lag()?.into_iter().collect();
    let mut progress = progress.lock();
    progress.lag = lag;
    progress.handled += applied as u64;
    progress.skipped += skipped as u64;
    progress.error = None;
    Ok(())
}
