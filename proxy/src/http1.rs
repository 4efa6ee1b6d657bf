//! HTTP/1.1 towards upstreams.
//!
//! A connection carries one exchange at a time, and whoever has leased it drives it in its own task, in the very
//! wake-up that serves the caller. So there is no task per connection, no channel between the exchange and the
//! connection and nothing is woken twice: on every request that is a fifth of what a general client costs.
//!
//! What is read is bounded: a head by [`MAX_HEAD_BYTES`] and [`MAX_HEADERS`], a body by what the caller takes.
//! What an upstream gets wrong ends its connection and is told in words ([`Broken`]).

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use crate::body::RequestBody;
use crate::transport::Transport;
use crate::upstream::Counted;
use bytes::{Bytes, BytesMut};
use decode::{Body, Head};
use encode::{Framing, Output};
use http::{Response, StatusCode, request};
use http_body::{Body as _, Frame};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWrite};

/// The largest head of a response (Envoy's default, `max_response_headers_kb`).
const MAX_HEAD_BYTES: usize = 60 * 1024;
/// The most headers of a response, and the most trailers (Envoy's default).
const MAX_HEADERS: usize = 100;
/// What is read at once: at first, and at most once bodies turn out to be large.
const READ_BYTES: usize = 8 * 1024;
const MAX_READ_BYTES: usize = 64 * 1024;

/// Why a connection to an upstream cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection was closed before the answer was complete")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not HTTP/1; the text says how.
    #[error("{0}")]
    Protocol(&'static str),
    /// The request's own body ended in an error.
    #[error("the request's body ended in an error")]
    Caller,
}

impl Broken {
    pub(crate) fn is_protocol(&self) -> bool {
        matches!(self, Broken::Protocol(_))
    }
}

/// One connection, leased to one exchange at a time.
pub(crate) struct Lease {
    stream: Transport,
    input: BytesMut,
    read_bytes: usize,
    output: Output,
    sending: Sending,
    receiving: Body,
    /// The upstream will take another request after this one.
    keep_alive: bool,
    pub(crate) served: u32,
    pub(crate) opened: Instant,
    pub(crate) idle_since: Instant,
    counted: Counted,
}

/// What of a request is still to be sent.
enum Sending {
    Nothing,
    Body(RequestBody, Framing),
}

impl Lease {
    pub(crate) fn new(stream: Transport, counted: Counted, now: Instant) -> Lease {
        Lease {
            stream,
            input: BytesMut::new(),
            read_bytes: READ_BYTES,
            output: Output::default(),
            sending: Sending::Nothing,
            receiving: Body::Done,
            keep_alive: true,
            served: 0,
            opened: now,
            idle_since: now,
            counted,
        }
    }

    /// Sends a request and reads the head of its answer. After an error the body is in its place still if not one byte was
    /// sent.
    pub(crate) async fn send(
        &mut self,
        parts: &mut request::Parts,
        body: &mut Option<RequestBody>,
    ) -> Result<Response<()>, Broken> {
        self.served += 1;
        if self.served > 1 && !self.is_open() {
            return Err(self.broke(Broken::Closed));
        }
        let framing = Framing::of(parts, body.as_ref().expect("a request's body waits in its place"));
        self.output.clear();
        encode::head(parts, &mut self.output.head);
        let without_body = parts.method == http::Method::HEAD;
        if framing == Framing::None {
            // The whole request in one write; the upstream may have closed in this very moment, and then none of it went.
            poll_fn(|cx| self.poll_begin(cx)).await?;
            *body = None;
        } else {
            self.sending = Sending::Body(body.take().expect("looked at above"), framing);
        }
        poll_fn(|cx| self.poll_head(cx, without_body)).await
    }

    /// The next piece of the answer's body, or its trailers.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        // A request's body may still be on its way. That the upstream takes no more of it is not the answer's end.
        if let Poll::Ready(Err(Broken::Caller)) = self.poll_send(cx) {
            return Poll::Ready(Some(Err(Broken::Caller)));
        }
        loop {
            match self.receiving.next(&mut self.input) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.receiving.is_done() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broke(error)))),
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => match self.receiving.ended() {
                    Ok(()) => {}
                    Err(error) => return Poll::Ready(Some(Err(self.broke(error)))),
                },
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(self.broke(error.into())))),
            }
        }
    }

    /// Whether the answer has no more frames.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.receiving.is_done()
    }

    pub(crate) fn size_hint(&self) -> http_body::SizeHint {
        self.receiving.size_hint()
    }

    /// Whether another exchange may follow.
    pub(crate) fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.receiving.is_done()
            && matches!(self.sending, Sending::Nothing)
            && self.output.is_empty()
            && self.input.is_empty()
    }

    /// Whether the upstream has not closed it meanwhile: a system call only if something happened. For a connection that
    /// nobody uses.
    pub(crate) fn is_open(&mut self) -> bool {
        // Bytes that nobody asked for are as bad as an end.
        self.stream.is_silent()
    }

    /// The transport, after the upstream agreed to an upgrade, with what was already read from it and what it counts as.
    pub(crate) fn into_transport(self) -> (Transport, Bytes, Counted) {
        (self.stream, self.input.freeze(), self.counted)
    }

    fn broke(&mut self, error: Broken) -> Broken {
        self.keep_alive = false;
        error
    }

    /// Writes the first bytes of a request. An error means that none were written.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.output.rest()));
        match written {
            Ok(0) => Poll::Ready(Err(self.broke(Broken::Closed))),
            Ok(written) => {
                self.output.advance(written);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.broke(error.into()))),
        }
    }

    /// Sends what is to be sent, as far as the upstream takes it and the caller gives it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            // The first piece of a body goes along with the head, if it is there.
            let waits = match self.poll_take(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => false,
                Poll::Pending => true,
            };
            if self.output.is_empty() {
                match self.sending {
                    Sending::Nothing => return Poll::Ready(Ok(())),
                    Sending::Body(..) if waits => return Poll::Pending,
                    Sending::Body(..) => continue,
                }
            }
            if let Err(error) = ready!(self.output.poll_write(Pin::new(&mut self.stream), cx)) {
                self.sending = Sending::Nothing;
                self.output.clear();
                return Poll::Ready(Err(self.broke(error.into())));
            }
        }
    }

    /// Takes the next piece of the request's body, if there is one and room for it.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Sending::Body(body, framing) = &mut self.sending else { return Poll::Ready(Ok(())) };
        if !self.output.has_room() {
            return Poll::Ready(Ok(()));
        }
        let whole = match ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                framing.frame(frame, &mut self.output);
                return Poll::Ready(Ok(()));
            }
            Some(Err(_)) => false,
            None => framing.end(&mut self.output),
        };
        self.sending = Sending::Nothing;
        Poll::Ready(if whole { Ok(()) } else { Err(self.broke(Broken::Caller)) })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.read_bytes);
        let room = self.input.capacity() - self.input.len();
        let read = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx))?;
        if read == room && self.read_bytes < MAX_READ_BYTES {
            self.read_bytes *= 2;
        }
        Poll::Ready(Ok(read))
    }

    /// Reads the answer's head, while the rest of the request is being sent.
    fn poll_head(&mut self, cx: &mut Context<'_>, without_body: bool) -> Poll<Result<Response<()>, Broken>> {
        let sent = self.poll_send(cx);
        if let Poll::Ready(Err(Broken::Caller)) = sent {
            return Poll::Ready(Err(Broken::Caller));
        }
        loop {
            match decode::head(&mut self.input) {
                Ok(Some(head)) if is_interim(&head) => continue,
                Ok(Some(head)) => return Poll::Ready(self.begin(head, without_body)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.broke(error))),
            }
            match self.poll_read(cx) {
                // An upstream that refuses a body may answer and close without reading it: its answer counts first.
                Poll::Pending => {
                    return match sent {
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                        _ => Poll::Pending,
                    };
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.broke(Broken::Closed))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.broke(error.into()))),
            }
        }
    }

    fn begin(&mut self, mut head: Head, without_body: bool) -> Result<Response<()>, Broken> {
        let (body, keep_alive) = Body::of(&mut head, without_body).map_err(|error| self.broke(error))?;
        self.receiving = body;
        self.keep_alive &= keep_alive;
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        Ok(response)
    }
}

/// A head that another one follows (RFC 9110 §15.2).
fn is_interim(head: &Head) -> bool {
    head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS
}
