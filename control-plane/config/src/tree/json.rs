//! Makes the tree of JSON, as an API server hands it out: the same nodes, without places.

use super::{Entry, Fault, MAX_DEPTH, Mark, Node, Scalar, Value};
use serde_json::Value as Json;

/// Where everything is that has no lines.
pub(crate) const NOWHERE: Mark = Mark { line: 0, column: 0 };

/// `allowance` is taken from, a node at a time. The fault says which bound the value breaks.
pub(crate) fn from_json(json: &Json, allowance: &mut usize) -> Result<Node, Fault> {
    node(json, 0, allowance)
}

fn node(json: &Json, depth: usize, allowance: &mut usize) -> Result<Node, Fault> {
    if depth > MAX_DEPTH {
        return Err(fault(format!("more than {MAX_DEPTH} levels of nesting"), "flatten it"));
    }
    *allowance = allowance.checked_sub(1).ok_or_else(|| fault("has too many values".into(), "split it"))?;
    let mut below = |json: &Json| node(json, depth + 1, allowance);
    let value = match json {
        Json::Null => scalar("null", true),
        Json::Bool(true) => scalar("true", true),
        Json::Bool(false) => scalar("false", true),
        Json::Number(number) => scalar(&number.to_string(), true),
        Json::String(text) => scalar(text, false),
        Json::Array(items) => Value::List(items.iter().map(below).collect::<Result<Vec<_>, _>>()?.into()),
        Json::Object(fields) => {
            let entry = |(name, json): (&String, &Json)| {
                Ok(Entry { key: name.as_str().into(), key_mark: NOWHERE, value: below(json)? })
            };
            Value::Map(fields.iter().map(entry).collect::<Result<Vec<_>, _>>()?.into())
        }
    };
    Ok(Node { mark: NOWHERE, value })
}

fn scalar(text: &str, plain: bool) -> Value {
    Value::Scalar(Scalar { text: text.into(), plain })
}

fn fault(message: String, hint: &str) -> Fault {
    Fault { mark: NOWHERE, path: String::new(), message, hint: Some(hint.into()) }
}
