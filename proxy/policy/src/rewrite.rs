//! What a path is turned into before it is sent on, or into the `Location` of a redirect.
//!
//! Prefixes are replaced by the Gateway API's rules (`HTTPPathModifier.replacePrefixMatch`), which
//! work on path elements: `/foo` → `/xyz` makes `/xyz/bar` of `/foo/bar`, however the two slashes are written.
//! The query always stays.

#[cfg(test)]
mod tests;

use crate::CompileError;
use crate::pattern::searching;
use http::HeaderValue;
use regex::bytes::Regex;
use weft_model::route::{self, PathMatch, PathRewrite};

/// The most fits of an expression that are replaced in one path; what follows stays as it is. Bounds
/// what a caller can make of a long path and an expression that fits everywhere.
pub const MAX_FITS: usize = 256;

/// A compiled [`route::Rewrite`]: what a request is sent on under.
#[derive(Clone, Debug)]
pub struct UrlRewrite {
    host: Option<HeaderValue>,
    path: Option<Rewrite>,
}

impl UrlRewrite {
    /// `matched` is the match of the same route. Fails on a host that is no header value, and where [`Rewrite::compile`] does.
    pub fn compile(rewrite: &route::Rewrite, matched: &PathMatch) -> Result<UrlRewrite, CompileError> {
        let host = rewrite.host.as_ref().map(|host| {
            HeaderValue::from_str(host)
                .map_err(|_| CompileError::new(format!("the rewritten host \"{host}\" is no header value")))
        });
        let path = rewrite.path.as_ref().map(|path| Rewrite::compile(path, matched));
        Ok(UrlRewrite { host: host.transpose()?, path: path.transpose()? })
    }

    /// With the parts of another for those that this one does not have.
    pub fn or(self, other: &UrlRewrite) -> UrlRewrite {
        UrlRewrite { host: self.host.or_else(|| other.host.clone()), path: self.path.or_else(|| other.path.clone()) }
    }

    /// `None`: the request's own.
    pub fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// `None`: the request's own.
    pub fn path_and_query(&self, path: &str, query: Option<&str>) -> Option<String> {
        self.path.as_ref().map(|rewrite| rewrite.path_and_query(path, query))
    }
}

/// A compiled [`PathRewrite`].
#[derive(Clone, Debug)]
pub struct Rewrite(How);

#[derive(Clone, Debug)]
enum How {
    Full(String),
    /// Replaces so many bytes of the path.
    Prefix {
        length: usize,
        replacement: String,
    },
    /// Replaces the whole path of an exact match.
    Regex {
        expression: Box<Regex>,
        substitution: Vec<Piece>,
    },
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Rewrite {
    /// `matched` is the match of the same route: it says which prefix is replaced. Fails on an invalid
    /// expression, on a group that it does not have, and on a prefix rewrite of a path matched by expression.
    pub fn compile(rewrite: &PathRewrite, matched: &PathMatch) -> Result<Rewrite, CompileError> {
        Ok(Rewrite(match rewrite {
            PathRewrite::Full(path) => How::Full(path.clone()),
            PathRewrite::Prefix(replacement) => compile_prefix(replacement, matched)?,
            PathRewrite::Regex { pattern, substitution } => {
                let expression = searching(pattern)?;
                let substitution = compile_substitution(substitution, expression.captures_len())?;
                How::Regex { expression: Box::new(expression), substitution }
            }
        }))
    }

    /// The new path, with the query that the request came with. Always begins with `/`.
    pub fn path_and_query(&self, path: &str, query: Option<&str>) -> String {
        let mut new = self.path(path);
        if let Some(query) = query {
            new.push(if new.contains('?') { '&' } else { '?' });
            new.push_str(query);
        }
        new
    }

    fn path(&self, path: &str) -> String {
        let new = match &self.0 {
            How::Full(full) => full.clone(),
            How::Prefix { length, replacement } => {
                let rest = path.get(*length..).unwrap_or_default();
                format!("{replacement}{rest}")
            }
            How::Regex { expression, substitution } => replace(path, expression, substitution),
        };
        if new.starts_with('/') { new } else { format!("/{new}") }
    }
}

fn compile_prefix(replacement: &str, matched: &PathMatch) -> Result<How, CompileError> {
    let by_elements = |prefix: &str| How::Prefix {
        length: prefix.trim_end_matches('/').len(),
        replacement: replacement.trim_end_matches('/').into(),
    };
    match matched {
        PathMatch::Any => Ok(by_elements("")),
        PathMatch::PathPrefix(prefix) => Ok(by_elements(prefix)),
        // every path begins with `/`, so this is the same as by elements, and people mean elements
        PathMatch::Prefix(prefix) if prefix == "/" => Ok(by_elements("")),
        PathMatch::Prefix(prefix) => Ok(How::Prefix { length: prefix.len(), replacement: replacement.into() }),
        PathMatch::Exact(_) => Ok(How::Full(replacement.into())),
        PathMatch::Regex(_) => {
            Err(CompileError::new("a path that is matched by a regular expression has no prefix to replace"))
        }
    }
}

/// `\1` names a group, `\0` the whole fit, `\\` a backslash.
fn compile_substitution(text: &str, groups: usize) -> Result<Vec<Piece>, CompileError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            literal.push(character);
            continue;
        }
        match characters.next() {
            Some('\\') => literal.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit as usize - '0' as usize;
                if group >= groups {
                    return Err(CompileError::new(format!(
                        "the substitution `{text}` names group {group}, but the expression has {}",
                        groups - 1
                    )));
                }
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
                pieces.push(Piece::Group(group));
            }
            _ => {
                return Err(CompileError::new(format!(
                    "in the substitution `{text}` a backslash must be followed by a digit or a backslash"
                )));
            }
        }
    }
    pieces.push(Piece::Text(literal));
    Ok(pieces)
}

fn replace(path: &str, expression: &Regex, substitution: &[Piece]) -> String {
    let mut new: Vec<u8> = Vec::with_capacity(path.len() + 32);
    let mut copied = 0;
    for fit in expression.captures_iter(path.as_bytes()).take(MAX_FITS) {
        let whole = fit.get(0).expect("group 0 is the whole fit");
        new.extend_from_slice(&path.as_bytes()[copied..whole.start()]);
        for piece in substitution {
            match piece {
                Piece::Text(text) => new.extend_from_slice(text.as_bytes()),
                Piece::Group(group) => {
                    new.extend_from_slice(fit.get(*group).map(|group| group.as_bytes()).unwrap_or_default())
                }
            }
        }
        copied = whole.end();
    }
    new.extend_from_slice(&path.as_bytes()[copied..]);
    String::from_utf8_lossy(&new).into_owned()
}
