//! Why a request was refused, as a value.
//!
//! Whoever gives up on a request says so with a [`Rejection`]. One exhaustive `match` turns it into
//! everything that the caller, the access log and the metrics will see, so that these never
//! disagree.

use crate::connect::ConnectError;
use crate::http1::Broken;
use crate::telemetry::flags::{Flag, Flags};
use crate::upstream::Unavailable;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::fmt;
use std::net::SocketAddr;
use weft_model::Origin;
use weft_model::fault::AbortWith;
use weft_policy::balance::NoHost;
use weft_policy::breaker::Overflow;
use weft_policy::x_envoy;

/// The reasons for which this proxy answers a request itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rejection {
    /// The head of the request breaks HTTP's rules.
    BadRequest(&'static str),
    /// The head is larger than the listener allows.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// No route table of that name has arrived, or none of its routes fits.
    NoRoute,
    /// The route wants an upgrade that the listener does not pass through.
    UpgradeRefused,
    /// The route names a cluster that this proxy does not know.
    NoCluster(String),
    /// The route's backend reference is wrong; the text says how.
    InvalidBackend(String),
    /// No endpoint of the cluster is healthy.
    NoHealthyUpstream(String, NoHost),
    /// A limit of the cluster is reached.
    Overflow(Overflow),
    /// A rate limit has no token left.
    RateLimited(Box<RateLimited>),
    /// The route's fault answers instead.
    FaultInjected(AbortWith),
    /// No connection to the endpoint; the text says why.
    ConnectFailed(String),
    /// The connect timeout passed.
    ConnectTimeout,
    /// The upstream closed or reset the connection before its response began.
    UpstreamReset(String),
    /// The upstream reset the HTTP/2 stream before its response began.
    StreamReset(String),
    /// The upstream's response breaks HTTP's rules.
    UpstreamProtocol(String),
    /// The route's request timeout passed.
    RequestTimeout,
    /// The caller's own deadline (`grpc-timeout`) passed.
    GrpcDeadline,
    /// The route's backend timeout passed.
    BackendTimeout,
    /// A try did not answer in its time.
    PerTryTimeout,
    /// Nothing moved for as long as a try may be quiet.
    PerTryIdle,
    /// The upstream said that it has not begun on the request.
    RefusedStream,
    /// Nothing moved on the stream for too long.
    StreamIdle { request_complete: bool },
    /// The request's own body ended in an error.
    DownstreamReset,
}

/// A bucket without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RateLimited {
    pub(crate) policy: String,
    pub(crate) bucket: String,
    pub(crate) limit: u32,
    pub(crate) status: u16,
    /// What the policy says to the caller; empty: the reason in words.
    pub(crate) body: String,
    pub(crate) retry_after_seconds: u64,
    pub(crate) headers: HeaderMap,
}

impl fmt::Display for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateLimited { policy, bucket, limit, retry_after_seconds, body, .. } = self;
        match body.is_empty() {
            true => {
                write!(f, "rate limited by {policy}, bucket \"{bucket}\" of {limit}: again in {retry_after_seconds} s")
            }
            false => f.write_str(body),
        }
    }
}

/// What a rejection looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Appearance {
    pub(crate) status: StatusCode,
    pub(crate) flags: Flags,
    /// Envoy's `response_code_details`.
    pub(crate) details: &'static str,
}

impl Rejection {
    /// There is no connection to be had.
    pub(crate) fn unavailable(why: Unavailable) -> Rejection {
        match why {
            Unavailable::Overflow(overflow) => Rejection::Overflow(overflow),
            Unavailable::Connect(error) => Rejection::not_connected(error),
        }
    }

    /// There is no connection to the endpoint.
    pub(crate) fn not_connected(error: ConnectError) -> Rejection {
        match error {
            ConnectError::Timeout => Rejection::ConnectTimeout,
            ConnectError::Io(error) => Rejection::ConnectFailed(error.to_string()),
            ConnectError::Tls(error) => Rejection::ConnectFailed(format!("TLS handshake: {error}")),
            ConnectError::Handshake(error) => Rejection::UpstreamReset(error.to_string()),
        }
    }

    /// A connection should go on to where it was going, and that is here.
    pub(crate) fn not_redirected(here: SocketAddr) -> Rejection {
        Rejection::ConnectFailed(format!("{here} is this proxy itself: the connection was not redirected to it"))
    }

    /// There was an HTTP/1 connection, but no answer over it.
    pub(crate) fn broken(error: &Broken) -> Rejection {
        match error {
            Broken::Protocol(why) => Rejection::UpstreamProtocol((*why).into()),
            Broken::Caller => Rejection::DownstreamReset,
            Broken::Closed | Broken::Io(_) => Rejection::UpstreamReset(error.to_string()),
        }
    }

    /// There was an HTTP/2 connection, but no answer over it.
    pub(crate) fn not_answered(error: &hyper::Error) -> Rejection {
        if error.is_user() || error.is_body_write_aborted() {
            return Rejection::DownstreamReset;
        }
        match UpstreamFailure::of(error) {
            UpstreamFailure::Refused => Rejection::RefusedStream,
            UpstreamFailure::Reset => Rejection::StreamReset(error.to_string()),
            UpstreamFailure::Protocol => Rejection::UpstreamProtocol(error.to_string()),
            UpstreamFailure::Closed => Rejection::UpstreamReset(error.to_string()),
        }
    }

    /// Status, flag and details as Envoy's (semantics of its response flags and details).
    pub(crate) fn appearance(&self) -> Appearance {
        use Rejection::*;
        let (status, flag, details) = match self {
            BadRequest(_) => (400, Some(Flag::DownstreamProtocolError), "http1.codec_error"),
            HeadTooLarge => (431, Some(Flag::DownstreamProtocolError), "request_headers_too_large"),
            HeadTimeout => (408, Some(Flag::DownstreamProtocolError), "request_header_timeout"),
            NoRoute => (404, Some(Flag::NoRoute), "route_not_found"),
            UpgradeRefused => (403, None, "upgrade_failed"),
            NoCluster(_) => (503, Some(Flag::NoCluster), "cluster_not_found"),
            InvalidBackend(_) => (500, Some(Flag::NoCluster), "cluster_not_found"),
            NoHealthyUpstream(..) => (503, Some(Flag::NoHealthyUpstream), "no_healthy_upstream"),
            Overflow(_) => (503, Some(Flag::UpstreamOverflow), "upstream_reset_before_response_started{overflow}"),
            RateLimited(limited) => (limited.status, Some(Flag::RateLimited), "local_rate_limited"),
            FaultInjected(AbortWith::Http(status)) => (*status, Some(Flag::FaultInjected), "fault_filter_abort"),
            FaultInjected(AbortWith::Grpc(_)) => (200, Some(Flag::FaultInjected), "fault_filter_abort"),
            PerTryTimeout => (504, Some(Flag::UpstreamTimeout), "upstream_per_try_timeout"),
            PerTryIdle => (504, Some(Flag::UpstreamTimeout), "upstream_per_try_idle_timeout"),
            RefusedStream => (
                503,
                Some(Flag::UpstreamRemoteReset),
                "upstream_reset_before_response_started{remote_refused_stream_reset}",
            ),
            ConnectFailed(_) => {
                (503, Some(Flag::UpstreamConnectFailure), "upstream_reset_before_response_started{connection_failure}")
            }
            ConnectTimeout => {
                (503, Some(Flag::UpstreamConnectFailure), "upstream_reset_before_response_started{connection_timeout}")
            }
            UpstreamReset(_) => (
                503,
                Some(Flag::UpstreamConnectionTermination),
                "upstream_reset_before_response_started{connection_termination}",
            ),
            StreamReset(_) => {
                (503, Some(Flag::UpstreamRemoteReset), "upstream_reset_before_response_started{remote_reset}")
            }
            UpstreamProtocol(_) => {
                (502, Some(Flag::UpstreamProtocolError), "upstream_reset_before_response_started{protocol_error}")
            }
            RequestTimeout => (504, Some(Flag::UpstreamTimeout), "response_timeout"),
            GrpcDeadline => (504, None, "max_duration_timeout"),
            BackendTimeout => (504, Some(Flag::UpstreamTimeout), "upstream_per_try_timeout"),
            // the one who was silent is to blame
            StreamIdle { request_complete: false } => (408, Some(Flag::StreamIdle), "stream_idle_timeout"),
            StreamIdle { request_complete: true } => (504, Some(Flag::StreamIdle), "stream_idle_timeout"),
            DownstreamReset => (400, Some(Flag::DownstreamConnectionTermination), "downstream_remote_disconnect"),
        };
        let status = StatusCode::from_u16(status).expect("every status above is a valid one");
        Appearance { status, flags: flag.map_or(Flags::default(), Flags::from), details }
    }

    /// Headers beside status and body.
    pub(crate) fn headers(&self) -> HeaderMap {
        match self {
            Rejection::Overflow(_) => HeaderMap::from_iter([(x_envoy::OVERLOADED, HeaderValue::from_static("true"))]),
            Rejection::RateLimited(limited) => {
                let mut headers = limited.headers.clone();
                headers.insert(x_envoy::RATELIMITED, HeaderValue::from_static("true"));
                headers.insert(header::RETRY_AFTER, HeaderValue::from(limited.retry_after_seconds));
                headers
            }
            _ => HeaderMap::new(),
        }
    }

    /// Whether an upstream has provably not begun on the request.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self, Rejection::ConnectFailed(_) | Rejection::ConnectTimeout | Rejection::RefusedStream)
    }

    /// The reason in words, for the caller and the access log.
    pub(crate) fn message(&self) -> String {
        use Rejection::*;
        match self {
            BadRequest(why) => format!("bad request: {why}"),
            HeadTooLarge => "the request head is larger than this listener allows".into(),
            HeadTimeout => "the request head did not arrive in time".into(),
            NoRoute => "no route matches this request".into(),
            UpgradeRefused => "this listener does not pass this upgrade through".into(),
            NoCluster(name) => format!("the route names cluster \"{name}\", which this proxy does not know"),
            InvalidBackend(reason) => format!("the route's backend is invalid: {reason}"),
            NoHealthyUpstream(cluster, why) => format!("no healthy upstream in cluster \"{cluster}\": {why}"),
            Overflow(overflow) => format!("upstream overflow: {overflow}"),
            RateLimited(limited) => limited.to_string(),
            FaultInjected(_) => "fault filter abort".into(),
            PerTryTimeout => "upstream request timeout: the try's timeout passed".into(),
            PerTryIdle => "upstream request timeout: nothing moved for as long as a try may be quiet".into(),
            RefusedStream => "the upstream refused the stream".into(),
            ConnectFailed(why) => format!("upstream connect error: {why}"),
            ConnectTimeout => "upstream connect error: connection timeout".into(),
            UpstreamReset(why) => format!("the upstream ended the connection before it answered: {why}"),
            StreamReset(why) => format!("the upstream reset the stream before it answered: {why}"),
            UpstreamProtocol(why) => format!("the upstream's answer is not valid HTTP: {why}"),
            RequestTimeout => "upstream request timeout: the route's request timeout passed".into(),
            GrpcDeadline => "the caller's grpc-timeout passed".into(),
            BackendTimeout => "upstream request timeout: the route's backend request timeout passed".into(),
            StreamIdle { .. } => "stream timeout: nothing was sent either way for too long".into(),
            DownstreamReset => "the request's body ended in an error".into(),
        }
    }

    /// The reason for whoever looks for the policy: where it was the cluster's that refused, `origin` says which.
    pub(crate) fn explained(&self, origin: Option<&Origin>) -> String {
        let is_the_clusters = matches!(self, Rejection::Overflow(_) | Rejection::NoHealthyUpstream(..));
        match origin.map(Origin::to_string).filter(|origin| is_the_clusters && !origin.is_empty()) {
            Some(origin) => format!("{}; {origin}", self.message()),
            None => self.message(),
        }
    }

    /// What the transport towards the upstream said, where it was the cause.
    pub(crate) fn transport_failure(&self) -> Option<&str> {
        match self {
            Rejection::ConnectFailed(why)
            | Rejection::UpstreamReset(why)
            | Rejection::StreamReset(why)
            | Rejection::UpstreamProtocol(why) => Some(why),
            Rejection::ConnectTimeout => Some("connection timeout"),
            _ => None,
        }
    }

    /// The gRPC status that says the same, for a caller that speaks gRPC (Envoy's HTTP to gRPC mapping).
    pub(crate) fn grpc_status(&self) -> u8 {
        match self {
            Rejection::FaultInjected(AbortWith::Grpc(status)) => return *status,
            Rejection::GrpcDeadline => return 4,
            // the Gateway API's word for a GRPCRoute that sends to what is not there
            Rejection::InvalidBackend(_) => return 14,
            _ => {}
        }
        match self.appearance().status.as_u16() {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        }
    }

    /// The headers of a trailers-only gRPC answer.
    pub(crate) fn grpc_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(self.grpc_status())));
        let message: String = percent_encode(&self.message());
        if let Ok(value) = HeaderValue::try_from(message) {
            headers.insert("grpc-message", value);
        }
        headers
    }
}

/// How an upstream broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamFailure {
    /// It reset the stream with `REFUSED_STREAM`: it has not begun on it (RFC 9113 §8.7).
    Refused,
    /// It reset the stream.
    Reset,
    /// What it sent is not HTTP.
    Protocol,
    /// The connection ended.
    Closed,
}

impl UpstreamFailure {
    /// Over HTTP/2.
    pub(crate) fn of(error: &hyper::Error) -> UpstreamFailure {
        let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
        match cause {
            Some(cause) if cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                UpstreamFailure::Refused
            }
            Some(cause) if cause.is_remote() && cause.is_reset() => UpstreamFailure::Reset,
            Some(cause) if cause.is_library() => UpstreamFailure::Protocol,
            _ if error.is_parse() => UpstreamFailure::Protocol,
            _ => UpstreamFailure::Closed,
        }
    }
}

/// gRPC's percent-encoding of status messages: printable ASCII but `%` as it is.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
        out
    })
}
