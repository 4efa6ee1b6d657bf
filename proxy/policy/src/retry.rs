//! Which requests are tried again, and after how long.
//!
//! A retry hides a failure from the caller and doubles the load on whoever failed. So it is asked for by name
//! ([`RetryOn`]), counted, spread in time, and never made where it could do a thing twice or after the caller has gone.
//!
//! A [`Policy`] is compiled with its route. A request that may be retried at all has [`Attempts`], which are told
//! the [`Outcome`] of every try and answer with a [`Verdict`]. The budget that all requests of a cluster share is the
//! breaker's: whoever does as the verdict says asks it too.

mod backoff;
mod hosts;
mod overrides;
#[cfg(test)]
mod tests;

use crate::pattern::Value;
use crate::{CompileError, Dice, x_envoy};
use backoff::{Exponential, RateLimited};
pub use hosts::Tried;
use http::{HeaderMap, HeaderName, Method, StatusCode};
pub use overrides::Overrides;
use std::time::Duration;
use weft_model::balancer::Balancer;
use weft_model::retry::{RetryOn, RetryPolicy};
use weft_model::route::HeaderMatch;

/// A compiled [`RetryPolicy`].
#[derive(Debug)]
pub struct Policy {
    on: RetryOn,
    status_codes: Box<[u16]>,
    headers: Box<[Header]>,
    num_retries: u32,
    backoff: Exponential,
    min_wait: Duration,
    rate_limited: Option<RateLimited>,
    avoid_previous_hosts: bool,
    avoid_previous_priorities: Option<u32>,
    host_selection_attempts: u32,
    idempotent_only: bool,
}

/// A response header that asks for a retry.
#[derive(Debug)]
struct Header {
    name: HeaderName,
    value: Value,
    invert: bool,
}

/// What became of one try.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// Its head; a gRPC status in the trailers comes too late for a retry.
    Response {
        status: StatusCode,
        headers: &'a HeaderMap,
    },
    ConnectFailure,
    /// The connection ended without a response.
    Reset {
        before_request_sent: bool,
    },
    /// The upstream said that it did not begin on it (HTTP/2 `REFUSED_STREAM`, or a `GOAWAY` that leaves it out).
    RefusedStream,
    PerTryTimeout,
    /// A limit of our own for the cluster; the load must not grow.
    LocalOverflow,
}

/// What may be done again with the request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a Method,
    /// All that was taken of its body so far is still there.
    pub replayable: bool,
}

/// When the try ended.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// To the end of the route's timeout; `None`: there is none.
    pub left: Option<Duration>,
    /// Since 1970, to read what a rate limited response says.
    pub unix: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Retry { after: Duration },
    No(Reason),
}

/// Why there is no retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The policy does not ask for it.
    NotAsked,
    /// Somebody is over a limit, here or upstream.
    Overloaded,
    /// It may have been begun on, and must not be done twice.
    NotIdempotent,
    /// The body, or a part of it, is gone.
    NotReplayable,
    /// All tries are used up (response flag `URX`).
    LimitExceeded,
    /// The route's timeout would pass during the back-off.
    DeadlinePassed,
}

impl Default for Policy {
    /// Of a route without a policy: nothing is retried, but a request may ask for it.
    fn default() -> Self {
        Policy::compile(&RetryPolicy::default()).expect("the default policy names no headers and has ordered back-offs")
    }
}

impl Policy {
    /// Fails on what is no header name or regular expression, and on a back-off whose maximum is under its base.
    pub fn compile(policy: &RetryPolicy) -> Result<Policy, CompileError> {
        let rate_limited = policy.rate_limited_backoff.as_ref().map(RateLimited::compile).transpose();
        Ok(Policy {
            on: policy.on,
            status_codes: policy.status_codes.as_slice().into(),
            headers: policy.headers.iter().map(Header::compile).collect::<Result<_, _>>()?,
            num_retries: policy.num_retries,
            backoff: Exponential::compile(&policy.backoff)?,
            min_wait: policy.min_wait,
            rate_limited: rate_limited?,
            avoid_previous_hosts: policy.avoid_previous_hosts,
            avoid_previous_priorities: policy.avoid_previous_priorities,
            host_selection_attempts: policy.host_selection_attempts,
            idempotent_only: policy.idempotent_only,
        })
    }

    /// Whether a try avoids the hosts of earlier ones, and how many picks may be passed over for it. A balancer that chooses by
    /// hash stays with its choice.
    pub fn avoids(&self, balancer: Balancer) -> (bool, u32) {
        (self.avoid_previous_hosts && !balancer.is_consistent(), self.host_selection_attempts)
    }

    /// Of so many tries that were made, how many first ones' priorities the next one avoids (Envoy's `previous_priorities`): they
    /// are looked at anew after each so many tries.
    pub fn priorities_to_avoid(&self, tries: usize) -> usize {
        let every = self.avoid_previous_priorities.map_or(usize::MAX, |every| every.max(1) as usize);
        tries - tries % every
    }

    fn must_not_repeat(&self, method: &Method, outcome: &Outcome<'_>) -> bool {
        self.idempotent_only && !method.is_idempotent() && !outcome.is_unsent()
    }
}

impl Header {
    fn compile(header: &HeaderMatch) -> Result<Self, CompileError> {
        let within = |error: CompileError| error.within(format!("retriable header \"{}\"", header.name));
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| within(CompileError::new("this is no HTTP header name")))?;
        Ok(Header { name, value: Value::compile(&header.value).map_err(within)?, invert: header.invert })
    }

    fn fits(&self, headers: &HeaderMap) -> bool {
        self.value.fits_header(&self.name, headers) != self.invert
    }
}

impl Outcome<'_> {
    /// The upstream provably has not begun on the request.
    pub fn is_unsent(&self) -> bool {
        match self {
            Outcome::ConnectFailure | Outcome::RefusedStream | Outcome::LocalOverflow => true,
            Outcome::Reset { before_request_sent } => *before_request_sent,
            Outcome::Response { .. } | Outcome::PerTryTimeout => false,
        }
    }

    fn is_overload(&self) -> bool {
        match self {
            Outcome::LocalOverflow => true,
            Outcome::Response { headers, .. } => headers.contains_key(x_envoy::OVERLOADED),
            _ => false,
        }
    }
}

/// The tries of one request.
#[derive(Debug)]
pub struct Attempts {
    on: RetryOn,
    left: u32,
    made: u32,
    /// The next back-off is below it.
    interval_ms: u64,
    /// Rare, and large.
    overrides: Option<Box<Overrides>>,
}

impl Attempts {
    /// `None`: whatever happens, the request is not retried (and need not be kept for it). `headers`: of a request that may ask
    /// for retries itself.
    pub fn begin(policy: &Policy, headers: Option<&HeaderMap>) -> Option<Attempts> {
        let overrides = headers.and_then(Overrides::read);
        let (on, left) = match &overrides {
            Some(overrides) => (policy.on | overrides.on, overrides.max_retries.unwrap_or(policy.num_retries)),
            None => (policy.on, policy.num_retries),
        };
        (on != RetryOn::NONE && left > 0).then(|| Attempts {
            on,
            left,
            made: 1,
            interval_ms: policy.backoff.base_ms,
            overrides: overrides.map(Box::new),
        })
    }

    /// The number of the try that is under way, from 1 (`x-envoy-attempt-count`).
    pub fn count(&self) -> u32 {
        self.made
    }

    /// Whether this may repeat what an upstream has begun on, so that other proxies on the way must not do so as well.
    pub fn repeats_begun(&self, policy: &Policy, grpc: bool) -> bool {
        let unsent = RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM | RetryOn::RESET_BEFORE_REQUEST;
        let by_grpc = RetryOn::CANCELLED
            | RetryOn::DEADLINE_EXCEEDED
            | RetryOn::INTERNAL
            | RetryOn::RESOURCE_EXHAUSTED
            | RetryOn::UNAVAILABLE;
        let more = self.overrides.as_deref();
        let no_codes = policy.status_codes.is_empty() && more.is_none_or(|more| more.status_codes.is_empty());
        let mut on = self.on.without(unsent);
        if !grpc {
            on = on.without(by_grpc);
        }
        if no_codes {
            on = on.without(RetryOn::RETRIABLE_STATUS_CODES);
        }
        on != RetryOn::NONE
    }

    /// Whether the try that ended so is followed by another. A yes counts as that other try. The clock is read only where it matters.
    pub fn should_retry(
        &mut self,
        policy: &Policy,
        outcome: &Outcome<'_>,
        request: Request<'_>,
        clock: impl FnOnce() -> Clock,
        dice: &mut Dice,
    ) -> Verdict {
        let refused = match outcome {
            _ if outcome.is_overload() => Some(Reason::Overloaded),
            _ if !self.is_asked(policy, outcome) => Some(Reason::NotAsked),
            _ if policy.must_not_repeat(request.method, outcome) => Some(Reason::NotIdempotent),
            _ if !request.replayable => Some(Reason::NotReplayable),
            _ if self.left == 0 => Some(Reason::LimitExceeded),
            _ => None,
        };
        if let Some(reason) = refused {
            return Verdict::No(reason);
        }
        let clock = clock();
        let after = self.backoff(policy, outcome, clock.unix, dice);
        if clock.left.is_some_and(|left| after >= left) {
            return Verdict::No(Reason::DeadlinePassed);
        }
        self.left -= 1;
        self.made = self.made.saturating_add(1);
        Verdict::Retry { after }
    }

    fn is_asked(&self, policy: &Policy, outcome: &Outcome<'_>) -> bool {
        let any_reset = RetryOn::RESET | RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR;
        match outcome {
            Outcome::Response { status, headers } => self.is_asked_by_response(policy, *status, headers),
            Outcome::ConnectFailure => {
                self.on.has(any_reset | RetryOn::RESET_BEFORE_REQUEST | RetryOn::CONNECT_FAILURE)
            }
            Outcome::Reset { before_request_sent: true } => self.on.has(any_reset | RetryOn::RESET_BEFORE_REQUEST),
            Outcome::Reset { before_request_sent: false } | Outcome::PerTryTimeout => self.on.has(any_reset),
            Outcome::RefusedStream => self.on.has(any_reset | RetryOn::REFUSED_STREAM),
            Outcome::LocalOverflow => false,
        }
    }

    fn is_asked_by_response(&self, policy: &Policy, status: StatusCode, headers: &HeaderMap) -> bool {
        if headers.contains_key(x_envoy::RATELIMITED) {
            return self.on.has(RetryOn::ENVOY_RATELIMITED);
        }
        let code = status.as_u16();
        let more = self.overrides.as_deref();
        let code_is_listed =
            || policy.status_codes.contains(&code) || more.is_some_and(|more| more.status_codes.contains(&code));
        let header_is_listed = || {
            let by_name = || more.is_some_and(|more| more.header_names.iter().any(|name| headers.contains_key(name)));
            policy.headers.iter().any(|header| header.fits(headers)) || by_name()
        };
        let asked = |reason: RetryOn| self.on.has(reason);
        asked(RetryOn::SERVER_ERROR) && status.is_server_error()
            || asked(RetryOn::GATEWAY_ERROR) && matches!(code, 502..=504)
            || asked(RetryOn::RETRIABLE_4XX) && status == StatusCode::CONFLICT
            || asked(RetryOn::RETRIABLE_STATUS_CODES) && code_is_listed()
            || asked(RetryOn::RETRIABLE_HEADERS) && header_is_listed()
            || grpc_reason(headers).is_some_and(asked)
    }

    /// What the response says of when to come back, if the policy reads it and it is no less than the shortest wait; else the
    /// next step of the exponential one, on top of the shortest wait.
    fn backoff(&mut self, policy: &Policy, outcome: &Outcome<'_>, unix: Duration, dice: &mut Dice) -> Duration {
        if let (Some(rate_limited), Outcome::Response { headers, .. }) = (&policy.rate_limited, outcome)
            && let Some(after) = rate_limited.after(headers, unix, dice)
        {
            return after.max(policy.min_wait);
        }
        policy.min_wait.saturating_add(policy.backoff.next(&mut self.interval_ms, dice))
    }
}

/// The reason that a gRPC status in the head of a response is.
fn grpc_reason(headers: &HeaderMap) -> Option<RetryOn> {
    match headers.get("grpc-status")?.as_bytes() {
        b"1" => Some(RetryOn::CANCELLED),
        b"4" => Some(RetryOn::DEADLINE_EXCEEDED),
        b"8" => Some(RetryOn::RESOURCE_EXHAUSTED),
        b"13" => Some(RetryOn::INTERNAL),
        b"14" => Some(RetryOn::UNAVAILABLE),
        _ => None,
    }
}
