//! The shop: order, payment, delivery, product.
//!
//! Four ordinary HTTP programs that know nothing of a mesh but `HTTP_PROXY`, and run without one
//! too. They share code, a machine and an event log, but no data: each keeps its own, in the kind of
//! store that suits it, and learns of the others by events.
//!
//! ```text
//!  POST /orders ──► order ──POST /payments──► payment               (no yes, no order; money back by events)
//!                     │  ──GET /inventories/{id}──────► product      (may be skipped)
//!                     │ OrderPlaced, -Canceled, -Rejected ▲ │ InventoryDecreased, -Increased, -Short
//!                     ▼                                 │ ▼
//!                 ═══════════════ event log: topic "mall" ═══════════════
//!                     │ ▲ DeliveryStarted, DeliveryCanceled    │
//!                     ▼ │                                      ▼
//!                  delivery                        my page (a view, within order)
//! ```
//!
//! # Stores, and replicas
//!
//! Several processes may run one service on one machine, and any of them may be killed at any
//! instant. All replicas of a service give one truth, whichever of them answers, so they share one
//! store, and a store is of use here only if several processes can write to it safely. That rules out
//! the embedded stores that lock their file for one process (redb, fjall, RocksDB). What is left
//! differs in kind, each where it is at its best:
//!
//! | service | store | why |
//! |---|---|---|
//! | order | SQLite, relational (`order/store.rs`) | ids in sequence, lists, and the outbox in the order's own transaction |
//! | my page | SQLite, a second file (`mypage/store.rs`) | a view: filtered and paged by customer, thrown away and rebuilt from the log at will |
//! | payment | SQLite as a ledger (`payment/store.rs`) | entries are added only; that nothing is charged or refunded twice is a constraint of the file |
//! | delivery | a journal, event-sourced (`delivery/journal.rs`) | a delivery *is* its history; one append is one transaction |
//! | product | LMDB, a B+tree in shared memory (`product/store.rs`) | read by every order's stock check: readers take no lock and wait for no writer |
//!
//! # Exactly once
//!
//! The log hands out each event at least once. A store applies an event together with its position in the log
//! and the events that follow from it, in one transaction (`consume`); those go to the log from there
//! by a relay, and the log takes each id once (`relay`).

mod consume;
mod delivery;
mod event;
mod log;
mod mypage;
mod order;
mod participant;
mod payment;
mod product;
mod relay;
mod rest;
mod serve;
mod settings;
mod sqlite;
mod worker;

pub use settings::{Args, Peer, Service, Settings};

use anyhow::Context as _;
use axum::Router;
use rest::health::Health;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs the service called `name` until SIGTERM or SIGINT. Logs JSON lines to stdout, unless the
/// caller has set up a subscriber of its own.
///
/// Makes its own async runtime: call it from where none is running.
pub fn run(name: &str, args: Args) -> anyhow::Result<()> {
    let service: Service = name.parse().map_err(anyhow::Error::msg)?;
    let settings = Settings::new(service, args)?;
    log_to_stdout();
    // Mostly waiting: for the disk, or for each other.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let told = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        });
        run_until(settings, shutdown).await
    })
}

/// Runs a service until `shutdown`: then finishes the requests in flight, commits offsets, gives its
/// partitions back and brings its last events to the log.
pub async fn run_until(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!("{} cannot listen on {}; HOST and PORT say where", settings.service, settings.listen)
    })?;
    let address = listener.local_addr()?;
    let starting = settings.clone();
    let (router, health) = tokio::task::spawn_blocking(move || start(&starting)).await??;
    let (service, data) = (settings.service.name(), settings.data.display());
    tracing::info!(service, %address, %data, event_log = %settings.event_log.display(), "listening");
    serve::run(listener, router, shutdown.clone(), || health.stopping()).await;
    if let Some(workers) = health.take_workers() {
        tokio::task::spawn_blocking(move || workers.stop()).await?;
    }
    tracing::info!(service, "stopped");
    Ok(())
}

/// Opens the stores, starts the threads.
fn start(settings: &Settings) -> anyhow::Result<(Router, Arc<Health>)> {
    let place = || format!("{} cannot open its data in {}", settings.service, settings.data.display());
    let log = log::SqliteLog::open(&settings.event_log)
        .with_context(|| format!("cannot open the event log in {}", settings.event_log.display()))?;
    let log: Arc<dyn log::EventLog> = Arc::new(log);
    let (router, health) = match settings.service {
        Service::Order => order::start(settings, &log),
        Service::Delivery => delivery::start(settings, &log),
        Service::Product => product::start(settings, &log),
        Service::Payment => payment::start(settings, &log),
    }
    .with_context(place)?;
    Ok((rest::finish(router.merge(health.routes())), health))
}

fn log_to_stdout() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // Fails only if there is a subscriber already, and that is as good.
    let _ = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).try_init();
}
