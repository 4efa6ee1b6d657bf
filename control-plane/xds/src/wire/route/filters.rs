//! What is done to a route's requests by HTTP filters: `typed_per_filter_config`.
//!
//! Envoy obeys it only where the filter stands in the connection manager too. There each one stands without a policy of its own,
//! faults before CORS, as with Istio and Envoy Gateway. A policy of a whole listener, there, is refused: the model has none.

mod fault;
mod rate_limit;
mod session;

use super::super::ours;
use super::super::parts::{self, Any, At, Decoded, refuse};
use super::cors;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::Cors as CorsFilter;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSession;
use prost::Name;
use std::collections::HashMap;
use weft_model::balancer::{Persistence, SessionLifetimes};
use weft_model::fault::Fault;
use weft_model::rate_limit::RateLimit;
use weft_model::route::{Action, Cors, Route};

const FAULT: &str = "envoy.filters.http.fault";
const CORS: &str = "envoy.filters.http.cors";
const RATE_LIMIT: &str = "envoy.filters.http.local_ratelimit";
const SESSION: &str = "envoy.filters.http.stateful_session";

/// The key of our own metadata under which all rate limits of a route travel.
const RATE_LIMITS: &str = "rate_limits";
/// The key of our own metadata under which the lifetimes of a route's sessions travel.
const SESSION_LIFETIMES: &str = "session_lifetimes";

/// What the filters do for one route.
pub(super) struct Filters {
    pub(super) cors: Option<Cors>,
    pub(super) fault: Option<Fault>,
    pub(super) rate_limits: Vec<RateLimit>,
    pub(super) persistence: Option<Persistence>,
}

/// The filters as a connection manager holds them: name and configuration, in order.
pub(in crate::wire) fn of_listener() -> [(&'static str, Any); 4] {
    [
        (FAULT, parts::pack(&HttpFault::default())),
        (CORS, parts::pack(&CorsFilter {})),
        (RATE_LIMIT, parts::pack(&rate_limit::nothing())),
        (SESSION, parts::pack(&StatefulSession::default())),
    ]
}

/// Whether a connection manager's filter is one of these. Refuses one that does something without a route asking for it.
pub(in crate::wire) fn check_of_listener(config: &Any) -> Decoded<bool> {
    let (policy, name) = if config.type_url == HttpFault::type_url() {
        (fault::decode(parts::unpack(config)?)? != Fault::default(), FAULT)
    } else if config.type_url == LocalRateLimit::type_url() {
        (rate_limit::decode(parts::unpack(config)?)?.is_some(), RATE_LIMIT)
    } else if config.type_url == StatefulSession::type_url() {
        (session::decode_session(parts::unpack(config)?)?.is_some(), SESSION)
    } else {
        return Ok(config.type_url == CorsFilter::type_url());
    };
    if policy {
        return refuse("", format!("a policy of {name} is supported by this proxy only on a route"));
    }
    Ok(true)
}

fn persistence(route: &Route) -> Option<&Persistence> {
    match &route.action {
        Action::Forward(forward) => forward.persistence.as_ref(),
        Action::Redirect(_) | Action::Respond(_) => None,
    }
}

/// What of them only Weft knows.
pub(super) fn ours(route: &Route) -> Vec<ours::Field> {
    let mut fields = Vec::new();
    if !route.rate_limits.is_empty() {
        fields.push(ours::field(RATE_LIMITS, &route.rate_limits));
    }
    let lifetimes = persistence(route).map(|persistence| persistence.lifetimes);
    if let Some(lifetimes) = lifetimes.filter(|lifetimes| !lifetimes.is_unlimited()) {
        fields.push(ours::field(SESSION_LIFETIMES, &lifetimes));
    }
    fields
}

pub(super) fn encode(route: &Route) -> HashMap<String, Any> {
    let persistence = persistence(route);
    let filters = [
        (FAULT, route.fault.as_ref().map(|fault| parts::pack(&fault::encode(fault)))),
        (CORS, route.cors.as_ref().map(|cors| parts::pack(&cors::encode(cors)))),
        (RATE_LIMIT, rate_limit::encode(&route.rate_limits).map(|limit| parts::pack(&limit))),
        (SESSION, persistence.map(|persistence| parts::pack(&session::encode(persistence)))),
    ];
    filters.into_iter().filter_map(|(name, config)| Some((name.to_string(), config?))).collect()
}

/// The rate limits of our metadata stand for whatever the filter says.
pub(super) fn decode(mut filters: HashMap<String, Any>, metadata: Option<&Metadata>) -> Decoded<Filters> {
    let rate_limits: Option<Vec<RateLimit>> = ours::read(metadata, RATE_LIMITS)?;
    let lifetimes: Option<SessionLifetimes> = ours::read(metadata, SESSION_LIFETIMES)?;
    let mut take = |name: &str| filters.remove(name);
    let (fault, cors, limit, session) = (take(FAULT), take(CORS), take(RATE_LIMIT), take(SESSION));
    if let Some(other) = filters.keys().min() {
        return refuse("typed_per_filter_config", format!("`{other}` is not supported by this proxy"));
    }
    Ok(Filters {
        fault: read(FAULT, fault, fault::decode)?,
        cors: read(CORS, cors, cors::decode)?,
        rate_limits: match rate_limits {
            Some(ours) => rate_limit::check(ours)?,
            None => read(RATE_LIMIT, limit, rate_limit::decode)?.flatten().into_iter().collect(),
        },
        persistence: session::held(read(SESSION, session, session::decode)?.flatten(), lifetimes)?,
    })
}

fn read<M: prost::Message + Name + Default, T>(
    name: &str,
    config: Option<Any>,
    decode: impl FnOnce(M) -> Decoded<T>,
) -> Decoded<Option<T>> {
    let read = config.map(|config| parts::unpack(&config).and_then(decode)).transpose();
    read.at(format_args!("typed_per_filter_config[\"{name}\"]"))
}
