//! Heads made fit to be passed on: what belongs to one hop stays on it (RFC 9110 §7.6.1), what tells
//! the next hop who asked is added.

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Response, Uri, Version, request};
use smallvec::SmallVec;
use std::net::IpAddr;
use weft_policy::rewrite::UrlRewrite;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Tells the hops behind that this one retries, so that they need not: retries of several hops multiply.
pub(crate) const X_WEFT_RETRY: HeaderName = HeaderName::from_static("x-weft-retry");
/// Tells the hop before that an upstream has not begun on the request, so that it may be repeated whatever it is.
pub(crate) const X_WEFT_UNSENT: HeaderName = HeaderName::from_static("x-weft-unsent");
pub(crate) const X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
pub(crate) const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// What one look over a request's headers found, so that each of these need not be looked up on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Something that is meant for this hop only.
    pub(crate) hop_by_hop: bool,
    pub(crate) transfer_encoding: bool,
    pub(crate) upgrade: bool,
    pub(crate) grpc: bool,
    pub(crate) request_id: bool,
    pub(crate) traceparent: bool,
    /// One of Envoy's, which say how the request is to be treated.
    pub(crate) x_envoy: bool,
    /// A proxy before us retries.
    pub(crate) retried_outside: bool,
    /// More than one `host`: nobody can say whom the request is for.
    pub(crate) hosts: bool,
}

impl Found {
    pub(crate) fn in_headers(headers: &HeaderMap) -> Found {
        let mut found = Found::default();
        let mut host = false;
        for (name, value) in headers {
            // Told by length first: nearly every header is let go after one comparison.
            match name.as_str().len() {
                4 if name == header::HOST => {
                    found.hosts = host;
                    host = true;
                }
                7 if name == header::UPGRADE => (found.upgrade, found.hop_by_hop) = (true, true),
                11 if *name == TRACEPARENT => found.traceparent = true,
                12 if *name == X_REQUEST_ID => found.request_id = true,
                12 if name == header::CONTENT_TYPE => found.grpc = is_grpc(value),
                17 if name == header::TRANSFER_ENCODING => {
                    (found.transfer_encoding, found.hop_by_hop) = (true, true);
                }
                12 if *name == X_WEFT_RETRY => found.retried_outside = true,
                length if length > 12 && name.as_str().starts_with("x-envoy-") => found.x_envoy = true,
                _ => found.hop_by_hop |= is_hop_by_hop(name),
            }
        }
        found
    }
}

/// The authority that a request is for: HTTP/2's `:authority`, the absolute form's, or `host`.
pub(crate) fn host(parts: &request::Parts) -> Option<&str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(header::HOST)?.to_str().ok(),
    }
}

/// An upgrade that a request asks for or a response agrees to: `websocket`.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<&HeaderValue> {
    let wanted = headers.get(header::UPGRADE)?;
    let named = headers.get_all(header::CONNECTION).iter().any(|line| has_token(line, "upgrade"));
    named.then_some(wanted)
}

fn has_token(line: &HeaderValue, token: &str) -> bool {
    line.to_str().is_ok_and(|line| line.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
}

/// Removes what is meant for this hop only: `connection` and all that it names, and the fields that always are.
/// `te: trailers` stays, for gRPC asks for it end to end.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let found: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in found {
        if name == header::CONNECTION && !headers.get_all(&name).iter().all(is_plain) {
            for named in named_by_connection(headers) {
                headers.remove(named);
            }
        }
        let trailers = name == header::TE && headers.get_all(header::TE).iter().any(|line| has_token(line, "trailers"));
        headers.remove(&name);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// A `connection` header that names no other field.
fn is_plain(connection: &HeaderValue) -> bool {
    [&b"keep-alive"[..], b"close"].iter().any(|plain| connection.as_bytes().eq_ignore_ascii_case(plain))
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str().len() {
        2 => name == header::TE,
        6 => name == header::EXPECT,
        7 => name == header::UPGRADE,
        10 => name == header::CONNECTION || name == KEEP_ALIVE,
        16 => name == PROXY_CONNECTION,
        17 => name == header::TRANSFER_ENCODING,
        18 | 19 => name == header::PROXY_AUTHENTICATE || name == header::PROXY_AUTHORIZATION,
        _ => false,
    }
}

/// A caller may name any header here; the ones that the message cannot do without stay.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .filter_map(|token| HeaderName::from_bytes(token.trim().as_bytes()).ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH && *name != header::TE)
        .collect()
}

/// Who asked, seen past so many trusted proxies in front of an edge: the address that many places from the right of the
/// `x-forwarded-for` that came (Envoy's `xff_num_trusted_hops` with `use_remote_address`). Where there is none, or it
/// is no IP address, it is the peer, as it is when nobody is trusted: what is further left anybody may have written.
pub(crate) fn client(headers: &HeaderMap, peer: IpAddr, trusted_hops: u32) -> IpAddr {
    let Some(further) = trusted_hops.checked_sub(1) else { return peer.to_canonical() };
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let said = hops.nth(further as usize).and_then(|hop| str::from_utf8(hop).ok()?.trim().parse().ok());
    said.unwrap_or(peer).to_canonical()
}

/// Appends the peer to `x-forwarded-for`.
pub(crate) fn append_forwarded_for(headers: &mut HeaderMap, peer: &HeaderValue) {
    match headers.entry(X_FORWARDED_FOR) {
        Entry::Vacant(none) => {
            none.insert(peer.clone());
        }
        Entry::Occupied(mut before) => {
            let lines: Vec<&[u8]> = before.iter().map(HeaderValue::as_bytes).chain([peer.as_bytes()]).collect();
            let joined = HeaderValue::from_bytes(&lines.join(&b","[..]));
            before.insert(joined.expect("header values joined by commas are one"));
        }
    }
}

/// Gives a request the form in which HTTP/1 or HTTP/2 wants it, under the rewritten authority and path.
/// `Err` when they do not make a URI.
pub(crate) fn address(parts: &mut request::Parts, http2: bool, rewrite: &UrlRewrite) -> Result<(), http::Error> {
    let new_host = rewrite.host();
    let path = match rewrite.path_and_query(parts.uri.path(), parts.uri.query()) {
        Some(path) => PathAndQuery::try_from(path)?,
        None if parts.uri.scheme().is_none() && parts.uri.authority().is_none() && !http2 => {
            // Origin form already: nothing to rebuild.
            return set_host(parts, new_host);
        }
        None => parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
    };
    if http2 {
        let authority = match new_host {
            Some(host) => Authority::try_from(host.as_bytes())?,
            None => match parts.uri.authority() {
                Some(authority) => authority.clone(),
                None => Authority::try_from(parts.headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes))?,
            },
        };
        parts.headers.remove(header::HOST);
        parts.uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build()?;
        parts.version = Version::HTTP_2;
        return Ok(());
    }
    set_host(parts, new_host)?;
    parts.uri = Uri::from(path);
    Ok(())
}

/// HTTP/1 carries the authority in `host`.
fn set_host(parts: &mut request::Parts, new_host: Option<&HeaderValue>) -> Result<(), http::Error> {
    let host = match (new_host, parts.uri.authority()) {
        (Some(host), _) => Some(host.clone()),
        (None, Some(authority)) => Some(HeaderValue::from_str(authority.as_str())?),
        (None, None) => None,
    };
    if let Some(host) = host {
        parts.headers.insert(header::HOST, host);
    }
    parts.version = Version::HTTP_11;
    Ok(())
}

/// A response made fit for the caller's version.
pub(crate) fn prepare_response<B>(response: &mut Response<B>) {
    strip_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
}

/// Whether this is a gRPC message, by its content type.
fn is_grpc(content_type: &HeaderValue) -> bool {
    let kind = content_type.as_bytes();
    kind.starts_with(b"application/grpc") && matches!(kind.get(16), None | Some(b'+' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let mut map = headers(&[
            ("connection", "close, x-secret-hop"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-kept", "1")]));
    }

    #[test]
    fn te_trailers_stays_for_grpc() {
        let mut map = headers(&[("te", "gzip, trailers"), ("host", "a")]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("te", "trailers"), ("host", "a")]));
    }

    #[test]
    fn connection_cannot_take_the_host_away() {
        let mut map = headers(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "3")]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("host", "a"), ("content-length", "3")]));
    }

    #[test]
    fn forwarded_for_grows_at_its_end() {
        let mut map = headers(&[("x-forwarded-for", "10.0.0.1")]);
        append_forwarded_for(&mut map, &HeaderValue::from_static("10.0.0.2"));
        assert_eq!(map[X_FORWARDED_FOR], "10.0.0.1,10.0.0.2");
    }

    #[test]
    fn the_client_is_as_many_hops_away_as_are_trusted() {
        let peer: IpAddr = "::ffff:10.0.0.9".parse().unwrap();
        let of = |lines: &[&'static str], trusted_hops| {
            let pairs: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            client(&headers(&pairs), peer, trusted_hops).to_string()
        };
        let lines = ["6.6.6.6, 192.0.2.1", "2001:db8::1 ,10.0.0.1"];
        let expected = ["10.0.0.9", "10.0.0.1", "2001:db8::1", "192.0.2.1", "6.6.6.6", "10.0.0.9"];
        for (hops, expected) in expected.into_iter().enumerate() {
            assert_eq!(of(&lines, hops as u32), expected, "{hops} hops");
        }
        assert_eq!(of(&[], 1), "10.0.0.9", "nobody says anything");
        assert_eq!(of(&["192.0.2.1,"], 1), "10.0.0.9", "an empty hop is a hop");
        assert_eq!(of(&["192.0.2.1, unknown"], 1), "10.0.0.9", "a hop that is no address");
        assert_eq!(of(&["192.0.2.1"], u32::MAX), "10.0.0.9");
    }

    #[test]
    fn grpc_is_told_by_content_type() {
        let found = |kind| Found::in_headers(&headers(&[("content-type", kind)]));
        assert!(found("application/grpc+proto").grpc);
        assert!(!found("application/grpc-web").grpc);
    }
}
