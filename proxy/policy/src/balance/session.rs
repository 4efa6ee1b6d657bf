//! A caller that comes back to the endpoint that answered it first, because it carries that endpoint's address with it.
//!
//! The address is the caller's to change: it says which endpoint *of the cluster* is wanted and nothing else. Whoever reads it looks
//! it up among the healthy ones, and picks as usual when it is not there.
//!
//! A session with a lifetime carries two stamps besides, when it began and when it was answered last, so that no proxy has to remember
//! it and any proxy can tell that it is over. A caller who forges them keeps its own session for longer, and nothing else.

use super::cookie::Cookie;
use crate::CompileError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weft_model::balancer::{Persistence, SessionCarrier, SessionLifetimes};

/// The longest text of an address, an IPv6 one with a scope and a port.
const LONGEST_ADDRESS: usize = 64;
/// With two stamps; anything longer is not decoded.
const LONGEST: usize = LONGEST_ADDRESS + 2 * "|18446744073709551615".len();

/// The persistence of a route, compiled.
#[derive(Clone, Debug)]
pub struct Session {
    carrier: Carrier,
    lifetimes: SessionLifetimes,
}

#[derive(Clone, Debug)]
enum Carrier {
    Cookie(Cookie),
    Header(HeaderName),
}

/// The session that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of the endpoint that it is to come back to.
    pub address: SocketAddr,
    stamps: Option<Stamps>,
}

/// In seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamps {
    began: u64,
    answered: u64,
}

impl Session {
    /// Fails on what is no name of a header or of a cookie.
    pub fn compile(persistence: &Persistence) -> Result<Session, CompileError> {
        let carrier = match &persistence.carrier {
            SessionCarrier::Cookie { name, path, ttl } => Carrier::Cookie(Cookie::compile(name, path, *ttl)?),
            SessionCarrier::Header { name } => {
                Carrier::Header(HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                    CompileError::new("this is no HTTP header name").within(format!("header \"{name}\""))
                })?)
            }
        };
        Ok(Session { carrier, lifetimes: persistence.lifetimes })
    }

    /// The endpoint that the request asks for, unless its session is over by now.
    pub fn asked(&self, headers: &HeaderMap, now: SystemTime) -> Option<Asked> {
        let value = match &self.carrier {
            Carrier::Cookie(cookie) => cookie.read(headers)?,
            Carrier::Header(name) => headers.get(name)?.as_bytes(),
        };
        let asked = Asked::decode(value)?;
        self.lasts(asked.stamps, seconds(now)).then_some(asked)
    }

    fn lasts(&self, stamps: Option<Stamps>, now: u64) -> bool {
        if self.lifetimes.is_unlimited() {
            return true;
        }
        // One that was made before there were lifetimes may have begun at any time.
        let Some(Stamps { began, answered }) = stamps else { return false };
        let within = |limit: Option<Duration>, since: u64| {
            limit.is_none_or(|limit| Duration::from_secs(now.saturating_sub(since)) <= limit)
        };
        within(self.lifetimes.absolute, began) && within(self.lifetimes.idle, answered)
    }

    /// What the response carries so that the caller comes back to `answered`; `None` when that is what it asked for already.
    pub fn answer(
        &self,
        asked: Option<Asked>,
        answered: SocketAddr,
        now: SystemTime,
    ) -> Option<(HeaderName, HeaderValue)> {
        let now = seconds(now);
        // Another endpoint is another session.
        let same = asked.filter(|asked| asked.address == answered);
        let began = same.and_then(|asked| asked.stamps).map_or(now, |stamps| stamps.began);
        let stamps = (!self.lifetimes.is_unlimited()).then_some(Stamps { began, answered: now });
        let renewed = Asked { address: answered, stamps };
        let is_known = match (same, self.lifetimes.idle) {
            (Some(asked), Some(_)) => asked == renewed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_known {
            return None;
        }
        let value = renewed.encode();
        Some(match &self.carrier {
            Carrier::Cookie(cookie) => (SET_COOKIE, cookie.set(&value)),
            Carrier::Header(name) => (name.clone(), HeaderValue::from_str(&value).expect("base64 digits are visible")),
        })
    }
}

impl Asked {
    /// Base64 of `address:port`, as Envoy's stateful session header, or of `address:port|began|answered`.
    fn encode(&self) -> String {
        STANDARD.encode(match self.stamps {
            None => self.address.to_string(),
            Some(Stamps { began, answered }) => format!("{}|{began}|{answered}", self.address),
        })
    }

    fn decode(value: &[u8]) -> Option<Asked> {
        if value.len() > LONGEST.div_ceil(3) * 4 {
            return None;
        }
        let decoded = STANDARD.decode(value).ok()?;
        let mut parts = std::str::from_utf8(&decoded).ok()?.split('|');
        let address = parts.next()?.parse().ok()?;
        let stamps = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(began), Some(answered), None) => {
                Some(Stamps { began: began.parse().ok()?, answered: answered.parse().ok()? })
            }
            _ => return None,
        };
        Some(Asked { address, stamps })
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> SocketAddr {
        "10.0.0.7:8080".parse().unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }

    fn by_header(name: &str, lifetimes: SessionLifetimes) -> Persistence {
        Persistence { carrier: SessionCarrier::Header { name: name.into() }, lifetimes }
    }

    fn by_cookie(name: &str, path: &str, ttl: Option<Duration>) -> Persistence {
        let carrier = SessionCarrier::Cookie { name: name.into(), path: path.into(), ttl };
        Persistence { carrier, lifetimes: SessionLifetimes::default() }
    }

    fn lasting(absolute: Option<u64>, idle: Option<u64>) -> Session {
        let limit = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let lifetimes = SessionLifetimes { absolute: limit(absolute), idle: limit(idle) };
        Session::compile(&by_header("x-at", lifetimes)).unwrap()
    }

    fn to(address: SocketAddr) -> Option<Asked> {
        Some(Asked { address, stamps: None })
    }

    #[test]
    fn an_address_is_base64_of_its_text() {
        assert_eq!(Asked { address: address(), stamps: None }.encode(), "MTAuMC4wLjc6ODA4MA==");
        assert_eq!(Asked::decode(b"MTAuMC4wLjc6ODA4MA=="), to(address()));
    }

    #[test]
    fn a_caller_comes_back_by_cookie() {
        let session = Session::compile(&by_cookie("at", "/cart", Some(Duration::from_secs(60)))).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(session.asked(&headers, at(0)), None);
        let (name, value) = session.answer(None, address(), at(0)).unwrap();
        assert_eq!(name, SET_COOKIE);
        assert_eq!(value, "at=\"MTAuMC4wLjc6ODA4MA==\"; Max-Age=60; Path=/cart; HttpOnly");
        headers.insert("cookie", HeaderValue::from_static("a=b; at=MTAuMC4wLjc6ODA4MA==; c=d"));
        assert_eq!(session.asked(&headers, at(0)), to(address()));
        headers.insert("cookie", HeaderValue::from_static("at=\"MTAuMC4wLjc6ODA4MA==\""));
        assert_eq!(session.asked(&headers, at(0)), to(address()));
    }

    #[test]
    fn a_caller_is_told_only_of_a_change() {
        let session = lasting(None, None);
        assert_eq!(session.answer(to(address()), address(), at(0)), None);
        let (name, value) = session.answer(to("10.0.0.8:8080".parse().unwrap()), address(), at(0)).unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("x-at", &b"MTAuMC4wLjc6ODA4MA=="[..]));
        let headers = HeaderMap::from_iter([(name, value)]);
        assert_eq!(session.asked(&headers, at(0)), to(address()));
    }

    #[test]
    fn an_idle_session_is_over_and_every_answer_keeps_it_alive() {
        let session = lasting(None, Some(60));
        let mut headers = HeaderMap::from_iter(session.answer(None, address(), at(0)));
        for now in [60, 120, 180] {
            let asked = session.asked(&headers, at(now));
            assert_eq!(asked.map(|asked| asked.address), Some(address()), "{now} s");
            headers = HeaderMap::from_iter(session.answer(asked, address(), at(now)));
            let again = session.asked(&headers, at(now));
            assert_eq!(session.answer(again, address(), at(now)), None, "it says so already");
        }
        assert_eq!(session.asked(&headers, at(241)), None);
    }

    #[test]
    fn a_session_ends_in_time_however_busy_it_is() {
        let session = lasting(Some(100), Some(60));
        let mut headers = HeaderMap::from_iter(session.answer(None, address(), at(0)));
        for now in [50, 100] {
            let asked = session.asked(&headers, at(now));
            assert!(asked.is_some(), "{now} s");
            headers = HeaderMap::from_iter(session.answer(asked, address(), at(now)));
        }
        assert_eq!(session.asked(&headers, at(101)), None);
        let (_, anew) = session.answer(None, address(), at(101)).unwrap();
        headers.insert("x-at", anew);
        assert!(session.asked(&headers, at(150)).is_some(), "the next one has its own time");

        let absolute = lasting(Some(100), None);
        let headers = HeaderMap::from_iter(absolute.answer(None, address(), at(0)));
        let asked = absolute.asked(&headers, at(99));
        assert_eq!(absolute.answer(asked, address(), at(99)), None, "nothing to renew");
    }

    #[test]
    fn another_endpoint_is_another_session() {
        let session = lasting(Some(100), None);
        let headers = HeaderMap::from_iter(session.answer(None, address(), at(0)));
        let other = "10.0.0.8:8080".parse().unwrap();
        let moved = HeaderMap::from_iter(session.answer(session.asked(&headers, at(90)), other, at(90)));
        assert_eq!(session.asked(&moved, at(190)).map(|asked| asked.address), Some(other));
    }

    #[test]
    fn an_edit_of_the_lifetimes_breaks_no_session_that_may_live() {
        let (forever, limited) = (lasting(None, None), lasting(Some(100), None));
        let stamped = HeaderMap::from_iter(limited.answer(None, address(), at(0)));
        assert_eq!(forever.asked(&stamped, at(1000)).map(|asked| asked.address), Some(address()));
        let bare = HeaderMap::from_iter(forever.answer(None, address(), at(0)));
        assert_eq!(limited.asked(&bare, at(1)), None, "nobody knows when it began");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let error = Session::compile(&by_header("x at", SessionLifetimes::default())).unwrap_err();
        assert_eq!(error.to_string(), "header \"x at\": this is no HTTP header name");
        let error = Session::compile(&by_cookie("a=b", "/", None)).unwrap_err();
        assert_eq!(error.to_string(), "cookie \"a=b\": this is no cookie name");
        let error = Session::compile(&by_cookie("a", "/;\r\n", None)).unwrap_err();
        assert_eq!(error.to_string(), "cookie \"a\": path \"/;\\r\\n\" cannot stand in a cookie");
    }

    proptest! {
        #[test]
        fn every_session_comes_back(ip: std::net::IpAddr, port: u16, stamps: Option<(u64, u64)>) {
            let address = SocketAddr::new(ip, port);
            let stamps = stamps.map(|(began, answered)| Stamps { began, answered });
            let asked = Asked { address, stamps };
            prop_assert_eq!(Asked::decode(asked.encode().as_bytes()), Some(asked));
        }

        #[test]
        fn anything_else_is_no_session(value: Vec<u8>) {
            if let Some(asked) = Asked::decode(&value) {
                prop_assert!(asked.encode().len() <= LONGEST.div_ceil(3) * 4);
            }
        }
    }
}
