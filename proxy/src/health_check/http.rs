//! Health by HTTP: a request, and a status that is in a range.
//!
//! Only the status counts, but a check is over when its answer is (Envoy), so the body is read, up to a limit.

use super::probe::{Answered, Broken, Finding};
use crate::connect::ConnectError;
use crate::transport::Transport;
use ::http::uri::{Authority, Scheme};
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio_util::task::AbortOnDropHandle;
use weft_model::health_check::{HealthCheck, Probe};
use weft_policy::health_check::CheckResult;

const USER_AGENT: HeaderValue = HeaderValue::from_static("weft-health-check");
/// Of an answer's head, and of its body.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// An HTTP connection, driven by a task that ends with it.
pub(super) struct Client {
    sender: Sender,
    scheme: Scheme,
    _driver: AbortOnDropHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(super) async fn open(stream: Transport, http2: bool) -> Result<Client, ConnectError> {
        let scheme = match &stream {
            Transport::Plain(_) => Scheme::HTTP,
            Transport::Tls(_) => Scheme::HTTPS,
        };
        let stream = TokioIo::new(stream);
        let (sender, driver) = match http2 {
            true => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_header_list_size(MAX_ANSWER_BYTES as u32);
                let (sender, driver) = builder.handshake(stream).await.map_err(ConnectError::Handshake)?;
                (Sender::Http2(sender), tokio::spawn(drive(driver)))
            }
            false => {
                let mut builder = http1::Builder::new();
                builder.max_buf_size(MAX_ANSWER_BYTES);
                let (sender, driver) = builder.handshake(stream).await.map_err(ConnectError::Handshake)?;
                (Sender::Http1(sender), tokio::spawn(drive(driver)))
            }
        };
        Ok(Client { sender, scheme, _driver: AbortOnDropHandle::new(driver) })
    }

    pub(super) fn is_open(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => !sender.is_closed(),
            Sender::Http2(sender) => !sender.is_closed(),
        }
    }

    /// Sends a request to that path of the authority.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        authority: &Authority,
    ) -> Result<Response<Incoming>, Broken> {
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        match &mut self.sender {
            Sender::Http1(sender) => {
                let host = HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII");
                request.headers_mut().insert(header::HOST, host);
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::Http2(sender) => {
                let mut uri = std::mem::take(request.uri_mut()).into_parts();
                (uri.scheme, uri.authority) = (Some(self.scheme.clone()), Some(authority.clone()));
                *request.uri_mut() = Uri::from_parts(uri).expect("it has all its parts");
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

/// How a connection ended is learnt from the question that was asked over it.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    let _ = connection.await;
}

/// Whom a check asks for: `wanted`, or else the cluster's name, or where that is none (`outbound|80||order`) the address.
pub(super) fn authority(wanted: &str, cluster: &str, address: SocketAddr) -> Authority {
    let name = if wanted.is_empty() { cluster } else { wanted };
    let named = name.parse().or_else(|_| address.to_string().parse());
    named.expect("a socket address is an authority")
}

/// The whole body and its trailers; `None` when it is longer than anybody wants to know.
pub(super) async fn read(body: Incoming) -> Result<Option<(Bytes, HeaderMap)>, Broken> {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(whole) => {
            let trailers = whole.trailers().cloned().unwrap_or_default();
            Ok(Some((whole.to_bytes(), trailers)))
        }
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(Broken(format!("its answer broke off: {error}"))),
    }
}

pub(super) async fn ask(client: &mut Client, check: &HealthCheck, authority: &Authority) -> Result<Answered, Broken> {
    let Probe::Http { path, method, .. } = &check.probe else { unreachable!("an HTTP probe") };
    let response = client.send(request(method, path, check.reuse_connection)?, authority).await?;
    let status = response.status();
    let is_reusable = read(response.into_body()).await?.is_some();
    let result = CheckResult::of_status(&check.probe, status.as_u16());
    let finding = Finding::new(result, format!("{method} {path} is answered {status}"));
    Ok(Answered { finding, is_reusable })
}

fn request(method: &str, path: &str, reuse: bool) -> Result<Request<Full<Bytes>>, Broken> {
    let invalid = |what: &str| Broken(format!("{method} {path} cannot be asked: no valid {what}"));
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| invalid("method"))?;
    *request.uri_mut() = path.parse().map_err(|_| invalid("path"))?;
    if !reuse {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_asks_for_its_host_or_the_cluster_or_the_address() {
        let address: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(authority("shop.example:81", "order", address), "shop.example:81");
        assert_eq!(authority("", "order.shop", address), "order.shop");
        assert_eq!(authority("", "outbound|80||order", address), "[2001:db8::1]:80");
    }

    #[test]
    fn what_cannot_be_asked_is_said_in_words() {
        let words = |method, path| request(method, path, true).err().map(|Broken(words)| words);
        assert_eq!(words("GET", "/healthz?full=1"), None);
        assert_eq!(words("GET", "/a b").as_deref(), Some("GET /a b cannot be asked: no valid path"));
        assert_eq!(words("G T", "/").as_deref(), Some("G T / cannot be asked: no valid method"));
    }
}
