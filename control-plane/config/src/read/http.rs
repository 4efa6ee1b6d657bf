//! Readers of what HTTP is made of: names and values of headers, methods, paths, expressions, origins.

use super::fields::Cursor;
use super::scalars::sized;
use crate::tree::shorten;
use http::{HeaderName, HeaderValue};

/// The Gateway API's methods.
pub(crate) const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// A header's name, in lower case.
pub(crate) fn header_name(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 256)(at)?;
    match HeaderName::from_bytes(written.as_bytes()) {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(_) => at.error(
            format!("\"{}\" is not a header's name", shorten(&written)),
            "write letters, digits and - such as x-request-id",
        ),
    }
}

pub(crate) fn header_value(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 4096)(at)?;
    match HeaderValue::from_str(&written) {
        Ok(_) => Some(written),
        Err(_) => at.error("has a character that a header cannot carry", "remove line breaks and control characters"),
    }
}

/// A path that requests are compared with: absolute, in its normal form.
pub(crate) fn path(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 1024)(at)?;
    match path_fault(&written) {
        None => {
            if written.contains('*') {
                at.warn(
                    "a * in a path is an ordinary character",
                    "write a shorter PathPrefix, or type: RegularExpression with [^/]+ where anything may stand",
                );
            }
            Some(written)
        }
        Some(fault) => at.error(format!("\"{}\" {fault}", shorten(&written)), "write a path such as /orders"),
    }
}

/// The rules of the Gateway API's `HTTPPathMatch`.
fn path_fault(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some("must start with /".into());
    }
    let lower = path.to_ascii_lowercase();
    if let Some(part) = ["//", "/./", "/../", "%2f", "#"].iter().find(|part| lower.contains(*part)) {
        return Some(format!("must not contain {part}"));
    }
    if path.ends_with("/..") || path.ends_with("/.") {
        return Some("must not end with /. or /..".into());
    }
    let bytes = path.as_bytes();
    let bad = bytes.iter().enumerate().find(|(at, byte)| match byte {
        b'%' => !bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        byte => !byte.is_ascii_alphanumeric() && !b"-/._~!$&'()*+,;=:@".contains(byte),
    });
    bad.map(|(at, byte)| match byte {
        b'%' => "has a % that is not followed by two hex digits".into(),
        _ => format!("has a character at {} that must be percent-encoded", at + 1),
    })
}

/// A path that is put in place of another: the same, but it may be empty.
pub(crate) fn replacement_path(at: &Cursor<'_>) -> Option<String> {
    let written = sized(0, 1024)(at)?;
    match http::uri::PathAndQuery::try_from(written.as_str()) {
        Ok(_) if written.is_empty() || written.starts_with('/') && !written.contains(['?', '#']) => Some(written),
        _ => at.error(
            format!("\"{}\" is not a path to put in place", shorten(&written)),
            "write an absolute path such as /v2, without a query",
        ),
    }
}

/// An expression of RE2's syntax that compiles to a bounded size.
pub(crate) fn expression(most: usize) -> impl Fn(&Cursor<'_>) -> Option<String> {
    move |at| {
        let written = sized(1, most)(at)?;
        match at.report.expression(&written) {
            None => Some(written),
            Some((fault, hint)) => at.error(format!("\"{}\" {fault}", shorten(&written)), hint),
        }
    }
}

/// `https://shop.example`, `https://*.shop.example:8443`, `*`.
pub(crate) fn origin(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 253)(at)?;
    let is_origin = |(scheme, rest): (&str, &str)| {
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "*"));
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let port_fits = port == "*" || port.parse::<u16>().is_ok_and(|port| port > 0);
        let inner = host.strip_prefix('*').unwrap_or(host);
        let host_fits = !host.is_empty() && !inner.contains([':', '/', '?', '#', '*', ' ', '@']);
        scheme_fits && port_fits && host_fits
    };
    if written == "*" || written.split_once("://").is_some_and(is_origin) {
        return Some(written);
    }
    let hint = match written.ends_with('/') && written.contains("://") {
        true => format!("drop the slash at its end: {}", written.trim_end_matches('/')),
        false => "write a scheme and a host such as https://shop.example, or *".into(),
    };
    at.error(format!("\"{}\" is not an origin", shorten(&written)), hint)
}
