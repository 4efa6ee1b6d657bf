//! A service that takes part in the shop's story by events: what it hears changes its store, what its store lays down is told.
//!
//! Delivery, payment and product keep the same two threads beside their HTTP server, a consumer and a relay. That they are wired
//! alike is what makes each of their effects happen once (`consume`, `relay`), so it is written once.

use crate::consume::{self, Handler, SharedProgress};
use crate::event::TOPIC;
use crate::log::EventLog;
use crate::relay::{self, Outbox};
use crate::rest::health::Health;
use crate::worker::{Wake, Workers};
use std::sync::Arc;

/// Starts the consumer that feeds `store` and the relay that empties its outbox. `check` reads something small from it.
pub(crate) fn start<S: Handler + Outbox>(
    store: &Arc<S>,
    log: &Arc<dyn EventLog>,
    outbox: &Wake,
    check: fn(&S) -> anyhow::Result<()>,
) -> anyhow::Result<Arc<Health>> {
    let mut workers = Workers::default();
    let progress = SharedProgress::default();
    let (fed, theirs, shown) = (store.clone(), log.clone(), progress.clone());
    workers.start("consumer", move |stop| consume::run(&*theirs, TOPIC, &*fed, &shown, stop))?;
    let (emptied, theirs, wake) = (store.clone(), log.clone(), outbox.clone());
    workers.start("relay", move |stop| relay::run(&*theirs, TOPIC, &*emptied, &wake, stop))?;
    let checked = store.clone();
    Ok(Health::new(move || check(&checked), vec![progress], workers))
}
