//! Comparing values: the regular expressions and string matches that routes are made of.
//!
//! Expressions come from whoever writes configuration and are run on what any caller sends, so both
//! sides are bounded: the `regex` crate runs in time linear in the input, and [`PROGRAM_LIMIT_BYTES`]
//! and [`CACHE_LIMIT_BYTES`] bound the memory that one expression may take.

use crate::CompileError;
use http::{HeaderMap, HeaderName};
use regex::bytes::{Regex, RegexBuilder};
use smallvec::SmallVec;
use weft_model::route::StringMatch;

/// The largest compiled expression. A whole-Unicode `\w{1,20}` takes about 0.3 MiB.
pub const PROGRAM_LIMIT_BYTES: usize = 1 << 20;

/// The largest cache of the lazy automaton, per expression and thread.
pub const CACHE_LIMIT_BYTES: usize = 256 << 10;

/// An expression that fits anywhere in its input.
pub fn searching(expression: &str) -> Result<Regex, CompileError> {
    build(expression, PROGRAM_LIMIT_BYTES).map_err(|error| CompileError::new(reason(expression, &error)))
}

/// An expression that must fit the whole of its input.
pub fn anchored(expression: &str) -> Result<Regex, CompileError> {
    searching(expression)?; // by itself first: `a)(b` must not become valid by the parentheses below
    // the anchors take a few bytes more; and in the verbose mode a comment at the end would hide the parenthesis, but not behind a line's end
    let whole = build(&format!(r"\A(?:{expression})\z"), 2 * PROGRAM_LIMIT_BYTES)
        .or_else(|_| build(&format!("\\A(?:{expression}\n)\\z"), 2 * PROGRAM_LIMIT_BYTES));
    whole.map_err(|error| CompileError::new(reason(expression, &error)))
}

fn build(expression: &str, limit_bytes: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression).size_limit(limit_bytes).dfa_size_limit(CACHE_LIMIT_BYTES).build()
}

fn reason(expression: &str, error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the regular expression `{expression}` needs more than {limit} bytes when compiled; repeat less")
        }
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("the regular expression `{expression}` is not valid RE2: {last}")
        }
    }
}

/// A compiled [`StringMatch`].
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Box<Regex>),
    Present,
}

impl Value {
    pub(crate) fn compile(value: &StringMatch) -> Result<Self, CompileError> {
        Ok(match value {
            StringMatch::Exact(text) => Value::Exact(text.as_bytes().into()),
            StringMatch::Prefix(text) => Value::Prefix(text.as_bytes().into()),
            StringMatch::Suffix(text) => Value::Suffix(text.as_bytes().into()),
            StringMatch::Contains(text) => Value::Contains(text.as_bytes().into()),
            StringMatch::Regex(expression) => Value::Regex(Box::new(anchored(expression)?)),
            StringMatch::Present => Value::Present,
        })
    }

    pub(crate) fn fits(&self, value: &[u8]) -> bool {
        match self {
            Value::Exact(text) => value == &**text,
            Value::Prefix(text) => value.starts_with(text),
            Value::Suffix(text) => value.ends_with(text),
            Value::Contains(text) => text.is_empty() || value.windows(text.len()).any(|window| window == &**text),
            Value::Regex(expression) => expression.is_match(value),
            Value::Present => true,
        }
    }

    /// Several lines of the header are compared as one, joined by `,`; an absent header does not fit.
    pub(crate) fn fits_header(&self, name: &HeaderName, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(name).iter();
        let Some(first) = lines.next() else { return false };
        let Some(second) = lines.next() else { return self.fits(first.as_bytes()) };
        let mut joined: SmallVec<[u8; 256]> = SmallVec::from_slice(first.as_bytes());
        for line in std::iter::once(second).chain(lines) {
            joined.push(b',');
            joined.extend_from_slice(line.as_bytes());
        }
        self.fits(&joined)
    }
}
