//! How long a request may take, and what the next one is told of it.
//!
//! Several limits cover each other: the route's, the caller's own (gRPC's or Envoy's headers), that of each try.
//! They come to one pair of [`Timeouts`] when the request begins, as in Envoy's router. Every try then tells the upstream
//! what is left, so that nobody works on an answer for which nobody waits any more.

#[cfg(test)]
mod tests;

use crate::x_envoy;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use weft_model::route::Forward;

pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Thirty years: what anybody asks beyond it is cut, so that it can be added to any point in time.
pub const LONGEST: Duration = Duration::from_secs(30 * 365 * 86_400);

/// What a route says of timeouts. Zero means none, as in Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Over all tries and the waits between them.
    pub global: Option<Duration>,
    /// To the start of a try's response.
    pub per_try: Option<Duration>,
    /// As [`Forward::grpc_timeout_max`]: what a caller's `grpc-timeout` may ask for. Zero: anything; `None`: it is not read.
    pub grpc_timeout_max: Option<Duration>,
    pub hedge_on_per_try_timeout: bool,
}

/// What holds for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Over all tries and the waits between them.
    pub global: Option<Duration>,
    /// To the start of a try's response. Shorter than `global`.
    pub per_try: Option<Duration>,
    pub hedge_on_per_try_timeout: bool,
    /// A timeout is answered with 204 instead of 504.
    pub alt_response: bool,
    /// The upstream's `grpc-timeout` is ours to write.
    pub tells_grpc: bool,
    /// `global` is the caller's own `grpc-timeout`: past it, its call is over (`DEADLINE_EXCEEDED`).
    pub asked_by_grpc: bool,
}

impl Limits {
    pub fn of(forward: &Forward) -> Limits {
        Limits {
            global: forward.request_timeout,
            per_try: forward.retry.as_ref().and_then(|retry| retry.per_try_timeout),
            grpc_timeout_max: forward.grpc_timeout_max,
            hedge_on_per_try_timeout: forward.retry.as_ref().is_some_and(|retry| retry.hedge_on_per_try_timeout),
        }
    }

    /// The caller's headers come before the route. With `trust_expected` (Envoy's `respect_expected_rq_timeout`) what a
    /// proxy before us expects comes before what its caller asked of it. What cannot be read is passed over.
    pub fn resolve(&self, headers: &HeaderMap, trust_expected: bool) -> Timeouts {
        let grpc_timeout_max = self.grpc_timeout_max.filter(|_| is_grpc(headers));
        let asked_by_grpc = grpc_timeout_max.and_then(|max| capped_grpc_timeout(headers, max));
        let mut timeouts = Timeouts {
            global: asked_by_grpc.or(self.global.and_then(limited)),
            per_try: self.per_try.and_then(limited),
            hedge_on_per_try_timeout: self.hedge_on_per_try_timeout,
            alt_response: false,
            tells_grpc: grpc_timeout_max.is_some(),
            asked_by_grpc: asked_by_grpc.is_some(),
        };
        if x_envoy::is_asked(headers) {
            timeouts.obey(headers, trust_expected);
        }
        if let (Some(per_try), Some(global)) = (timeouts.per_try, timeouts.global)
            && per_try >= global
        {
            timeouts.per_try = None;
        }
        timeouts
    }
}

impl Timeouts {
    fn obey(&mut self, headers: &HeaderMap, trust_expected: bool) {
        let milliseconds = |name: &HeaderName| x_envoy::number(headers, name).map(Duration::from_millis);
        let expected = trust_expected && headers.contains_key(x_envoy::EXPECTED_RQ_TIMEOUT_MS);
        let global = if expected { &x_envoy::EXPECTED_RQ_TIMEOUT_MS } else { &x_envoy::UPSTREAM_RQ_TIMEOUT_MS };
        if let Some(global) = milliseconds(global) {
            (self.global, self.asked_by_grpc) = (limited(global), false);
        }
        if let Some(per_try) = milliseconds(&x_envoy::UPSTREAM_RQ_PER_TRY_TIMEOUT_MS) {
            self.per_try = limited(per_try);
        }
        match headers.get(x_envoy::HEDGE_ON_PER_TRY_TIMEOUT).map(HeaderValue::as_bytes) {
            Some(b"true") => self.hedge_on_per_try_timeout = true,
            Some(b"false") => self.hedge_on_per_try_timeout = false,
            _ => {}
        }
        self.alt_response = headers.contains_key(x_envoy::UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE);
    }

    /// What is left of the global timeout; `None`: there is none.
    pub fn left(&self, elapsed: Duration) -> Option<Duration> {
        self.global.map(|global| global.saturating_sub(elapsed))
    }

    /// How long the upstream may take over a try that begins now, never zero (which would mean any time); `None`: as long
    /// as it likes. While a hedge runs, the first try goes on to the end of the global timeout.
    pub fn expected(&self, elapsed: Duration) -> Option<Duration> {
        let per_try = self.per_try.filter(|_| !self.hedge_on_per_try_timeout);
        let expected = per_try.into_iter().chain(self.left(elapsed)).min()?;
        Some(expected.max(Duration::from_millis(1)))
    }

    /// Writes what is [`Timeouts::expected`], in milliseconds rounded up, as `x-envoy-expected-rq-timeout-ms`, and as `grpc-timeout` where that is ours to write.
    pub fn tell(&self, elapsed: Duration, headers: &mut HeaderMap) {
        let Some(expected) = self.expected(elapsed) else { return };
        let milliseconds = u64::try_from(expected.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        headers.insert(x_envoy::EXPECTED_RQ_TIMEOUT_MS, HeaderValue::from(milliseconds));
        if self.tells_grpc {
            headers.insert(GRPC_TIMEOUT, format_grpc_timeout(Duration::from_millis(milliseconds)));
        }
    }
}

/// Zero is no limit.
fn limited(timeout: Duration) -> Option<Duration> {
    (!timeout.is_zero()).then(|| timeout.min(LONGEST))
}

/// A zero `grpc-timeout` is over already, unlike a zero of Envoy's headers.
fn capped_grpc_timeout(headers: &HeaderMap, max: Duration) -> Option<Duration> {
    let asked = parse_grpc_timeout(headers.get(GRPC_TIMEOUT)?.as_bytes())?;
    Some(asked.min(limited(max).unwrap_or(LONGEST)))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// One to eight digits and a unit of `HMSmun` (gRPC over HTTP/2, "Timeout"). `None`: it is something else.
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0, |amount: u64, digit| amount * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// In milliseconds, or the first coarser unit of which eight digits are enough; rounded down.
pub fn format_grpc_timeout(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [(1, 'm'), (1000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let milliseconds = timeout.as_millis();
    let fits = units.into_iter().map(|(size, unit)| (milliseconds / size, unit)).find(|(amount, _)| *amount <= MOST);
    let (amount, unit) = fits.unwrap_or((MOST, 'H'));
    HeaderValue::from_str(&format!("{amount}{unit}")).expect("digits and a letter are a header value")
}
