//! Local rate limits.
//!
//! All of a route's limits travel in our metadata, for Envoy knows one bucket of a route, and none by a key of the same meaning. For a stock Envoy
//! the first limit with a bucket for all is written as well: an enforced one, if there is. It fills no more often than every
//! 50 ms there (so its tokens come in larger portions), and answers 429 in place of a status that Envoy has no name for.

use super::super::super::numbers::{self, count, read_runtime_fraction, runtime_fraction};
use super::super::super::ours;
use super::super::super::parts::{self, At, Decoded, apart, refuse, required};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::XRateLimitHeadersRfcVersion as Headers;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::r#type::v3::{HttpStatus, StatusCode, TokenBucket as WireBucket};
use std::time::Duration;
use weft_model::rate_limit::{Bucket, LimitAnswer, Mode, RateLimit, TokenBucket};
use weft_model::route::Share;

/// Envoy refuses shorter ones.
const SHORTEST_FILL: Duration = Duration::from_millis(50);
/// Envoy wants a prefix for its statistics.
const UNNAMED: &str = "weft";
const DEFAULT_STATUS: u16 = 429;

/// A filter that limits nothing.
pub(super) fn nothing() -> LocalRateLimit {
    LocalRateLimit { stat_prefix: UNNAMED.into(), ..Default::default() }
}

pub(super) fn encode(limits: &[RateLimit]) -> Option<LocalRateLimit> {
    let for_all = |limit: &&RateLimit| limit.buckets.iter().any(|bucket| bucket.key.is_empty());
    let enforced = limits.iter().filter(for_all).find(|limit| limit.mode == Mode::Enforce);
    let limit = enforced.or_else(|| limits.iter().find(for_all))?;
    let bucket = limit.buckets.iter().find(|bucket| bucket.key.is_empty())?;
    let enforced = if limit.mode == Mode::Enforce { Share::ALL } else { Share::NONE };
    let status = StatusCode::try_from(i32::from(limit.answer.status)).ok();
    let headers = if limit.answer.headers { Headers::DraftVersion03 } else { Headers::Off };
    Some(LocalRateLimit {
        stat_prefix: if limit.name.is_empty() { UNNAMED.into() } else { limit.name.clone() },
        status: status.map(|status| HttpStatus { code: status as i32 }),
        token_bucket: Some(encode_bucket(&bucket.limit)),
        filter_enabled: runtime_fraction(Share::ALL),
        filter_enforced: runtime_fraction(enforced),
        enable_x_ratelimit_headers: headers as i32,
        ..Default::default()
    })
}

/// As many tokens in the same time, in portions that Envoy takes.
fn encode_bucket(limit: &TokenBucket) -> WireBucket {
    let interval = limit.fill_interval.max(Duration::from_nanos(1));
    let portion = SHORTEST_FILL.as_nanos().div_ceil(interval.as_nanos()).max(1);
    let portion = u32::try_from(portion).expect("at most 50 ms of nanoseconds");
    WireBucket {
        max_tokens: limit.max_tokens.max(1),
        tokens_per_fill: parts::number(limit.tokens_per_fill.max(1).saturating_mul(portion)),
        fill_interval: Some(parts::duration(interval.saturating_mul(portion))),
    }
}

/// What our metadata says, as valid as the model promises.
pub(super) fn check(limits: Vec<RateLimit>) -> Decoded<Vec<RateLimit>> {
    for limit in &limits {
        let wrong = |what: &str| refuse(&ours::path(super::RATE_LIMITS), format!("`{}` {what}", limit.name));
        if !(400..600).contains(&limit.answer.status) {
            return wrong("has a status that is not between 400 and 599");
        }
        if limit.buckets.iter().any(|bucket| bucket.limit.max_tokens == 0 || bucket.limit.fill_interval.is_zero()) {
            return wrong("has a bucket of no tokens, or without a fill interval");
        }
    }
    Ok(limits)
}

/// `None` for a filter that lets everything pass.
pub(super) fn decode(limit: LocalRateLimit) -> Decoded<Option<RateLimit>> {
    apart!(limit => LocalRateLimit {
        read: stat_prefix, status, token_bucket, filter_enabled, filter_enforced, enable_x_ratelimit_headers;
        ignored: stage, vh_rate_limits, always_consume_default_token_bucket, max_dynamic_descriptors;
        refused: request_headers_to_add_when_not_enforced, response_headers_to_add, descriptors, local_rate_limit_per_downstream_connection, local_cluster_rate_limit, rate_limited_as_resource_exhausted, rate_limits, enable_retry_after_header
    });
    let enabled = read_runtime_fraction("filter_enabled", filter_enabled)?;
    let mode = match read_runtime_fraction("filter_enforced", filter_enforced)? {
        Share::ALL => Mode::Enforce,
        Share::NONE => Mode::Shadow,
        _ => return refuse("filter_enforced", "only 0 % and 100 % are supported by this proxy"),
    };
    match enabled {
        Share::NONE => return Ok(None),
        Share::ALL => {}
        _ => return refuse("filter_enabled", "only 0 % and 100 % are supported by this proxy"),
    }
    let bucket = Bucket {
        name: String::new(),
        key: Vec::new(),
        limit: read_bucket(required("token_bucket", token_bucket)?).at("token_bucket")?,
        max_keys: 1,
    };
    // as in Envoy, what is no refusal becomes the usual one
    let status = match numbers::read_status("status.code", status.map_or(DEFAULT_STATUS.into(), |status| status.code))?
    {
        status if status < 400 => DEFAULT_STATUS,
        status => status,
    };
    let headers = enable_x_ratelimit_headers == Headers::DraftVersion03 as i32;
    Ok(Some(RateLimit {
        name: stat_prefix,
        mode,
        buckets: vec![bucket],
        answer: LimitAnswer { status, body: String::new(), headers },
    }))
}

fn read_bucket(bucket: WireBucket) -> Decoded<TokenBucket> {
    if bucket.max_tokens == 0 {
        return refuse("max_tokens", "is 0");
    }
    let tokens_per_fill = count(bucket.tokens_per_fill, 1);
    if tokens_per_fill == 0 {
        return refuse("tokens_per_fill", "is 0");
    }
    let fill_interval = required("fill_interval", bucket.fill_interval)?;
    let fill_interval = parts::read_duration("fill_interval", fill_interval)?;
    if fill_interval < SHORTEST_FILL {
        return refuse("fill_interval", "is less than 50 ms");
    }
    Ok(TokenBucket { max_tokens: bucket.max_tokens, tokens_per_fill, fill_interval })
}
