//! How others speak to a running `weft up`: HTTP on a Unix socket in its state directory, where file
//! permissions say who may. `GET /fleet` tells what runs, `POST /scale` changes how many pods.

use super::plan::Id;
use super::view::View;
use crate::fetch::{self, Ask};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

/// What is asked of the fleet's owner.
pub(crate) enum Wish {
    Fleet(oneshot::Sender<View>),
    Scale(Scale, oneshot::Sender<Result<(), String>>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Scale {
    pub(crate) deployment: Id,
    pub(crate) replicas: u32,
}

const SOCKET: &str = "up.sock";
const BODY_LIMIT_BYTES: usize = 64 << 10;

/// Binds the socket in `state`; one that is left over is replaced. The caller has made sure that nobody else uses `state`.
pub(crate) fn bind(state: &Path) -> anyhow::Result<UnixListener> {
    let path = state.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => bail!("cannot replace {}: {e}", path.display()),
        _ => {}
    }
    let hint =
        || format!("cannot listen on {} (a socket's path may have 107 bytes; try a shorter --state)", path.display());
    UnixListener::bind(&path).with_context(hint)
}

/// Answers for ever.
pub(crate) async fn serve(listener: UnixListener, wishes: mpsc::Sender<Wish>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                tracing::warn!("control socket: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let wishes = wishes.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, wishes.clone()));
            // A caller that hangs up in the middle is its own business.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, wishes: mpsc::Sender<Wish>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/fleet") => fleet(&wishes).await,
        (&Method::POST, "/scale") => scale(request.into_body(), &wishes).await,
        _ => (StatusCode::NOT_FOUND, "there are GET /fleet and POST /scale".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    Ok(response)
}

async fn fleet(wishes: &mpsc::Sender<Wish>) -> (StatusCode, String) {
    let (reply, view) = oneshot::channel();
    if wishes.send(Wish::Fleet(reply)).await.is_err() {
        return stopping();
    }
    match view.await {
        Ok(view) => (StatusCode::OK, serde_json::to_string(&view).expect("a view is plain data")),
        Err(_) => stopping(),
    }
}

async fn scale(body: Incoming, wishes: &mpsc::Sender<Wish>) -> (StatusCode, String) {
    let body = match Limited::new(body, BODY_LIMIT_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) => return (StatusCode::BAD_REQUEST, e.to_string()),
    };
    let scale = match serde_json::from_slice(&body) {
        Ok(scale) => scale,
        Err(e) => return (StatusCode::BAD_REQUEST, e.to_string()),
    };
    let (reply, done) = oneshot::channel();
    if wishes.send(Wish::Scale(scale, reply)).await.is_err() {
        return stopping();
    }
    match done.await {
        Ok(Ok(())) => (StatusCode::OK, String::new()),
        Ok(Err(why)) => (StatusCode::CONFLICT, why),
        Err(_) => stopping(),
    }
}

fn stopping() -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, "`weft up` is stopping".to_owned())
}

/// Speaks to the `weft up` of a state directory.
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(state: &Path) -> Client {
        Client { socket: state.join(SOCKET) }
    }

    /// What runs; `None` when nobody answers there.
    pub(crate) async fn view(&self) -> anyhow::Result<Option<View>> {
        match self.ask(Ask::get("up", "/fleet")).await? {
            Some(body) => Ok(Some(serde_json::from_slice(&body).context("`weft up` is of another version")?)),
            None => Ok(None),
        }
    }

    /// `false` when nobody answers there.
    pub(crate) async fn scale(&self, scale: &Scale) -> anyhow::Result<bool> {
        let body = Bytes::from(serde_json::to_vec(scale)?);
        let ask = Ask { method: Method::POST, body, ..Ask::get("up", "/scale") };
        Ok(self.ask(ask).await?.is_some())
    }

    async fn ask(&self, ask: Ask<'_>) -> anyhow::Result<Option<Bytes>> {
        let answer = match fetch::unix(&self.socket, ask, Duration::from_secs(10)).await {
            Ok(answer) => answer,
            Err(e) => {
                use io::ErrorKind::{ConnectionRefused, NotFound};
                let absent =
                    e.downcast_ref::<io::Error>().is_some_and(|e| matches!(e.kind(), NotFound | ConnectionRefused));
                return if absent { Ok(None) } else { Err(e) };
            }
        };
        if !answer.status.is_success() {
            bail!("{}", String::from_utf8_lossy(&answer.body));
        }
        Ok(Some(answer.body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            pid: 7,
            network: "127.7.0.0/16".parse().unwrap(),
            monitoring: "127.7.0.1:15014".into(),
            control_plane: None,
            gateways: Vec::new(),
            pods: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_client_sees_the_fleet_and_hears_why_it_cannot_be_scaled() {
        let state = tempfile::tempdir().unwrap();
        let client = Client::new(state.path());
        assert!(client.view().await.unwrap().is_none(), "nobody there yet");
        let (wishes, mut inbox) = mpsc::channel(1);
        tokio::spawn(serve(bind(state.path()).unwrap(), wishes));
        let owner = tokio::spawn(async move {
            while let Some(wish) = inbox.recv().await {
                match wish {
                    Wish::Fleet(reply) => drop(reply.send(view())),
                    Wish::Scale(scale, reply) if scale.deployment.name == "order" => drop(reply.send(Ok(()))),
                    Wish::Scale(scale, reply) => drop(reply.send(Err(format!("there is no {}", scale.deployment)))),
                }
            }
        });
        assert_eq!(client.view().await.unwrap(), Some(view()));
        let scale = |name: &str| Scale { deployment: Id::new("shop", name), replicas: 3 };
        assert!(client.scale(&scale("order")).await.unwrap());
        assert_eq!(client.scale(&scale("ordr")).await.unwrap_err().to_string(), "there is no shop/ordr");
        owner.abort();
    }

    #[tokio::test]
    async fn a_socket_that_was_left_over_is_nobody_and_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        drop(bind(state.path()).unwrap());
        assert!(Client::new(state.path()).view().await.unwrap().is_none());
        bind(state.path()).unwrap();
    }
}
