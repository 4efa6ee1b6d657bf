//! Reads what a request must look like.

use super::*;
use crate::read::{boolean, expression, header_name, label, texts};
use crate::tree::shorten;

const MOST_CHARACTERS: usize = 4096;

pub(super) fn one_match(at: &Cursor<'_>) -> Option<VirtualMatch> {
    at.fields(|f| {
        f.later("statPrefix", sized(1, 253));
        VirtualMatch {
            place: f.place(),
            name: f.opt("name", sized(1, 253)),
            uri: f.opt("uri", |at| value(at, Least::One)),
            ignore_uri_case: f.opt("ignoreUriCase", boolean).unwrap_or_default(),
            scheme: f.opt("scheme", |at| value(at, Least::One)),
            method: f.opt("method", |at| value(at, Least::One)),
            authority: f.opt("authority", |at| value(at, Least::One)),
            headers: f.opt("headers", headers).unwrap_or_default(),
            without_headers: f.opt("withoutHeaders", headers).unwrap_or_default(),
            query_params: f.opt("queryParams", query_params).unwrap_or_default(),
            port: f.opt("port", port),
            source_labels: f.opt("sourceLabels", texts).unwrap_or_default(),
            source_namespace: f.opt("sourceNamespace", label),
            gateways: f.list("gateways", 0..=1000, gateway),
        }
    })
}

/// Whether a value may be left out or empty, and then means "is there".
#[derive(Clone, Copy, PartialEq)]
enum Least {
    One,
    Present,
}

/// Istio's `StringMatch`: one of `exact`, `prefix` and `regex`.
fn value(at: &Cursor<'_>, least: Least) -> Option<StringMatch> {
    at.fields(|f| {
        let written: Vec<&'static str> = ["exact", "prefix", "regex"].into_iter().filter(|name| f.has(name)).collect();
        let text = || sized(usize::from(least == Least::One), MOST_CHARACTERS);
        let exact = f.opt("exact", text());
        let prefix = f.opt("prefix", text());
        let regex = f.opt("regex", regex);
        match written.as_slice() {
            [] if least == Least::Present => Some(StringMatch::Present),
            [] => f.cursor.error("says nothing", "write exact, prefix or regex"),
            [_, second, ..] => {
                f.wrong(second, format!("stands beside `{}`", written[0]), "keep one of them");
                None
            }
            // as in Istio, what every value fits only asks for the header
            [_] => {
                exact.map(StringMatch::Exact).or(prefix.map(StringMatch::Prefix)).or(regex.map(StringMatch::Regex)).map(
                    |value| match value {
                        StringMatch::Exact(text) | StringMatch::Prefix(text) if text.is_empty() => StringMatch::Present,
                        StringMatch::Regex(text) if text == ".*" && least == Least::Present => StringMatch::Present,
                        value => value,
                    },
                )
            }
        }
    })?
}

/// `*` is no expression, but Istio takes it for "any".
fn regex(at: &Cursor<'_>) -> Option<String> {
    match text_ref(at)? {
        "*" => Some(".*".into()),
        _ => expression(MOST_CHARACTERS)(at),
    }
}

/// An origin that browsers may come from.
pub(super) fn origin(at: &Cursor<'_>) -> Option<OriginMatch> {
    Some(match value(at, Least::One)? {
        StringMatch::Exact(_) => OriginMatch::Pattern(at.fields(|f| {
            f.skip(&["prefix", "regex"]);
            f.opt("exact", crate::read::origin)
        })??),
        StringMatch::Prefix(prefix) => OriginMatch::Prefix(prefix),
        StringMatch::Regex(all) if all == ".*" => OriginMatch::pattern("*"),
        StringMatch::Regex(expression) => OriginMatch::Regex(expression),
        StringMatch::Suffix(_) | StringMatch::Contains(_) | StringMatch::Present => return None,
    })
}

/// HTTP/2's pseudo headers may be named too, as in Envoy.
fn headers(at: &Cursor<'_>) -> Option<Vec<(String, StringMatch)>> {
    let entries = at.entries(|name, at| {
        let name = match &**name {
            ":authority" | ":method" | ":path" => name.to_string(),
            claim if claim.starts_with('@') => {
                let message = format!("Weft does not match {} yet", shorten(claim));
                return at.error(message, "match a header, or write an AuthorizationPolicy");
            }
            name => header_name_of(name, at)?,
        };
        value(at, Least::Present).map(|value| (name, value))
    });
    Some(entries.into_values().collect())
}

/// A header's name that stands before the colon.
pub(super) fn header_name_of(name: &str, at: &Cursor<'_>) -> Option<String> {
    match http::HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(_) => at.error(
            format!("\"{}\" is not a header's name", shorten(name)),
            "write letters, digits and - such as x-request-id",
        ),
    }
}

/// A header's name in a list.
pub(super) fn listed_header(at: &Cursor<'_>) -> Option<String> {
    match text_ref(at)? {
        "*" => Some("*".into()),
        _ => header_name(at),
    }
}

fn query_params(at: &Cursor<'_>) -> Option<Vec<(String, StringMatch)>> {
    Some(at.entries(|_, at| value(at, Least::Present)).into_iter().collect())
}
