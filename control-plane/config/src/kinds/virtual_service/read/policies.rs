//! Reads how a route's requests are treated: retries, faults, copies, CORS.

use super::actions::header_list;
use super::*;
use crate::read::{boolean, decimal, one_of, origin, positive_duration};
use crate::tree::shorten;
use weft_model::fault::AbortWith;

/// gRPC's status codes by their names, each at its number.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) fn retries(at: &Cursor<'_>) -> Option<Retries> {
    at.fields(|f| {
        if !f.has("attempts") {
            let message = "has no attempts, which means 0: nothing is retried";
            f.cursor.warn(message, "write how many tries may follow the first, such as attempts: 2");
        }
        let (on, status_codes) = f.opt("retryOn", retry_on).unzip();
        Retries {
            attempts: f.opt("attempts", number(0, i32::MAX.into())).unwrap_or(0),
            per_try_timeout: f.opt("perTryTimeout", positive_duration),
            backoff: f.opt("backoff", positive_duration),
            on,
            status_codes: status_codes.unwrap_or_default(),
            remote_localities: f.opt("retryRemoteLocalities", boolean).unwrap_or_default(),
            ignore_previous_hosts: f.opt("retryIgnorePreviousHosts", boolean),
        }
    })
}

/// Reasons joined by commas. An integer is a status code, and asks for `retriable-status-codes` by itself.
fn retry_on(at: &Cursor<'_>) -> Option<(RetryOn, Vec<u16>)> {
    // written alone, a code may be a number
    let written = match &at.node.value {
        crate::tree::Value::Scalar(scalar) if scalar.integer().is_some() => scalar.text.to_string(),
        _ => sized(1, 1024)(at)?,
    };
    let (mut on, mut codes) = (RetryOn::NONE, Vec::new());
    for part in written.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match (RetryOn::named(part), part.parse::<u16>()) {
            (Some(reason), _) => on |= reason,
            (None, Ok(code @ 100..=599)) => codes.push(code),
            (None, Ok(code)) => return at.error(format!("{code} is not a status code"), "write one from 100 to 599"),
            (None, Err(_)) => {
                let nearest = crate::read::suggestion(part, RetryOn::all_names()).map(crate::read::quoted_hint);
                let known = || format!("write some of {}", RetryOn::all_names().collect::<Vec<_>>().join(", "));
                let message = format!("\"{}\" is not a reason for a retry", shorten(part));
                return at.error(message, nearest.unwrap_or_else(known));
            }
        }
    }
    if !codes.is_empty() {
        on |= RetryOn::RETRIABLE_STATUS_CODES;
    }
    Some((on, codes))
}

pub(super) fn fault(at: &Cursor<'_>) -> Option<VirtualFault> {
    at.fields(|f| {
        let fault = VirtualFault { delay: f.opt("delay", delay), abort: f.opt("abort", abort) };
        if !f.has("delay") && !f.has("abort") {
            f.cursor.error::<()>("does nothing", "write delay or abort");
        }
        fault
    })
}

fn delay(at: &Cursor<'_>) -> Option<Delay> {
    at.fields(|f| {
        f.later("exponentialDelay", positive_duration);
        let duration = match f.has("exponentialDelay") && !f.has("fixedDelay") {
            true => None,
            false => f.must("fixedDelay", positive_duration),
        };
        f.skip(&["fixedDelay"]);
        let older = f.opt("percent", whole_percent);
        let share = f.opt("percentage", percentage).or(older);
        warn_of_no_share(f, &["percentage", "percent"], "nothing is delayed");
        duration.map(|duration| Delay { duration, share: share.unwrap_or(Share::NONE) })
    })?
}

fn abort(at: &Cursor<'_>) -> Option<Abort> {
    at.fields(|f| {
        f.later("http2Error", sized(1, 64));
        let http = f.opt("httpStatus", number(200, 599)).map(AbortWith::Http);
        let grpc = f.opt("grpcStatus", grpc_status).map(AbortWith::Grpc);
        let older = f.opt("percent", whole_percent);
        let share = f.opt("percentage", percentage).or(older);
        match (f.has("httpStatus"), f.has("grpcStatus")) {
            (true, true) => f.wrong("grpcStatus", "stands beside `httpStatus`", "keep one of them"),
            (false, false) if !f.has("http2Error") => {
                f.missing::<()>("httpStatus", "write it, or grpcStatus: what the caller is answered");
            }
            _ => {}
        }
        warn_of_no_share(f, &["percentage", "percent"], "nothing is aborted");
        http.or(grpc).map(|with| Abort { with, share: share.unwrap_or(Share::NONE) })
    })?
}

fn warn_of_no_share(f: &Fields<'_>, names: &[&str], outcome: &str) {
    if !names.iter().any(|name| f.has(name)) {
        let message = format!("has no percentage, which means 0: {outcome}");
        f.cursor.warn(message, "write percentage: {value: 100} for every request");
    }
}

fn grpc_status(at: &Cursor<'_>) -> Option<u8> {
    let mut numbered = [("", 0); GRPC_STATUSES.len()];
    for (number, name) in (0..).zip(GRPC_STATUSES) {
        numbered[usize::from(number)] = (name, number);
    }
    one_of(&numbered)(at)
}

/// Istio's `Percent`, kept to a ten thousandth of a percent, as Envoy does.
fn percentage(at: &Cursor<'_>) -> Option<Share> {
    let percent = at.fields(|f| f.opt("value", decimal(0.0, 100.0)).unwrap_or(0.0))?;
    Share::ratio((percent * 10_000.0) as u32, 1_000_000)
}

/// The older way to write it.
fn whole_percent(at: &Cursor<'_>) -> Option<Share> {
    number::<u32>(0, 100)(at).and_then(|percent| Share::ratio(percent, 100))
}

/// `mirror` with its percentage, or the newer `mirrors`. A share of 0 is no mirror.
pub(super) fn mirrors(f: &mut Fields<'_>) -> Vec<VirtualMirror> {
    let lone = f.opt("mirror", destination);
    let older = f.opt("mirrorPercent", whole_percent).or_else(|| f.opt("mirror_percent", whole_percent));
    let share = f.opt("mirrorPercentage", percentage).or(older);
    let mut mirrors = f.list("mirrors", 0..=16, |at| {
        at.fields(|f| {
            let share = f.opt("percentage", percentage).unwrap_or(Share::ALL);
            f.must("destination", destination).map(|destination| VirtualMirror { destination, share })
        })?
    });
    if f.has("mirror") && f.has("mirrors") {
        f.wrong("mirror", "stands beside `mirrors`", "move it there");
    }
    for name in ["mirrorPercentage", "mirrorPercent", "mirror_percent"] {
        if f.has(name) && !f.has("mirror") {
            f.wrong(name, "has no `mirror` that it is for", "write `mirror:`, or `percentage:` in each of `mirrors`");
        }
    }
    mirrors.extend(lone.map(|destination| VirtualMirror { destination, share: share.unwrap_or(Share::ALL) }));
    mirrors.retain(|mirror| mirror.share != Share::NONE);
    mirrors
}

pub(super) fn cors(at: &Cursor<'_>) -> Option<VirtualCors> {
    at.fields(|f| {
        let preflights =
            f.opt("unmatchedPreflights", one_of(&[("UNSPECIFIED", false), ("FORWARD", true), ("IGNORE", false)]));
        if preflights == Some(true) {
            f.not_acted_on("unmatchedPreflights");
        }
        let mut origins = f.list("allowOrigins", 0..=1000, matches::origin);
        let older = f.list("allowOrigin", 0..=1000, origin);
        if f.has("allowOrigin") && f.has("allowOrigins") {
            f.wrong("allowOrigin", "is the old way to write `allowOrigins`, which is written too", "remove it");
        }
        origins.extend(older.into_iter().map(OriginMatch::Pattern));
        VirtualCors {
            allow_origins: origins,
            allow_methods: f.list("allowMethods", 0..=64, method),
            allow_headers: header_list(f, "allowHeaders"),
            expose_headers: header_list(f, "exposeHeaders"),
            allow_credentials: f.opt("allowCredentials", boolean).unwrap_or_default(),
            max_age: f.opt("maxAge", go_duration),
        }
    })
}

fn method(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 64)(at)?;
    match http::Method::from_bytes(written.as_bytes()) {
        _ if written == "*" => Some(written),
        Ok(_) if written.bytes().all(|byte| !byte.is_ascii_lowercase()) => Some(written),
        _ => at.error(format!("\"{}\" is not a method", shorten(&written)), "write one such as GET, in capitals"),
    }
}
