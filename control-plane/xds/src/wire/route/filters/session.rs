//! Stateful sessions: a caller comes back to the endpoint that answered it first. Normal form: a cookie's life of 0 is `None`.
//!
//! How long a session lasts has no field in Envoy, and travels in our metadata.

use super::super::super::ours;
use super::super::super::parts::{self, At, Decoded, apart, refuse, required};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession, StatefulSessionPerRoute, stateful_session_per_route::Override,
};
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use envoy_types::pb::envoy::r#type::http::v3::Cookie;
use prost::Name;
use weft_model::balancer::{Persistence, SessionCarrier, SessionLifetimes};

const COOKIE: &str = "envoy.http.stateful_session.cookie";
const HEADER: &str = "envoy.http.stateful_session.header";

pub(super) fn encode(persistence: &Persistence) -> StatefulSessionPerRoute {
    let (name, config) = match &persistence.carrier {
        SessionCarrier::Cookie { name, path, ttl } => {
            let (name, path, ttl) = (name.clone(), path.clone(), ttl.filter(|ttl| !ttl.is_zero()));
            let cookie = Cookie { name, ttl: ttl.map(parts::duration), path, ..Default::default() };
            (COOKIE, parts::pack(&CookieBasedSessionState { cookie: Some(cookie) }))
        }
        SessionCarrier::Header { name } => (HEADER, parts::pack(&HeaderBasedSessionState { name: name.clone() })),
    };
    let session = StatefulSession {
        session_state: Some(TypedExtensionConfig { name: name.into(), typed_config: Some(config) }),
        ..Default::default()
    };
    StatefulSessionPerRoute { r#override: Some(Override::StatefulSession(session)) }
}

/// `lifetimes` are what our metadata says.
pub(super) fn held(
    carrier: Option<SessionCarrier>,
    lifetimes: Option<SessionLifetimes>,
) -> Decoded<Option<Persistence>> {
    match (carrier, lifetimes) {
        (Some(carrier), lifetimes) => Ok(Some(Persistence { carrier, lifetimes: lifetimes.unwrap_or_default() })),
        (None, None) => Ok(None),
        (None, Some(_)) => refuse(&ours::path(super::SESSION_LIFETIMES), "is there without a stateful session"),
    }
}

pub(super) fn decode(route: StatefulSessionPerRoute) -> Decoded<Option<SessionCarrier>> {
    match required("override", route.r#override)? {
        Override::Disabled(_) => Ok(None),
        Override::StatefulSession(session) => decode_session(session).at("stateful_session"),
    }
}

pub(super) fn decode_session(session: StatefulSession) -> Decoded<Option<SessionCarrier>> {
    apart!(session => StatefulSession {
        read: session_state;
        ignored: stat_prefix, status_on_strict_destination_not_found;
        refused: strict
    });
    session_state.map(|state| decode_state(state).at("session_state.typed_config")).transpose()
}

fn decode_state(state: TypedExtensionConfig) -> Decoded<SessionCarrier> {
    let config = required("", state.typed_config)?;
    if config.type_url == HeaderBasedSessionState::type_url() {
        let HeaderBasedSessionState { name } = parts::unpack(&config)?;
        return if name.is_empty() { refuse("name", "is empty") } else { Ok(SessionCarrier::Header { name }) };
    }
    let state: CookieBasedSessionState = parts::unpack(&config)?;
    let cookie = required("cookie", state.cookie)?;
    if cookie.name.is_empty() {
        return refuse("cookie.name", "is empty");
    }
    if !cookie.attributes.is_empty() {
        return refuse("cookie.attributes", "are not supported by this proxy");
    }
    Ok(SessionCarrier::Cookie {
        name: cookie.name,
        path: cookie.path,
        ttl: parts::read_limit("cookie.ttl", cookie.ttl, None)?,
    })
}
