//! Writes a JSON value as YAML that people can read. Strings are always quoted as JSON does, which
//! YAML reads the same, so that no `no` or `1e3` changes its type on the way.

use serde_json::Value;
use std::fmt::Write as _;

/// One document, with a newline at its end.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                pad(out, indent);
                let _ = write!(out, "{}:", plain(key));
                child(out, value, indent + 2);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                block(&mut inner, item, indent + 2);
                pad(out, indent);
                let _ = write!(out, "- {}", inner.trim_start());
            }
        }
        scalar => {
            pad(out, indent);
            let _ = writeln!(out, "{scalar}");
        }
    }
}

fn child(out: &mut String, value: &Value, indent: usize) {
    let nested =
        matches!(value, Value::Object(map) if !map.is_empty()) || matches!(value, Value::Array(a) if !a.is_empty());
    if nested {
        out.push('\n');
        block(out, value, indent);
    } else {
        let _ = writeln!(out, " {value}");
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Keys that are nothing but words stay bare.
fn plain(key: &str) -> String {
    let word = key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    let bare = word
        && key.starts_with(|c: char| c.is_ascii_alphabetic())
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&&*key.to_ascii_lowercase());
    if bare { key.to_owned() } else { Value::from(key).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_lists_and_what_looks_like_another_type() {
        let value = json!({
            "kind": "Pod",
            "metadata": { "labels": { "app": "no", "on": "1", "weft.dev/x": "" }, "empty": {} },
            "endpoints": [{ "addresses": ["127.0.1.1"], "conditions": { "ready": true } }, { "addresses": [] }],
        });
        let text = "\
endpoints:
  - addresses:
      - \"127.0.1.1\"
    conditions:
      ready: true
  - addresses: []
kind: \"Pod\"
metadata:
  empty: {}
  labels:
    app: \"no\"
    \"on\": \"1\"
    weft.dev/x: \"\"
";
        assert_eq!(document(&value), text);
    }
}
