//! What becomes of a request.
//!
//! Normal form: time limits of 0 are `None`; a redirect's status is one of 301, 302, 303, 307, 308 (others become 302) and its port is not 0;
//! an empty rewritten host is `None`.
//!
//! For retries and the backend timeout, see [`retry`]; for backends, see [`backends`].

use super::super::numbers;
use super::super::parts::{self, At, Decoded, apart, each, refuse, required};
use super::{backends, hash, retry, rewrite};
use envoy_types::pb::envoy::config::core::v3::{DataSource, RoutingPriority, data_source::Specifier};
use envoy_types::pb::envoy::config::route::v3 as rds;
use rds::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use rds::route_action::{
    ClusterNotFoundResponseCode, HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy, UpgradeConfig,
    upgrade_config::ConnectConfig,
};
use std::time::Duration;
use weft_model::breaker::Priority;
use weft_model::route::{Forward, Mirror, PathMatch, Redirect, Respond, Rewrite, Share};

/// Envoy's, when it is left out.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn encode_forward(forward: &Forward, path: &PathMatch, connect: bool) -> rds::RouteAction {
    let (prefix_rewrite, regex_rewrite) = rewrite::encode(forward.rewrite.path.as_ref(), path).into_parts();
    let not_found = if backends::are_sound(&forward.backends) {
        ClusterNotFoundResponseCode::ServiceUnavailable
    } else {
        ClusterNotFoundResponseCode::InternalServerError
    };
    let connect = connect.then(|| UpgradeConfig {
        upgrade_type: "CONNECT".into(),
        connect_config: Some(ConnectConfig::default()),
        ..Default::default()
    });
    rds::RouteAction {
        cluster_specifier: Some(backends::encode(&forward.backends)),
        cluster_not_found_response_code: not_found as i32,
        prefix_rewrite,
        regex_rewrite,
        host_rewrite_specifier: forward
            .rewrite
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .map(HostRewriteSpecifier::HostRewriteLiteral),
        timeout: parts::limit(forward.request_timeout),
        idle_timeout: forward.idle_timeout.map(parts::duration),
        max_stream_duration: forward.grpc_timeout_max.map(|longest| MaxStreamDuration {
            grpc_timeout_header_max: Some(parts::duration(longest)),
            ..Default::default()
        }),
        retry_policy: retry::encode(forward),
        hedge_policy: retry::encode_hedging(forward),
        priority: encode_priority(forward.priority) as i32,
        hash_policy: forward.hash.iter().map(hash::encode).collect(),
        request_mirror_policies: forward.mirrors.iter().map(encode_mirror).collect(),
        upgrade_configs: connect.into_iter().collect(),
        ..Default::default()
    }
}

fn encode_priority(priority: Priority) -> RoutingPriority {
    match priority {
        Priority::Default => RoutingPriority::Default,
        Priority::High => RoutingPriority::High,
    }
}

fn encode_mirror(mirror: &Mirror) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: backends::cluster_name(&mirror.target),
        runtime_fraction: if mirror.share == Share::ALL { None } else { numbers::runtime_fraction(mirror.share) },
        disable_shadow_host_suffix_append: true,
        ..Default::default()
    }
}

pub(super) fn encode_redirect(redirect: &Redirect, path: &PathMatch) -> rds::RedirectAction {
    let code = match redirect.status {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    rds::RedirectAction {
        host_redirect: redirect.host.clone().unwrap_or_default(),
        port_redirect: redirect.port.unwrap_or_default().into(),
        response_code: code as i32,
        scheme_rewrite_specifier: redirect.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: rewrite::encode_redirect(redirect.path.as_ref(), path),
        ..Default::default()
    }
}

pub(super) fn encode_respond(respond: &Respond) -> rds::DirectResponseAction {
    let body = DataSource { specifier: Some(Specifier::InlineString(respond.body.clone())), ..Default::default() };
    rds::DirectResponseAction {
        status: respond.status.into(),
        body: (!respond.body.is_empty()).then_some(body),
        ..Default::default()
    }
}

/// What our metadata says of a route that forwards.
pub(super) struct Ours {
    pub(super) retry: Option<retry::Ours>,
    pub(super) backends: Option<Vec<backends::Ours>>,
}

pub(super) fn decode_forward(action: rds::RouteAction, path: &PathMatch, ours: Ours) -> Decoded<Forward> {
    apart!(action => rds::RouteAction {
        read: cluster_specifier, prefix_rewrite, regex_rewrite, host_rewrite_specifier, timeout, idle_timeout,
            max_stream_duration, retry_policy, hedge_policy, priority, hash_policy, request_mirror_policies, upgrade_configs;
        ignored: cluster_not_found_response_code, append_x_forwarded_host, flush_timeout;
        refused: metadata_match, path_rewrite_policy, path_rewrite, early_data_policy, retry_policy_typed_config, rate_limits, include_vh_rate_limits, cors, max_grpc_timeout, grpc_timeout_offset, internal_redirect_policy, internal_redirect_action, max_internal_redirects
    });
    if upgrade_configs.iter().any(|upgrade| upgrade.enabled.as_ref().is_some_and(|enabled| !enabled.value)) {
        return refuse("upgrade_configs", "turning an upgrade off per route is not supported by this proxy");
    }
    let host = match host_rewrite_specifier {
        None => None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(host).filter(|host| !host.is_empty()),
        Some(_) => return refuse("host_rewrite_specifier", "only host_rewrite_literal is supported by this proxy"),
    };
    let (retry, backend_timeout) = retry::decode(retry_policy, hedge_policy, ours.retry)?;
    Ok(Forward {
        backends: backends::decode(required("cluster_specifier", cluster_specifier)?, ours.backends)?,
        rewrite: Rewrite { host, path: rewrite::decode(prefix_rewrite, regex_rewrite, path)? },
        request_timeout: parts::read_limit("timeout", timeout, Some(DEFAULT_TIMEOUT))?,
        backend_timeout,
        idle_timeout: idle_timeout.map(|idle| parts::read_duration("idle_timeout", idle)).transpose()?,
        grpc_timeout_max: max_stream_duration
            .map(read_stream_duration)
            .transpose()
            .at("max_stream_duration")?
            .flatten(),
        retry,
        priority: read_priority(priority)?,
        hash: each("hash_policy", hash_policy, hash::decode)?,
        mirrors: each("request_mirror_policies", request_mirror_policies, decode_mirror)?,
        // a filter's, see `filters`
        persistence: None,
    })
}

fn read_priority(priority: i32) -> Decoded<Priority> {
    match RoutingPriority::try_from(priority) {
        Ok(RoutingPriority::Default) => Ok(Priority::Default),
        Ok(RoutingPriority::High) => Ok(Priority::High),
        Err(_) => refuse("priority", format!("{priority} is no priority")),
    }
}

fn read_stream_duration(duration: MaxStreamDuration) -> Decoded<Option<Duration>> {
    apart!(duration => MaxStreamDuration {
        read: max_stream_duration, grpc_timeout_header_max;
        ignored: ;
        refused: grpc_timeout_header_offset
    });
    // 0 lifts a limit that no listener of ours has
    if parts::read_limit("max_stream_duration", max_stream_duration, None)?.is_some() {
        return refuse("max_stream_duration", "is not supported by this proxy");
    }
    grpc_timeout_header_max.map(|longest| parts::read_duration("grpc_timeout_header_max", longest)).transpose()
}

fn decode_mirror(policy: RequestMirrorPolicy) -> Decoded<Mirror> {
    apart!(policy => RequestMirrorPolicy {
        read: cluster, runtime_fraction;
        ignored: trace_sampled, disable_shadow_host_suffix_append;
        refused: cluster_header, request_headers_mutations, host_rewrite_literal
    });
    let share = match runtime_fraction {
        None => Share::ALL,
        fraction => numbers::read_runtime_fraction("runtime_fraction", fraction)?,
    };
    Ok(Mirror { target: backends::target("cluster", cluster)?, share })
}

pub(super) fn decode_redirect(action: rds::RedirectAction, path: &PathMatch) -> Decoded<Redirect> {
    apart!(action => rds::RedirectAction {
        read: host_redirect, port_redirect, response_code, scheme_rewrite_specifier, path_rewrite_specifier;
        ignored: ;
        refused: strip_query
    });
    let Ok(port) = u16::try_from(port_redirect) else {
        return refuse("port_redirect", format!("{port_redirect} is no port"));
    };
    let status = match RedirectResponseCode::try_from(response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => 301,
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        Err(_) => return refuse("response_code", format!("{response_code} is no redirect code")),
    };
    let scheme = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_string()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.to_ascii_lowercase()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let path = match path_rewrite_specifier {
        None => None,
        Some(PathRewriteSpecifier::PathRewrite(_)) => return refuse("path_rewrite", "is not supported by this proxy"),
        Some(specifier) => rewrite::decode_redirect(specifier, path)?,
    };
    Ok(Redirect {
        scheme: scheme.filter(|scheme| !scheme.is_empty()),
        host: Some(host_redirect).filter(|host| !host.is_empty()),
        port: (port != 0).then_some(port),
        path,
        status,
    })
}

pub(super) fn decode_respond(action: rds::DirectResponseAction) -> Decoded<Respond> {
    apart!(action => rds::DirectResponseAction {
        read: status, body;
        ignored: ;
        refused: body_format
    });
    let Some(status) = u16::try_from(status).ok().filter(|status| (100..600).contains(status)) else {
        return refuse("status", format!("{status} is no HTTP status"));
    };
    let body = match body.and_then(|body| body.specifier) {
        None => String::new(),
        Some(Specifier::InlineString(body)) => body,
        Some(Specifier::InlineBytes(body)) => match String::from_utf8(body) {
            Ok(body) => body,
            Err(_) => return refuse("body.inline_bytes", "is no UTF-8"),
        },
        Some(_) => return refuse("body", "only inline_string and inline_bytes are supported"),
    };
    Ok(Respond { status, body })
}
