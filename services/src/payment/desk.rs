//! The desk where payments are made: how long each takes and how many are made at once, if the settings say so.
//!
//! It stands for a payment provider, which is slow and limits its callers. It has no queue: who finds no
//! place is told so at once, and when to come back, so that waiting is up to the caller.

use crate::rest::problem::Problem;
use axum::http::{HeaderValue, StatusCode};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In seconds: no payment takes as long.
const COME_BACK: HeaderValue = HeaderValue::from_static("1");

pub(super) struct Desk {
    delay_ms: Option<RangeInclusive<u64>>,
    places: Option<Arc<Semaphore>>,
}

/// A place at the desk, until it is dropped.
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Desk {
    pub(super) fn new(delay_ms: Option<RangeInclusive<u64>>, capacity: Option<usize>) -> Desk {
        Desk { delay_ms, places: capacity.map(|n| Arc::new(Semaphore::new(n))) }
    }

    /// Takes a place and as long as a payment takes. 503 at once if there is none.
    pub(super) async fn attend(&self) -> Result<Place, Problem> {
        let permit = match &self.places {
            Some(places) => Some(places.clone().try_acquire_owned().map_err(|_| {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "payment is busy; try again in a second")
                    .retry_after(COME_BACK)
            })?),
            None => None,
        };
        if let Some(delay_ms) = &self.delay_ms {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(delay_ms.clone()))).await;
        }
        Ok(Place { _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_more_than_the_desk_has_places_is_refused_until_one_leaves() {
        let desk = Desk::new(None, Some(2));
        let first = desk.attend().await.ok().unwrap();
        let _second = desk.attend().await.ok().unwrap();
        assert_eq!(desk.attend().await.err().unwrap().status, 503);
        drop(first);
        assert!(desk.attend().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_payment_takes_as_long_as_was_asked_for() {
        let desk = Desk::new(Some(400..=620), None);
        for _ in 0..100 {
            let before = tokio::time::Instant::now();
            assert!(desk.attend().await.is_ok());
            // The timer's grain is a millisecond.
            assert!((400..=621).contains(&before.elapsed().as_millis()), "{:?}", before.elapsed());
        }
    }
}
