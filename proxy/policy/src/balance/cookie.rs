//! The cookies by which a caller comes back to the same host: read from requests, made for responses.

use crate::CompileError;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Cookie {
    name: Box<str>,
    /// What follows the value in `Set-Cookie`.
    attributes: Box<str>,
}

impl Cookie {
    /// Without a `ttl`, or with one below a second, the cookie lasts for the browser's session. Fails on what cannot stand in a cookie.
    pub(super) fn compile(name: &str, path: &str, ttl: Option<Duration>) -> Result<Cookie, CompileError> {
        let within = |error: CompileError| error.within(format!("cookie \"{name}\""));
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(within(CompileError::new("this is no cookie name")));
        }
        if path.bytes().any(|byte| byte == b';' || !(b' '..=b'~').contains(&byte)) {
            return Err(within(CompileError::new(format!(
                "path \"{}\" cannot stand in a cookie",
                path.escape_debug()
            ))));
        }
        let mut attributes = String::new();
        if let Some(seconds) = ttl.map(|ttl| ttl.as_secs()).filter(|seconds| *seconds > 0) {
            attributes.push_str(&format!("; Max-Age={seconds}"));
        }
        if !path.is_empty() {
            attributes.push_str(&format!("; Path={path}"));
        }
        attributes.push_str("; HttpOnly");
        Ok(Cookie { name: name.into(), attributes: attributes.into() })
    }

    /// The value of the first cookie of the name, without quotes; `None` also when it is empty, as in Envoy.
    pub(super) fn read<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let lines = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
        let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
        let value = pairs.filter_map(|pair| pair.strip_prefix(self.name.as_bytes())?.strip_prefix(b"=")).next()?;
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        (!bare.is_empty()).then_some(bare)
    }

    /// `Set-Cookie` for a value of hexadecimal or base64 digits.
    pub(super) fn set(&self, value: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("{}=\"{value}\"{}", self.name, self.attributes))
            .expect("name and path were checked, and digits are visible")
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
