//! Keeps the inventory: what there is, what has left, and who waits for what there is not.

mod store;

use crate::log::EventLog;
use crate::order::{ID_MAX, NAME_MAX_CHARS};
use crate::participant;
use crate::rest::fields::Fields;
use crate::rest::hal::{self, Base, Hal};
use crate::rest::health::Health;
use crate::rest::paging::Paging;
use crate::rest::problem::Problem;
use crate::rest::{blocking, id, no_such};
use crate::settings::Settings;
use crate::worker::Wake;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Edit, Inventory, Refused, Store};

const STOCK_MAX: u64 = 1_000_000_000_000;

/// Opens the store, starts the consumer and the relay.
pub(crate) fn start(settings: &Settings, log: &Arc<dyn EventLog>) -> anyhow::Result<(Router, Arc<Health>)> {
    let outbox = Wake::default();
    let store = Arc::new(Store::open(&settings.data, outbox.clone())?);
    let health = participant::start(&store, log, &outbox, |store| store.get(0).map(|_| ()))?;
    let router = Router::new()
        .route("/", get(root))
        .route("/inventories", get(list).post(register))
        .route("/inventories/{id}", get(show).patch(edit))
        .with_state(store);
    Ok((router, health))
}

async fn root(base: Base) -> Hal {
    Hal(json!({ "_links": { "inventories": { "href": base.link("/inventories{?page,size}"), "templated": true } } }))
}

fn resource(base: &Base, inventory: &Inventory) -> Value {
    let path = format!("/inventories/{}", inventory.product_id);
    hal::resource(base, &path, inventory, &[("inventory", path.clone())])
}

/// `POST /inventories`
async fn register(State(store): State<Arc<Store>>, base: Base, mut fields: Fields) -> Result<Response, Problem> {
    let product_id = fields.whole("productId", 1..=ID_MAX);
    let name = fields.text("productName", NAME_MAX_CHARS);
    let stock = fields.required_whole("stock", 0..=STOCK_MAX);
    fields.finish()?;
    let inventory = blocking(move || store.register(product_id, name, stock)).await?.map_err(refusal)?;
    let location = base.link(format!("/inventories/{}", inventory.product_id));
    Ok(hal::created(location, resource(&base, &inventory)))
}

fn refusal(refused: Refused) -> Problem {
    match refused {
        Refused::Exists(id) => {
            let instead = format!(r#"to register more of it, PATCH /inventories/{id} {{"addStock": …}}"#);
            Problem::conflict(format!("product {id} has an inventory already; {instead}"))
        }
        Refused::TooMuch(stock) => {
            Problem::conflict(format!("that would make a stock of {stock}, and {STOCK_MAX} is the most"))
        }
        Refused::Full => Problem::conflict("there is no product id left; give a productId that is free"),
    }
}

/// `GET /inventories`
async fn list(State(store): State<Arc<Store>>, base: Base, paging: Paging) -> Result<Hal, Problem> {
    let (found, total) = blocking(move || store.list(paging)).await?;
    let items = found.iter().map(|inventory| resource(&base, inventory)).collect();
    Ok(Hal(hal::list(&base, "/inventories", "inventories", items, paging, total, "")))
}

/// `GET /inventories/{id}`
async fn show(State(store): State<Arc<Store>>, base: Base, Path(text): Path<String>) -> Result<Hal, Problem> {
    let id = id("inventory", &text)?;
    let inventory = blocking(move || store.get(id)).await?.ok_or_else(|| no_such("inventory", id))?;
    Ok(Hal(resource(&base, &inventory)))
}

/// `PATCH /inventories/{id}`: `stock` says how much there is, `addStock` how much there is more.
async fn edit(
    State(store): State<Arc<Store>>,
    base: Base,
    Path(text): Path<String>,
    mut fields: Fields,
) -> Result<Hal, Problem> {
    let id = id("inventory", &text)?;
    let name = fields.text("productName", NAME_MAX_CHARS);
    let (stock, add_stock) = (fields.whole("stock", 0..=STOCK_MAX), fields.whole("addStock", 1..=STOCK_MAX));
    if stock.is_some() && add_stock.is_some() {
        fields.wrong("addStock", "give stock or addStock, not both".into());
    }
    fields.finish()?;
    let edit = Edit { name, stock, add_stock, stock_max: STOCK_MAX };
    let edited = blocking(move || store.edit(id, edit)).await?.ok_or_else(|| no_such("inventory", id))?;
    Ok(Hal(resource(&base, &edited.map_err(refusal)?)))
}
