//! Ships what was ordered, told by events alone.

mod journal;
mod store;

use crate::log::EventLog;
use crate::participant;
use crate::rest::hal::{self, Base, Hal};
use crate::rest::health::Health;
use crate::rest::paging::Paging;
use crate::rest::problem::Problem;
use crate::rest::{blocking, id, no_such};
use crate::settings::Settings;
use crate::worker::Wake;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Delivery, Store};

/// Opens the store, starts the consumer and the relay.
pub(crate) fn start(settings: &Settings, log: &Arc<dyn EventLog>) -> anyhow::Result<(Router, Arc<Health>)> {
    let outbox = Wake::default();
    let store = Arc::new(Store::open(&settings.data, outbox.clone())?);
    let health = participant::start(&store, log, &outbox, |store| store.get(0).map(|_| ()))?;
    let router = Router::new()
        .route("/", get(root))
        .route("/deliveries", get(list))
        .route("/deliveries/{id}", get(show))
        .with_state(store);
    Ok((router, health))
}

async fn root(base: Base) -> Hal {
    Hal(json!({ "_links": { "deliveries": { "href": base.link("/deliveries{?page,size}"), "templated": true } } }))
}

fn resource(base: &Base, delivery: &Delivery) -> Value {
    let path = format!("/deliveries/{}", delivery.delivery_id);
    let links = [("delivery", path.clone()), ("order", format!("/orders/{}", delivery.order_id))];
    hal::resource(base, &path, delivery, &links)
}

/// `GET /deliveries`
async fn list(State(store): State<Arc<Store>>, base: Base, paging: Paging) -> Result<Hal, Problem> {
    let (found, total) = blocking(move || store.list(paging)).await?;
    let items = found.iter().map(|delivery| resource(&base, delivery)).collect();
    Ok(Hal(hal::list(&base, "/deliveries", "deliveries", items, paging, total, "")))
}

/// `GET /deliveries/{id}`
async fn show(State(store): State<Arc<Store>>, base: Base, Path(text): Path<String>) -> Result<Hal, Problem> {
    let id = id("delivery", &text)?;
    let delivery = blocking(move || store.get(id)).await?.ok_or_else(|| no_such("delivery", id))?;
    Ok(Hal(resource(&base, &delivery)))
}
