//! Where the bytes of an answer come from.

use crate::http1::{Broken, Lease};
use crate::rejection::UpstreamFailure;
use crate::telemetry::flags::Flag;
use crate::upstream::Stream;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) enum Source {
    /// Over an HTTP/1 connection that nobody else drives.
    Leased(Box<Lease>),
    /// Over one stream of an HTTP/2 connection, whose place is kept until the end.
    Streamed {
        _stream: Stream,
        body: Incoming,
    },
    /// This proxy's own words.
    Own(Bytes),
    Ended,
}

/// How an upstream's answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenOff {
    #[error(transparent)]
    Http1(#[from] Broken),
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl BrokenOff {
    /// Flag and details as Envoy's.
    pub(crate) fn appearance(&self) -> (Flag, &'static str) {
        let failure = match self {
            BrokenOff::Http1(error) if error.is_protocol() => UpstreamFailure::Protocol,
            BrokenOff::Http1(_) => UpstreamFailure::Closed,
            BrokenOff::Http2(error) => UpstreamFailure::of(error),
        };
        match failure {
            UpstreamFailure::Refused | UpstreamFailure::Reset => {
                (Flag::UpstreamRemoteReset, "upstream_reset_after_response_started{remote_reset}")
            }
            UpstreamFailure::Protocol => {
                (Flag::UpstreamProtocolError, "upstream_reset_after_response_started{protocol_error}")
            }
            UpstreamFailure::Closed => {
                (Flag::UpstreamConnectionTermination, "upstream_reset_after_response_started{connection_termination}")
            }
        }
    }
}

impl Source {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self {
            Source::Leased(lease) => lease.poll_frame(cx).map_err(BrokenOff::Http1),
            Source::Streamed { body, .. } => Pin::new(body).poll_frame(cx).map_err(BrokenOff::Http2),
            Source::Own(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Own(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Ended => Poll::Ready(None),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Source::Leased(lease) => lease.is_end_stream(),
            Source::Streamed { body, .. } => body.is_end_stream(),
            Source::Own(bytes) => bytes.is_empty(),
            Source::Ended => true,
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Source::Leased(lease) => lease.size_hint(),
            Source::Streamed { body, .. } => body.size_hint(),
            Source::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Ended => SizeHint::with_exact(0),
        }
    }
}
