//! From the request's host to its virtual host: exact domain first (with the port, then without),
//! then the longest wildcard, then `*`.

use crate::CompileError;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::Range;

/// Domains, each with the routes of its virtual host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, Range<usize>>,
    /// By what follows the `*`: `.example`, `.example:8080`, `:8080`.
    wildcards: HashMap<Box<str>, Range<usize>>,
    /// The longest suffix without its port: no longer part of a host is looked up, however many dots a caller sends.
    longest_suffix: usize,
    any: Option<Range<usize>>,
}

impl Hosts {
    pub(super) fn insert(&mut self, domain: &str, routes: Range<usize>) -> Result<(), CompileError> {
        let domain = domain.to_ascii_lowercase();
        let taken = match domain.strip_prefix('*') {
            None if !domain.contains('*') => self.exact.insert(domain.as_str().into(), routes),
            Some("") => self.any.replace(routes),
            Some(suffix) if suffix.starts_with(['.', ':']) && !suffix.contains('*') => {
                self.longest_suffix = self.longest_suffix.max(split_port(suffix).0.len());
                self.wildcards.insert(suffix.into(), routes)
            }
            _ => {
                return Err(CompileError::new(format!(
                    "\"{domain}\" is no domain: a wildcard is a whole first label, as in `*.example`"
                )));
            }
        };
        match taken {
            None => Ok(()),
            Some(_) => Err(CompileError::new(format!("the domain \"{domain}\" is in another virtual host already"))),
        }
    }

    pub(super) fn find(&self, host: &str) -> Option<Range<usize>> {
        if self.exact.is_empty() && self.wildcards.is_empty() {
            return self.any.clone();
        }
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let mut lower: SmallVec<[u8; 256]> = SmallVec::from_slice(host.as_bytes());
            lower.make_ascii_lowercase();
            let lower = std::str::from_utf8(&lower).expect("lower-casing ASCII keeps UTF-8 valid");
            return self.find_lower(lower);
        }
        self.find_lower(host)
    }

    fn find_lower(&self, host: &str) -> Option<Range<usize>> {
        let (name, port) = split_port(host);
        let exact = self.exact.get(host).or_else(|| port.and_then(|_| self.exact.get(name)));
        exact.or_else(|| self.find_wildcard(host, name, port)).or(self.any.as_ref()).cloned()
    }

    fn find_wildcard(&self, host: &str, name: &str, port: Option<&str>) -> Option<&Range<usize>> {
        if self.wildcards.is_empty() {
            return None;
        }
        let nearest = name.len().saturating_sub(self.longest_suffix).max(1);
        let dots = name.bytes().enumerate().skip(nearest).filter(|(_, byte)| *byte == b'.').map(|(at, _)| at);
        for at in dots {
            let with_port = port.and_then(|_| self.wildcards.get(&host[at..]));
            if let Some(routes) = with_port.or_else(|| self.wildcards.get(&name[at..])) {
                return Some(routes);
            }
        }
        port.and_then(|_| self.wildcards.get(&host[name.len()..]))
    }
}

/// `shop:80` → (`shop`, `80`); `[::1]:80` → (`[::1]`, `80`). Without a port of digits: the whole.
pub(crate) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && (!name.contains(':') || name.ends_with(']')) =>
        {
            (name, Some(port))
        }
        _ => (host, None),
    }
}
