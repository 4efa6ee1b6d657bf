//! Memory and time of an edge limit per client, for as many clients as are asked for (5,000,000 by default):
//! `cargo run -p weft-gateway --example edge_limits -- 5000000`.

use http::{HeaderMap, Method};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use weft_model::rate_limit::{Bucket, KeyPart, LimitAnswer, Mode, RateLimit, TokenBucket};
use weft_policy::limit::{Decision, Limiter, Request};
use weft_policy::route::Head;

fn main() -> anyhow::Result<()> {
    let clients: u32 = std::env::args().nth(1).map_or(Ok(5_000_000), |text| text.parse())?;
    let now = Instant::now();
    let limit = TokenBucket { max_tokens: 100, tokens_per_fill: 100, fill_interval: Duration::from_secs(60) };
    let bucket = Bucket { name: "client".into(), key: vec![KeyPart::ClientIp], limit, max_keys: 10_000 };
    let (mode, answer) = (Mode::Enforce, LimitAnswer::default());
    let spec = RateLimit { name: "edge".into(), buckets: vec![bucket], mode, answer };
    let overflows = weft_gateway::limits::overflows();
    let limiter = Limiter::with_overflow(&spec, [1, 2], now, |_, rate| overflows.make(rate, now))?;

    let (method, headers) = (Method::GET, HeaderMap::new());
    let head = Head { host: "shop", path: "/", query: None, method: &method, headers: &headers };
    let passes = |client: u32| {
        let request = Request { head: &head, client: IpAddr::V4(Ipv4Addr::from_bits(client)), caller: None };
        matches!(limiter.check(&request, now), Decision::Pass(_))
    };
    let before = resident()?;
    let began = Instant::now();
    let passed = (0..clients).filter(|client| passes(*client)).count();
    let took = began.elapsed();
    let grown = (resident()?).saturating_sub(before);
    println!(
        "{clients} clients: {passed} passed, {grown} KiB, {:.2} µs each",
        took.as_secs_f64() * 1e6 / f64::from(clients)
    );
    Ok(())
}

/// This process's own memory, in KiB.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
