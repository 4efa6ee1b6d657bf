//! What the services' HTTP faces have in common: HAL, problems, paging, field checks, health,
//! the request log.

pub(crate) mod caller;
mod concurrency;
pub(crate) mod fields;
pub(crate) mod hal;
pub(crate) mod health;
pub(crate) mod paging;
pub(crate) mod problem;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use concurrency::Concurrency;
use problem::Problem;
use std::sync::Arc;

/// An order is some hundred bytes.
const BODY_LIMIT_BYTES: usize = 64 << 10;

/// `router` with what every service has around it.
pub(crate) fn finish(router: Router) -> Router {
    let concurrency = Arc::new(Concurrency::default());
    router
        .merge(concurrency::routes(concurrency.clone()))
        .fallback(|uri: Uri| async move {
            Problem::not_found(format!("there is nothing at {}; GET / lists what is", uri.path()))
        })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            Problem::method_not_allowed(&method, uri.path())
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .layer(axum::middleware::from_fn_with_state(concurrency, concurrency::count))
        .layer(axum::middleware::from_fn(caller::log))
}

/// Runs `work`, which waits for files and locks, where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Problem::internal(&format!("{error:#}"))),
        Err(error) => Err(Problem::internal(&error.to_string())),
    }
}

/// The number in `/orders/{id}`; what is no number names nothing.
pub(crate) fn id(what: &str, text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| no_such(what, text))
}

pub(crate) fn no_such(what: &str, id: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no {what} {id:.40}", id = id.to_string()))
}
