//! Reading a JSON body field by field, so that whoever wrote it learns of everything wrong in it at
//! once, in words, with the name that was probably meant.

use super::BODY_LIMIT_BYTES;
use super::problem::{FieldError, Problem};
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The fields of a body. Take them out one by one, then [`finish`](Fields::finish).
pub(crate) struct Fields {
    given: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Problem;

    /// The body is JSON, whatever its content type says: `curl -d` calls everything a form.
    async fn from_request(request: Request, state: &S) -> Result<Fields, Problem> {
        let body = Bytes::from_request(request, state).await;
        Fields::read(&body.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(e.status(), format!("a body may have {BODY_LIMIT_BYTES} bytes"))
            }
            status => Problem::new(status, e.body_text()),
        })?)
    }
}

impl Fields {
    pub(crate) fn read(body: &[u8]) -> Result<Fields, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(given)) => Ok(Fields { given, known: Vec::new(), errors: Vec::new() }),
            Ok(_) => Err(Problem::bad_request("the body must be a JSON object: { … }")),
            Err(e) if body.is_empty() => {
                Err(Problem::bad_request(format!("the body must be a JSON object, not empty ({e})")))
            }
            Err(e) => Err(Problem::bad_request(format!("the body is not JSON: {e}"))),
        }
    }

    /// A whole number that may be left out.
    pub(crate) fn whole(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        match value.as_u64() {
            Some(n) if range.contains(&n) => Some(n),
            _ => {
                let (from, to) = range.into_inner();
                self.wrong(name, format!("{name} must be a whole number from {from} to {to}, not {}", short(&value)));
                None
            }
        }
    }

    /// A whole number that must be there. Where it is not, `finish` fails, and the number returned means nothing.
    pub(crate) fn required_whole(&mut self, name: &'static str, range: RangeInclusive<u64>) -> u64 {
        if self.missing(name) {
            let (from, to) = (range.start(), range.end());
            self.wrong(name, format!("{name} is missing: a whole number from {from} to {to}"));
        }
        self.whole(name, range).unwrap_or_default()
    }

    /// A text that may be left out; white space around it does not count.
    pub(crate) fn text(&mut self, name: &'static str, max_chars: usize) -> Option<String> {
        let value = self.take(name)?;
        match value.as_str().map(str::trim) {
            Some(text) if !text.is_empty() && text.chars().count() <= max_chars => Some(text.to_owned()),
            _ => {
                self.wrong(
                    name,
                    format!("{name} must be a text of 1 to {max_chars} characters, not {}", short(&value)),
                );
                None
            }
        }
    }

    /// Adds a mistake that takes more than one field to see.
    pub(crate) fn wrong(&mut self, name: &str, detail: String) {
        self.errors.push(FieldError { pointer: format!("#/{name}"), detail });
    }

    /// Fails if anything was wrong, or if there is a field that nobody asked for.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let unknown: Vec<String> = self.given.keys().take(20).cloned().collect();
        for name in unknown {
            let near = |known: &&&str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()) <= 2;
            let hint = match self.known.iter().find(near) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("there are {}", self.known.join(", ")),
            };
            let shown: String = name.chars().take(40).collect();
            self.wrong(&shown, format!("{shown:?} is not a field here; {hint}"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(self.errors)) }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.given.remove(name).filter(|v| !v.is_null())
    }

    fn missing(&self, name: &str) -> bool {
        self.given.get(name).is_none_or(Value::is_null)
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(problem: Problem) -> Vec<String> {
        problem.errors.iter().map(|e| format!("{} {}", e.pointer, e.detail)).collect()
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut fields = Fields::read(br#"{"qty": 0, "productName": "", "custmerId": 100}"#).unwrap();
        fields.required_whole("productId", 1..=9);
        fields.text("productName", 80);
        fields.required_whole("qty", 1..=9);
        fields.required_whole("customerId", 1..=9);
        let details = details(fields.finish().unwrap_err());
        assert_eq!(
            details,
            [
                "#/productId productId is missing: a whole number from 1 to 9",
                "#/productName productName must be a text of 1 to 80 characters, not \"\"",
                "#/qty qty must be a whole number from 1 to 9, not 0",
                "#/customerId customerId is missing: a whole number from 1 to 9",
                "#/custmerId \"custmerId\" is not a field here; did you mean customerId?",
            ]
        );
    }

    #[test]
    fn numbers_are_whole_and_not_in_quotes() {
        for wrong in [r#""5""#, "5.5", "-1", "1e3", "[]", "99999999999999999999999"] {
            let mut fields = Fields::read(format!(r#"{{"qty": {wrong}}}"#).as_bytes()).unwrap();
            assert_eq!(fields.whole("qty", 0..=u64::MAX), None, "{wrong}");
            assert_eq!(fields.finish().unwrap_err().status, 400);
        }
    }

    #[test]
    fn null_is_as_if_left_out() {
        let mut fields = Fields::read(br#"{"qty": null}"#).unwrap();
        assert_eq!(fields.whole("qty", 1..=9), None);
        fields.finish().unwrap();
    }

    #[test]
    fn what_is_no_object_is_refused_in_words() {
        for body in ["", "[1]", "{", "qty=5", &"[".repeat(10_000)] {
            assert_eq!(Fields::read(body.as_bytes()).err().unwrap().status, 400);
        }
    }
}
