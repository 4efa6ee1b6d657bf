//! The caller's side of a connection, watched.
//!
//! hyper tells neither when the first byte of a request head arrives nor that a head carried both
//! `content-length` and `transfer-encoding` (it drops one of them silently). [`Wire`] sits between
//! the socket and hyper and remembers just enough for both: the phase the connection is in, and the
//! bytes of the head that is being read.

use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// As much as one segment usually carries.
pub(crate) const READ_AHEAD_BYTES: usize = 1460;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Between requests.
    Idle = 0,
    /// The first bytes of a head have come, not yet all.
    Head = 1,
    /// A request is in progress.
    Busy = 2,
}

/// What is remembered of one connection, shared by its socket and whoever serves it.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    phase: AtomicU8,
    /// Counts phases, so that an observer can tell a long phase from two short ones.
    turn: AtomicU32,
    head: Mutex<Vec<u8>>,
    head_limit: usize,
}

impl Watch {
    /// Keeps at most `head_limit` bytes of each head.
    pub(crate) fn new(head_limit: usize) -> Arc<Watch> {
        Arc::new(Watch { head_limit, ..Watch::default() })
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    pub(crate) fn turn(&self) -> u32 {
        self.turn.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.turn.store(self.turn().wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether the head that was read last has both framing headers.
    pub(crate) fn head_is_ambiguous(&self) -> bool {
        let head = self.head.lock();
        let mut lines = head.split(|&byte| byte == b'\n');
        let (mut length, mut encoding) = (false, false);
        for line in lines.by_ref() {
            if line == b"\r" || line.is_empty() {
                break;
            }
            length |= starts_with_ignore_case(line, b"content-length:");
            encoding |= starts_with_ignore_case(line, b"transfer-encoding:");
        }
        length && encoding
    }

    fn saw(&self, bytes: &[u8]) {
        match self.phase() {
            Phase::Busy => return,
            Phase::Head => {}
            Phase::Idle => {
                self.head.lock().clear();
                self.enter(Phase::Head);
            }
        }
        let mut head = self.head.lock();
        let room = self.head_limit.saturating_sub(head.len()).min(bytes.len());
        head.extend_from_slice(&bytes[..room]);
    }
}

fn starts_with_ignore_case(line: &[u8], name: &[u8]) -> bool {
    line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name)
}

/// A stream whose first bytes may already have been read, and whose heads are watched.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    /// Bytes that detection read ahead.
    ahead: Vec<u8>,
    given: usize,
    watch: Option<Arc<Watch>>,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S, ahead: Vec<u8>) -> Self {
        Wire { stream, ahead, given: 0, watch: None }
    }

    pub(crate) fn watched(mut self, watch: Arc<Watch>) -> Self {
        self.watch = Some(watch);
        self
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads as much as tells whether the peer speaks HTTP/2 with prior knowledge.
    pub(crate) async fn begins_with_http2_preface(&mut self) -> io::Result<bool> {
        loop {
            match HTTP2_PREFACE.starts_with(&self.ahead[..self.ahead.len().min(HTTP2_PREFACE.len())]) {
                true if self.ahead.len() >= HTTP2_PREFACE.len() => return Ok(true),
                true => {}
                false => return Ok(false),
            }
            self.ahead.reserve(READ_AHEAD_BYTES);
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Ok(false);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// The name that the peer's TLS handshake asks for, in lower case; what was read to find out is still to be read. `None`:
    /// it names nobody, or what came is no handshake, which whoever serves it will find.
    pub(crate) async fn server_name(&mut self) -> io::Result<Option<String>> {
        let mut acceptor = rustls::server::Acceptor::default();
        let mut fed = 0;
        loop {
            while fed < self.ahead.len() {
                fed += acceptor.read_tls(&mut &self.ahead[fed..])?;
                match acceptor.accept() {
                    Ok(None) => {}
                    Ok(Some(hello)) => return Ok(hello.client_hello().server_name().map(str::to_ascii_lowercase)),
                    Err(_) => return Ok(None),
                }
            }
            self.ahead.reserve(READ_AHEAD_BYTES);
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        if this.given < this.ahead.len() {
            let n = buf.remaining().min(this.ahead.len() - this.given);
            buf.put_slice(&this.ahead[this.given..this.given + n]);
            this.given += n;
            if this.given == this.ahead.len() {
                this.ahead = Vec::new();
                this.given = 0;
            }
        } else {
            std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        if let Some(watch) = &this.watch
            && buf.filled().len() > before
        {
            watch.saw(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
