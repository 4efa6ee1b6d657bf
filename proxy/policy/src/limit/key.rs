//! Whose bucket a request falls into.

use super::Request;
use crate::CompileError;
use crate::pattern::Value;
use http::HeaderName;
use std::hash::{DefaultHasher, Hasher};
use weft_model::rate_limit::KeyPart;
use weft_model::route::StringMatch;

/// Stands for a key. Two halves of 64 bits, each a SipHash that begins with the secret seed, so that a client neither meets
/// another's bucket by chance nor can look for one that does.
pub(super) type Fingerprint = u128;

/// Compiled [`KeyPart`]s.
#[derive(Debug)]
pub(super) struct Key {
    /// All must fit, or the request is none of the bucket's business.
    filters: Box<[Filter]>,
    parts: Box<[Part]>,
}

#[derive(Debug)]
enum Filter {
    Header(HeaderName, Value),
    Host(Box<str>),
    /// Without a slash at its end.
    PathPrefix(Box<str>),
}

#[derive(Debug)]
enum Part {
    ClientIp,
    Header(HeaderName),
    Host,
    Path,
    Method,
    Caller,
}

impl Key {
    pub(super) fn compile(parts: &[KeyPart]) -> Result<Key, CompileError> {
        let (mut filters, mut varying) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                KeyPart::ClientIp => varying.push(Part::ClientIp),
                KeyPart::Header(name) if is_host(name) => varying.push(Part::Host),
                KeyPart::Header(name) => varying.push(Part::Header(header_name(name)?)),
                KeyPart::Path => varying.push(Part::Path),
                KeyPart::Method => varying.push(Part::Method),
                KeyPart::Caller => varying.push(Part::Caller),
                KeyPart::HeaderIs { name, value } if is_host(name) => filters.push(Filter::Host(value.as_str().into())),
                KeyPart::HeaderIs { name, value } => {
                    let value = Value::compile(&StringMatch::Exact(value.clone()))?;
                    filters.push(Filter::Header(header_name(name)?, value));
                }
                KeyPart::PathPrefix(prefix) => filters.push(Filter::PathPrefix(prefix.trim_end_matches('/').into())),
            }
        }
        Ok(Key { filters: filters.into(), parts: varying.into() })
    }

    /// Whether different requests may fall into different buckets.
    pub(super) fn varies(&self) -> bool {
        !self.parts.is_empty()
    }

    /// `None`: the request falls into none.
    pub(super) fn of(&self, request: &Request<'_>, seed: [u64; 2]) -> Option<Fingerprint> {
        if !self.filters.iter().all(|filter| filter.fits(request)) {
            return None;
        }
        if self.parts.is_empty() {
            return Some(0);
        }
        let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
        for (half, hasher) in halves.iter_mut().enumerate() {
            hasher.write_usize(half);
            seed.iter().for_each(|word| hasher.write_u64(*word));
            for part in &self.parts {
                part.write(request, hasher)?;
            }
        }
        let [high, low] = halves.map(|hasher| u128::from(hasher.finish()));
        Some(high << 64 | low)
    }
}

impl Filter {
    fn fits(&self, request: &Request<'_>) -> bool {
        match self {
            Filter::Header(name, value) => value.fits_header(name, request.head.headers),
            Filter::Host(host) => request.head.host.eq_ignore_ascii_case(host),
            Filter::PathPrefix(prefix) => {
                let rest = request.head.path.as_bytes().strip_prefix(prefix.as_bytes());
                rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
            }
        }
    }
}

impl Part {
    /// `None`: the request lacks it.
    fn write(&self, request: &Request<'_>, hasher: &mut DefaultHasher) -> Option<()> {
        match self {
            Part::ClientIp => match request.client.to_canonical() {
                std::net::IpAddr::V4(ip) => write_sized(hasher, &ip.octets()),
                std::net::IpAddr::V6(ip) => write_sized(hasher, &ip.octets()),
            },
            Part::Header(name) => {
                let mut lines = request.head.headers.get_all(name).iter().peekable();
                lines.peek()?;
                let mut count = 0;
                for line in lines {
                    write_sized(hasher, line.as_bytes());
                    count += 1;
                }
                hasher.write_usize(count);
            }
            Part::Host => {
                request.head.host.bytes().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
                hasher.write_usize(request.head.host.len());
            }
            Part::Path => write_sized(hasher, request.head.path.as_bytes()),
            Part::Method => write_sized(hasher, request.head.method.as_str().as_bytes()),
            Part::Caller => write_sized(hasher, request.caller?.as_bytes()),
        }
        Some(())
    }
}

/// With the length behind it, `a` and `bc` differ from `ab` and `c`.
fn write_sized(hasher: &mut DefaultHasher, bytes: &[u8]) {
    hasher.write(bytes);
    hasher.write_usize(bytes.len());
}

/// HTTP/2 has it as a pseudo header, so it is taken from the authority.
fn is_host(name: &str) -> bool {
    matches!(name, "host" | ":authority")
}

fn header_name(name: &str) -> Result<HeaderName, CompileError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| CompileError::new(format!("\"{name}\" is no HTTP header name")))
}
