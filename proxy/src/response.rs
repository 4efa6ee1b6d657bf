//! The body that goes back to the caller, and with it the end of the exchange.
//!
//! Its last frame gives the upstream connection back to its pool and ends the exchange; dropping
//! it earlier closes that connection, so an upstream never works for a caller who has gone.

use crate::attempt::grpc_status;
use crate::body::Expiry;
use crate::exchange::Exchange;
use crate::live::Counts;
use crate::source::{BrokenOff, Source};
use crate::telemetry::flags::Flag;
use crate::try_idle::TryIdle;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::time::Sleep;
use weft_policy::outlier::Outcome;

/// A response's body.
pub(crate) struct ResponseBody {
    source: Source,
    /// Until the end of the answer.
    exchange: Option<Box<Exchange>>,
    /// When the answer must be complete, and what to call it when it is not.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long the upstream may pause.
    idle: Option<Box<TryIdle>>,
}

/// Why a response was cut off after its head was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CutOff {
    #[error("the upstream's answer ended in an error: {0}")]
    Upstream(#[from] BrokenOff),
    #[error("the route's timeout passed before the answer was complete")]
    Timeout,
    #[error("nothing was sent either way for too long")]
    Idle,
    #[error("the upstream was quiet for longer than a try may be")]
    TryIdle,
}

impl ResponseBody {
    pub(crate) fn new(
        source: Source,
        exchange: Box<Exchange>,
        deadline: Option<Pin<Box<Sleep>>>,
        idle: Option<Box<TryIdle>>,
    ) -> ResponseBody {
        let mut body = ResponseBody { source, exchange: Some(exchange), deadline, idle };
        if body.is_end_stream() {
            body.end();
        }
        body
    }

    /// An empty body whose exchange lives on elsewhere (an upgrade).
    pub(crate) fn empty() -> ResponseBody {
        ResponseBody { source: Source::Ended, exchange: None, deadline: None, idle: None }
    }

    /// The answer is complete.
    fn end(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Ended);
        let Some(mut exchange) = self.exchange.take() else { return };
        exchange.ending.whole = true;
        let now = Instant::now();
        exchange.ending.at = Some(now);
        if let (Source::Leased(lease), Some(attempt)) = (source, &exchange.attempt) {
            let worker = exchange.connection.worker.number;
            attempt.host.pool.give_back(lease, &attempt.cluster, worker, now);
        }
    }

    fn cut_off(&mut self, flag: Flag, details: &'static str) {
        self.source = Source::Ended;
        if let Some(mut exchange) = self.exchange.take() {
            exchange.cut(flag, details);
        }
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        let Some(exchange) = &mut self.exchange else { return };
        exchange.meter.moved();
        if let Some(data) = frame.data_ref() {
            exchange.ending.sent += data.len() as u64;
        } else if let Some(trailers) = frame.trailers_ref() {
            exchange.ending.grpc_status = grpc_status(trailers).or(exchange.ending.grpc_status);
        }
    }

    /// Whether nothing follows what was just polled.
    fn completes(&self, polled: &Poll<Option<Result<Frame<Bytes>, BrokenOff>>>) -> bool {
        match polled {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.is_end_stream(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        }
    }

    /// Nothing came for as long as a try may be quiet.
    fn paused_too_long(&mut self) -> CutOff {
        if let Some(exchange) = &mut self.exchange {
            if let Some(attempt) = &exchange.attempt {
                Counts::one(&attempt.cluster.state.counts.upstream_rq_per_try_idle_timeout);
            }
            exchange.broke_off(Outcome::LocalTimeout);
        }
        self.cut_off(Flag::UpstreamTimeout, "upstream_per_try_idle_timeout");
        CutOff::TryIdle
    }

    fn expired(&self, cx: &Context<'_>) -> Option<Expiry> {
        self.exchange.as_ref().and_then(|exchange| exchange.meter.poll_expired(cx))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let this = &mut *self;
        let late = this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        let polled = this.source.poll_frame(cx);
        // What is whole by now came in time: the hop behind, whose deadline is the same, may have answered just so.
        if late && !this.completes(&polled) {
            if let Some(exchange) = &mut this.exchange {
                exchange.broke_off(Outcome::LocalTimeout);
            }
            this.cut_off(Flag::UpstreamTimeout, "response_timeout");
            return Poll::Ready(Some(Err(CutOff::Timeout)));
        }
        if polled.is_pending()
            && let Some(expiry) = this.expired(cx)
        {
            let (flag, details) = Exchange::expiry(expiry);
            this.cut_off(flag, details);
            return Poll::Ready(Some(Err(match expiry {
                Expiry::Idle => CutOff::Idle,
                Expiry::Deadline => CutOff::Timeout,
            })));
        }
        if polled.is_pending()
            && let Some(idle) = &mut this.idle
            && idle.poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(this.paused_too_long())));
        }
        match ready!(polled) {
            None => {
                this.end();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                let (flag, details) = error.appearance();
                if let Some(exchange) = &mut this.exchange {
                    exchange.broke_off(Outcome::Reset);
                }
                this.cut_off(flag, details);
                Poll::Ready(Some(Err(error.into())))
            }
            Some(Ok(frame)) => {
                this.passed(&frame);
                if this.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}
