//! Judges the endpoints of every cluster, each cluster at its own interval: who was ejected returns, who stands out is ejected.
//!
//! The decisions are [`weft_policy::outlier`]'s; here is only the clock. Runs on the control thread, so that judging many hosts
//! never holds up a request.

use crate::shared::Shared;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_policy::Dice;
use weft_xds::client::Held;

/// Until a configuration comes that asks for it.
const NOTHING_TO_DO: Duration = Duration::from_secs(3600);

pub(crate) async fn run(shared: Arc<Shared>, mut held: watch::Receiver<Held>, ended: CancellationToken) {
    let mut dice = Dice::new(fastrand::u64(..));
    loop {
        let now = Instant::now();
        let due = {
            let snapshot = shared.snapshot.load();
            snapshot.clusters.values().filter_map(|cluster| cluster.state.sweep(cluster, now, &mut dice)).min()
        };
        let due = due.unwrap_or(now + NOTHING_TO_DO);
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep_until(due.into()) => {}
            changed = held.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
