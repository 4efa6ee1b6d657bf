//! Requests, and what hosts do with them, in few words.

use super::{Call, Play};
use weft_testkit::{Act, Answer};

pub(crate) fn get() -> Call {
    Call { route: "", headers: Vec::new(), query: String::new(), body: "", http2: false }
}

/// A gRPC call, as far as a proxy can tell.
pub(crate) fn grpc() -> Call {
    let call = Call { http2: true, body: "\0\0\0\0\0", ..get() };
    call.with("content-type", "application/grpc").with("te", "trailers")
}

/// One that may ask for more than others: its sender is inside (Envoy looks at `x-forwarded-for`, and at `internal_address_config`).
pub(crate) fn get_inside() -> Call {
    get().sent_inside()
}

impl Call {
    pub(crate) fn sent_inside(self) -> Self {
        self.with("x-forwarded-for", "127.0.0.1")
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn by(self, route: &'static str) -> Self {
        Call { route, ..self }
    }

    pub(crate) fn over_http2(self) -> Self {
        Call { http2: true, ..self }
    }
}

pub(crate) fn ok() -> Play {
    status(200)
}

pub(crate) fn status(status: u16) -> Play {
    answer(Answer::status(status))
}

pub(crate) fn answer(answer: Answer) -> Play {
    Play::Act(Act::Answer(answer))
}

/// 200, when it is time.
pub(crate) fn held() -> Play {
    Play::Held(Answer::status(200))
}

pub(crate) fn never() -> Play {
    Play::Act(Act::Never)
}

pub(crate) fn reset() -> Play {
    Play::Act(Act::Reset)
}

/// 200, and a part of a body that never ends.
pub(crate) fn stalled() -> Play {
    Play::Act(Act::Stall(Answer::ok("part")))
}

/// 200 and a gRPC status, all in the head.
pub(crate) fn grpc_status(code: &str) -> Play {
    answer(Answer::status(200).header("content-type", "application/grpc").header("grpc-status", code))
}
