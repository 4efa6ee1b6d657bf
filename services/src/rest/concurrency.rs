//! `/actuator/concurrency`: how many requests are being answered, and how many there were at most.
//!
//! A mesh that protects a service from too much at once shows here, on the side that is protected.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
pub(super) struct Concurrency {
    active: AtomicUsize,
    /// The highest that `active` has been since the process started.
    most: AtomicUsize,
}

/// One request being answered, until it is dropped.
struct Active<'a>(&'a Concurrency);

impl Concurrency {
    fn enter(&self) -> Active<'_> {
        let active = self.active.fetch_add(1, Ordering::AcqRel) + 1;
        self.most.fetch_max(active, Ordering::AcqRel);
        Active(self)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) fn routes(concurrency: Arc<Concurrency>) -> Router {
    Router::new().route("/actuator/concurrency", get(show)).with_state(concurrency)
}

async fn show(State(concurrency): State<Arc<Concurrency>>) -> Json<Value> {
    let [active, most] = [&concurrency.active, &concurrency.most].map(|n| n.load(Ordering::Acquire));
    Json(json!({ "active": active, "most": most }))
}

/// Counts a request while it is answered; not those that only look at the service.
pub(super) async fn count(State(concurrency): State<Arc<Concurrency>>, request: Request, next: Next) -> Response {
    let _active = (!request.uri().path().starts_with("/actuator/")).then(|| concurrency.enter());
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_remembered_after_all_have_left() {
        let concurrency = Concurrency::default();
        let two = (concurrency.enter(), concurrency.enter());
        drop(two);
        drop(concurrency.enter());
        assert_eq!(concurrency.active.load(Ordering::Acquire), 0);
        assert_eq!(concurrency.most.load(Ordering::Acquire), 2);
    }
}
