//! Network filters: the HTTP connection manager and the TCP proxy.

use super::super::parts::{self, At, Decoded, apart, each, refuse, required};
use super::super::route::filters;
use super::super::{Any, cluster};
use super::typed_config;
use envoy_types::pb::envoy::config::core::v3::{Http2ProtocolOptions, HttpProtocolOptions};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as forward;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use hcm::http_connection_manager::{CodecType, RouteSpecifier, UpgradeConfig};
use hcm::http_filter::ConfigType;
use prost::Name;
use std::time::Duration;
use tcp::tcp_proxy::ClusterSpecifier;
use weft_model::listener::{Codec, Direction, Handler, HttpHandler, TcpHandler, WeightedCluster};

const HTTP_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
const FORWARD: &str = "envoy.filters.http.dynamic_forward_proxy";
const ROUTER: &str = "envoy.filters.http.router";
/// The largest head that Envoy can be told to take, in KiB.
const LARGEST_HEAD_KIB: u32 = 8192;

/// Envoy's, when they are left out.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const DEFAULT_HEAD_KIB: u32 = 60;
const DEFAULT_HEADERS: u32 = 100;

pub(super) fn encode(handler: &Handler, direction: Direction) -> lds::Filter {
    let (name, config) = match handler {
        Handler::Http(http) => (HTTP_MANAGER, parts::pack(&encode_http(http, direction))),
        Handler::Tcp(tcp) => (TCP_PROXY, parts::pack(&encode_tcp(tcp))),
    };
    lds::Filter { name: name.into(), config_type: Some(lds::filter::ConfigType::TypedConfig(config)) }
}

fn encode_http(http: &HttpHandler, direction: Direction) -> hcm::HttpConnectionManager {
    let codec = match http.codec {
        Codec::Auto => CodecType::Auto,
        Codec::Http1 => CodecType::Http1,
        Codec::Http2 => CodecType::Http2,
    };
    hcm::HttpConnectionManager {
        codec_type: codec as i32,
        stat_prefix: http.route_table.clone(),
        route_specifier: Some(RouteSpecifier::Rds(hcm::Rds {
            config_source: parts::over_ads(),
            route_config_name: http.route_table.clone(),
        })),
        http_filters: http_filters(direction),
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: parts::limit(http.idle_timeout),
            max_headers_count: parts::number(http.max_request_headers.max(1)),
            ..Default::default()
        }),
        // without it, upgrades over HTTP/2 (RFC 8441) and CONNECT are refused
        http2_protocol_options: (!http.upgrades.is_empty())
            .then(|| Http2ProtocolOptions { allow_connect: true, ..Default::default() }),
        max_request_headers_kb: parts::number(http.max_request_head_bytes.div_ceil(1024).clamp(1, LARGEST_HEAD_KIB)),
        stream_idle_timeout: parts::limit(http.stream_idle_timeout),
        request_headers_timeout: parts::limit(http.request_headers_timeout),
        use_remote_address: parts::yes_or_no(http.edge),
        xff_num_trusted_hops: http.trusted_hops,
        upgrade_configs: http.upgrades.iter().map(|upgrade| encode_upgrade(upgrade)).collect(),
        ..Default::default()
    }
}

/// The forward proxy's filter acts only on routes to clusters of its type, which only sidecars' callers are given.
fn http_filters(direction: Direction) -> Vec<hcm::HttpFilter> {
    let cache = forward::FilterConfig {
        implementation_specifier: Some(forward::filter_config::ImplementationSpecifier::DnsCacheConfig(
            cluster::dns_cache(),
        )),
        ..Default::default()
    };
    let of_routes = filters::of_listener().into_iter();
    let forward = (direction == Direction::Outbound).then(|| (FORWARD, parts::pack(&cache)));
    let filters = of_routes.chain(forward).chain([(ROUTER, parts::pack(&Router::default()))]);
    let filter = |(name, config): (&str, Any)| hcm::HttpFilter {
        name: name.into(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    filters.map(filter).collect()
}

fn encode_upgrade(upgrade: &str) -> UpgradeConfig {
    UpgradeConfig { upgrade_type: upgrade.into(), ..Default::default() }
}

fn encode_tcp(tcp: &TcpHandler) -> tcp::TcpProxy {
    let weighted = |cluster: &WeightedCluster| tcp::tcp_proxy::weighted_cluster::ClusterWeight {
        name: cluster.name.clone(),
        weight: cluster.weight,
        ..Default::default()
    };
    let specifier = match tcp.clusters.as_slice() {
        [WeightedCluster { name, weight: 1 }] => ClusterSpecifier::Cluster(name.clone()),
        clusters => ClusterSpecifier::WeightedClusters(tcp::tcp_proxy::WeightedCluster {
            clusters: clusters.iter().map(weighted).collect(),
        }),
    };
    tcp::TcpProxy {
        stat_prefix: tcp.clusters.first().map(|first| first.name.clone()).unwrap_or_default(),
        cluster_specifier: Some(specifier),
        idle_timeout: parts::limit(tcp.idle_timeout),
        ..Default::default()
    }
}

pub(super) fn decode(filter: lds::Filter) -> Decoded<Handler> {
    let name = filter.name.clone();
    let config = typed_config(filter)?;
    if config.type_url == hcm::HttpConnectionManager::type_url() {
        parts::unpack(&config).and_then(decode_http).map(Handler::Http).at("typed_config")
    } else if config.type_url == tcp::TcpProxy::type_url() {
        parts::unpack(&config).and_then(decode_tcp).map(Handler::Tcp).at("typed_config")
    } else {
        refuse("typed_config", format!("the filter `{name}` is not supported by this proxy"))
    }
}

fn decode_http(manager: hcm::HttpConnectionManager) -> Decoded<HttpHandler> {
    apart!(manager => hcm::HttpConnectionManager {
        read: codec_type, http_filters, common_http_protocol_options, max_request_headers_kb, stream_idle_timeout,
            request_headers_timeout, use_remote_address, xff_num_trusted_hops, upgrade_configs, route_specifier;
        ignored: stat_prefix, add_user_agent, tracing, http_protocol_options, http2_protocol_options, server_name,
            server_header_transformation, stream_flush_timeout, drain_timeout, drain_timeout_jitter, delayed_close_timeout,
            access_log, access_log_flush_interval, flush_access_log_on_new_request, access_log_options,
            internal_address_config, generate_request_id, preserve_external_request_id, always_set_request_id_in_response,
            proxy_100_continue, stream_error_on_invalid_http_message, typed_header_validation_config,
            append_local_overload, request_id_extension, proxy_status_config;
        refused: http1_safe_max_connection_duration, http3_protocol_options, scheme_header_transformation, request_timeout, original_ip_detection_extensions, early_header_mutation_extensions, skip_xff_append, via, forward_client_cert_details, set_current_client_cert_details, forward_client_cert_matcher, represent_ipv4_remote_address_as_ipv4_mapped_ipv6, normalize_path, merge_slashes, path_with_escaped_slashes_action, local_reply_config, strip_matching_host_port, path_normalization_options, strip_trailing_host_dot, append_x_forwarded_port, add_proxy_protocol_connection_state, forward_proto_config, strip_port_mode
    });
    check_filters(http_filters)?;
    let (idle_timeout, max_request_headers) = common_http_protocol_options
        .map_or(Ok((Some(DEFAULT_IDLE_TIMEOUT), DEFAULT_HEADERS)), read_common)
        .at("common_http_protocol_options")?;
    let head_kib = max_request_headers_kb.map_or(DEFAULT_HEAD_KIB, |kib| kib.value);
    if !(1..=LARGEST_HEAD_KIB).contains(&head_kib) {
        return refuse("max_request_headers_kb", format!("{head_kib} is not between 1 and {LARGEST_HEAD_KIB}"));
    }
    Ok(HttpHandler {
        route_table: read_route_table(route_specifier)?,
        codec: read_codec(codec_type)?,
        edge: parts::is_true(&use_remote_address),
        trusted_hops: xff_num_trusted_hops,
        idle_timeout,
        request_headers_timeout: parts::read_limit("request_headers_timeout", request_headers_timeout, None)?,
        stream_idle_timeout: parts::read_limit(
            "stream_idle_timeout",
            stream_idle_timeout,
            Some(DEFAULT_STREAM_IDLE_TIMEOUT),
        )?,
        max_request_head_bytes: head_kib * 1024,
        max_request_headers,
        upgrades: each("upgrade_configs", upgrade_configs, read_upgrade)?.into_iter().flatten().collect(),
    })
}

fn read_route_table(specifier: Option<RouteSpecifier>) -> Decoded<String> {
    match specifier {
        Some(RouteSpecifier::Rds(rds)) => {
            parts::check_over_ads("rds.config_source", rds.config_source)?;
            if rds.route_config_name.is_empty() {
                refuse("rds.route_config_name", "is empty")
            } else {
                Ok(rds.route_config_name)
            }
        }
        Some(RouteSpecifier::RouteConfig(_)) => refuse("route_config", "is not supported by this proxy: use rds"),
        Some(RouteSpecifier::ScopedRoutes(_)) => refuse("scoped_routes", "is not supported by this proxy: use rds"),
        None => refuse("rds", "is missing"),
    }
}

fn read_codec(codec: i32) -> Decoded<Codec> {
    match CodecType::try_from(codec) {
        Ok(CodecType::Auto) => Ok(Codec::Auto),
        Ok(CodecType::Http1) => Ok(Codec::Http1),
        Ok(CodecType::Http2) => Ok(Codec::Http2),
        _ => refuse("codec_type", "only AUTO, HTTP1 and HTTP2 are supported by this proxy"),
    }
}

fn read_common(options: HttpProtocolOptions) -> Decoded<(Option<Duration>, u32)> {
    apart!(options => HttpProtocolOptions {
        read: idle_timeout, max_headers_count;
        ignored: max_response_headers_kb, headers_with_underscores_action;
        refused: max_connection_duration, max_connection_duration_jitter, max_stream_duration, max_requests_per_connection
    });
    let headers = max_headers_count.map_or(DEFAULT_HEADERS, |count| count.value);
    if headers == 0 {
        return refuse("max_headers_count", "is 0");
    }
    Ok((parts::read_limit("idle_timeout", idle_timeout, Some(DEFAULT_IDLE_TIMEOUT))?, headers))
}

fn check_filters(filters: Vec<hcm::HttpFilter>) -> Decoded<()> {
    let last = filters.last().and_then(config_of).map(|config| config.type_url.clone());
    if last != Some(Router::type_url()) {
        return refuse("http_filters", format!("the last must be {ROUTER}"));
    }
    each("http_filters", filters, check_filter).map(drop)
}

fn check_filter(filter: hcm::HttpFilter) -> Decoded<()> {
    if filter.is_optional || filter.disabled {
        return Ok(());
    }
    let known = [forward::FilterConfig::type_url(), Router::type_url()];
    if let Some(config) = config_of(&filter)
        && (known.contains(&config.type_url) || filters::check_of_listener(config).at("typed_config")?)
    {
        return Ok(());
    }
    refuse("", format!("the HTTP filter `{}` is not supported by this proxy", filter.name))
}

fn config_of(filter: &hcm::HttpFilter) -> Option<&Any> {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) => Some(config),
        _ => None,
    }
}

/// `None` for an upgrade that is turned off.
fn read_upgrade(upgrade: UpgradeConfig) -> Decoded<Option<String>> {
    if !upgrade.filters.is_empty() {
        return refuse("filters", "are not supported by this proxy");
    }
    let enabled = upgrade.enabled.is_none_or(|enabled| enabled.value);
    Ok(enabled.then_some(upgrade.upgrade_type))
}

fn decode_tcp(proxy: tcp::TcpProxy) -> Decoded<TcpHandler> {
    apart!(proxy => tcp::TcpProxy {
        read: cluster_specifier, idle_timeout;
        ignored: stat_prefix, access_log, max_connect_attempts, backoff_options, access_log_flush_interval,
            flush_access_log_on_connected, access_log_options, check_drain_close, max_early_data_bytes;
        refused: on_demand, metadata_match, downstream_idle_timeout, upstream_idle_timeout, hash_policy, tunneling_config, max_downstream_connection_duration, max_downstream_connection_duration_jitter_percentage, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy, upstream_connect_mode
    });
    let clusters = match required("cluster", cluster_specifier)? {
        ClusterSpecifier::Cluster(name) => vec![WeightedCluster { name, weight: 1 }],
        ClusterSpecifier::WeightedClusters(weighted) => {
            each("clusters", weighted.clusters, read_weighted).at("weighted_clusters")?
        }
    };
    if clusters.is_empty() {
        return refuse("weighted_clusters", "is empty");
    }
    Ok(TcpHandler {
        clusters,
        idle_timeout: parts::read_limit("idle_timeout", idle_timeout, Some(DEFAULT_IDLE_TIMEOUT))?,
    })
}

fn read_weighted(cluster: tcp::tcp_proxy::weighted_cluster::ClusterWeight) -> Decoded<WeightedCluster> {
    apart!(cluster => tcp::tcp_proxy::weighted_cluster::ClusterWeight {
        read: name, weight;
        ignored: ;
        refused: metadata_match
    });
    if weight == 0 {
        return refuse("weight", "is 0");
    }
    Ok(WeightedCluster { name, weight })
}
