//! Our kinds as their schemas have them. Nobody makes these: they are described.

#![allow(dead_code, reason = "types that are only described")]

use schemars::JsonSchema;

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RateLimitPolicySpec {
    /// What it limits, in the policy's own namespace: Gateways, HTTPRoutes, Services.
    #[schemars(length(min = 1, max = 16))]
    target_refs: Vec<TargetRef>,
    /// Enforce (the default), or Shadow: count and log what would be refused, and let it through.
    #[serde(default)]
    #[schemars(with = "Mode")]
    mode: Option<Mode>,
    /// A request must pass all whose key it has.
    #[schemars(length(min = 1, max = 16))]
    limits: Vec<Limit>,
    /// What a refused request is answered.
    #[serde(default)]
    #[schemars(with = "Answer")]
    answer: Option<Answer>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TargetRef {
    /// Empty for Kubernetes' core group.
    #[schemars(length(max = 253))]
    group: String,
    #[schemars(length(min = 1, max = 63))]
    kind: String,
    #[schemars(length(min = 1, max = 253))]
    name: String,
    /// One listener of a Gateway, one named rule of a route.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 253))]
    section_name: Option<String>,
}

#[derive(JsonSchema)]
enum Mode {
    Enforce,
    Shadow,
}

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Limit {
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// What tells requests apart: a bucket for each distinct value. None: one bucket for all.
    #[serde(default)]
    #[schemars(with = "Vec<KeyPart>", length(max = 8))]
    key: Option<Vec<KeyPart>>,
    /// So many in each `per`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    requests: u32,
    /// A duration from 1ms to 24h, such as 1s.
    #[schemars(regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    per: String,
    /// So many at once after a rest. By default as many as requests.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000_000))]
    burst: Option<u32>,
    /// So many keys are counted exactly, 10000 by default; more share a sketch.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = 1_000_000))]
    max_keys: Option<u32>,
}

/// Exactly one of these.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
struct KeyPart {
    /// The client's address.
    #[serde(default, rename = "clientIP")]
    #[schemars(with = "Nothing")]
    client_ip: Option<Nothing>,
    /// A header's value, or only those requests whose header has this value.
    #[serde(default)]
    #[schemars(with = "Header")]
    header: Option<Header>,
    /// The path without its query.
    #[serde(default)]
    #[schemars(with = "Nothing")]
    path: Option<Nothing>,
    /// Only requests under this path.
    #[serde(default)]
    #[schemars(with = "String", length(min = 2, max = 1024))]
    path_prefix: Option<String>,
    #[serde(default)]
    #[schemars(with = "Nothing")]
    method: Option<Nothing>,
    /// The workload that calls, by its identity.
    #[serde(default)]
    #[schemars(with = "Nothing")]
    caller: Option<Nothing>,
}

#[derive(JsonSchema)]
struct Nothing {}

#[derive(JsonSchema)]
struct Header {
    #[schemars(length(min = 1, max = 256))]
    name: String,
    #[serde(default)]
    #[schemars(with = "String", length(max = 4096))]
    value: Option<String>,
}

#[derive(JsonSchema)]
struct Answer {
    /// 429 by default.
    #[serde(default)]
    #[schemars(with = "u16", range(min = 400, max = 599))]
    status: Option<u16>,
    /// By default the reason in words.
    #[serde(default)]
    #[schemars(with = "String", length(max = 4096))]
    body: Option<String>,
    /// Whether RateLimit-Limit, -Remaining and -Reset are on every answer; they are by default.
    #[serde(default)]
    #[schemars(with = "bool")]
    headers: Option<bool>,
}
