//! What the control plane tells of itself, over HTTP on port 15014: to a probe, to `weft status`, to Prometheus, and
//! to a person with curl.

use crate::connections;
use crate::metrics::Metrics;
use crate::pipeline::Problems;
use crate::publish::Publisher;
use crate::refusals::Refusals;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_config::Problem;
use weft_model::Kind;
use weft_model::node::Role;
use weft_xds::server::{NodeStatus, Status};

/// Everything there is to tell.
pub(crate) struct Monitoring {
    pub(crate) ready: watch::Receiver<bool>,
    pub(crate) status: Arc<Status>,
    pub(crate) problems: Arc<Problems>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Arc<Refusals>,
}

struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Monitoring {
    pub(crate) async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let this = Arc::new(self);
        let serve = |stream| this.clone().serve(stream, shutdown.clone());
        connections::each(listener, "monitoring", shutdown.clone(), serve).await;
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, shutdown: CancellationToken) {
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let response = response(self.answer(&request));
            async { Ok::<_, Infallible>(response) }
        });
        if let Err(error) = connections::http(stream, service, &shutdown).await {
            tracing::debug!("monitoring: {error}");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Answer {
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/ready" if *self.ready.borrow() => Answer::text(StatusCode::OK, "ready\n"),
            "/ready" => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "no configuration has been read yet\n"),
            "/live" => Answer::text(StatusCode::OK, "live\n"),
            "/debug/syncz" => Answer::json(&self.nodes(request.uri().query().unwrap_or_default())),
            "/debug/problems" => Answer::json(&self.all_problems()),
            "/debug/config" => self.config(request.uri().query().unwrap_or_default()),
            "/metrics" => Answer {
                status: StatusCode::OK,
                kind: "text/plain; version=0.0.4; charset=utf-8",
                body: self.metrics.render(self.refusals.proxies()),
            },
            _ => Answer::text(
                StatusCode::NOT_FOUND,
                "there are /ready, /live, /metrics, /debug/syncz, /debug/problems and /debug/config?node=ID\n",
            ),
        }
    }

    /// The authors' and the proxies'.
    fn all_problems(&self) -> Vec<Problem> {
        self.problems.get().iter().cloned().chain(self.refusals.current()).collect()
    }

    /// All that are connected; with `role=gateway` only those.
    fn nodes(&self, query: &str) -> Vec<NodeStatus> {
        let mut nodes = self.status.snapshot();
        if query.split('&').any(|pair| pair == "role=gateway") {
            nodes.retain(|status| status.node.role == Role::Gateway);
        }
        nodes
    }

    fn config(&self, query: &str) -> Answer {
        let known = || format!("nodes that are connected: {}\n", self.publisher.nodes().join(", "));
        let Some(id) = query.split('&').find_map(|pair| pair.strip_prefix("node=")) else {
            return Answer::text(StatusCode::BAD_REQUEST, format!("say whose: /debug/config?node=ID\n{}", known()));
        };
        // Node ids need no escapes, but clients may escape the tildes.
        let id = id.replace("%7E", "~").replace("%7e", "~");
        match self.publisher.set_of(&id) {
            // A secret's private key is never serialized.
            Some(set) => {
                let all = Kind::ALL.into_iter().flat_map(|kind| set.iter(kind));
                Answer::json(&all.map(|(_, versioned)| &versioned.resource).collect::<Vec<_>>())
            }
            None => Answer::text(StatusCode::NOT_FOUND, format!("no node \"{id}\" is connected\n{}", known())),
        }
    }
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Answer { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }

    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(body) => Answer { status: StatusCode::OK, kind: "application/json", body: body + "\n" },
            Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("this cannot be told: {error}\n")),
        }
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    response
}
