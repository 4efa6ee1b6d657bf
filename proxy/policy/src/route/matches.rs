//! Whether one route fits a request.

use super::Head;
use crate::CompileError;
use crate::pattern::{Value, anchored};
use http::{HeaderName, Method};
use regex::bytes::Regex;
use smallvec::SmallVec;
use weft_model::route::{HeaderMatch, PathMatch, QueryMatch, RouteMatch};

/// A compiled [`RouteMatch`]. The parts are tried from cheap to dear.
#[derive(Debug)]
pub(super) struct Matcher {
    path: Path,
    /// Empty: every method.
    methods: SmallVec<[Method; 1]>,
    headers: Box<[Header]>,
    query: Box<[Parameter]>,
}

impl Matcher {
    pub(super) fn compile(matches: &RouteMatch) -> Result<Self, CompileError> {
        Ok(Matcher {
            path: Path::compile(&matches.path).map_err(|error| error.within("path"))?,
            methods: matches.methods.iter().map(|method| compile_method(method)).collect::<Result<_, _>>()?,
            headers: matches.headers.iter().map(Header::compile).collect::<Result<_, _>>()?,
            query: matches.query.iter().map(Parameter::compile).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn fits(&self, head: &Head<'_>) -> bool {
        (self.methods.is_empty() || self.methods.contains(head.method))
            && self.path.fits(head.path)
            && self.headers.iter().all(|header| header.fits(head))
            && self.query.iter().all(|parameter| parameter.fits(head.query))
    }
}

fn compile_method(method: &str) -> Result<Method, CompileError> {
    Method::from_bytes(method.as_bytes()).map_err(|_| CompileError::new(format!("\"{method}\" is no HTTP method")))
}

#[derive(Debug)]
enum Path {
    Any,
    Exact(Box<str>),
    Elements(Box<str>),
    Prefix(Box<str>),
    Regex(Box<Regex>),
}

impl Path {
    fn compile(path: &PathMatch) -> Result<Self, CompileError> {
        Ok(match path {
            PathMatch::Any => Path::Any,
            PathMatch::Exact(path) => Path::Exact(path.as_str().into()),
            PathMatch::PathPrefix(prefix) => match prefix.trim_end_matches('/') {
                "" => Path::Prefix("/".into()),
                elements => Path::Elements(elements.into()),
            },
            PathMatch::Prefix(prefix) if prefix.is_empty() => Path::Any,
            PathMatch::Prefix(prefix) => Path::Prefix(prefix.as_str().into()),
            PathMatch::Regex(expression) => Path::Regex(Box::new(anchored(expression)?)),
        })
    }

    fn fits(&self, path: &str) -> bool {
        match self {
            Path::Any => true,
            Path::Exact(exact) => path == &**exact,
            Path::Elements(prefix) => {
                path.starts_with(&**prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            Path::Prefix(prefix) => path.starts_with(&**prefix),
            Path::Regex(expression) => expression.is_match(path.as_bytes()),
        }
    }
}

#[derive(Debug)]
struct Header {
    source: Source,
    value: Value,
    invert: bool,
}

/// Where a header's value is found: HTTP/2's pseudo headers may be named like others, as in Envoy.
#[derive(Debug)]
enum Source {
    Header(HeaderName),
    Method,
    Authority,
    Path,
}

impl Header {
    fn compile(header: &HeaderMatch) -> Result<Self, CompileError> {
        let within = |error: CompileError| error.within(format!("header \"{}\"", header.name));
        let source = match header.name.as_str() {
            ":method" => Source::Method,
            ":authority" | "host" => Source::Authority,
            ":path" => Source::Path,
            name => Source::Header(
                HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| within(CompileError::new("this is no HTTP header name")))?,
            ),
        };
        Ok(Header { source, value: Value::compile(&header.value).map_err(within)?, invert: header.invert })
    }

    fn fits(&self, head: &Head<'_>) -> bool {
        self.value_fits(head) != self.invert
    }

    fn value_fits(&self, head: &Head<'_>) -> bool {
        match &self.source {
            Source::Header(name) => self.value.fits_header(name, head.headers),
            Source::Method => self.value.fits(head.method.as_str().as_bytes()),
            Source::Authority => self.value.fits(head.host.as_bytes()),
            Source::Path => match head.query {
                None => self.value.fits(head.path.as_bytes()),
                Some(query) => {
                    let mut whole: SmallVec<[u8; 256]> = SmallVec::from_slice(head.path.as_bytes());
                    whole.push(b'?');
                    whole.extend_from_slice(query.as_bytes());
                    self.value.fits(&whole)
                }
            },
        }
    }
}

#[derive(Debug)]
struct Parameter {
    name: Box<[u8]>,
    value: Value,
}

impl Parameter {
    fn compile(parameter: &QueryMatch) -> Result<Self, CompileError> {
        let value = Value::compile(&parameter.value)
            .map_err(|error| error.within(format!("query parameter \"{}\"", parameter.name)))?;
        Ok(Parameter { name: parameter.name.as_bytes().into(), value })
    }

    fn fits(&self, query: Option<&str>) -> bool {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(name, _)| with_decoded(name, |name| name == &*self.name))
            .is_some_and(|(_, value)| with_decoded(value, |value| self.value.fits(value)))
    }
}

/// Percent-decoded; what is no valid escape stays as it is.
fn with_decoded<T>(text: &str, then: impl FnOnce(&[u8]) -> T) -> T {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return then(bytes);
    }
    let mut decoded: SmallVec<[u8; 256]> = SmallVec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes[at] == b'%';
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| (*byte as char).to_digit(16));
        match (escaped, digit(1), digit(2)) {
            (true, Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    then(&decoded)
}
