//! An edge limit per client, and more clients than are counted one by one.

use http::{HeaderMap, Method};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use weft_model::rate_limit::{Bucket, KeyPart, LimitAnswer, Mode, RateLimit, TokenBucket};
use weft_policy::limit::{Decision, Limiter, Request};
use weft_policy::route::Head;

const MAX_KEYS: u32 = 10_000;
const CLIENTS: u32 = 300_000;

fn per_client(limit: TokenBucket) -> RateLimit {
    let bucket = Bucket { name: "client".into(), key: vec![KeyPart::ClientIp], limit, max_keys: MAX_KEYS };
    let (mode, answer) = (Mode::Enforce, LimitAnswer::default());
    RateLimit { name: "edge".into(), buckets: vec![bucket], mode, answer }
}

/// So many a minute, all at once.
fn limiter(max_tokens: u32, now: Instant) -> Limiter {
    limiter_of(TokenBucket { max_tokens, tokens_per_fill: max_tokens, fill_interval: Duration::from_secs(60) }, now)
}

fn limiter_of(limit: TokenBucket, now: Instant) -> Limiter {
    let overflows = weft_gateway::limits::overflows();
    let made = Limiter::with_overflow(&per_client(limit), [1, 2], now, |_, rate| overflows.make(rate, now));
    made.expect("a limit that lets something through")
}

fn passes(limiter: &Limiter, client: u32, now: Instant) -> bool {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = Head { host: "shop", path: "/", query: None, method: &method, headers: &headers };
    let client = IpAddr::V4(Ipv4Addr::from_bits(client));
    matches!(limiter.check(&Request { head: &head, client, caller: None }, now), Decision::Pass(_))
}

/// What the kernel counts as this process's own memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
}

#[test]
fn memory_is_bounded_whoever_comes() {
    let now = Instant::now();
    let limiter = limiter(100, now);
    (0..=MAX_KEYS).for_each(|client| assert!(passes(&limiter, client, now)));
    let before = resident();
    let passed = (0..CLIENTS).filter(|client| passes(&limiter, *client, now)).count();
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{CLIENTS} clients took {grown} bytes more than {MAX_KEYS}");
    assert_eq!(passed, CLIENTS as usize, "so many clients are not yet taken for each other a hundred times");
}

#[test]
fn no_client_has_more_than_its_limit() {
    let now = Instant::now();
    let limiter = limiter(2, now);
    (0..MAX_KEYS).for_each(|client| assert!(passes(&limiter, client, now)));
    for client in MAX_KEYS..MAX_KEYS + 1000 {
        let passed = (0..5).filter(|_| passes(&limiter, client, now)).count();
        assert!(passed <= 2, "client {client} passed {passed} times");
    }
}

#[test]
fn a_client_after_a_rest_has_its_whole_burst() {
    let now = Instant::now();
    // 10 per second, as it is compiled
    let limit = TokenBucket { max_tokens: 10, tokens_per_fill: 1, fill_interval: Duration::from_millis(100) };
    let limiter = limiter_of(limit, now);
    for (rest, expected) in [(Duration::ZERO, 10), (Duration::from_millis(300), 3), (Duration::from_secs(9), 10)] {
        let now = now + rest;
        assert_eq!((0..20).filter(|_| passes(&limiter, 1, now)).count(), expected, "after {rest:?}");
    }
}
