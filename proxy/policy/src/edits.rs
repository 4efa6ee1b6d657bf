//! Header edits, parsed once so that applying them cannot fail.

use crate::CompileError;
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_model::route::HeaderEdits;

/// Compiled [`HeaderEdits`].
#[derive(Clone, Debug, Default)]
pub struct Edits {
    remove: Box<[HeaderName]>,
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
}

impl Edits {
    /// Fails on what is no header name or value.
    pub fn compile(edits: &HeaderEdits) -> Result<Edits, CompileError> {
        let pairs = |pairs: &[(String, String)]| pairs.iter().map(pair).collect::<Result<Box<[_]>, _>>();
        Ok(Edits {
            remove: edits.remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?,
            set: pairs(&edits.set)?,
            add: pairs(&edits.add)?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Removes, then sets (one line, whatever was there), then adds lines.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

fn name(text: &str) -> Result<HeaderName, CompileError> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| CompileError::new(format!("\"{text}\" is no HTTP header name")))
}

fn pair((name_text, value): &(String, String)) -> Result<(HeaderName, HeaderValue), CompileError> {
    let value = HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| CompileError::new(format!("the value of header \"{name_text}\" has control characters")))?;
    Ok((name(name_text)?, value))
}
