//! `/actuator/health`, as Spring Boot's actuator answers it, and `/actuator/events`: how far the
//! consumers of this process have come.
//!
//! *Live* means that a restart would not help: all threads run. *Ready* means that requests can be
//! answered: the own store is there and the process is not stopping. What other services and the
//! event log do is shown, but decides nothing: orders are taken without them.

use crate::consume::SharedProgress;
use crate::worker::Workers;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Check = Box<dyn Fn() -> anyhow::Result<()> + Send + Sync>;

/// What is asked for a service's health.
pub(crate) struct Health {
    stopping: AtomicBool,
    store: Check,
    consumers: Vec<SharedProgress>,
    workers: Mutex<Option<Workers>>,
}

impl Health {
    /// `store` reads something small from the service's own store.
    pub(crate) fn new(
        store: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
        consumers: Vec<SharedProgress>,
        workers: Workers,
    ) -> Arc<Health> {
        let workers = Mutex::new(Some(workers));
        Arc::new(Health { stopping: AtomicBool::new(false), store: Box::new(store), consumers, workers })
    }

    pub(crate) fn routes(self: &Arc<Health>) -> Router {
        Router::new()
            .route("/actuator/health", get(health))
            .route("/actuator/health/liveness", get(liveness))
            .route("/actuator/health/readiness", get(readiness))
            .route("/actuator/events", get(events))
            .with_state(self.clone())
    }

    /// From now on not ready.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The threads, to be stopped by whoever runs the service. From then on not live.
    pub(crate) fn take_workers(&self) -> Option<Workers> {
        self.workers.lock().take()
    }

    fn live(&self) -> Result<(), String> {
        match self.workers.lock().as_ref().map(Workers::dead) {
            Some(None) => Ok(()),
            Some(Some(name)) => Err(format!("thread {name} has panicked")),
            None => Err("stopped".into()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("stopping".into());
        }
        (self.store)().map_err(|e| format!("{e:#}"))
    }

    fn events(&self) -> Result<(), String> {
        let error = self.consumers.iter().find_map(|c| c.lock().error.clone());
        error.map_or(Ok(()), Err)
    }
}

fn part(state: &Result<(), String>) -> Value {
    match state {
        Ok(()) => json!({ "status": "UP" }),
        Err(why) => json!({ "status": "DOWN", "details": { "reason": why } }),
    }
}

/// 200 if all of `deciding` are well, else 503.
fn answer(deciding: &[(&str, Result<(), String>)], shown: &[(&str, Result<(), String>)]) -> Response {
    let well = deciding.iter().all(|(_, state)| state.is_ok());
    let components: Map<String, Value> =
        deciding.iter().chain(shown).map(|(name, state)| ((*name).to_owned(), part(state))).collect();
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if well { "UP" } else { "DOWN" };
    (status, Json(json!({ "status": text, "components": components, "groups": ["liveness", "readiness"] })))
        .into_response()
}

async fn health(State(health): State<Arc<Health>>) -> Response {
    let ready = ask(&health, Health::ready).await;
    answer(&[("liveness", health.live()), ("readiness", ready)], &[("events", health.events())])
}

async fn liveness(State(health): State<Arc<Health>>) -> Response {
    answer(&[("liveness", health.live())], &[])
}

async fn readiness(State(health): State<Arc<Health>>) -> Response {
    answer(&[("readiness", ask(&health, Health::ready).await)], &[])
}

async fn ask(health: &Arc<Health>, question: fn(&Health) -> Result<(), String>) -> Result<(), String> {
    let health = health.clone();
    let answer = tokio::task::spawn_blocking(move || question(&health)).await;
    answer.unwrap_or_else(|e| Err(e.to_string()))
}

async fn events(State(health): State<Arc<Health>>) -> Json<Value> {
    let consumers: Vec<_> = health.consumers.iter().map(|c| c.lock().clone()).collect();
    Json(json!({ "consumers": consumers }))
}
