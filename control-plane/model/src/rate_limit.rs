//! How much of what is let through, counted by each proxy for itself.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One policy's buckets. A request is let through when every bucket that it falls into has a token for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimit {
    /// For metrics, logs and people: `shop/orders-per-client`.
    pub name: String,
    pub mode: Mode,
    pub buckets: Vec<Bucket>,
    pub answer: LimitAnswer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    #[default]
    Enforce,
    /// Counts and logs what it would refuse, and lets it through.
    Shadow,
}

/// A bucket for each distinct value of its key; without a key, one for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub name: String,
    /// A request that lacks one of these falls into no bucket.
    pub key: Vec<KeyPart>,
    pub limit: TokenBucket,
    /// Distinct keys that are counted exactly; further ones share a sketch of bounded size (they may be refused early,
    /// never let through late).
    pub max_keys: u32,
}

/// What of a request tells whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyPart {
    ClientIp,
    /// Its value. Lower case.
    Header(String),
    /// Only requests whose header has this value fall into the bucket.
    HeaderIs {
        name: String,
        value: String,
    },
    Path,
    /// Only requests under this prefix, by path elements.
    PathPrefix(String),
    Method,
    /// The workload that calls, by its identity.
    Caller,
}

/// Envoy's `TokenBucket`: full at the start, never above `max_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBucket {
    /// Above 0.
    pub max_tokens: u32,
    /// Envoy's default is 1.
    pub tokens_per_fill: u32,
    /// Above 0.
    pub fill_interval: Duration,
}

/// What the caller of a refused request is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitAnswer {
    /// 400 to 599. Envoy's default is 429.
    pub status: u16,
    /// Empty: the reason in words.
    pub body: String,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset` on every answer, refused or not.
    pub headers: bool,
}

impl Default for LimitAnswer {
    fn default() -> Self {
        LimitAnswer { status: 429, body: String::new(), headers: true }
    }
}
