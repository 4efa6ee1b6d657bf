//! New paths. Envoy's `prefix_rewrite` replaces characters, ours replaces path elements, so a slash has to be
//! put in or taken out where the two differ; an expression does it when nothing else can.
//!
//! Normal form: a prefix that replaces elements has no slash at the end, save `/` itself; a replaced prefix of an exact path,
//! and of a prefix by characters, is not empty; an expression `^/.*$` without groups is a `Full`.

use super::super::parts::{Decoded, refuse};
use super::matches::regex;
use super::text::escape;
use envoy_types::pb::envoy::config::route::v3::redirect_action::PathRewriteSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use weft_model::route::{PathMatch, PathRewrite};

/// Fits a whole path.
const WHOLE: &str = "^/.*$";

/// A rewritten path in Envoy's words.
pub(super) enum Encoded {
    Nothing,
    Prefix(String),
    Regex(RegexMatchAndSubstitute),
}

impl Encoded {
    /// As a route action holds it.
    pub(super) fn into_parts(self) -> (String, Option<RegexMatchAndSubstitute>) {
        match self {
            Encoded::Nothing => (String::new(), None),
            Encoded::Prefix(prefix) => (prefix, None),
            Encoded::Regex(regex) => (String::new(), Some(regex)),
        }
    }
}

pub(super) fn encode(rewrite: Option<&PathRewrite>, path: &PathMatch) -> Encoded {
    match rewrite {
        None => Encoded::Nothing,
        Some(PathRewrite::Full(full)) => substitute(WHOLE.into(), full.replace('\\', r"\\")),
        Some(PathRewrite::Regex { pattern, substitution }) => substitute(pattern.clone(), substitution.clone()),
        Some(PathRewrite::Prefix(replacement)) => encode_prefix(replacement, path),
    }
}

/// As a redirect holds it: like a route's, but it knows whole paths.
pub(super) fn encode_redirect(rewrite: Option<&PathRewrite>, path: &PathMatch) -> Option<PathRewriteSpecifier> {
    if let Some(PathRewrite::Full(full)) = rewrite {
        return Some(PathRewriteSpecifier::PathRedirect(full.clone()));
    }
    match encode(rewrite, path) {
        Encoded::Nothing => None,
        Encoded::Prefix(prefix) => Some(PathRewriteSpecifier::PrefixRewrite(prefix)),
        Encoded::Regex(regex) => Some(PathRewriteSpecifier::RegexRewrite(regex)),
    }
}

fn substitute(pattern: String, substitution: String) -> Encoded {
    Encoded::Regex(RegexMatchAndSubstitute { pattern: Some(regex(pattern)), substitution })
}

fn encode_prefix(replacement: &str, path: &PathMatch) -> Encoded {
    let elements = replacement.trim_end_matches('/');
    match path {
        _ if is_root(path) => Encoded::Prefix(format!("{elements}/")),
        PathMatch::PathPrefix(_) if elements.is_empty() => substitute(slashes_after(path), "/".into()),
        PathMatch::PathPrefix(_) => Encoded::Prefix(elements.into()),
        _ if replacement.is_empty() => Encoded::Prefix("/".into()),
        _ => Encoded::Prefix(replacement.into()),
    }
}

fn is_root(path: &PathMatch) -> bool {
    match path {
        PathMatch::Any => true,
        PathMatch::PathPrefix(prefix) => prefix.trim_end_matches('/').is_empty(),
        PathMatch::Prefix(prefix) => prefix.is_empty() || prefix == "/",
        PathMatch::Exact(_) | PathMatch::Regex(_) => false,
    }
}

/// Fits the prefix that a path has, with the slashes behind it.
fn slashes_after(path: &PathMatch) -> String {
    match path {
        PathMatch::PathPrefix(prefix) => format!("^{}/*", escape(prefix.trim_end_matches('/'))),
        _ => "^/*".into(),
    }
}

pub(super) fn decode(
    prefix: String,
    regex: Option<RegexMatchAndSubstitute>,
    path: &PathMatch,
) -> Decoded<Option<PathRewrite>> {
    match (prefix.is_empty(), regex) {
        (true, None) => Ok(None),
        (true, Some(regex)) => decode_regex(regex, path).map(Some),
        (false, None) => decode_prefix(prefix, path).map(Some),
        (false, Some(_)) => refuse("regex_rewrite", "and prefix_rewrite are both set"),
    }
}

pub(super) fn decode_redirect(specifier: PathRewriteSpecifier, path: &PathMatch) -> Decoded<Option<PathRewrite>> {
    match specifier {
        PathRewriteSpecifier::PathRedirect(full) => Ok(Some(PathRewrite::Full(full))),
        PathRewriteSpecifier::PrefixRewrite(prefix) => decode(prefix, None, path),
        PathRewriteSpecifier::RegexRewrite(regex) => decode(String::new(), Some(regex), path),
        PathRewriteSpecifier::PathRewrite(_) => refuse("path_rewrite", "is not supported by this proxy"),
    }
}

fn decode_prefix(replacement: String, path: &PathMatch) -> Decoded<PathRewrite> {
    match (path, replacement.strip_suffix('/')) {
        (PathMatch::Any, Some("")) => Ok(PathRewrite::Prefix("/".into())),
        (PathMatch::Any, Some(elements)) => Ok(PathRewrite::Prefix(elements.into())),
        (PathMatch::Any, None) => refuse(
            "prefix_rewrite",
            format!("`{replacement}` must end with a slash, as the prefix `/` does that it replaces"),
        ),
        (PathMatch::PathPrefix(_), Some(_)) => refuse(
            "prefix_rewrite",
            format!("`{replacement}` must not end with a slash: the rest of the path begins with one"),
        ),
        (PathMatch::Regex(_), _) => refuse("prefix_rewrite", "a path that is matched by an expression has no prefix"),
        _ => Ok(PathRewrite::Prefix(replacement)),
    }
}

fn decode_regex(regex: RegexMatchAndSubstitute, path: &PathMatch) -> Decoded<PathRewrite> {
    let pattern = regex.pattern.unwrap_or_default().regex;
    let substitution = regex.substitution;
    if matches!(path, PathMatch::PathPrefix(_)) && pattern == slashes_after(path) && substitution == "/" {
        return Ok(PathRewrite::Prefix("/".into()));
    }
    if pattern == WHOLE
        && let Some(full) = plain(&substitution)
    {
        return Ok(PathRewrite::Full(full));
    }
    Ok(PathRewrite::Regex { pattern, substitution })
}

/// A substitution that names no group.
fn plain(substitution: &str) -> Option<String> {
    let mut text = String::with_capacity(substitution.len());
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|next| *next == '\\')?),
            other => text.push(other),
        }
    }
    Some(text)
}
