//! What of a request decides which host of a consistent balancer it goes to.
//!
//! Hashes are Envoy's, to the bit: of the same request the same hash, so that proxies of both kinds in front of one cluster send
//! a key to the same host.

use super::cookie::Cookie;
use super::xxh64;
use crate::CompileError;
use crate::route::Head;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;
use std::net::SocketAddr;
use weft_model::balancer::{HashPolicy, HashSource};

/// The caller's connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The caller's address.
    pub remote: SocketAddr,
    /// The address that it came to.
    pub local: SocketAddr,
}

/// What a request came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// `None` when nothing of what the policies ask for was there.
    pub hash: Option<u64>,
    /// A `Set-Cookie` each, for the response: cookies that were made because they were absent.
    pub set_cookies: Vec<HeaderValue>,
}

/// The hash policies of a route, compiled.
#[derive(Clone, Debug, Default)]
pub struct HashPolicies(Box<[Policy]>);

#[derive(Clone, Debug)]
struct Policy {
    source: Source,
    terminal: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Header(HeaderName),
    Authority,
    Method,
    Path,
    Cookie {
        cookie: Cookie,
        make: bool,
    },
    /// The caller's IP address.
    Remote,
    QueryParameter(Box<str>),
}

impl HashPolicies {
    /// Fails on what is no name of a header or of a cookie.
    pub fn compile(policies: &[HashPolicy]) -> Result<HashPolicies, CompileError> {
        let compile = |policy: &HashPolicy| -> Result<Policy, CompileError> {
            let source = Source::compile(&policy.source).map_err(|error| error.within("hash policy"))?;
            Ok(Policy { source, terminal: policy.terminal })
        };
        policies.iter().map(compile).collect::<Result<_, _>>().map(HashPolicies)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Policies are looked at in order; what one finds is mixed into what those before it found, rotated by a bit, so that two
    /// alike do not cancel out.
    pub fn hash(&self, head: &Head<'_>, connection: &Connection) -> Hashed {
        let mut hashed = Hashed::default();
        for policy in &self.0 {
            if let Some(found) = policy.source.hash(head, connection, &mut hashed.set_cookies) {
                hashed.hash = Some(hashed.hash.unwrap_or(0).rotate_left(1) ^ found);
            }
            if policy.terminal && hashed.hash.is_some() {
                break;
            }
        }
        hashed
    }
}

impl Source {
    fn compile(source: &HashSource) -> Result<Source, CompileError> {
        Ok(match source {
            HashSource::Header(name) => match name.as_str() {
                ":authority" | "host" => Source::Authority,
                ":method" => Source::Method,
                ":path" => Source::Path,
                name => Source::Header(HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                    CompileError::new("this is no HTTP header name").within(format!("header \"{name}\""))
                })?),
            },
            HashSource::Cookie { name, path, ttl } => {
                Source::Cookie { cookie: Cookie::compile(name, path, *ttl)?, make: ttl.is_some() }
            }
            HashSource::SourceIp => Source::Remote,
            HashSource::QueryParameter(name) => Source::QueryParameter(name.as_str().into()),
        })
    }

    fn hash(&self, head: &Head<'_>, connection: &Connection, set_cookies: &mut Vec<HeaderValue>) -> Option<u64> {
        match self {
            Source::Header(name) => hash_of_lines(head, name),
            Source::Authority => (!head.host.is_empty()).then(|| xxh64::of_bytes(head.host.as_bytes(), 0)),
            Source::Method => Some(xxh64::of_bytes(head.method.as_str().as_bytes(), 0)),
            Source::Path => Some(match head.query {
                None => xxh64::of_bytes(head.path.as_bytes(), 0),
                Some(query) => xxh64::of_text(format_args!("{}?{query}", head.path), 0),
            }),
            Source::Cookie { cookie, make } => match cookie.read(head.headers) {
                Some(value) => Some(xxh64::of_bytes(value, 0)),
                None => make.then(|| hash_of_new_cookie(cookie, connection, set_cookies)),
            },
            Source::Remote => {
                let address = connection.remote.ip().to_canonical();
                Some(xxh64::of_text(format_args!("{address}"), 0))
            }
            Source::QueryParameter(name) => {
                let pairs = head.query.unwrap_or_default().split('&');
                let mut named = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                let (_, value) = named.find(|(known, _)| !known.is_empty() && *known == &**name)?;
                Some(xxh64::of_bytes(value.as_bytes(), 0))
            }
        }
    }
}

/// The order of a header's lines does not count: each seeds the next, from the least on.
fn hash_of_lines(head: &Head<'_>, name: &HeaderName) -> Option<u64> {
    let mut lines: SmallVec<[&[u8]; 4]> = head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    lines.sort_unstable();
    (!lines.is_empty()).then(|| lines.iter().fold(0, |seed, line| xxh64::of_bytes(line, seed)))
}

/// Of both ends of the connection: requests that race on a connection get the same one.
fn hash_of_new_cookie(cookie: &Cookie, connection: &Connection, set_cookies: &mut Vec<HeaderValue>) -> u64 {
    let value = xxh64::of_text(format_args!("{}{}", connection.remote, connection.local), 0);
    let value = format!("{value:016x}");
    set_cookies.push(cookie.set(&value));
    xxh64::of_bytes(value.as_bytes(), 0)
}

#[cfg(test)]
mod tests;
