//! HTTP/1 byte by byte: a client that sends whatever it is told and reads strictly, and a server that
//! is nothing but a socket.

use std::future::Future;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A connection of which every byte is the test's.
pub struct RawClient {
    stream: TcpStream,
    /// Read and not yet taken.
    ahead: Vec<u8>,
}

impl From<TcpStream> for RawClient {
    fn from(stream: TcpStream) -> RawClient {
        RawClient { stream, ahead: Vec::new() }
    }
}

/// A response, as its bytes say.
#[derive(Clone, Debug, Default)]
pub struct RawReply {
    pub status: u16,
    pub reason: String,
    /// Names in lower case, in the order of the wire.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl RawReply {
    /// The first header of that (lower case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the server closes the connection after this response.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> RawClient {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).unwrap();
        stream.into()
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server still reads");
    }

    /// As [`RawClient::send`], for when the server may have closed.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Reads one whole response (to a request that was not `HEAD`). Interim responses are returned too.
    ///
    /// # Panics
    /// When it breaks HTTP's rules or ends early.
    pub async fn response(&mut self) -> RawReply {
        crate::in_time("a response", self.try_response()).await.unwrap_or_else(|error| panic!("a response: {error}"))
    }

    /// As [`RawClient::response`].
    ///
    /// # Errors
    /// When the response breaks HTTP's rules or ends early.
    pub async fn try_response(&mut self) -> std::io::Result<RawReply> {
        let mut reply = self.head().await?;
        let chunked = reply.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = reply.header("content-length").map(|value| value.parse::<usize>());
        match (chunked, length) {
            (true, Some(_)) => return Err(broken("both content-length and transfer-encoding")),
            (true, None) => self.chunks(&mut reply).await?,
            (false, Some(length)) => {
                let length = length.map_err(|_| broken("content-length is no number"))?;
                reply.body = self.exactly(length).await?;
            }
            (false, None) if matches!(reply.status, 100..=199 | 204 | 304) => {}
            (false, None) => reply.body = self.rest().await?,
        }
        Ok(reply)
    }

    /// Reads a response's head alone.
    ///
    /// # Errors
    /// When it breaks HTTP's rules or ends early.
    pub async fn head(&mut self) -> std::io::Result<RawReply> {
        let line = self.line().await?;
        let mut words = line.splitn(3, ' ');
        if words.next() != Some("HTTP/1.1") {
            return Err(broken(&format!("no status line: {line:?}")));
        }
        let status = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| broken("no status"))?;
        let reason = words.next().unwrap_or_default().to_owned();
        let headers = self.fields().await?;
        Ok(RawReply { status, reason, headers, ..RawReply::default() })
    }

    /// Whether the server has neither closed the connection nor sent anything unasked.
    pub fn is_open(&self) -> bool {
        let quiet = self.stream.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        quiet && self.ahead.is_empty()
    }

    /// Waits for the server to close, which it must without another byte.
    ///
    /// # Panics
    /// When bytes come.
    pub async fn closed(&mut self) {
        let rest = crate::in_time("the end of the connection", self.rest()).await;
        // a reset is an end as well: the server had bytes of ours that it did not read
        let rest = rest.unwrap_or_default();
        assert!(rest.is_empty(), "bytes after the last response: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// When fewer come.
    pub async fn exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.fill().await?;
        }
        let rest = self.ahead.split_off(length);
        Ok(std::mem::replace(&mut self.ahead, rest))
    }

    /// The socket, and what was read of it and not taken.
    pub fn into_stream(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.ahead)
    }

    async fn chunks(&mut self, reply: &mut RawReply) -> std::io::Result<()> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| broken(&format!("no chunk size: {line:?}")))?;
            if size == 0 {
                reply.trailers = self.fields().await?;
                return Ok(());
            }
            reply.body.extend(self.exactly(size).await?);
            if self.exactly(2).await? != b"\r\n" {
                return Err(broken("a chunk without its end"));
            }
        }
    }

    async fn fields(&mut self) -> std::io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&format!("no field: {line:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    async fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|pair| pair == b"\r\n") {
                let mut line = self.exactly(end + 2).await?;
                line.truncate(end);
                return String::from_utf8(line).map_err(|_| broken("a line that is not UTF-8"));
            }
            self.fill().await?;
        }
    }

    async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.ahead);
        self.stream.read_to_end(&mut rest).await?;
        Ok(rest)
    }

    async fn fill(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.ahead).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// A TCP server of which every byte is the test's.
pub struct RawUpstream {
    address: SocketAddr,
    _stop: DropGuard,
}

impl RawUpstream {
    /// On a free port of 127.0.0.1; `serve` gets each connection and its number, from 0.
    pub async fn start<F>(serve: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static) -> RawUpstream
    where
        F: Future<Output = ()> + Send + 'static,
    {
        RawUpstream::at("127.0.0.1:0".parse().expect("an address"), serve).await
    }

    /// On an address of the test's choice.
    ///
    /// # Panics
    /// When it is taken.
    pub async fn at<F>(
        address: SocketAddr,
        serve: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static,
    ) -> RawUpstream
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("a bound socket has an address");
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned({
            let stop = stop.clone();
            async move {
                let mut number = 0;
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(stop.clone().run_until_cancelled_owned(serve(stream, number)));
                    number += 1;
                }
            }
        }));
        RawUpstream { address, _stop: stop.drop_guard() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
