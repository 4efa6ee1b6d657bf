//! Takes orders. Whatever else of the shop is down, an order that is well-formed is taken.
//!
//! Before it takes one it asks product for the stock, through the mesh; what comes of that is
//! information for the customer (`stockCheck`) and decides nothing: what is out of stock is
//! delivered when stock is registered.

mod stock;
mod store;

use crate::event::{Line, TOPIC};
use crate::log::EventLog;
use crate::mypage;
use crate::relay;
use crate::rest::caller;
use crate::rest::fields::Fields;
use crate::rest::hal::{self, Base, Hal};
use crate::rest::health::Health;
use crate::rest::paging::Paging;
use crate::rest::problem::Problem;
use crate::rest::{blocking, id, no_such};
use crate::settings::Settings;
use crate::worker::{Wake, Workers};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::Arc;
use stock::{Asked, Product};
use store::{Order, Store};

/// JSON numbers are exact up to here in every language.
pub(crate) const ID_MAX: u64 = (1 << 53) - 1;
pub(crate) const QTY_MAX: u64 = 1_000_000;
pub(crate) const NAME_MAX_CHARS: usize = 200;

struct Orders {
    store: Arc<Store>,
    product: Product,
    outbox: Wake,
}

/// Opens the store, starts the relay and my page.
pub(crate) fn start(settings: &Settings, log: &Arc<dyn EventLog>) -> anyhow::Result<(Router, Arc<Health>)> {
    let store = Arc::new(Store::open(&settings.data)?);
    let mut workers = Workers::default();
    let outbox = Wake::default();
    let (theirs, log_of_relay, wake) = (store.clone(), log.clone(), outbox.clone());
    workers.start("relay", move |stop| relay::run(&*log_of_relay, TOPIC, &*theirs, &wake, stop))?;
    let (pages, progress) = mypage::start(settings, log, &mut workers)?;
    let checked = store.clone();
    let health = Health::new(move || checked.check(), vec![progress], workers);
    let orders = Arc::new(Orders { store, product: Product::new(settings)?, outbox });
    let router = Router::new()
        .route("/", get(root))
        .route("/orders", get(list).post(place))
        .route("/orders/{id}", get(show).delete(cancel))
        .with_state(orders);
    Ok((router.merge(pages), health))
}

async fn root(base: Base) -> Hal {
    let link = |path: &str| json!({ "href": base.link(path), "templated": true });
    Hal(
        json!({ "_links": { "orders": link("/orders{?page,size}"), "mypages": link("/mypages{?page,size,customerId}") } }),
    )
}

fn resource(base: &Base, order: &Order) -> Value {
    let path = format!("/orders/{}", order.order_id);
    hal::resource(base, &path, order, &[("order", path.clone()), ("mypage", format!("/mypages/{}", order.order_id))])
}

/// `POST /orders`
async fn place(
    State(orders): State<Arc<Orders>>,
    base: Base,
    headers: HeaderMap,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let mut line = Line {
        product_id: fields.required_whole("productId", 1..=ID_MAX),
        product_name: fields.text("productName", NAME_MAX_CHARS),
        qty: fields.required_whole("qty", 1..=QTY_MAX),
        customer_id: fields.required_whole("customerId", 1..=ID_MAX),
    };
    fields.finish()?;
    let asked = orders.product.ask(line.product_id, caller::handed_on(&headers)).await;
    if let Asked::Stock { name, .. } = &asked {
        line.product_name = line.product_name.or_else(|| name.clone());
    }
    let check = asked.in_words(line.qty);
    let (store, trace) = (orders.store.clone(), caller::trace(&headers));
    let order = blocking(move || store.place(line, check, trace)).await?;
    orders.outbox.call();
    let location = base.link(format!("/orders/{}", order.order_id));
    Ok(hal::created(location, resource(&base, &order)))
}

/// `GET /orders`
async fn list(State(orders): State<Arc<Orders>>, base: Base, paging: Paging) -> Result<Hal, Problem> {
    let (found, total) = blocking(move || orders.store.list(paging)).await?;
    let items = found.iter().map(|order| resource(&base, order)).collect();
    Ok(Hal(hal::list(&base, "/orders", "orders", items, paging, total, "")))
}

/// `GET /orders/{id}`
async fn show(State(orders): State<Arc<Orders>>, base: Base, Path(text): Path<String>) -> Result<Hal, Problem> {
    let id = id("order", &text)?;
    let order = blocking(move || orders.store.get(id)).await?.ok_or_else(|| no_such("order", id))?;
    Ok(Hal(resource(&base, &order)))
}

/// `DELETE /orders/{id}` cancels. The order stays to be seen; canceling it again changes nothing.
async fn cancel(
    State(orders): State<Arc<Orders>>,
    base: Base,
    headers: HeaderMap,
    Path(text): Path<String>,
) -> Result<Hal, Problem> {
    let id = id("order", &text)?;
    let (store, trace) = (orders.store.clone(), caller::trace(&headers));
    let order = blocking(move || store.cancel(id, trace)).await?.ok_or_else(|| no_such("order", id))?;
    orders.outbox.call();
    Ok(Hal(resource(&base, &order)))
}
