//! CORS. Normal form: `max_age` in whole seconds; an expression that says just what a pattern with stars says is that pattern; names are neither empty nor hold commas or outer blanks.

use super::super::parts::{self, Decoded, apart, each, refuse};
use super::text::{escape, unescape};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use std::time::Duration;
use weft_model::route::{Cors, OriginMatch};

/// What the star of a host stands for.
const LABELS: &str = "[-A-Za-z0-9._]+";
/// What `:*` stands for: any port, or none.
const ANY_PORT: &str = "(:[0-9]+)?";

pub(super) fn encode(cors: &Cors) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: cors.allow_origins.iter().map(encode_origin).collect(),
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
fn encode_origin(origin: &OriginMatch) -> StringMatcher {
    let regex = |regex| MatchPattern::SafeRegex(RegexMatcher { regex, ..Default::default() });
    let pattern = match origin {
        OriginMatch::Pattern(pattern) if pattern != "*" && pattern.contains('*') => regex(expression_of(pattern)),
        OriginMatch::Pattern(origin) => MatchPattern::Exact(origin.clone()),
        OriginMatch::Prefix(prefix) => MatchPattern::Prefix(prefix.clone()),
        OriginMatch::Regex(expression) => regex(expression.clone()),
    };
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

fn expression_of(pattern: &str) -> String {
    let (rest, port) = pattern.strip_suffix(":*").map_or((pattern, ""), |rest| (rest, ANY_PORT));
    rest.split('*').map(escape).collect::<Vec<_>>().join(LABELS) + port
}

/// The pattern that [`expression_of`] made this of.
fn pattern_of(expression: &str) -> Option<String> {
    let (rest, port) = expression.strip_suffix(ANY_PORT).map_or((expression, ""), |rest| (rest, ":*"));
    let parts = rest.split(LABELS).map(unescape).collect::<Option<Vec<_>>>()?;
    Some(parts.join("*") + port).filter(|pattern| pattern.contains('*') && pattern.contains("://"))
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

fn read_origin(matcher: StringMatcher) -> Decoded<OriginMatch> {
    if matcher.ignore_case {
        return refuse("ignore_case", "is not supported by this proxy");
    }
    Ok(match matcher.match_pattern {
        Some(MatchPattern::Exact(origin)) => OriginMatch::Pattern(origin),
        Some(MatchPattern::Prefix(prefix)) => OriginMatch::Prefix(prefix),
        Some(MatchPattern::SafeRegex(RegexMatcher { regex, .. })) => {
            pattern_of(&regex).map_or(OriginMatch::Regex(regex), OriginMatch::Pattern)
        }
        _ => return refuse("", "an origin is told by exact, prefix or safe_regex"),
    })
}
