//! Errors as RFC 9457 problem details: what a client did wrong, and what to do instead.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    pub(crate) status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<FieldError>,
    #[serde(skip)]
    /// Boxed: problems are returned everywhere, and seldom have it.
    retry_after: Option<Box<HeaderValue>>,
}

/// One thing wrong in the body, by its JSON pointer (RFC 6901, as a fragment).
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct FieldError {
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            // The status says it all; RFC 9457 names this type for that.
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    pub(crate) fn method_not_allowed(method: &Method, path: &str) -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} has no {method}; see the answer's allow header"))
    }

    /// A body whose fields are wrong, all of them at once.
    pub(crate) fn fields(errors: Vec<FieldError>) -> Problem {
        let detail = errors.iter().map(|e| e.detail.as_str()).collect::<Vec<_>>().join("; ");
        Problem { errors, ..Problem::bad_request(detail) }
    }

    /// Says when to come back: seconds or a date (RFC 9110, 10.2.3).
    pub(crate) fn retry_after(self, when: impl Into<Option<HeaderValue>>) -> Problem {
        Problem { retry_after: when.into().map(Box::new), ..self }
    }

    /// Our fault: the reason is for the log, not for the client.
    pub(crate) fn internal(reason: &str) -> Problem {
        tracing::error!(error = reason, "a request failed");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the service failed; its log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        let retry_after = self.retry_after.take();
        let status = StatusCode::from_u16(self.status).expect("it was made of a status code");
        let mut response = (status, axum::Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().extend(retry_after.map(|when| (header::RETRY_AFTER, *when)));
        response
    }
}
