//! What of a request is hashed.

use super::super::parts::{self, Decoded, refuse, required};
use envoy_types::pb::envoy::config::route::v3::route_action as rds;
use rds::hash_policy::{ConnectionProperties, Cookie, Header, PolicySpecifier, QueryParameter};
use weft_model::balancer::{HashPolicy, HashSource};

pub(super) fn encode(policy: &HashPolicy) -> rds::HashPolicy {
    let source = match &policy.source {
        HashSource::Header(name) => PolicySpecifier::Header(Header { header_name: name.clone(), ..Default::default() }),
        HashSource::Cookie { name, path, ttl } => PolicySpecifier::Cookie(Cookie {
            name: name.clone(),
            ttl: ttl.map(parts::duration),
            path: path.clone(),
            ..Default::default()
        }),
        HashSource::SourceIp => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
        HashSource::QueryParameter(name) => PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() }),
    };
    rds::HashPolicy { terminal: policy.terminal, policy_specifier: Some(source) }
}

pub(super) fn decode(policy: rds::HashPolicy) -> Decoded<HashPolicy> {
    let source = match required("policy_specifier", policy.policy_specifier)? {
        PolicySpecifier::Header(Header { regex_rewrite: Some(_), .. }) => {
            return refuse("header.regex_rewrite", "is not supported by this proxy");
        }
        PolicySpecifier::Header(header) => {
            HashSource::Header(named("header.header_name", header.header_name)?.to_ascii_lowercase())
        }
        PolicySpecifier::Cookie(cookie) if !cookie.attributes.is_empty() => {
            return refuse("cookie.attributes", "are not supported by this proxy");
        }
        PolicySpecifier::Cookie(cookie) => HashSource::Cookie {
            name: named("cookie.name", cookie.name)?,
            path: cookie.path,
            ttl: cookie.ttl.map(|ttl| parts::read_duration("cookie.ttl", ttl)).transpose()?,
        },
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }) => HashSource::SourceIp,
        PolicySpecifier::ConnectionProperties(_) => {
            return refuse("connection_properties.source_ip", "only true is supported by this proxy");
        }
        PolicySpecifier::QueryParameter(parameter) => {
            HashSource::QueryParameter(named("query_parameter.name", parameter.name)?)
        }
        PolicySpecifier::FilterState(_) => return refuse("filter_state", "is not supported by this proxy"),
    };
    Ok(HashPolicy { source, terminal: policy.terminal })
}

fn named(field: &str, name: String) -> Decoded<String> {
    if name.is_empty() { refuse(field, "is empty") } else { Ok(name) }
}
