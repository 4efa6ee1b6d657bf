//! Takes orders. Whatever else of the shop is down, an order that is well-formed and paid is taken.
//!
//! Before it takes one it asks two others, through the mesh. Product is asked for the stock: what comes of that is
//! information for the customer (`stockCheck`) and decides nothing; what is out of stock is
//! delivered when stock is registered. Payment is asked for the money, and without its yes there is no order (`pay`).
//!
//! ```text
//!   begin: a draft ──POST /payments──► paid ──► place: order, OrderPlaced
//!                                  └─► not known to be paid ──► reject: OrderRejected ──► money back, if any was taken
//!   killed in between ──► reconcile: asks payment which of the two it is
//! ```

mod pay;
mod peer;
mod reconcile;
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
use pay::{NotPaid, Payment};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stock::{Asked, Product};
use store::{Draft, Order, Store};
use tokio::runtime::Handle;
use uuid::Uuid;

/// JSON numbers are exact up to here in every language.
pub(crate) const ID_MAX: u64 = (1 << 53) - 1;
pub(crate) const QTY_MAX: u64 = 1_000_000;
pub(crate) const NAME_MAX_CHARS: usize = 200;
/// Exact in every language, like ids. In the currency's smallest unit.
pub(crate) const AMOUNT_MAX: u64 = (1 << 53) - 1;
/// What one piece costs when the order does not say what it costs: the shop has no price list.
const PRICE: u64 = 1000;
/// How long after payment's deadline the process that began a draft may still take it alone.
const GRACE: Duration = Duration::from_secs(1);

struct Orders {
    store: Arc<Store>,
    product: Product,
    payment: Arc<Payment>,
    /// After which others may look what became of a draft.
    draft_expires_in: Duration,
    outbox: Wake,
}

/// Opens the store, starts the relay, the reconciler and my page. Within an async runtime.
pub(crate) fn start(settings: &Settings, log: &Arc<dyn EventLog>) -> anyhow::Result<(Router, Arc<Health>)> {
    let store = Arc::new(Store::open(&settings.data)?);
    let mut workers = Workers::default();
    let outbox = Wake::default();
    let (theirs, log_of_relay, wake) = (store.clone(), log.clone(), outbox.clone());
    workers.start("relay", move |stop| relay::run(&*log_of_relay, TOPIC, &*theirs, &wake, stop))?;
    let client = peer::client(settings.http_proxy.as_deref())?;
    let payment = Arc::new(Payment::new(client.clone(), &settings.payment));
    let (theirs, asked, wake, runtime) = (store.clone(), payment.clone(), outbox.clone(), Handle::current());
    workers.start("reconcile", move |stop| reconcile::run(&theirs, &asked, &wake, &runtime, stop))?;
    let (pages, progress) = mypage::start(settings, log, &mut workers)?;
    let checked = store.clone();
    let health = Health::new(move || checked.check(), vec![progress], workers);
    let product = Product::new(client, &settings.product);
    let draft_expires_in = settings.payment.timeout + GRACE;
    let orders = Arc::new(Orders { store, product, payment, draft_expires_in, outbox });
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
    let (mine, payment) = (format!("/mypages/{}", order.order_id), format!("/payments/{}", order.payment_id));
    hal::resource(base, &path, order, &[("order", path.clone()), ("mypage", mine), ("payment", payment)])
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
    let amount = fields.whole("amount", 1..=AMOUNT_MAX);
    fields.finish()?;
    let handed_on = caller::handed_on(&headers);
    let asked = orders.product.ask(line.product_id, handed_on.clone()).await;
    if let Asked::Stock { name, .. } = &asked {
        line.product_name = line.product_name.or_else(|| name.clone());
    }
    let stock_check = asked.in_words(line.qty);
    let amount = amount.unwrap_or(line.qty * PRICE);
    let draft = Draft { line, stock_check, amount, key: Uuid::new_v4(), trace: caller::trace(&headers) };
    let order = take(&orders, draft, handed_on).await?;
    let location = base.link(format!("/orders/{}", order.order_id));
    Ok(hal::created(location, resource(&base, &order)))
}

/// Has a draft paid, and makes an order of it or gives it up.
async fn take(orders: &Orders, draft: Draft, handed_on: HeaderMap) -> Result<Order, Problem> {
    let (store, begun, expires_in) = (orders.store.clone(), draft.clone(), orders.draft_expires_in);
    let id = blocking(move || store.begin(&begun, expires_in)).await?;
    let charged = orders.payment.charge(id, &draft, handed_on).await;
    let store = orders.store.clone();
    let taken = match charged {
        Ok(payment_id) => {
            let placed = blocking(move || store.place(id, payment_id)).await?;
            placed.ok_or_else(|| NotPaid::because("payment's answer came too late"))
        }
        Err(not_paid) => {
            tracing::info!(order = id, why = not_paid.why(), "an order is not taken");
            blocking(move || store.reject(id)).await?;
            Err(not_paid)
        }
    };
    orders.outbox.call();
    Ok(taken?)
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
