//! What browsers of other origins may do (the fetch standard's CORS protocol, with the Gateway API's rules for `*`).
//!
//! A browser asks before anything unusual with a *preflight*, which a proxy answers by itself, and
//! refuses to show the page an answer that does not name its origin. Getting the wildcards wrong is the
//! classic mistake: once credentials are allowed, `*` means a literal star to a browser, so what was asked for is echoed instead.

#[cfg(test)]
mod tests;

use crate::CompileError;
use crate::pattern::Value;
use crate::route::split_port;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use weft_model::route::{Cors, OriginMatch, StringMatch};

/// The status of the answer to a preflight.
pub const PREFLIGHT_STATUS: StatusCode = StatusCode::NO_CONTENT;

/// A compiled [`Cors`].
#[derive(Clone, Debug)]
pub struct Policy {
    origins: Vec<Origin>,
    methods: Allowed,
    headers: Allowed,
    expose: Allowed,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

/// What to do with a request on a route that has a [`Policy`].
#[derive(Clone, Debug)]
pub enum Decision {
    /// Answer by yourself with [`PREFLIGHT_STATUS`], no body and these headers. To an origin that is not
    /// allowed they say nothing of CORS, and the browser refuses.
    Preflight(HeaderMap),
    /// Go on, and give the answer to [`Grant::apply`].
    Proceed(Grant),
}

/// The origin that may read the answer, if any.
#[derive(Clone, Debug)]
pub struct Grant(Option<HeaderValue>);

impl Policy {
    /// Fails on a pattern that is neither `*` nor `scheme://host[:port]`, on a bad expression, and on what is no method or header name.
    pub fn compile(cors: &Cors) -> Result<Policy, CompileError> {
        let allowed = |part: &str, names: &[String]| Allowed::compile(names).map_err(|error| error.within(part));
        Ok(Policy {
            origins: cors.allow_origins.iter().map(Origin::compile).collect::<Result<_, _>>()?,
            methods: allowed("allowMethods", &cors.allow_methods)?,
            headers: allowed("allowHeaders", &cors.allow_headers)?,
            expose: allowed("exposeHeaders", &cors.expose_headers)?,
            credentials: cors.allow_credentials,
            max_age: cors.max_age.map(|age| HeaderValue::from(age.as_secs())),
        })
    }

    pub fn decide(&self, method: &Method, headers: &HeaderMap) -> Decision {
        let origin = headers.get(ORIGIN);
        let granted = origin.filter(|origin| self.allows(origin));
        let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        match (method == Method::OPTIONS, origin, asked) {
            (true, Some(_), Some(asked)) => Decision::Preflight(self.preflight(granted, asked, headers)),
            _ => Decision::Proceed(Grant(granted.cloned())),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|allowed| allowed.fits(origin))
    }

    fn preflight(&self, granted: Option<&HeaderValue>, method: &HeaderValue, headers: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        answer.insert(
            VARY,
            HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"),
        );
        let Some(origin) = granted else { return answer };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        self.say_credentials(&mut answer);
        if let Some(methods) = self.methods.answer(self.credentials, Some(method)) {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        if let Some(names) = self.headers.answer(self.credentials, headers.get(ACCESS_CONTROL_REQUEST_HEADERS)) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        if let Some(max_age) = &self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        answer
    }

    fn say_credentials(&self, answer: &mut HeaderMap) {
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

impl Grant {
    /// Completes an answer, wherever it came from. The policy has the last word: what a backend says of CORS is replaced.
    pub fn apply(&self, policy: &Policy, answer: &mut HeaderMap) {
        for name in [&ACCESS_CONTROL_ALLOW_ORIGIN, &ACCESS_CONTROL_ALLOW_CREDENTIALS, &ACCESS_CONTROL_EXPOSE_HEADERS] {
            answer.remove(name);
        }
        answer.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = &self.0 else { return };
        if let Some(names) = policy.expose.expose(policy.credentials, answer) {
            answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        policy.say_credentials(answer);
    }
}

/// A compiled [`OriginMatch`].
#[derive(Clone, Debug)]
enum Origin {
    Any,
    /// As it was sent, byte by byte.
    Fits(Value),
    /// All lower case.
    These {
        scheme: String,
        host: HostMatch,
        port: PortMatch,
    },
}

#[derive(Clone, Debug)]
enum HostMatch {
    Exact(String),
    /// What follows the `*`, which stands for one character or more, over any number of labels.
    Suffix(String),
}

#[derive(Clone, Debug)]
enum PortMatch {
    Any,
    /// `None`: the scheme's own, which browsers leave out.
    Exact(Option<String>),
}

impl Origin {
    fn compile(origin: &OriginMatch) -> Result<Self, CompileError> {
        let value = match origin {
            OriginMatch::Pattern(pattern) => return Origin::of_pattern(pattern),
            OriginMatch::Prefix(prefix) => StringMatch::Prefix(prefix.clone()),
            OriginMatch::Regex(expression) => StringMatch::Regex(expression.clone()),
        };
        Value::compile(&value).map(Origin::Fits).map_err(|error| error.within("allowOrigins"))
    }

    fn of_pattern(text: &str) -> Result<Self, CompileError> {
        if text == "*" {
            return Ok(Origin::Any);
        }
        let lower = text.to_ascii_lowercase();
        let parts = lower.split_once("://").filter(|(scheme, _)| !scheme.is_empty() && !scheme.contains('*'));
        let read = parts.and_then(|(scheme, rest)| {
            let (host, port) = split_origin(rest);
            let port = match port {
                Some("*") => PortMatch::Any,
                Some(port) => PortMatch::Exact(Some(port.to_owned())),
                None => PortMatch::Exact(None),
            };
            let inner = host.strip_prefix('*').unwrap_or(host);
            let host = match host.strip_prefix('*') {
                Some(suffix) => HostMatch::Suffix(suffix.to_owned()),
                None => HostMatch::Exact(host.to_owned()),
            };
            let sound = !rest.is_empty() && !inner.contains(['/', '?', '#', '@', ' ', '*']);
            sound.then(|| Origin::These { scheme: scheme.to_owned(), host, port })
        });
        read.ok_or_else(|| {
            CompileError::new(format!(
                "\"{text}\" is no origin; write `*`, `https://shop.example` or `https://*.shop.example`"
            ))
        })
    }

    fn fits(&self, origin: &HeaderValue) -> bool {
        let (scheme, host, port) = match self {
            Origin::Any => return true,
            Origin::Fits(value) => return value.fits(origin.as_bytes()),
            Origin::These { scheme, host, port } => (scheme, host, port),
        };
        let Some((of_scheme, rest)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
            return false;
        };
        let (of_host, of_port) = split_origin(rest);
        let port_fits = match port {
            PortMatch::Any => true,
            PortMatch::Exact(port) => port.as_deref() == of_port,
        };
        port_fits && scheme.eq_ignore_ascii_case(of_scheme) && host.fits(of_host)
    }
}

impl HostMatch {
    fn fits(&self, host: &str) -> bool {
        match self {
            HostMatch::Exact(exact) => exact.eq_ignore_ascii_case(host),
            HostMatch::Suffix(suffix) => {
                let Some(labels) = host.len().checked_sub(suffix.len()).filter(|length| *length > 0) else {
                    return false;
                };
                let (labels, tail) = host.as_bytes().split_at(labels);
                let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                tail.eq_ignore_ascii_case(suffix.as_bytes()) && labels.iter().all(is_inside)
            }
        }
    }
}

/// `shop.example:8443` → (`shop.example`, `8443`); the port may be `*`.
fn split_origin(rest: &str) -> (&str, Option<&str>) {
    match rest.strip_suffix(":*") {
        Some(host) => (host, Some("*")),
        None => split_port(rest),
    }
}

/// Methods or header names.
#[derive(Clone, Debug)]
enum Allowed {
    None,
    All,
    These(HeaderValue),
}

impl Allowed {
    fn compile(names: &[String]) -> Result<Self, CompileError> {
        if names.iter().any(|name| name == "*") {
            return Ok(Allowed::All);
        }
        if let Some(wrong) = names.iter().find(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
            return Err(CompileError::new(format!("\"{wrong}\" is no HTTP token")));
        }
        match names.is_empty() {
            true => Ok(Allowed::None),
            false => Ok(Allowed::These(HeaderValue::from_str(&names.join(", ")).expect("tokens are header values"))),
        }
    }

    fn answer(&self, credentials: bool, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Allowed::None => None,
            Allowed::These(names) => Some(names.clone()),
            Allowed::All if credentials => asked.cloned(),
            Allowed::All => Some(HeaderValue::from_static("*")),
        }
    }

    /// With credentials `*` is a literal star to a browser, so the names that the answer really has are spelled.
    fn expose(&self, credentials: bool, answer: &HeaderMap) -> Option<HeaderValue> {
        match self {
            Allowed::All if credentials => {
                let names: Vec<&str> = answer.keys().map(HeaderName::as_str).collect();
                Some(HeaderValue::from_str(&names.join(", ")).expect("header names are header values"))
            }
            other => other.answer(credentials, None),
        }
    }
}
