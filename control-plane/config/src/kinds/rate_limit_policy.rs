//! `weft.dev/v1alpha1` RateLimitPolicy: how many requests of whom are let through. No standard has it; it attaches as
//! the Gateway API's policies do.
//!
//! ```yaml
//! apiVersion: weft.dev/v1alpha1
//! kind: RateLimitPolicy
//! metadata: {name: orders, namespace: shop}
//! spec:
//!   targetRefs:                      # 1 to 16, of the policy's own namespace
//!     - group: gateway.networking.k8s.io
//!       kind: Gateway                # all routes of its listeners, counted at the edge
//!       name: edge
//!       sectionName: https           # optional: one listener
//!     - group: gateway.networking.k8s.io
//!       kind: HTTPRoute              # wherever the route is served: gateway or calling sidecar
//!       name: orders
//!       sectionName: create          # optional: the rule of this name
//!     - group: ""
//!       kind: Service                # what comes to its pods, counted by their sidecars
//!       name: order
//!   mode: Enforce                    # the default; Shadow counts and logs, and lets through
//!   limits:                          # 1 to 16; a request must pass all whose key it has
//!     - name: per-client             # each name once
//!       key:                         # 0 to 8 parts; a bucket for each distinct value. None: one bucket for all
//!         - clientIP: {}
//!         - header: {name: x-tenant}              # its value
//!         - header: {name: x-plan, value: free}   # only requests that have this value
//!         - path: {}
//!         - pathPrefix: /orders                   # only requests under it, by path elements
//!         - method: {}
//!         - caller: {}                            # the workload that calls, by its identity
//!       requests: 10                 # 1 to 1,000,000,000
//!       per: 1s                      # 1ms to 24h
//!       burst: 20                    # so many at once after a rest; default: as many as requests
//!       maxKeys: 10000               # the default; 1 to 1,000,000 keys are counted exactly, more share a sketch
//!   answer:
//!     status: 429                    # the default; 400 to 599
//!     body: ""                       # the default: the reason in words; at most 4096 characters
//!     headers: true                  # the default: RateLimit-Limit, -Remaining and -Reset on every answer
//! ```
//!
//! Each proxy counts for itself: three replicas of a gateway let through three times as much.

use super::{PolicyTarget, policy_targets};
use crate::Place;
use crate::read::{
    Cursor, Fields, boolean, gateway_duration, header_name, header_value, label, number, one_of, path, sized,
};
use std::collections::HashMap;
use std::time::Duration;
use weft_model::rate_limit::{KeyPart, LimitAnswer, Mode};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitPolicy {
    pub target_refs: Vec<PolicyTarget>,
    pub mode: Mode,
    pub limits: Vec<Limit>,
    pub answer: LimitAnswer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub place: Place,
    pub name: String,
    pub key: Vec<KeyPart>,
    /// So many `per` this time.
    pub requests: u32,
    pub per: Duration,
    pub burst: u32,
    pub max_keys: u32,
}

pub(crate) fn read_rate_limit_policy(f: &mut Fields<'_>) -> Option<RateLimitPolicy> {
    f.must("spec", |at| at.fields(spec))
}

fn spec(f: &mut Fields<'_>) -> RateLimitPolicy {
    let policy = RateLimitPolicy {
        target_refs: policy_targets(f, true),
        mode: f.opt("mode", one_of(&[("Enforce", Mode::Enforce), ("Shadow", Mode::Shadow)])).unwrap_or_default(),
        limits: f.list("limits", 1..=16, limit),
        answer: f.opt("answer", answer).unwrap_or_default(),
    };
    let mut names = HashMap::new();
    for limit in &policy.limits {
        if let Some(first) = names.insert(&limit.name, limit.place.words()) {
            let message = format!("a limit is already named {} {first}", limit.name);
            f.wrong_at(&limit.place, "limits", message, "rename it");
        }
    }
    policy
}

fn limit(at: &Cursor<'_>) -> Option<Limit> {
    let count = || number::<u32>(1, 1_000_000_000);
    at.fields(|f| {
        let key = f.list("key", 0..=8, key_part);
        if key.iter().enumerate().any(|(at, part)| key[..at].contains(part)) {
            f.wrong("key", "has the same part twice", "write each part once");
        }
        let requests = f.need("requests", count());
        Limit {
            place: f.place(),
            name: f.need("name", label),
            key,
            requests,
            per: f.need("per", up_to_a_day),
            burst: f.opt("burst", count()).unwrap_or(requests),
            max_keys: f.opt("maxKeys", number(1, 1_000_000)).unwrap_or(10_000),
        }
    })
}

fn up_to_a_day(at: &Cursor<'_>) -> Option<Duration> {
    let duration = gateway_duration(at)?;
    match (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&duration) {
        true => Some(duration),
        false => at.error(format!("{duration:?} is out of range"), "write a duration from 1ms to 24h"),
    }
}

fn key_part(at: &Cursor<'_>) -> Option<KeyPart> {
    const NAMES: [&str; 6] = ["clientIP", "header", "path", "pathPrefix", "method", "caller"];
    let nothing = |part: KeyPart| move |at: &Cursor<'_>| at.fields(|_| part);
    at.fields(|f| {
        let parts = [
            f.opt("clientIP", nothing(KeyPart::ClientIp)),
            f.opt("header", header),
            f.opt("path", nothing(KeyPart::Path)),
            f.opt("pathPrefix", path_prefix),
            f.opt("method", nothing(KeyPart::Method)),
            f.opt("caller", nothing(KeyPart::Caller)),
        ];
        if NAMES.iter().filter(|name| f.has(name)).count() != 1 {
            let hint = format!("write one of {} in each item", NAMES.join(", "));
            f.cursor.error::<()>("needs exactly one thing to tell requests apart by", hint);
        }
        parts.into_iter().flatten().next()
    })?
}

fn header(at: &Cursor<'_>) -> Option<KeyPart> {
    at.fields(|f| {
        let name = f.must("name", header_name)?;
        match f.opt("value", header_value) {
            Some(value) => Some(KeyPart::HeaderIs { name, value }),
            None => Some(KeyPart::Header(name)),
        }
    })?
}

/// Without a trailing slash, which means nothing.
fn path_prefix(at: &Cursor<'_>) -> Option<KeyPart> {
    match path(at)?.trim_end_matches('/') {
        "" => at.error("\"/\" is every path", "leave it out"),
        prefix => Some(KeyPart::PathPrefix(prefix.to_owned())),
    }
}

fn answer(at: &Cursor<'_>) -> Option<LimitAnswer> {
    let default = LimitAnswer::default();
    at.fields(|f| LimitAnswer {
        status: f.opt("status", number(400, 599)).unwrap_or(default.status),
        body: f.opt("body", sized(0, 4096)).unwrap_or(default.body),
        headers: f.opt("headers", boolean).unwrap_or(default.headers),
    })
}
