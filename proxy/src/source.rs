//! Where the bytes of an answer come from.

use crate::upstream::{Lease, Stream};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub(crate) enum Source {
    /// Over an HTTP/1 connection that nobody else drives.
    Leased {
        lease: Box<Lease>,
        body: Incoming,
    },
    /// Over one stream of an HTTP/2 connection, whose place is kept until the end.
    Streamed {
        _stream: Stream,
        body: Incoming,
    },
    /// This proxy's own words.
    Own(Bytes),
    Ended,
}

impl Source {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Source::Leased { lease, body } => {
                // The driver runs in this very task: it is what wakes us, the body need not.
                let quiet = &mut Context::from_waker(Waker::noop());
                match Pin::new(&mut *body).poll_frame(quiet) {
                    Poll::Pending => {
                        lease.drive(cx);
                        Pin::new(body).poll_frame(quiet)
                    }
                    ready => ready,
                }
            }
            Source::Streamed { body, .. } => Pin::new(body).poll_frame(cx),
            Source::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Ended => Poll::Ready(None),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Source::Leased { body, .. } | Source::Streamed { body, .. } => body.is_end_stream(),
            Source::Own(bytes) => bytes.is_empty(),
            Source::Ended => true,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Source::Leased { body, .. } | Source::Streamed { body, .. } => body.size_hint(),
            Source::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Ended => SizeHint::with_exact(0),
        }
    }
}
