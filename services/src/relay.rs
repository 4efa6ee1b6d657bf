//! The second half of the outbox: what a store has laid down, in the transaction of its effects, is
//! carried to the event log.
//!
//! Without the outbox a service that is killed between committing and publishing would keep an
//! order that nobody else ever hears of, or announce one that it does not have. The log takes an
//! event once by its id, so a relay that does not know whether its last append went through just
//! appends again; and since every relay appends *all* that is still pending, oldest first, two replicas that
//! relay the same outbox at once cannot bring its events out of order.

use crate::log::{EventLog, NewRecord};
use crate::worker::{Stop, Wake};
use std::time::Duration;

/// The most events of one append.
const BATCH: usize = 256;
/// A replica that was killed may have left events behind; nobody wakes us for those.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A store's events that are not in the log yet, or not known to be.
pub(crate) trait Outbox: Send + Sync + 'static {
    /// The oldest `max`, each with its number, which rises. Only what no power cut can take back.
    fn pending(&self, max: usize) -> anyhow::Result<Vec<(u64, NewRecord)>>;

    /// All up to number `last` are in the log.
    fn relayed(&self, last: u64) -> anyhow::Result<()>;
}

/// Relays until `stop`, and then once more what has been laid down by then.
pub(crate) fn run(log: &dyn EventLog, topic: &str, outbox: &dyn Outbox, wake: &Wake, stop: &Stop) {
    let mut pause = RETRY_MIN;
    loop {
        let last_round = stop.is_set();
        match relay(log, topic, outbox) {
            Ok(BATCH) => pause = RETRY_MIN,
            Ok(_) if last_round => return,
            Ok(_) => {
                pause = RETRY_MIN;
                wake.wait(LOOK_AGAIN);
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "events cannot be brought to the log yet; trying again");
                if last_round {
                    return;
                }
                stop.wait(pause);
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Returns how many were carried.
fn relay(log: &dyn EventLog, topic: &str, outbox: &dyn Outbox) -> anyhow::Result<usize> {
    let (numbers, records): (Vec<u64>, Vec<NewRecord>) = outbox.pending(BATCH)?.into_iter().unzip();
    if let Some(last) = numbers.last() {
        log.append(topic, &records)?;
        outbox.relayed(*last)?;
    }
    Ok(records.len())
}
