//! Reads a rule's `retry` (GEP-1731).

use super::*;

pub(super) fn retry(at: &Cursor<'_>) -> Option<HttpRetry> {
    at.fields(|f| HttpRetry {
        codes: f.list("codes", 0..=200, number(400, 599)),
        attempts: f.opt("attempts", number(0, i32::MAX.into())),
        backoff: f.opt("backoff", gateway_duration),
    })
}
