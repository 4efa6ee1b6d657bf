//! The customer's page: each order with how its delivery goes, from events alone.
//!
//! The shop has three deployables, and order is the one that the customer talks to, so the page lives in its
//! process. It is still a service of its own in all that matters: its own file, its own consumer group, its own
//! position; it never looks into order's tables and asks nobody. Delete its file and it builds itself
//! again from the log.

mod store;

use crate::consume::{self, SharedProgress};
use crate::event::TOPIC;
use crate::log::EventLog;
use crate::order::ID_MAX;
use crate::rest::hal::{self, Base, Hal};
use crate::rest::paging::{self, Paging};
use crate::rest::problem::Problem;
use crate::rest::{blocking, id, no_such};
use crate::settings::Settings;
use crate::worker::Workers;
use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::routing::get;
use serde_json::Value;
use std::sync::Arc;
use store::{Page, Store};

/// Opens the view and starts feeding it.
pub(crate) fn start(
    settings: &Settings,
    log: &Arc<dyn EventLog>,
    workers: &mut Workers,
) -> anyhow::Result<(Router, SharedProgress)> {
    let store = Arc::new(Store::open(&settings.data)?);
    let progress = SharedProgress::default();
    let (fed, log, shown) = (store.clone(), log.clone(), progress.clone());
    workers.start("mypage", move |stop| consume::run(&*log, TOPIC, &*fed, &shown, stop))?;
    let router = Router::new().route("/mypages", get(list)).route("/mypages/{id}", get(show)).with_state(store);
    Ok((router, progress))
}

/// `?customerId=100`: only this customer's.
struct Whose(Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for Whose {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Whose, Problem> {
        Ok(Whose(paging::number(parts, "customerId", 1, ID_MAX)?))
    }
}

fn resource(base: &Base, page: &Page) -> Value {
    let id = page.order_id;
    let mut links = vec![("mypage", format!("/mypages/{id}")), ("order", format!("/orders/{id}"))];
    links.extend(page.delivery_id.map(|d| ("delivery", format!("/deliveries/{d}"))));
    hal::resource(base, &format!("/mypages/{id}"), page, &links)
}

/// `GET /mypages`
async fn list(
    State(store): State<Arc<Store>>,
    base: Base,
    paging: Paging,
    Whose(customer): Whose,
) -> Result<Hal, Problem> {
    let (pages, total) = blocking(move || store.list(customer, paging)).await?;
    let items = pages.iter().map(|page| resource(&base, page)).collect();
    let query = customer.map(|c| format!("&customerId={c}")).unwrap_or_default();
    Ok(Hal(hal::list(&base, "/mypages", "mypages", items, paging, total, &query)))
}

/// `GET /mypages/{orderId}`
async fn show(State(store): State<Arc<Store>>, base: Base, Path(text): Path<String>) -> Result<Hal, Problem> {
    let id = id("order", &text)?;
    let page = blocking(move || store.get(id)).await?.ok_or_else(|| no_such("page for order", id))?;
    Ok(Hal(resource(&base, &page)))
}
