//! What an upstream answers, down to how its body ends.

use super::{Broken, Gate, ResponseBody};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
    gate: Option<Gate>,
}

impl Answer {
    /// 200 with this body.
    pub fn ok(body: impl Into<Bytes>) -> Answer {
        Answer { body: body.into(), ..Answer::default() }
    }

    pub fn status(status: u16) -> Answer {
        Answer { status: StatusCode::from_u16(status).expect("a status between 100 and 999"), ..Answer::default() }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    pub fn trailer(mut self, name: &'static str, value: &'static str) -> Answer {
        let trailers = self.trailers.get_or_insert_default();
        trailers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Waits for the gate before it answers.
    pub fn behind(mut self, gate: &Gate) -> Answer {
        self.gate = Some(gate.clone());
        self
    }
}

/// What comes after an answer's body.
pub(super) enum End {
    Proper,
    Reset,
    ResetAfter(Gate),
    Never,
}

/// What is still to come of a body, after some waiting.
type Last = Pin<Box<dyn Future<Output = Option<Result<Frame<Bytes>, Broken>>> + Send>>;

impl End {
    fn last(self) -> Last {
        match self {
            End::Proper => Box::pin(std::future::ready(None)),
            End::Reset => Box::pin(std::future::ready(Some(Err(Broken("told to reset"))))),
            End::ResetAfter(gate) => Box::pin(async move {
                gate.passed().await;
                Some(Err(Broken("told to reset")))
            }),
            End::Never => Box::pin(std::future::pending()),
        }
    }
}

impl Answer {
    pub(super) async fn respond(self, end: End) -> Response<ResponseBody> {
        if let Some(gate) = &self.gate {
            gate.passed().await;
        }
        let length = self.body.len();
        let proper = matches!(end, End::Proper);
        let plain = self.trailers.is_none() && proper;
        let body = if plain {
            full(self.body)
        } else {
            let data = (length > 0).then(|| Ok(Frame::data(self.body)));
            let trailers = self.trailers.map(|trailers| Ok(Frame::trailers(trailers)));
            let left = data.into_iter().chain(trailers).collect();
            Frames { left, pause: false, last: Some(end.last()) }.boxed_unsync()
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if !proper {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(length + 1000));
        }
        response
    }
}

pub(super) fn full(body: Bytes) -> ResponseBody {
    http_body_util::Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Given frames. Between two of them the connection is told to wait a moment, which makes it send what
/// it has: an error would otherwise throw away the frames before it.
struct Frames {
    left: VecDeque<Result<Frame<Bytes>, Broken>>,
    pause: bool,
    /// Until it has come.
    last: Option<Last>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.pause = !self.pause;
        if self.pause {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(frame) = self.left.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let Some(last) = &mut self.last else { return Poll::Ready(None) };
        let frame = ready!(last.as_mut().poll(cx));
        self.last = None;
        Poll::Ready(frame)
    }
}

/// So many zero bytes, as fast as they are taken.
pub(super) struct Zeros {
    pub(super) left: u64,
    pub(super) sent: Arc<AtomicU64>,
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let some = self.left.min(ZEROS.len() as u64);
        self.left -= some;
        self.sent.fetch_add(some, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS[..some as usize])))))
    }
}
