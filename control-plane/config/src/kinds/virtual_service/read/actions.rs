//! Reads where a request goes, and what is changed in it on its way.

use super::matches::{header_name_of, listed_header};
use super::*;
use crate::kinds::is_dns_label;
use crate::read::{expression, header_name, label, one_of, replacement_path, text};
use crate::tree::shorten;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

const ACTIONS: [&str; 4] = ["route", "redirect", "directResponse", "delegate"];

/// Istio's own limit.
const MOST_BODY_BYTES: usize = 1024 * 1024;

pub(super) fn action(f: &mut Fields<'_>) -> Option<VirtualAction> {
    let written: Vec<&'static str> = ACTIONS.into_iter().filter(|name| f.has(name)).collect();
    let destinations = if f.has("route") { destinations(f) } else { Vec::new() };
    f.skip(&["route"]);
    let redirect = f.opt("redirect", redirect).map(VirtualAction::Redirect);
    let response = f.opt("directResponse", direct_response).map(VirtualAction::Respond);
    let delegate = f.opt("delegate", delegate).map(VirtualAction::Delegate);
    match written.as_slice() {
        [] => f.missing("route", "write where its requests go: route, redirect, directResponse or delegate"),
        ["route"] => Some(VirtualAction::Route(destinations)),
        [_] => redirect.or(response).or(delegate),
        [first, second, ..] => {
            f.wrong(second, format!("stands beside `{first}`"), "keep one of them, or make them two routes");
            None
        }
    }
}

/// What has no meaning beside an answer of the proxy's own.
pub(super) fn check_exclusions(f: &mut Fields<'_>, action: &VirtualAction) {
    let action = match action {
        VirtualAction::Redirect(_) => "redirect",
        VirtualAction::Respond(_) => "directResponse",
        VirtualAction::Route(_) | VirtualAction::Delegate(_) => return,
    };
    for name in ["fault", "rewrite"].into_iter().filter(|name| f.has(name)).collect::<Vec<_>>() {
        f.wrong(name, format!("cannot stand beside `{action}`"), "remove it");
    }
}

fn redirect(at: &Cursor<'_>) -> Option<VirtualRedirect> {
    at.fields(|f| {
        let number = f.opt("port", port).map(RedirectPort::Number);
        let derived = f.opt(
            "derivePort",
            one_of(&[
                ("FROM_PROTOCOL_DEFAULT", RedirectPort::FromProtocol),
                ("FROM_REQUEST_PORT", RedirectPort::FromRequest),
            ]),
        );
        if f.has("port") && f.has("derivePort") {
            f.wrong("derivePort", "stands beside `port`", "keep one of them");
        }
        let mut redirect = VirtualRedirect {
            scheme: f.opt("scheme", one_of(&[("http", Scheme::Http), ("https", Scheme::Https)])),
            host: f.opt("authority", authority),
            port: number.or(derived).unwrap_or(RedirectPort::FromProtocol),
            path: f.opt("uri", replacement_path),
            status: f.opt("redirectCode", redirect_code).unwrap_or(301),
        };
        // the port of an authority is a port like another
        if let Some((host, number)) = redirect.host.as_deref().and_then(|authority| authority.rsplit_once(':'))
            && let Ok(number) = number.parse()
        {
            let host = host.to_owned();
            if redirect.port == RedirectPort::FromProtocol {
                redirect.port = RedirectPort::Number(number);
            }
            redirect.host = Some(host);
        }
        if redirect.host.is_none()
            && redirect.path.is_none()
            && !["scheme", "port", "derivePort"].iter().any(|name| f.has(name))
        {
            f.cursor.error::<()>("redirects to where it came from", "write uri, authority, port or scheme");
        }
        redirect
    })
}

fn redirect_code(at: &Cursor<'_>) -> Option<u16> {
    match number(100, 599)(at)? {
        status @ (301 | 302 | 303 | 307 | 308) => Some(status),
        other => at.error(format!("{other} is not a redirect"), "write 301, 302, 303, 307 or 308"),
    }
}

/// A host name or address, perhaps with a port.
fn authority(at: &Cursor<'_>) -> Option<String> {
    let written = sized(1, 300)(at)?;
    let (host, port) = written.rsplit_once(':').filter(|(host, _)| !host.contains(':')).unwrap_or((&written, "80"));
    let is_host = host.to_ascii_lowercase().split('.').all(is_dns_label);
    match port.parse::<u16>() {
        Ok(1..) if is_host => Some(written),
        _ => at.error(
            format!("\"{}\" is not a host", shorten(&written)),
            "write a host such as shop.example, perhaps with :8080",
        ),
    }
}

fn direct_response(at: &Cursor<'_>) -> Option<DirectResponse> {
    at.fields(|f| {
        let status = f.must("status", number(200, 599));
        let body = f.opt("body", body).unwrap_or_default();
        Some(DirectResponse { status: status?, body })
    })?
}

fn body(at: &Cursor<'_>) -> Option<String> {
    let body = at.fields(|f| {
        let string = f.opt("string", text);
        let bytes = f.opt("bytes", encoded_text);
        if f.has("string") && f.has("bytes") {
            f.wrong("bytes", "stands beside `string`", "keep one of them");
        }
        if !f.has("string") && !f.has("bytes") {
            f.cursor.error::<()>("says nothing", "write string or bytes");
        }
        string.or(bytes)
    })??;
    match body.len() {
        0..=MOST_BODY_BYTES => Some(body),
        length => at.error(format!("has {length} bytes; at most {MOST_BODY_BYTES} are allowed"), "shorten it"),
    }
}

fn encoded_text(at: &Cursor<'_>) -> Option<String> {
    let written: String = text_ref(at)?.split_ascii_whitespace().collect();
    match STANDARD.decode(written).map(String::from_utf8) {
        Ok(Ok(text)) => Some(text),
        Ok(Err(_)) => at.error("is not text in UTF-8", "Weft answers with text; let a Service send other bytes"),
        Err(_) => at.error("is not base64", "encode it with base64, or write `string:`"),
    }
}

fn delegate(at: &Cursor<'_>) -> Option<Delegate> {
    at.fields(|f| Delegate {
        place: f.place(),
        namespace: f.opt("namespace", label),
        name: f.need("name", object_name),
    })
}

pub(super) fn rewrite(at: &Cursor<'_>) -> Option<VirtualRewrite> {
    at.fields(|f| {
        let uri = f.opt("uri", replacement_path).map(UriRewrite::Matched);
        let regex = f.opt("uriRegexRewrite", regex_rewrite);
        if f.has("uri") && f.has("uriRegexRewrite") {
            f.wrong("uriRegexRewrite", "stands beside `uri`", "keep one of them");
        }
        let rewrite = VirtualRewrite { authority: f.opt("authority", authority), path: uri.or(regex) };
        if !["uri", "uriRegexRewrite", "authority"].iter().any(|name| f.has(name)) {
            f.cursor.error::<()>("rewrites nothing", "write uri, uriRegexRewrite or authority");
        }
        rewrite
    })
}

fn regex_rewrite(at: &Cursor<'_>) -> Option<UriRewrite> {
    at.fields(|f| {
        let pattern = f.must("match", expression(1024));
        let substitution = f.must("rewrite", sized(0, 1024))?;
        let pattern = pattern?;
        if let Some(fault) = substitution_fault(&substitution, &pattern) {
            f.wrong("rewrite", fault, "write \\1 for the first group, \\\\ for a backslash");
        }
        Some(UriRewrite::Regex { pattern, substitution })
    })?
}

/// RE2's rules: a backslash stands before the number of a group, or before another backslash.
fn substitution_fault(substitution: &str, pattern: &str) -> Option<String> {
    let groups = regex::Regex::new(pattern).map_or(0, |expression| expression.captures_len());
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            continue;
        }
        match characters.next() {
            Some('\\') => {}
            Some(digit @ '0'..='9') if (digit as usize - '0' as usize) < groups => {}
            Some(digit @ '0'..='9') => return Some(format!("names group {digit}, which the expression does not have")),
            _ => return Some("has a backslash that is followed by neither a digit nor a backslash".into()),
        }
    }
    None
}

pub(super) fn header_operations(at: &Cursor<'_>) -> Option<HeaderOperations> {
    at.fields(|f| HeaderOperations {
        request: f.opt("request", modifier).unwrap_or_default(),
        response: f.opt("response", modifier).unwrap_or_default(),
    })
}

fn modifier(at: &Cursor<'_>) -> Option<HeaderModifier> {
    at.fields(|f| HeaderModifier {
        set: f.opt("set", header_values).unwrap_or_default(),
        add: f.opt("add", header_values).unwrap_or_default(),
        remove: f.list("remove", 0..=1000, header_name),
    })
}

/// `:authority` is HTTP/2's word for `host`.
fn header_values(at: &Cursor<'_>) -> Option<Vec<(String, String)>> {
    let entries = at.entries(|name, at| {
        let name = if **name == *":authority" { "host".into() } else { header_name_of(name, at)? };
        let value = sized(0, 4096)(at)?;
        match HeaderValue::from_str(&value) {
            Ok(_) => Some((name, value)),
            Err(_) => {
                at.error("has a character that a header cannot carry", "remove line breaks and control characters")
            }
        }
    });
    Some(entries.into_values().collect())
}

/// Names of headers, or `*`.
pub(super) fn header_list(f: &mut Fields<'_>, name: &'static str) -> Vec<String> {
    f.list(name, 0..=1000, listed_header)
}
