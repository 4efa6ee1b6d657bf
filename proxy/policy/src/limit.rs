//! Rate limits: which buckets a request falls into, and whether each has a token for it.
//!
//! A limit per client needs a bucket per client, and clients are as many as an attacker likes. So what is counted exactly
//! is bounded ([`weft_model::rate_limit::Bucket::max_keys`]); buckets that are full again are forgotten, since a new one
//! is full too; and clients beyond that share an [`Overflow`] of fixed size. A key is kept as a fingerprint of 128 bits under a
//! seed that no client knows: its memory does not depend on what was sent, and no API key stays in it.
//!
//! A request that one bucket refuses takes nothing from the others.

mod key;
mod keyed;
mod sketch;
#[cfg(test)]
mod tests;

use crate::bucket::{Rate, Refused, Remaining, TokenBucket};
use crate::route::Head;
use crate::{CompileError, bucket};
use http::{HeaderMap, HeaderName, HeaderValue};
use key::{Fingerprint, Key};
use keyed::Keyed;
pub use sketch::{Overflow, Sketch};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use weft_model::rate_limit::{self, Mode, RateLimit};

pub const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
pub const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
pub const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What tells whose bucket a request falls into.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub head: &'a Head<'a>,
    pub client: IpAddr,
    /// The workload's identity, where it proved one.
    pub caller: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'l> {
    /// With what the tightest bucket has left; `None`: it fell into none.
    Pass(Option<Remaining>),
    Refuse(Refusal<'l>),
    /// Let it through, and say that it would have been refused.
    Shadowed(Refusal<'l>),
}

/// The bucket that had no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'l> {
    pub bucket: &'l str,
    /// `max_tokens`.
    pub limit: u32,
    /// To its next token.
    pub retry_after: Duration,
}

/// A compiled [`RateLimit`] and its tokens. Shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    spec: RateLimit,
    buckets: Box<[Bucket]>,
    seed: [u64; 2],
    born: Instant,
}

#[derive(Debug)]
struct Bucket {
    name: Box<str>,
    key: Key,
    tokens: Tokens,
}

#[derive(Debug)]
enum Tokens {
    Single(TokenBucket),
    PerKey { keyed: Keyed, overflow: Box<dyn Overflow> },
}

impl Limiter {
    /// With a [`Sketch`] behind each bucket. The seed is secret and the process's own.
    pub fn compile(spec: &RateLimit, seed: [u64; 2], now: Instant) -> Result<Limiter, CompileError> {
        Limiter::with_overflow(spec, seed, now, |_, rate| Box::new(Sketch::new(rate, now)))
    }

    /// Fails on a bucket that never has or gets a token, and on what is no header name.
    pub fn with_overflow(
        spec: &RateLimit,
        seed: [u64; 2],
        now: Instant,
        mut overflow: impl FnMut(&rate_limit::Bucket, Rate) -> Box<dyn Overflow>,
    ) -> Result<Limiter, CompileError> {
        let mut compile = |bucket: &rate_limit::Bucket| {
            let rate = Rate::compile(&bucket.limit)?;
            let key = Key::compile(&bucket.key)?;
            let tokens = match key.varies() {
                false => Tokens::Single(TokenBucket::new(rate, now)),
                true => Tokens::PerKey { keyed: Keyed::new(rate, bucket.max_keys), overflow: overflow(bucket, rate) },
            };
            Ok(Bucket { name: bucket.name.as_str().into(), key, tokens })
        };
        let within = |bucket: &rate_limit::Bucket, error: CompileError| {
            error.within(format!("bucket \"{}\"", bucket.name)).within(format!("rate limit \"{}\"", spec.name))
        };
        let buckets = spec.buckets.iter().map(|bucket| compile(bucket).map_err(|error| within(bucket, error)));
        Ok(Limiter { buckets: buckets.collect::<Result<_, _>>()?, spec: spec.clone(), seed, born: now })
    }

    /// What this was compiled from: an equal one may go on with these tokens.
    pub fn spec(&self) -> &RateLimit {
        &self.spec
    }

    pub fn check(&self, request: &Request<'_>, now: Instant) -> Decision<'_> {
        let age_ns = bucket::age_ns(self.born, now);
        let mut tightest: Option<Remaining> = None;
        let mut taken: SmallVec<[(&Bucket, Fingerprint); 4]> = SmallVec::new();
        for bucket in &self.buckets {
            let Some(key) = bucket.key.of(request, self.seed) else { continue };
            match bucket.take(key, age_ns, now) {
                Ok(remaining) => {
                    let is_tighter = tightest.is_none_or(|tightest| remaining.tokens < tightest.tokens);
                    tightest = if is_tighter { Some(remaining) } else { tightest };
                    taken.push((bucket, key));
                }
                Err(refused) => {
                    taken.iter().for_each(|(bucket, key)| bucket.give_back(*key));
                    return self.refuse(bucket, refused);
                }
            }
        }
        Decision::Pass(tightest)
    }

    fn refuse<'l>(&self, bucket: &'l Bucket, Refused { limit, retry_after }: Refused) -> Decision<'l> {
        let refusal = Refusal { bucket: &bucket.name, limit, retry_after };
        match self.spec.mode {
            Mode::Enforce => Decision::Refuse(refusal),
            Mode::Shadow => Decision::Shadowed(refusal),
        }
    }
}

impl Bucket {
    fn take(&self, key: Fingerprint, age_ns: u64, now: Instant) -> Result<Remaining, Refused> {
        match &self.tokens {
            Tokens::Single(bucket) => bucket.take(now),
            Tokens::PerKey { keyed, overflow } => {
                let key_of_overflow = key as u64; // half of the hash is a hash
                let elsewhere = || overflow.tokens(key_of_overflow, now);
                keyed.take(key, age_ns, elsewhere).unwrap_or_else(|| overflow.take(key_of_overflow, now))
            }
        }
    }

    /// What an overflow gave stays taken.
    fn give_back(&self, key: Fingerprint) {
        match &self.tokens {
            Tokens::Single(bucket) => bucket.give_back(),
            Tokens::PerKey { keyed, .. } => keyed.give_back(key),
        }
    }
}

impl Remaining {
    /// The `RateLimit-*` headers of an answer; times in whole seconds, rounded up.
    pub fn write(&self, headers: &mut HeaderMap) {
        write(headers, self.limit, self.tokens, self.reset);
    }
}

impl Refusal<'_> {
    /// The `RateLimit-*` headers of an answer; times in whole seconds, rounded up.
    pub fn write(&self, headers: &mut HeaderMap) {
        write(headers, self.limit, 0, self.retry_after);
    }

    /// The value of `Retry-After`: whole seconds, rounded up.
    pub fn retry_after_seconds(&self) -> u64 {
        whole_seconds(self.retry_after)
    }
}

fn write(headers: &mut HeaderMap, limit: u32, remaining: u32, reset: Duration) {
    headers.insert(RATELIMIT_LIMIT, HeaderValue::from(limit));
    headers.insert(RATELIMIT_REMAINING, HeaderValue::from(remaining));
    headers.insert(RATELIMIT_RESET, HeaderValue::from(whole_seconds(reset)));
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}
