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

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn edits_remove_then_set_then_add() {
        let edits = HeaderEdits {
            remove: vec!["x-gone".into(), "x-both".into()],
            set: pairs(&[("x-set", "new"), ("x-both", "set")]),
            add: pairs(&[("x-add", "2"), ("x-both", "added")]),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-gone", "1"), ("x-set", "a"), ("x-set", "b"), ("x-add", "1"), ("x-both", "old"), ("x-kept", "1")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        Edits::compile(&edits).unwrap().apply(&mut headers);
        let all = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-gone"), [""; 0]);
        assert_eq!(all("x-set"), ["new"]);
        assert_eq!(all("x-add"), ["1", "2"]);
        assert_eq!(all("x-both"), ["set", "added"]);
        assert_eq!(all("x-kept"), ["1"]);
    }

    #[test]
    fn what_is_no_header_is_refused_by_name() {
        let error = |edits: HeaderEdits| Edits::compile(&edits).unwrap_err().to_string();
        let text = error(HeaderEdits { remove: vec!["x y".into()], ..HeaderEdits::default() });
        assert_eq!(text, "\"x y\" is no HTTP header name");
        let text = error(HeaderEdits { add: pairs(&[("x-a", "a\nb")]), ..HeaderEdits::default() });
        assert_eq!(text, "the value of header \"x-a\" has control characters");
        assert!(Edits::compile(&HeaderEdits::default()).unwrap().is_empty());
    }
}
