//! A socket that is asked for bytes only when it may have some, and given them in one piece when they are few.
//!
//! hyper looks at its socket several times in each turn, and nearly every look finds nothing. Asking
//! tokio each time costs more than all of our policy; remembering that nothing has come since the last
//! look costs one comparison. And it hands over a head and a body as two pieces: to the kernel, a small copy in one
//! piece is less work than two.

use crate::nudge::Nudge;
use smallvec::SmallVec;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Pieces that are together so short are written as one.
const GATHER_BYTES: usize = 2048;

/// Remembers that its stream has nothing to read until it is woken.
pub(crate) struct Quiet<S> {
    stream: S,
    nudge: Nudge,
    /// Whom the stream wakes by way of the nudge; known here too, so that comparing takes no lock.
    user: Option<Waker>,
    /// The last read found nothing, and the stream has promised to wake us.
    parked: bool,
}

impl<S> Quiet<S> {
    pub(crate) fn new(stream: S) -> Quiet<S> {
        Quiet { stream, nudge: Nudge::new(), user: None, parked: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Quiet<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.user.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            this.nudge.user(cx.waker());
            this.user = Some(cx.waker().clone());
        }
        if this.parked && !this.nudge.take_woken() {
            return Poll::Pending;
        }
        this.nudge.take_woken();
        let read = Pin::new(&mut this.stream).poll_read(&mut Context::from_waker(this.nudge.waker()), buf);
        this.parked = read.is_pending();
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Quiet<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        if let [only] = bufs {
            return stream.poll_write(cx, only);
        }
        if bufs.iter().map(|piece| piece.len()).sum::<usize>() > GATHER_BYTES {
            return stream.poll_write_vectored(cx, bufs);
        }
        let mut gathered = SmallVec::<[u8; GATHER_BYTES]>::new();
        bufs.iter().for_each(|piece| gathered.extend_from_slice(piece));
        stream.poll_write(cx, &gathered)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_that_come_later_wake_the_reader() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut quiet = Quiet::new(stream);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            quiet.read_to_end(&mut all).await.map(|_| all)
        });
        for part in [&b"one "[..], b"two ", b"three"] {
            tokio::task::yield_now().await;
            peer.write_all(part).await.unwrap();
        }
        drop(peer);
        assert_eq!(reader.await.unwrap().unwrap(), b"one two three");
    }

    #[tokio::test]
    async fn a_reader_that_moves_to_another_task_is_woken_there() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut quiet = Quiet::new(stream);
        let nothing = futures_util::FutureExt::now_or_never(quiet.read_u8());
        assert!(nothing.is_none(), "nothing was sent yet");
        let reader = tokio::spawn(async move { quiet.read_u8().await });
        tokio::task::yield_now().await;
        peer.write_all(b"x").await.unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), b'x');
    }
}
