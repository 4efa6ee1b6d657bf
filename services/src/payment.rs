//! Takes the customer's money for an order, and gives it back.
//!
//! Order asks here, and waits, before it takes an order. Asking again for the same order, as whoever got no answer
//! must, never charges twice (`store`). Money goes back by events alone: when an order is canceled, and when order gave
//! one up without knowing whether it was paid.
//!
//! It can be told to be slow and to have little room, as the payment providers of this world are.

mod desk;
mod store;

use crate::log::EventLog;
use crate::order::{AMOUNT_MAX, ID_MAX};
use crate::participant;
use crate::rest::fields::Fields;
use crate::rest::hal::{self, Base, Hal};
use crate::rest::health::Health;
use crate::rest::paging::{self, Paging};
use crate::rest::problem::Problem;
use crate::rest::{blocking, caller, id, no_such};
use crate::settings::Settings;
use crate::worker::Wake;
use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use desk::Desk;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Bill, Charged, Payment, Refused, Store};

const KEY_MAX_CHARS: usize = 255;

struct Payments {
    store: Arc<Store>,
    desk: Desk,
    outbox: Wake,
}

/// Opens the ledger, starts the consumer and the relay.
pub(crate) fn start(settings: &Settings, log: &Arc<dyn EventLog>) -> anyhow::Result<(Router, Arc<Health>)> {
    let outbox = Wake::default();
    let store = Arc::new(Store::open(&settings.data, outbox.clone())?);
    let health = participant::start(&store, log, &outbox, |store| store.get(0).map(|_| ()))?;
    let desk = Desk::new(settings.payment_delay_ms.clone(), settings.payment_capacity);
    let router = Router::new()
        .route("/", get(root))
        .route("/payments", get(list).post(charge))
        .route("/payments/{id}", get(show))
        .with_state(Arc::new(Payments { store, desk, outbox }));
    Ok((router, health))
}

async fn root(base: Base) -> Hal {
    Hal(json!({ "_links": { "payments": { "href": base.link("/payments{?page,size,orderId}"), "templated": true } } }))
}

fn resource(base: &Base, payment: &Payment) -> Value {
    let path = format!("/payments/{}", payment.payment_id);
    let links = [("payment", path.clone()), ("order", format!("/orders/{}", payment.order_id))];
    hal::resource(base, &path, payment, &links)
}

/// `POST /payments`: 201 for a payment that was made now, 200 for one that had been made before.
async fn charge(
    State(payments): State<Arc<Payments>>,
    base: Base,
    headers: HeaderMap,
    mut fields: Fields,
) -> Result<Response, Problem> {
    let bill = Bill {
        order_id: fields.required_whole("orderId", 1..=ID_MAX),
        customer_id: fields.whole("customerId", 1..=ID_MAX),
        amount: fields.required_whole("amount", 1..=AMOUNT_MAX),
        key: idempotency_key(&headers)?,
    };
    fields.finish()?;
    let _place = payments.desk.attend().await?;
    let (store, trace) = (payments.store.clone(), caller::trace(&headers));
    let charged = blocking(move || store.charge(bill, trace)).await?.map_err(refusal)?;
    payments.outbox.call();
    let location = |payment: &Payment| base.link(format!("/payments/{}", payment.payment_id));
    Ok(match charged {
        Charged::Now(payment) => hal::created(location(&payment), resource(&base, &payment)),
        Charged::Before(payment) => (StatusCode::OK, Hal(resource(&base, &payment))).into_response(),
    })
}

/// `Idempotency-Key`, as the IETF's draft of that name has it, with or without its quotes.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map(|key| key.trim_matches('"')).unwrap_or_default();
    if key.is_empty() || key.len() > KEY_MAX_CHARS {
        return Err(Problem::bad_request(format!(
            "the header Idempotency-Key must be 1 to {KEY_MAX_CHARS} plain characters"
        )));
    }
    Ok(Some(key.to_owned()))
}

fn refusal(refused: Refused) -> Problem {
    match refused {
        Refused::Differs(paid) => Problem::conflict(format!(
            "order {} is paid already by payment {}, and not with this amount and Idempotency-Key",
            paid.order_id, paid.payment_id
        )),
        Refused::Canceled(order) => {
            Problem::conflict(format!("order {order} was canceled: nothing is charged for it any more"))
        }
        Refused::KeyReused(order) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("this Idempotency-Key was used for order {order}; another order needs one of its own"),
        ),
    }
}

/// `?orderId=7`: only this order's.
struct OfOrder(Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for OfOrder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<OfOrder, Problem> {
        Ok(OfOrder(paging::number(parts, "orderId", 1, ID_MAX)?))
    }
}

/// `GET /payments`
async fn list(
    State(payments): State<Arc<Payments>>,
    base: Base,
    paging: Paging,
    OfOrder(order): OfOrder,
) -> Result<Hal, Problem> {
    let (found, total) = blocking(move || payments.store.list(order, paging)).await?;
    let items = found.iter().map(|payment| resource(&base, payment)).collect();
    let query = order.map(|o| format!("&orderId={o}")).unwrap_or_default();
    Ok(Hal(hal::list(&base, "/payments", "payments", items, paging, total, &query)))
}

/// `GET /payments/{id}`
async fn show(State(payments): State<Arc<Payments>>, base: Base, Path(text): Path<String>) -> Result<Hal, Problem> {
    let id = id("payment", &text)?;
    let payment = blocking(move || payments.store.get(id)).await?.ok_or_else(|| no_such("payment", id))?;
    Ok(Hal(resource(&base, &payment)))
}
