//! A caller that comes back to the endpoint that answered it first, because it carries that endpoint's address with it.
//!
//! The address is the caller's to change: it says which endpoint *of the cluster* is wanted and nothing else. Whoever reads it looks
//! it up among the healthy ones, and picks as usual when it is not there.

use super::cookie::Cookie;
use crate::CompileError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::SocketAddr;
use weft_model::balancer::Persistence;

/// The longest text of an address, an IPv6 one with a scope and a port; anything longer is not decoded.
const LONGEST: usize = 64;

/// The persistence of a route, compiled.
#[derive(Clone, Debug)]
pub struct Session(Carrier);

#[derive(Clone, Debug)]
enum Carrier {
    Cookie(Cookie),
    Header(HeaderName),
}

impl Session {
    /// Fails on what is no name of a header or of a cookie.
    pub fn compile(persistence: &Persistence) -> Result<Session, CompileError> {
        let carrier = match persistence {
            Persistence::Cookie { name, path, ttl } => Carrier::Cookie(Cookie::compile(name, path, *ttl)?),
            Persistence::Header { name } => {
                Carrier::Header(HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                    CompileError::new("this is no HTTP header name").within(format!("header \"{name}\""))
                })?)
            }
        };
        Ok(Session(carrier))
    }

    /// The endpoint that the request asks for.
    pub fn asked(&self, headers: &HeaderMap) -> Option<SocketAddr> {
        match &self.0 {
            Carrier::Cookie(cookie) => decode_address(cookie.read(headers)?),
            Carrier::Header(name) => decode_address(headers.get(name)?.as_bytes()),
        }
    }

    /// What the response carries so that the caller comes back to `answered`; `None` when that is what it asked for.
    pub fn answer(&self, asked: Option<SocketAddr>, answered: SocketAddr) -> Option<(HeaderName, HeaderValue)> {
        if asked == Some(answered) {
            return None;
        }
        let value = encode_address(answered);
        Some(match &self.0 {
            Carrier::Cookie(cookie) => (SET_COOKIE, cookie.set(&value)),
            Carrier::Header(name) => (name.clone(), HeaderValue::from_str(&value).expect("base64 digits are visible")),
        })
    }
}

/// Base64 of `address:port`, as Envoy's stateful session header.
pub fn encode_address(address: SocketAddr) -> String {
    STANDARD.encode(address.to_string())
}

/// `None` for whatever [`encode_address`] does not make.
pub fn decode_address(value: &[u8]) -> Option<SocketAddr> {
    if value.len() > LONGEST * 4 / 3 {
        return None;
    }
    let decoded = STANDARD.decode(value).ok()?;
    std::str::from_utf8(&decoded).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn address() -> SocketAddr {
        "10.0.0.7:8080".parse().unwrap()
    }

    #[test]
    fn an_address_is_base64_of_its_text() {
        assert_eq!(encode_address(address()), "MTAuMC4wLjc6ODA4MA==");
        assert_eq!(decode_address(b"MTAuMC4wLjc6ODA4MA=="), Some(address()));
    }

    #[test]
    fn a_caller_comes_back_by_cookie() {
        let cookie =
            Persistence::Cookie { name: "at".into(), path: "/cart".into(), ttl: Some(Duration::from_secs(60)) };
        let session = Session::compile(&cookie).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(session.asked(&headers), None);
        let (name, value) = session.answer(None, address()).unwrap();
        assert_eq!(name, SET_COOKIE);
        assert_eq!(value, "at=\"MTAuMC4wLjc6ODA4MA==\"; Max-Age=60; Path=/cart; HttpOnly");
        headers.insert("cookie", HeaderValue::from_static("a=b; at=MTAuMC4wLjc6ODA4MA==; c=d"));
        assert_eq!(session.asked(&headers), Some(address()));
        headers.insert("cookie", HeaderValue::from_static("at=\"MTAuMC4wLjc6ODA4MA==\""));
        assert_eq!(session.asked(&headers), Some(address()));
    }

    #[test]
    fn a_caller_is_told_only_of_a_change() {
        let session = Session::compile(&Persistence::Header { name: "x-at".into() }).unwrap();
        assert_eq!(session.answer(Some(address()), address()), None);
        let other = "10.0.0.8:8080".parse().unwrap();
        let (name, value) = session.answer(Some(other), address()).unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-at", &b"MTAuMC4wLjc6ODA4MA=="[..]));
        let headers = HeaderMap::from_iter([(name, value)]);
        assert_eq!(session.asked(&headers), Some(address()));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let error = Session::compile(&Persistence::Header { name: "x at".into() }).unwrap_err();
        assert_eq!(error.to_string(), "header \"x at\": this is no HTTP header name");
        let cookie = |name: &str, path: &str| Persistence::Cookie { name: name.into(), path: path.into(), ttl: None };
        let error = Session::compile(&cookie("a=b", "/")).unwrap_err();
        assert_eq!(error.to_string(), "cookie \"a=b\": this is no cookie name");
        let error = Session::compile(&cookie("a", "/;\r\n")).unwrap_err();
        assert_eq!(error.to_string(), "cookie \"a\": path \"/;\\r\\n\" cannot stand in a cookie");
    }

    proptest! {
        #[test]
        fn every_address_comes_back(ip: std::net::IpAddr, port: u16) {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(decode_address(encode_address(address).as_bytes()), Some(address));
        }

        #[test]
        fn anything_else_is_no_address(value: Vec<u8>) {
            if let Some(address) = decode_address(&value) {
                prop_assert!(encode_address(address).len() <= 88);
            }
        }
    }
}
