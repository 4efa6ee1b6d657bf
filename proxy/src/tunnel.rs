//! Bytes both ways: upgrades, CONNECT and opaque TCP.
//!
//! Each direction is closed on its own, so a half-closed connection still delivers; both end when
//! nothing has moved either way for the idle timeout.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

/// Bytes held per direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides closed.
    Closed,
    /// Nothing moved for the idle timeout.
    Idle,
    /// One side broke.
    Broken,
}

/// Bytes that went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    received: Rc<Cell<u64>>,
    sent: Rc<Cell<u64>>,
}

impl Traffic {
    /// From the caller.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// To the caller.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }
}

/// Copies both ways until both sides have closed.
pub(crate) async fn run(
    caller: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    idle: Option<Duration>,
    traffic: &Traffic,
) -> End {
    let mut caller = Counted { stream: caller, bytes: traffic.received.clone() };
    let mut upstream = Counted { stream: upstream, bytes: traffic.sent.clone() };
    let copy = copy_bidirectional_with_sizes(&mut caller, &mut upstream, BUFFER_BYTES, BUFFER_BYTES);
    tokio::select! {
        copied = copy => copied.map_or(End::Broken, |_| End::Closed),
        () = idle_for(idle, traffic) => End::Idle,
    }
}

async fn idle_for(limit: Option<Duration>, traffic: &Traffic) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        let before = (traffic.received(), traffic.sent());
        tokio::time::sleep(limit).await;
        if before == (traffic.received(), traffic.sent()) {
            return;
        }
    }
}

/// Counts what is read.
struct Counted<S> {
    stream: S,
    bytes: Rc<Cell<u64>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.bytes.set(self.bytes.get() + (buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
