//! How a request is to be treated: its timeouts, its tries, which endpoint it belongs to.
//!
//! Made once, when the route is known, from what the route says and what the request asks for. A request from outside the
//! mesh asks for nothing: its `x-envoy-*` headers are taken off unread.

use crate::connection::Connection;
use crate::exchange::Exchange;
use crate::head;
use crate::table::CompiledForward;
use http::request;
use http::{HeaderMap, HeaderValue};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weft_model::listener::Direction;
use weft_policy::balance::{self, Asked};
use weft_policy::deadline::Timeouts;
use weft_policy::retry::{self, Attempts, Clock};
use weft_policy::route::Head;
use weft_policy::x_envoy;

/// A request's body is kept for another try up to so many bytes (Envoy keeps as much as its buffers hold, Linkerd this).
pub(crate) const KEEP_BYTES: usize = 64 * 1024;

/// What holds for one request.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) timeouts: Timeouts,
    /// `None`: only what was provably not sent goes to another endpoint.
    pub(crate) attempts: Option<Attempts>,
    /// For consistent balancers.
    pub(crate) hash: Option<u64>,
    /// The endpoint that the caller wants back to.
    pub(crate) asked: Option<Asked>,
    /// Cookies for the answer, of hashes and sessions.
    pub(crate) cookies: Vec<HeaderValue>,
    /// A proxy before us, or this one, retries: it is told of what was not sent.
    pub(crate) retried_outside: bool,
}

impl Plan {
    /// Reads what the request asks for and takes off what is only for this hop.
    pub(crate) fn of(exchange: &Exchange, forward: &CompiledForward, parts: &mut request::Parts) -> Plan {
        let connection = &exchange.connection;
        let outside = connection.direction() == Direction::Edge;
        let found = exchange.found;
        if outside {
            strip_from_outside(&mut parts.headers, found);
        }
        let asks = found.x_envoy && !outside;
        let retried_outside = found.retried_outside && !outside;
        let mut plan = Plan {
            timeouts: match asks || found.grpc {
                true => forward.limits.resolve(&parts.headers, !outside),
                false => forward.timeouts,
            },
            attempts: match retried_outside {
                true => None,
                false => Attempts::begin(&forward.retry, asks.then_some(&parts.headers)),
            },
            retried_outside,
            ..Plan::default()
        };
        if asks {
            x_envoy::strip(&mut parts.headers);
        }
        plan.bind(forward, exchange, parts);
        plan
    }

    fn bind(&mut self, forward: &CompiledForward, exchange: &Exchange, parts: &request::Parts) {
        if !forward.hash.is_empty() {
            let head = Head {
                host: head::host(parts).unwrap_or_default(),
                path: parts.uri.path(),
                query: parts.uri.query(),
                method: &parts.method,
                headers: &parts.headers,
            };
            let Connection { peer, local, .. } = *exchange.connection;
            let from = balance::Connection { remote: SocketAddr::new(exchange.client, peer.port()), local };
            let hashed = forward.hash.hash(&head, &from);
            (self.hash, self.cookies) = (hashed.hash, hashed.set_cookies);
        }
        if let Some(session) = &forward.session {
            self.asked = session.asked(&parts.headers, SystemTime::now());
        }
    }

    /// Tells the next hop how long it may take, and that it need not retry by itself.
    pub(crate) fn tell(
        &self,
        policy: &retry::Policy,
        grpc: bool,
        elapsed: impl FnOnce() -> Duration,
        headers: &mut HeaderMap,
    ) {
        if self.timeouts.global.is_some() || self.timeouts.per_try.is_some() {
            self.timeouts.tell(elapsed(), headers);
        }
        let Some(attempts) = &self.attempts else { return };
        if attempts.repeats_begun(policy, grpc) {
            headers.insert(head::X_WEFT_RETRY, HeaderValue::from_static("outer"));
        }
        if attempts.count() > 1 {
            headers.insert(head::X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(attempts.count()));
        }
    }
}

/// The times that a decision about another try is made by.
pub(crate) fn clock(timeouts: Timeouts, elapsed: Duration) -> Clock {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clock { left: timeouts.left(elapsed), unix }
}

/// Nobody outside may say how much work a request is worth, or that it is retried by somebody else.
fn strip_from_outside(headers: &mut HeaderMap, found: head::Found) {
    if found.x_envoy {
        x_envoy::strip(headers);
        headers.remove(x_envoy::EXPECTED_RQ_TIMEOUT_MS);
        headers.remove(head::X_ENVOY_ATTEMPT_COUNT);
    }
    if found.retried_outside {
        headers.remove(head::X_WEFT_RETRY);
    }
}

/// What a route without a policy does with what was provably not sent: as Istio's default, two more endpoints.
pub(crate) const UNSENT_ATTEMPTS: u32 = 3;
