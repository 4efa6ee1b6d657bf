//! Which requests are tried again, how often, and how long to wait in between.

use crate::route::HeaderMatch;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub on: RetryOn,
    /// For [`RetryOn::RETRIABLE_STATUS_CODES`].
    pub status_codes: Vec<u16>,
    /// For [`RetryOn::RETRIABLE_HEADERS`]: response headers, any of which asks for a retry.
    pub headers: Vec<HeaderMatch>,
    /// Tries after the first. Envoy's default is 1.
    pub num_retries: u32,
    /// To the start of the response. Ignored when it is not shorter than the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// A try that receives nothing for so long has failed.
    pub per_try_idle_timeout: Option<Duration>,
    pub backoff: Backoff,
    /// No wait is shorter (the Gateway API's `retry.backoff` is a minimum): added to every wait of `backoff`, and the least that a
    /// `rate_limited_backoff` comes to. Zero: nothing.
    pub min_wait: Duration,
    /// Replaces `backoff` when the response says when to come back.
    pub rate_limited_backoff: Option<RateLimitedBackoff>,
    /// A try goes to a host that the request has not met, if there is one.
    pub avoid_previous_hosts: bool,
    /// Repeated picks for a try until a host is acceptable; then the last one is taken. Envoy's default is 1, Istio's 5.
    pub host_selection_attempts: u32,
    /// After so many tries the priorities met so far are avoided (Envoy's `previous_priorities`).
    pub avoid_previous_priorities: Option<u32>,
    /// At the per-try timeout another try begins beside the first; the first good answer wins.
    pub hedge_on_per_try_timeout: bool,
    /// What may have been begun on is repeated only when the method is idempotent (RFC 9110 §9.2.2).
    pub idempotent_only: bool,
}

impl Default for RetryPolicy {
    /// Envoy's, for a policy in which nothing is said but that there is one.
    fn default() -> Self {
        RetryPolicy {
            on: RetryOn::NONE,
            status_codes: Vec::new(),
            headers: Vec::new(),
            num_retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            backoff: Backoff::default(),
            min_wait: Duration::ZERO,
            rate_limited_backoff: None,
            avoid_previous_hosts: false,
            host_selection_attempts: 1,
            avoid_previous_priorities: None,
            hedge_on_per_try_timeout: false,
            idempotent_only: false,
        }
    }
}

/// A wait is evenly one of `0..min(base * 2^(n-1), max)` before the n-th retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// At least 1 ms. Envoy's default is 25 ms.
    pub base: Duration,
    /// Envoy's default is ten times the base.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitedBackoff {
    /// Looked at in this order. Lower case.
    pub reset_headers: Vec<ResetHeader>,
    /// A longer wait is not obeyed. Envoy's default is 300 s.
    pub max_interval: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetHeader {
    pub name: String,
    pub format: ResetFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetFormat {
    /// From now.
    Seconds,
    /// Since 1970.
    UnixTimestamp,
}

/// A set of reasons for a retry, with Envoy's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryOn(u32);

impl RetryOn {
    pub const NONE: RetryOn = RetryOn(0);
    /// Any 5xx, or no response at all.
    pub const SERVER_ERROR: RetryOn = RetryOn(1);
    /// 502, 503, 504.
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    pub const RESET: RetryOn = RetryOn(1 << 2);
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    pub const ENVOY_RATELIMITED: RetryOn = RetryOn(1 << 5);
    /// 409 only.
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 6);
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 7);
    pub const RETRIABLE_STATUS_CODES: RetryOn = RetryOn(1 << 8);
    pub const RETRIABLE_HEADERS: RetryOn = RetryOn(1 << 9);
    pub const HTTP3_POST_CONNECT_FAILURE: RetryOn = RetryOn(1 << 10);
    pub const CANCELLED: RetryOn = RetryOn(1 << 11);
    pub const DEADLINE_EXCEEDED: RetryOn = RetryOn(1 << 12);
    pub const INTERNAL: RetryOn = RetryOn(1 << 13);
    pub const RESOURCE_EXHAUSTED: RetryOn = RetryOn(1 << 14);
    pub const UNAVAILABLE: RetryOn = RetryOn(1 << 15);

    const NAMES: [(&'static str, RetryOn); 16] = [
        ("5xx", RetryOn::SERVER_ERROR),
        ("gateway-error", RetryOn::GATEWAY_ERROR),
        ("reset", RetryOn::RESET),
        ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
        ("connect-failure", RetryOn::CONNECT_FAILURE),
        ("envoy-ratelimited", RetryOn::ENVOY_RATELIMITED),
        ("retriable-4xx", RetryOn::RETRIABLE_4XX),
        ("refused-stream", RetryOn::REFUSED_STREAM),
        ("retriable-status-codes", RetryOn::RETRIABLE_STATUS_CODES),
        ("retriable-headers", RetryOn::RETRIABLE_HEADERS),
        ("http3-post-connect-failure", RetryOn::HTTP3_POST_CONNECT_FAILURE),
        ("cancelled", RetryOn::CANCELLED),
        ("deadline-exceeded", RetryOn::DEADLINE_EXCEEDED),
        ("internal", RetryOn::INTERNAL),
        ("resource-exhausted", RetryOn::RESOURCE_EXHAUSTED),
        ("unavailable", RetryOn::UNAVAILABLE),
    ];

    /// The reason of that name.
    pub fn named(name: &str) -> Option<RetryOn> {
        RetryOn::NAMES.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason)
    }

    /// Every name there is.
    pub fn all_names() -> impl Iterator<Item = &'static str> {
        RetryOn::NAMES.iter().map(|(name, _)| *name)
    }

    /// The names of the reasons in this set, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        RetryOn::NAMES.iter().filter(move |(_, reason)| self.has(*reason)).map(|(name, _)| *name)
    }

    /// This set but for these reasons.
    pub fn without(self, reasons: RetryOn) -> RetryOn {
        RetryOn(self.0 & !reasons.0)
    }

    /// Whether any of these reasons is in this set.
    pub fn has(self, reasons: RetryOn) -> bool {
        self.0 & reasons.0 != 0
    }
}

impl std::ops::BitOr for RetryOn {
    type Output = RetryOn;

    fn bitor(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for RetryOn {
    fn bitor_assign(&mut self, other: RetryOn) {
        self.0 |= other.0;
    }
}
