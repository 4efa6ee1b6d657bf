//! Who asks, and the line in the log about it.
//!
//! A mesh follows a request through services that know nothing of it only if these hand on its
//! headers. They are never made here, but for the request id: without one the log's lines could not
//! be told apart.

use crate::event::Trace;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that go from a request to the requests that it causes.
const HANDED_ON: [&str; 10] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];
/// Longer ones are dropped: they would be stored with every event.
const VALUE_LIMIT_BYTES: usize = 1024;

/// The headers to hand on, out of `headers`.
pub(crate) fn handed_on(headers: &HeaderMap) -> HeaderMap {
    let one = |name: &'static str| {
        let value = headers.get(name).filter(|v| v.len() <= VALUE_LIMIT_BYTES)?;
        Some((HeaderName::from_static(name), value.clone()))
    };
    HANDED_ON.into_iter().filter_map(one).collect()
}

/// The part of them that goes with events.
pub(crate) fn trace(headers: &HeaderMap) -> Trace {
    let text = |name: &str| {
        let value = headers.get(name).filter(|v| v.len() <= VALUE_LIMIT_BYTES)?;
        value.to_str().ok().map(str::to_owned)
    };
    Trace { traceparent: text("traceparent"), tracestate: text("tracestate"), request_id: text("x-request-id") }
}

/// The trace id in a W3C `traceparent`: `00-<32 hex digits>-<16 hex digits>-<flags>`.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// One line per request.
pub(crate) async fn log(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    if !request.headers().contains_key(REQUEST_ID) {
        let id = HeaderValue::try_from(Uuid::new_v4().to_string()).expect("a UUID is plain ASCII");
        request.headers_mut().insert(REQUEST_ID, id);
    }
    let trace = trace(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    let request_id = trace.request_id.as_deref();
    let trace_id = trace.traceparent.as_deref().and_then(trace_id);
    if path.starts_with("/actuator/") {
        tracing::debug!(%method, path, status, duration_ms, request_id, trace_id, "request");
    } else {
        tracing::info!(%method, path, route, status, duration_ms, request_id, trace_id, "request");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callers_trace_is_handed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-request-id", "r"), ("traceparent", "t"), ("x-b3-traceid", "b"), ("cookie", "secret")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("tracestate", HeaderValue::try_from("x".repeat(VALUE_LIMIT_BYTES + 1)).unwrap());
        let mut names: Vec<_> = handed_on(&headers).keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["traceparent", "x-b3-traceid", "x-request-id"]);
        assert_eq!(
            trace(&headers),
            Trace { traceparent: Some("t".into()), tracestate: None, request_id: Some("r".into()) }
        );
    }

    #[test]
    fn the_trace_id_is_read_from_traceparent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        assert_eq!(trace_id("00-short-x-01"), None);
        assert_eq!(trace_id(""), None);
    }
}
