//! Which requests a route fits.

use super::super::parts::{Decoded, apart, each, refuse, required};
use super::text::{any_of, read_any_of};
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use matcher::string_matcher::MatchPattern;
use rds::header_matcher::HeaderMatchSpecifier;
use rds::query_parameter_matcher::QueryParameterMatchSpecifier;
use rds::route_match::{ConnectMatcher, PathSpecifier};
use weft_model::route::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch};

const METHOD: &str = ":method";
const CONNECT: &str = "CONNECT";

/// Envoy matches CONNECT requests, which have no path, by a matcher of their own.
pub(super) fn is_connect(matches: &RouteMatch) -> bool {
    matches.path == PathMatch::Any && matches.methods == [CONNECT]
}

pub(super) fn encode(matches: &RouteMatch) -> rds::RouteMatch {
    let connect = is_connect(matches);
    let methods = if connect { None } else { encode_methods(&matches.methods) };
    rds::RouteMatch {
        path_specifier: Some(if connect {
            PathSpecifier::ConnectMatcher(ConnectMatcher {})
        } else {
            encode_path(&matches.path)
        }),
        headers: methods.into_iter().chain(matches.headers.iter().map(encode_header)).collect(),
        query_parameters: matches.query.iter().map(encode_query).collect(),
        ..Default::default()
    }
}

fn encode_path(path: &PathMatch) -> PathSpecifier {
    match path {
        PathMatch::Any => PathSpecifier::Prefix("/".into()),
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::PathPrefix(prefix) => match prefix.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".into()),
            elements => PathSpecifier::PathSeparatedPrefix(elements.into()),
        },
        PathMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
        PathMatch::Regex(expression) => PathSpecifier::SafeRegex(regex(expression.clone())),
    }
}

pub(super) fn regex(regex: String) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex, ..Default::default() }
}

fn encode_methods(methods: &[String]) -> Option<rds::HeaderMatcher> {
    let value = match methods {
        [] => return None,
        [one] => MatchPattern::Exact(one.clone()),
        several => MatchPattern::SafeRegex(regex(any_of(several))),
    };
    Some(rds::HeaderMatcher {
        name: METHOD.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(with_pattern(value))),
        ..Default::default()
    })
}

/// To Envoy an absent header fits no text, not even inverted, unless it is told to take it for an empty one.
pub(super) fn encode_header(header: &HeaderMatch) -> rds::HeaderMatcher {
    let value = encode_string(&header.value);
    rds::HeaderMatcher {
        name: header.name.clone(),
        invert_match: header.invert,
        treat_missing_header_as_empty: header.invert && value.is_some(),
        header_match_specifier: Some(
            value.map_or(HeaderMatchSpecifier::PresentMatch(true), HeaderMatchSpecifier::StringMatch),
        ),
    }
}

fn encode_query(query: &QueryMatch) -> rds::QueryParameterMatcher {
    rds::QueryParameterMatcher {
        name: query.name.clone(),
        query_parameter_match_specifier: Some(
            encode_string(&query.value)
                .map_or(QueryParameterMatchSpecifier::PresentMatch(true), QueryParameterMatchSpecifier::StringMatch),
        ),
    }
}

/// `None` for "present": so is every text that a prefix, suffix or part of nothing fits.
fn encode_string(value: &StringMatch) -> Option<matcher::StringMatcher> {
    Some(with_pattern(match value {
        StringMatch::Present => return None,
        StringMatch::Prefix(text) | StringMatch::Suffix(text) | StringMatch::Contains(text) if text.is_empty() => {
            return None;
        }
        StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        StringMatch::Suffix(text) => MatchPattern::Suffix(text.clone()),
        StringMatch::Contains(text) => MatchPattern::Contains(text.clone()),
        StringMatch::Regex(expression) => MatchPattern::SafeRegex(regex(expression.clone())),
    }))
}

fn with_pattern(pattern: MatchPattern) -> matcher::StringMatcher {
    matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

pub(super) fn decode(matches: rds::RouteMatch) -> Decoded<RouteMatch> {
    apart!(matches => rds::RouteMatch {
        read: path_specifier, case_sensitive, headers, query_parameters;
        ignored: ;
        refused: runtime_fraction, cookies, grpc, tls_context, dynamic_metadata, filter_state
    });
    if case_sensitive.is_some_and(|sensitive| !sensitive.value) {
        return refuse("case_sensitive", "false is not supported by this proxy");
    }
    let mut read = RouteMatch {
        path: PathMatch::Any,
        methods: Vec::new(),
        headers: each("headers", headers, decode_header)?.concat(),
        query: each("query_parameters", query_parameters, decode_query)?,
    };
    match required("path_specifier", path_specifier)? {
        PathSpecifier::ConnectMatcher(_) => read.methods = vec![CONNECT.into()],
        path => {
            read.path = decode_path(path)?;
            take_methods(&mut read);
        }
    }
    Ok(read)
}

fn decode_path(path: PathSpecifier) -> Decoded<PathMatch> {
    match path {
        PathSpecifier::Prefix(prefix) if prefix.is_empty() || prefix == "/" => Ok(PathMatch::Any),
        PathSpecifier::Prefix(prefix) => Ok(PathMatch::Prefix(prefix)),
        PathSpecifier::Path(path) => Ok(PathMatch::Exact(path)),
        PathSpecifier::PathSeparatedPrefix(prefix) => match prefix.trim_end_matches('/') {
            "" => Ok(PathMatch::Any),
            elements => Ok(PathMatch::PathPrefix(elements.into())),
        },
        PathSpecifier::SafeRegex(expression) => Ok(PathMatch::Regex(expression.regex)),
        PathSpecifier::ConnectMatcher(_) | PathSpecifier::PathMatchPolicy(_) => {
            refuse("path_match_policy", "is not supported by this proxy")
        }
    }
}

/// The first matcher on the method that is a plain list of methods becomes the route's methods.
fn take_methods(matches: &mut RouteMatch) {
    let methods = |header: &HeaderMatch| match &header.value {
        StringMatch::Exact(method) if !method.is_empty() => Some(vec![method.clone()]),
        StringMatch::Regex(expression) => read_any_of(expression),
        _ => None,
    };
    let plain = |header: &HeaderMatch| if header.name == METHOD && !header.invert { methods(header) } else { None };
    let first = matches.headers.iter().enumerate().find_map(|(i, header)| Some((i, plain(header)?)));
    if let Some((i, methods)) = first {
        matches.headers.remove(i);
        matches.methods = methods;
    }
}

#[allow(deprecated, reason = "older control planes still send the forms that string_match replaced")]
/// Two when Envoy asks two things at once: that the header is there, and that it does not fit.
pub(super) fn decode_header(header: rds::HeaderMatcher) -> Decoded<Vec<HeaderMatch>> {
    let name = header.name.to_ascii_lowercase();
    let matches = |value, invert| HeaderMatch { name: name.clone(), value, invert };
    let value = match header.header_match_specifier {
        None => StringMatch::Present,
        Some(HeaderMatchSpecifier::PresentMatch(present)) => {
            return Ok(vec![matches(StringMatch::Present, present == header.invert_match)]);
        }
        Some(HeaderMatchSpecifier::StringMatch(value)) => decode_string(value)?,
        Some(HeaderMatchSpecifier::ExactMatch(text)) => StringMatch::Exact(text),
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => StringMatch::Prefix(text),
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => StringMatch::Suffix(text),
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => StringMatch::Contains(text),
        Some(HeaderMatchSpecifier::SafeRegexMatch(expression)) => StringMatch::Regex(expression.regex),
        Some(HeaderMatchSpecifier::RangeMatch(_)) => return refuse("range_match", "is not supported by this proxy"),
    };
    match (value, header.invert_match, header.treat_missing_header_as_empty) {
        (StringMatch::Present, invert, _) => Ok(vec![matches(StringMatch::Present, invert)]),
        (value, true, true) => Ok(vec![matches(value, true)]),
        (value, true, false) => Ok(vec![matches(value, true), matches(StringMatch::Present, false)]),
        (value, false, false) => Ok(vec![matches(value, false)]),
        (_, false, true) => refuse("treat_missing_header_as_empty", "is supported only with invert_match"),
    }
}

fn decode_query(query: rds::QueryParameterMatcher) -> Decoded<QueryMatch> {
    let value = match query.query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(value)) => decode_string(value)?,
        Some(QueryParameterMatchSpecifier::PresentMatch(true)) | None => StringMatch::Present,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return refuse("present_match", "false is not supported by this proxy");
        }
    };
    Ok(QueryMatch { name: query.name, value })
}

fn decode_string(value: matcher::StringMatcher) -> Decoded<StringMatch> {
    if value.ignore_case {
        return refuse("string_match.ignore_case", "is not supported by this proxy");
    }
    match value.match_pattern {
        Some(MatchPattern::Prefix(text) | MatchPattern::Suffix(text) | MatchPattern::Contains(text))
            if text.is_empty() =>
        {
            Ok(StringMatch::Present)
        }
        Some(MatchPattern::Exact(text)) => Ok(StringMatch::Exact(text)),
        Some(MatchPattern::Prefix(text)) => Ok(StringMatch::Prefix(text)),
        Some(MatchPattern::Suffix(text)) => Ok(StringMatch::Suffix(text)),
        Some(MatchPattern::Contains(text)) => Ok(StringMatch::Contains(text)),
        Some(MatchPattern::SafeRegex(expression)) => Ok(StringMatch::Regex(expression.regex)),
        Some(MatchPattern::Custom(_)) => refuse("string_match.custom", "is not supported by this proxy"),
        None => refuse("string_match", "is empty"),
    }
}
