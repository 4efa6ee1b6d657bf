//! Clients that speak HTTP well: HTTP/1.1 or HTTP/2 on one connection, with or without TLS.

use crate::tls::Ca;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A request's body, of any kind.
pub type RequestBody = Pin<Box<dyn Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>> + Send>>;

/// One connection.
pub struct Client {
    sender: Sender,
    /// The DER of the server's certificate, with TLS.
    pub server_certificate: Option<Vec<u8>>,
}

enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    /// A header's value as text, `None` when it is absent.
    ///
    /// # Panics
    /// When it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header value of visible ASCII"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads a response to its end.
    ///
    /// # Errors
    /// When it ends early.
    pub async fn read(response: http::Response<Incoming>) -> hyper::Result<Reply> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        let body = body.to_bytes();
        Ok(Reply { status: parts.status, version: parts.version, headers: parts.headers, body, trailers })
    }
}

/// A body of these bytes.
pub fn body(bytes: impl Into<Bytes>) -> RequestBody {
    boxed(Full::new(bytes.into()))
}

/// Any body.
pub fn boxed<B>(body: B) -> RequestBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    Box::pin(body.map_err(|error| Box::new(error).into()))
}

impl Client {
    pub async fn http1(address: SocketAddr) -> Client {
        Client::over(tcp(address).await, false).await
    }

    /// HTTP/2 without TLS, by prior knowledge.
    pub async fn http2(address: SocketAddr) -> Client {
        Client::over(tcp(address).await, true).await
    }

    /// Over TLS, trusting `ca` alone; speaks what the server chose of `alpn`, HTTP/1.1 when it chose none.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn tls(address: SocketAddr, server_name: &str, ca: &Ca, alpn: &[&str]) -> std::io::Result<Client> {
        Client::with_tls(address, server_name, ca.client_config(alpn, None)).await
    }

    /// Over TLS as `config` says.
    ///
    /// # Errors
    /// When the handshake fails, as far as the client can tell: in TLS 1.3 a server that does not believe the client's certificate
    /// says so only when the client is done.
    pub async fn with_tls(
        address: SocketAddr,
        server_name: &str,
        config: rustls::ClientConfig,
    ) -> std::io::Result<Client> {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(server_name.to_owned()).expect("a server name");
        let stream = connector.connect(name, tcp(address).await).await?;
        let (_, session) = stream.get_ref();
        let h2 = session.alpn_protocol() == Some(b"h2");
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|der| der.to_vec());
        let client = Client::over(stream, h2).await;
        Ok(Client { server_certificate: certificate, ..client })
    }

    async fn over<S>(stream: S, h2: bool) -> Client
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        // a connection's own error also ends the exchange that it carries, which the test sees
        let sender = if h2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), stream).await.expect("the preface can be sent");
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.expect("nothing is sent yet");
            tokio::spawn(connection.with_upgrades());
            Sender::Http1(sender)
        };
        Client { sender, server_certificate: None }
    }

    /// Sends a request and returns the response's head when that has come. The URI of an HTTP/2
    /// request names the host (`http://order/x`), that of an HTTP/1 request usually does not.
    ///
    /// # Errors
    /// When no response comes.
    pub async fn start(&mut self, request: Request<RequestBody>) -> hyper::Result<http::Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// When no whole response comes.
    pub async fn try_send(&mut self, request: Request<RequestBody>) -> hyper::Result<Reply> {
        Reply::read(self.start(request).await?).await
    }

    /// As [`Client::try_send`].
    ///
    /// # Panics
    /// When no whole response comes in time.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Reply {
        crate::in_time("a response", self.try_send(request)).await.expect("a whole response")
    }

    /// `GET` of a path at a host.
    pub async fn get(&mut self, host: &str, path: &str) -> Reply {
        let request = self.request("GET", host, path).body(body("")).expect("a request");
        self.send(request).await
    }

    /// A request of the form that this connection's protocol wants.
    pub fn request(&self, method: &str, host: &str, path: &str) -> http::request::Builder {
        match self.sender {
            Sender::Http1(_) => Request::builder().method(method).uri(path).header("host", host),
            Sender::Http2(_) => Request::builder().method(method).uri(format!("http://{host}{path}")),
        }
    }
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_nodelay(true).unwrap();
    stream
}
