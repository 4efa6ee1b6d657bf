//! CORS. Normal form: `max_age` in whole seconds; names are neither empty nor hold commas or outer blanks.

use super::super::parts::{self, Decoded, apart, each, refuse};
use super::text::{escape, unescape};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use std::time::Duration;
use weft_model::route::Cors;

pub(super) fn encode(cors: &Cors) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: cors.allow_origins.iter().map(|origin| encode_origin(origin)).collect(),
        allow_methods: cors.allow_methods.join(", "),
        allow_headers: cors.allow_headers.join(", "),
        expose_headers: cors.expose_headers.join(", "),
        max_age: cors.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: parts::yes_or_no(cors.allow_credentials),
        forward_not_matching_preflights: parts::yes_or_no(false),
        ..Default::default()
    }
}

/// To Envoy an exact `*` is every origin, other stars need an expression.
fn encode_origin(origin: &str) -> StringMatcher {
    let pattern = if origin != "*" && origin.contains('*') {
        let regex = origin.split('*').map(escape).collect::<Vec<_>>().join(".*");
        MatchPattern::SafeRegex(RegexMatcher { regex, ..Default::default() })
    } else {
        MatchPattern::Exact(origin.into())
    };
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

pub(super) fn decode(policy: CorsPolicy) -> Decoded<Cors> {
    apart!(policy => CorsPolicy {
        read: allow_origin_string_match, allow_methods, allow_headers, expose_headers, max_age, allow_credentials;
        ignored: allow_private_network_access, forward_not_matching_preflights;
        refused: filter_enabled, shadow_enabled
    });
    let max_age = match max_age.trim() {
        "" => None,
        seconds => match seconds.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => return refuse("max_age", format!("`{seconds}` is no number of seconds")),
        },
    };
    Ok(Cors {
        allow_origins: each("allow_origin_string_match", allow_origin_string_match, read_origin)?,
        allow_methods: list(&allow_methods),
        allow_headers: list(&allow_headers),
        expose_headers: list(&expose_headers),
        allow_credentials: parts::is_true(&allow_credentials),
        max_age,
    })
}

fn list(names: &str) -> Vec<String> {
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(String::from).collect()
}

fn read_origin(matcher: StringMatcher) -> Decoded<String> {
    let origin = match matcher.match_pattern {
        Some(MatchPattern::Exact(origin)) => Some(origin),
        Some(MatchPattern::SafeRegex(RegexMatcher { regex, .. })) => {
            let parts: Option<Vec<_>> = regex.split(".*").map(unescape).collect();
            parts.map(|parts| parts.join("*"))
        }
        _ => None,
    };
    origin.ok_or(()).or_else(|()| refuse("", "an origin is an exact text, or an expression with `.*` in place of `*`"))
}
