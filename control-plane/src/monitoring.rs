//! What the control plane tells of itself, over HTTP on port 15014: to a probe, to `weft status`, to Prometheus, and
//! to a person with curl.

use crate::metrics::Metrics;
use crate::pipeline::Problems;
use crate::publish::Publisher;
use crate::refusals::Refusals;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weft_config::Problem;
use weft_model::Kind;
use weft_model::node::Role;
use weft_xds::server::{NodeStatus, Status};

/// Whoever is slower in saying what they want is not served.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// More wait in the listener's queue.
const MOST_CONNECTIONS: usize = 256;
/// Answers that are being sent when the control plane ends may take so long.
const LAST_WORDS: Duration = Duration::from_secs(2);

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
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => accepted,
                Some(_) = connections.join_next() => continue,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => drop(connections.spawn(this.clone().serve(stream, shutdown.clone()))),
                // Out of file descriptors, most likely: the next may fare better, and a tight loop would help nobody.
                Err(error) => {
                    tracing::warn!("monitoring: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // One who is still reading then is cut off.
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS, all).await;
        connections.shutdown().await;
    }

    /// One connection, until its peer leaves, does not say what it wants in time, or the control plane ends.
    async fn serve(self: Arc<Self>, stream: TcpStream, shutdown: CancellationToken) {
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let response = response(self.answer(&request));
            async { Ok::<_, Infallible>(response) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
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
