//! Route tables.
//!
//! Normal form of matches: a prefix that fits every path (`/` or empty, by elements or not) is [`PathMatch::Any`], other prefixes
//! by elements have no slash at the end; a `:method` header is in `methods`; a prefix, suffix or part of `""` is `Present`.
//! Of actions, see [`action`] and [`backends`]; of header edits, a name is lower case.
//!
//! Where a stock Envoy differs from our proxy on the same bytes:
//! - `ignore_port_in_host_matching` is set unless a domain of the table has a port; then a domain without a
//!   port fits only hosts without one.
//! - When a route and its backend edit the same *request* header, Envoy applies the backend's first.
//! - A per-try timeout ends when the response starts.
//! - With credentials, a CORS `*` for methods or headers is sent as it is, which browsers do not take for a wildcard.

mod action;
mod backends;
mod cors;
mod edits;
pub(super) mod filters;
mod hash;
mod matches;
mod retry;
mod rewrite;
pub(super) mod text;

use super::ours;
use super::parts::{self, At, Decoded, WEFT, apart, each, refuse, required};
use envoy_types::pb::envoy::config::route::v3 as rds;
use rds::route::Action as Wire;
use weft_model::RouteTable;
use weft_model::route::{Action, PathMatch, Route, VirtualHost};

/// The keys of our own metadata, see [`super::ours`].
const RETRY: &str = "retry";
const BACKENDS: &str = "backends";
/// Envoy refuses longer bodies of its own unless it is told how long they are.
const DEFAULT_BODY_BYTES: usize = 4096;

pub(super) fn encode(table: &RouteTable) -> rds::RouteConfiguration {
    let domains = table.virtual_hosts.iter().flat_map(|host| &host.domains);
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let longest_body = routes.filter_map(|route| match &route.action {
        Action::Respond(respond) => Some(respond.body.len()),
        _ => None,
    });
    let longest_body = longest_body.max().filter(|length| *length > DEFAULT_BODY_BYTES);
    rds::RouteConfiguration {
        name: table.name.clone(),
        virtual_hosts: table.virtual_hosts.iter().map(encode_host).collect(),
        ignore_port_in_host_matching: !{ domains }.any(|domain| has_port(domain)),
        max_direct_response_body_size_bytes: longest_body
            .and_then(|length| parts::number(u32::try_from(length).unwrap_or(u32::MAX))),
        ..Default::default()
    }
}

fn has_port(domain: &str) -> bool {
    let port = domain.rsplit_once(':').map_or("", |(_, port)| port);
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn encode_host(host: &VirtualHost) -> rds::VirtualHost {
    rds::VirtualHost {
        name: host.name.clone(),
        domains: host.domains.clone(),
        routes: host.routes.iter().map(encode_route).collect(),
        ..Default::default()
    }
}

fn encode_route(route: &Route) -> rds::Route {
    let path = &route.matches.path;
    let connect = matches::is_connect(&route.matches);
    let action = match &route.action {
        Action::Forward(forward) => Wire::Route(action::encode_forward(forward, path, connect)),
        Action::Redirect(redirect) => Wire::Redirect(action::encode_redirect(redirect, path)),
        Action::Respond(respond) => Wire::DirectResponse(action::encode_respond(respond)),
    };
    rds::Route {
        name: route.name.clone(),
        r#match: Some(matches::encode(&route.matches)),
        action: Some(action),
        metadata: parts::metadata([(WEFT, our_metadata(route))]),
        typed_per_filter_config: filters::encode(route),
        request_headers_to_add: edits::encode(&route.request_headers),
        request_headers_to_remove: route.request_headers.remove.clone(),
        response_headers_to_add: edits::encode(&route.response_headers),
        response_headers_to_remove: route.response_headers.remove.clone(),
        ..Default::default()
    }
}

fn our_metadata(route: &Route) -> Vec<ours::Field> {
    let mut fields = parts::origin(&route.origin);
    if let Action::Forward(forward) = &route.action {
        fields.extend(retry::ours(forward).map(|retry| ours::field(RETRY, &retry)));
        fields.extend(backends::ours(&forward.backends).map(|backends| ours::field(BACKENDS, &backends)));
    }
    fields.extend(filters::ours(route));
    fields
}

pub(super) fn decode(table: rds::RouteConfiguration) -> Decoded<RouteTable> {
    apart!(table => rds::RouteConfiguration {
        read: name, virtual_hosts;
        ignored: internal_only_headers, most_specific_header_mutations_wins, validate_clusters,
            max_direct_response_body_size_bytes, ignore_port_in_host_matching, metadata;
        refused: vhds, response_headers_to_add, response_headers_to_remove, request_headers_to_add, request_headers_to_remove, cluster_specifier_plugins, request_mirror_policies, vhost_header, ignore_path_parameters_in_path_matching, typed_per_filter_config, route_specifiers
    });
    if name.is_empty() {
        return refuse("name", "is empty");
    }
    Ok(RouteTable { name, virtual_hosts: each("virtual_hosts", virtual_hosts, decode_host)? })
}

fn decode_host(host: rds::VirtualHost) -> Decoded<VirtualHost> {
    apart!(host => rds::VirtualHost {
        read: name, domains, routes;
        ignored: virtual_clusters, include_request_attempt_count, include_attempt_count_in_response,
            include_is_timeout_retry_header, metadata;
        refused: matcher, require_tls, rate_limits, request_headers_to_add, request_headers_to_remove, response_headers_to_add, response_headers_to_remove, cors, typed_per_filter_config, retry_policy, retry_policy_typed_config, hedge_policy, per_request_buffer_limit_bytes, request_body_buffer_limit, request_mirror_policies, route_specifiers
    });
    Ok(VirtualHost {
        name,
        domains: each("domains", domains, decode_domain)?,
        routes: each("routes", routes, decode_route)?,
    })
}

fn decode_domain(domain: String) -> Decoded<String> {
    let rest = if domain == "*" { "" } else { domain.strip_prefix("*.").unwrap_or(&domain) };
    if domain.is_empty() || rest.contains('*') {
        return refuse("", format!("`{domain}` is not supported: write `host`, `*.host` or `*`"));
    }
    Ok(domain.to_ascii_lowercase())
}

fn decode_route(route: rds::Route) -> Decoded<Route> {
    apart!(route => rds::Route {
        read: name, r#match, action, metadata, typed_per_filter_config, request_headers_to_add, request_headers_to_remove,
            response_headers_to_add, response_headers_to_remove;
        ignored: decorator, tracing, stat_prefix, per_request_buffer_limit_bytes, request_body_buffer_limit;
        refused: route_specifiers
    });
    let matches = matches::decode(required("match", r#match)?).at("match")?;
    let metadata = metadata.as_ref();
    let filters = filters::decode(typed_per_filter_config, metadata)?;
    let ours = action::Ours { retry: ours::read(metadata, RETRY)?, backends: ours::read(metadata, BACKENDS)? };
    let mut action = decode_action(action, &matches.path, ours)?;
    if let Action::Forward(forward) = &mut action {
        forward.persistence = filters.persistence;
    }
    Ok(Route {
        name,
        action,
        matches,
        request_headers: edits::decode("request_headers_to_add", request_headers_to_add, request_headers_to_remove)?,
        response_headers: edits::decode(
            "response_headers_to_add",
            response_headers_to_add,
            response_headers_to_remove,
        )?,
        cors: filters.cors,
        fault: filters.fault,
        rate_limits: filters.rate_limits,
        origin: parts::read_origin(metadata),
    })
}

fn decode_action(action: Option<Wire>, path: &PathMatch, ours: action::Ours) -> Decoded<Action> {
    match required("action", action)? {
        Wire::Route(forward) => Ok(Action::Forward(action::decode_forward(forward, path, ours).at("route")?)),
        Wire::Redirect(redirect) => Ok(Action::Redirect(action::decode_redirect(redirect, path).at("redirect")?)),
        Wire::DirectResponse(respond) => Ok(Action::Respond(action::decode_respond(respond).at("direct_response")?)),
        Wire::FilterAction(_) => refuse("filter_action", "is not supported by this proxy"),
        Wire::NonForwardingAction(_) => refuse("non_forwarding_action", "is not supported by this proxy"),
    }
}
