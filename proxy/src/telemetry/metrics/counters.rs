//! What one worker counts besides requests.
//!
//! Each number has one writer, its worker, so counting is a plain addition; the scraper adds the
//! workers up.

use super::histogram::add;
use std::sync::atomic::{AtomicU64, Ordering};

/// Only ever grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub fn add(&self, amount: u64) {
        add(&self.0, amount);
    }

    #[inline]
    pub fn one(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Things that come and go.
#[derive(Debug, Default)]
pub struct Level {
    came: Counter,
    went: Counter,
}

impl Level {
    #[inline]
    pub fn up(&self) {
        self.came.one();
    }

    #[inline]
    pub fn down(&self) {
        self.went.one();
    }

    /// How many came since the start.
    pub fn total(&self) -> u64 {
        self.came.value()
    }

    /// How many are here now.
    pub fn now(&self) -> u64 {
        // Read in this order, what went is never more than what came.
        let went = self.went.value();
        self.came.value().saturating_sub(went)
    }
}

/// A worker's own counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections from callers.
    pub downstream_connections: Level,
    /// Connections to endpoints.
    pub upstream_connections: Level,
    /// Requests between their head and the end of their answer.
    pub requests: Level,
    /// Connections to endpoints that could not be made.
    pub upstream_connect_failures: Counter,
    /// TLS handshakes with callers that failed.
    pub tls_handshake_failures: Counter,
    /// Those of them where the caller's certificate was the matter, or the lack of one.
    pub client_certificate_failures: Counter,
    /// Connections whose bytes were no request that could be read.
    pub unparsed_requests: Counter,
    /// Requests that a rate limit in shadow mode would have refused.
    pub shadow_limited: Counter,
    /// Bugs: a connection's task panicked and was ended alone.
    pub panics: Counter,
}
