//! One small HTTP/1.1 request at a time: readiness probes, the control plane's status, the control
//! socket of a running `weft up`.
//!
//! A client with pools would be wrong here: a probe has to make a new connection each time, or it
//! would not see that a listener has gone.

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Answers are read up to here: the status of some ten thousand proxies, and no more.
const BODY_LIMIT_BYTES: usize = 16 << 20;

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// What to ask for; `host` goes into the `host` header.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: Bytes,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(host: &'a str, path: &'a str) -> Ask<'a> {
        Ask { method: Method::GET, host, path, headers: &[], body: Bytes::new() }
    }
}

/// Asks `address` (`host:port`) over TCP. `within` covers everything from connecting to the last byte.
pub(crate) async fn tcp(address: &str, ask: Ask<'_>, within: Duration) -> anyhow::Result<Answer> {
    limited(within, async {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        exchange(stream, ask).await
    })
    .await
}

/// Asks over the Unix socket at `path`.
pub(crate) async fn unix(path: &Path, ask: Ask<'_>, within: Duration) -> anyhow::Result<Answer> {
    limited(within, async {
        let stream = UnixStream::connect(path).await.with_context(|| format!("connecting to {}", path.display()))?;
        exchange(stream, ask).await
    })
    .await
}

async fn limited<T>(within: Duration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(within, work).await.map_err(|_| anyhow!("no answer within {within:?}"))?
}

async fn exchange<S>(stream: S, ask: Ask<'_>) -> anyhow::Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::builder().method(ask.method).uri(ask.path).header(header::CONNECTION, "close");
    if !ask.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header(header::HOST, ask.host);
    }
    for (name, value) in ask.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(ask.body)).context("the request cannot be written")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let conversation = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_LIMIT_BYTES).collect().await;
        let body = body.map_err(|e| anyhow!("reading the answer: {e}"))?.to_bytes();
        anyhow::Ok(Answer { status, body })
    };
    tokio::pin!(connection, conversation);
    tokio::select! {
        answer = &mut conversation => answer,
        end = &mut connection => {
            end?;
            conversation.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn answer_once(listener: TcpListener, answer: &'static str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn reads_status_and_body_and_says_its_host() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server =
            tokio::spawn(answer_once(listener, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"));
        let answer = tcp(&address, Ask::get("shop.example", "/ready"), Duration::from_secs(10)).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (503, &b"busy"[..]));
        let head = server.await.unwrap();
        assert!(head.starts_with("GET /ready HTTP/1.1\r\n") && head.contains("host: shop.example\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_body_that_ends_with_the_connection_is_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(answer_once(listener, "HTTP/1.1 200 OK\r\n\r\nuntil the end"));
        let answer = tcp(&address, Ask::get("x", "/"), Duration::from_secs(10)).await.unwrap();
        assert_eq!(&answer.body[..], b"until the end");
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = tcp(&address, Ask::get("x", "/"), Duration::from_secs(10)).await.err().unwrap();
        assert!(error.to_string().contains(&address), "{error}");
    }
}
