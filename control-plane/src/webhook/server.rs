//! HTTPS on port 15017, bounded in every way: the API server waits for at most ten seconds and others must not make it wait.

use super::review::{Answer, Review};
use super::{mutate, validate};
use crate::connections;
use crate::pipeline::Live;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// An object and the one before it, each of at most 1.5 MiB, escaped.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// For the handshake, and for a body.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Server {
    pub(super) tls: TlsAcceptor,
    pub(super) injection: weft_injector::Settings,
    pub(super) live: Arc<Live>,
}

impl Server {
    pub(super) async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let this = Arc::new(self);
        let serve = |stream| this.clone().serve(stream, shutdown.clone());
        connections::each(listener, "webhooks", shutdown.clone(), serve).await;
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, shutdown: CancellationToken) {
        let stream = match tokio::time::timeout(PATIENCE, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!("webhooks: handshake: {error}"),
            Err(_) => return tracing::debug!("webhooks: the handshake took too long"),
        };
        let service = service_fn(|request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(request).await) }
        });
        if let Err(error) = connections::http(stream, service, &shutdown).await {
            tracing::debug!("webhooks: {error}");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        if !["/inject", "/validate"].contains(&path.as_str()) {
            return text(StatusCode::NOT_FOUND, "there are /inject and /validate\n");
        }
        if *request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "an AdmissionReview is sent by POST\n");
        }
        let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
        let body = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return text(StatusCode::PAYLOAD_TOO_LARGE, format!("a review has at most {MAX_BODY_BYTES} bytes\n"));
            }
            Ok(Err(error)) => return text(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}\n")),
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
        };
        // Off the runtime's threads: an object may be large, and the checks are many.
        let answered = tokio::task::spawn_blocking(move || self.review(&path, &body)).await;
        match answered {
            Ok(Ok(review)) => json(review.to_string()),
            Ok(Err(why)) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
            Err(_) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, "looking at the object failed inside Weft; please report it\n")
            }
        }
    }

    /// Errors: what is wrong with the question.
    fn review(&self, path: &str, body: &[u8]) -> Result<serde_json::Value, String> {
        let review = Review::read(body)?;
        let answer: Answer = match path {
            "/inject" => mutate::answer(&review, &self.injection),
            _ => validate::answer(&review, &self.live.get()),
        };
        Ok(review.answered(answer))
    }
}

fn json(body: String) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, "application/json", body)
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body.into())
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
