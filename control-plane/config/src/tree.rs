//! A document as a tree in which every node knows its place.
//!
//! serde stops at the first mistake and forgets where values stood, so documents are read through this small tree instead.
//!
//! Invariants: a tree is never deeper than [`MAX_DEPTH`] and never larger than the allowance that its
//! reader was given, aliases included; so whoever walks it by recursion is safe.

mod build;
mod json;
#[cfg(test)]
mod tests;

pub(crate) use build::parse;
pub(crate) use json::{NOWHERE, from_json};

use std::rc::Rc;

/// Deeper nesting is refused. The deepest kind of all needs some fifteen levels.
pub(crate) const MAX_DEPTH: usize = 64;

/// Nodes of one file, each alias counted as all that it stands for. A file of the largest size that is
/// written sensibly stays below it.
pub(crate) const MAX_NODES: usize = 1_000_000;

/// Line and column, from 1, inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Rc<[Node]>),
    Map(Rc<[Entry]>),
}

/// Text, and whether it was written without quotes (only then it may be a number, a boolean or nothing).
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: Rc<str>,
    pub(crate) plain: bool,
}

impl Scalar {
    /// YAML 1.2's core schema.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match &*self.text {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// Whether YAML takes it for a number (of any kind).
    pub(crate) fn is_number(&self) -> bool {
        let digits = self.text.trim_start_matches(['-', '+']);
        self.plain
            && (digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok()
                || self.integer().is_some()
                || matches!(digits, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"))
    }

    /// Decimal, `0o17` and `0x1f`.
    pub(crate) fn integer(&self) -> Option<i64> {
        if !self.plain {
            return None;
        }
        if let Some(octal) = self.text.strip_prefix("0o") {
            return i64::from_str_radix(octal, 8).ok().filter(|_| !octal.starts_with(['-', '+']));
        }
        if let Some(hex) = self.text.strip_prefix("0x") {
            return i64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with(['-', '+']));
        }
        self.text.parse().ok()
    }

    pub(crate) fn float(&self) -> Option<f64> {
        if self.is_number() { self.text.parse().ok().filter(|number: &f64| number.is_finite()) } else { None }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Rc<str>,
    pub(crate) key_mark: Mark,
    pub(crate) value: Node,
}

/// What is wrong with the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) mark: Mark,
    /// The field, where that can be told.
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// For messages: long names are cut.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 60;
    let printable: String = text.chars().take(LONGEST + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match printable.char_indices().nth(LONGEST) {
        None => printable,
        Some((end, _)) => format!("{}…", &printable[..end]),
    }
}

/// Extends a path by a field: `spec.rules`, `metadata.labels["app.kubernetes.io/name"]`.
pub(crate) fn push_field(path: &mut String, name: &str) {
    let name = shorten(name);
    match name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
        true if path.is_empty() => path.push_str(&name),
        true => path.extend([".", &name]),
        false => path.extend(["[\"", &name, "\"]"]),
    }
}

/// Extends a path by a place in a list: `spec.rules[0]`.
pub(crate) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}
