//! Finishes what others have left: drafts whose order process was killed, or whose customer went away, between
//! asking payment and taking the order.
//!
//! Payment knows what became of the money. Was the order paid, it is placed; was it not, it is rejected, and if the
//! charge is still on its way, payment refuses it, or gives it back. While payment cannot be asked, drafts wait. It
//! does no harm if the one who began a draft is alive after all, or another replica does the same at the
//! same time: a draft is taken once (`store`).

use super::pay::Payment;
use super::store::Store;
use crate::worker::{Stop, Wake};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// The most drafts of one round: a killed process leaves as many as it had requests in flight.
const BATCH: u64 = 64;
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Runs until `stop`; the first round is at once. Not within `runtime`, but with its help.
pub(super) fn run(store: &Store, payment: &Arc<Payment>, outbox: &Wake, runtime: &Handle, stop: &Stop) {
    let mut pause = RETRY_MIN;
    while !stop.is_set() {
        match round(store, payment, outbox, runtime, stop) {
            Ok(()) => {
                pause = RETRY_MIN;
                stop.wait(LOOK_AGAIN);
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "orders are left half taken; trying again");
                stop.wait(pause);
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

fn round(store: &Store, payment: &Arc<Payment>, outbox: &Wake, runtime: &Handle, stop: &Stop) -> anyhow::Result<()> {
    for id in store.expired(BATCH)? {
        if stop.is_set() {
            break;
        }
        let paid = runtime.block_on(payment.find(id)).map_err(|not| anyhow::anyhow!("order {id}: {}", not.why()))?;
        match paid {
            Some(payment_id) => drop(store.place(id, payment_id)?),
            None => store.reject(id)?,
        }
        outbox.call();
        tracing::info!(order = id, payment = paid, "an order that was left half taken is settled");
    }
    Ok(())
}
