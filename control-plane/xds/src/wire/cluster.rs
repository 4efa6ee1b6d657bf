//! Clusters.
//!
//! Normal form: `choices` under 2 come back as 2 (Envoy's least); [`Discovery::Forward`] has no balancer of its
//! own, it comes back with the default one; a pool's idle timeout or request limit of 0 comes back as `None`.
//!
//! Circuit breakers are written as unlimited, as Istio does, because Envoy's own default would be 1024 of everything.

use super::parts::{self, At, Decoded, ISTIO, WEFT, apart, refuse, required};
use super::{Any, DecodeError, endpoint};
use cds::cluster::{self, ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, LbConfig, LbPolicy};
use eds::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions, Metadata,
    UpstreamHttpProtocolOptions,
};
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3 as forward;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as http;
use envoy_types::pb::google::protobuf as pb;
use http::http_protocol_options::{self, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig};
use std::time::Duration;
use weft_model::Cluster;
use weft_model::cluster::{Balancer, Discovery, Pool, Protocol, Service};

/// Envoy's name of the dynamic forward proxy, cluster type and filter alike.
const FORWARD: &str = "envoy.clusters.dynamic_forward_proxy";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// What leaving it out means to Envoy.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The DNS cache that the forward proxy's clusters and its filter must agree on.
pub(super) fn dns_cache() -> DnsCacheConfig {
    DnsCacheConfig { name: "weft".into(), dns_lookup_family: DnsLookupFamily::V4Preferred as i32, ..Default::default() }
}

pub(super) fn encode(cluster: &Cluster) -> cds::Cluster {
    let mut encoded = cds::Cluster {
        name: cluster.name.clone(),
        connect_timeout: Some(parts::duration(cluster.connect_timeout)),
        circuit_breakers: Some(unlimited()),
        metadata: parts::metadata([(ISTIO, service(&cluster.service)), (WEFT, parts::origin(&cluster.origin))]),
        ..Default::default()
    };
    encode_balancer(cluster.balancer, &mut encoded);
    encode_discovery(cluster, &mut encoded);
    encoded.typed_extension_protocol_options.insert(HTTP_OPTIONS.into(), parts::pack(&http_options(cluster)));
    encoded
}

fn encode_balancer(balancer: Balancer, encoded: &mut cds::Cluster) {
    let policy = match balancer {
        Balancer::RoundRobin => LbPolicy::RoundRobin,
        Balancer::PeakEwma { .. } | Balancer::RingHash { .. } | Balancer::Maglev { .. } => LbPolicy::LeastRequest,
        Balancer::Random => LbPolicy::Random,
        Balancer::LeastRequest { choices, .. } => {
            encoded.lb_config = Some(LbConfig::LeastRequestLbConfig(cluster::LeastRequestLbConfig {
                choice_count: parts::number(choices.max(2)),
                ..Default::default()
            }));
            LbPolicy::LeastRequest
        }
    };
    encoded.lb_policy = policy as i32;
}

fn encode_discovery(cluster: &Cluster, encoded: &mut cds::Cluster) {
    let kind = match &cluster.discovery {
        Discovery::Eds => {
            encoded.eds_cluster_config =
                Some(cluster::EdsClusterConfig { eds_config: parts::over_ads(), ..Default::default() });
            DiscoveryType::Eds
        }
        Discovery::Static(endpoints) => {
            encoded.load_assignment = Some(endpoint::assignment(&cluster.name, endpoints));
            DiscoveryType::Static
        }
        Discovery::Dns { host, port } => {
            encoded.load_assignment = Some(dns_assignment(&cluster.name, host, *port));
            encoded.dns_lookup_family = DnsLookupFamily::V4Preferred as i32;
            DiscoveryType::StrictDns
        }
        Discovery::Forward => {
            encoded.lb_policy = LbPolicy::ClusterProvided as i32;
            encoded.lb_config = None;
            encoded.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
                name: FORWARD.into(),
                typed_config: Some(parts::pack(&forward_config())),
            }));
            return;
        }
    };
    encoded.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind as i32));
}

fn forward_config() -> forward::ClusterConfig {
    forward::ClusterConfig {
        cluster_implementation_specifier: Some(
            forward::cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(dns_cache()),
        ),
        ..Default::default()
    }
}

fn dns_assignment(cluster: &str, host: &str, port: u16) -> eds::ClusterLoadAssignment {
    let host = eds::Endpoint { address: parts::host_port(host.into(), port), ..Default::default() };
    let member = eds::LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(host)), ..Default::default() };
    eds::ClusterLoadAssignment {
        cluster_name: cluster.into(),
        endpoints: vec![eds::LocalityLbEndpoints { lb_endpoints: vec![member], ..Default::default() }],
        ..Default::default()
    }
}

fn http_options(cluster: &Cluster) -> http::HttpProtocolOptions {
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(http_protocol_options::ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    let protocol = match cluster.protocol {
        Protocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        Protocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
        Protocol::Downstream => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(http_protocol_options::UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: Some(Http2ProtocolOptions::default()),
                ..Default::default()
            })
        }
    };
    http::HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: parts::limit(cluster.pool.idle_timeout),
            max_requests_per_connection: cluster.pool.max_requests_per_connection.and_then(parts::number),
            ..Default::default()
        }),
        // Envoy refuses a forward proxy cluster without them, even one that speaks no TLS
        upstream_http_protocol_options: (cluster.discovery == Discovery::Forward)
            .then(|| UpstreamHttpProtocolOptions { auto_sni: true, auto_san_validation: true, ..Default::default() }),
        upstream_protocol_options: Some(protocol),
        ..Default::default()
    }
}

fn unlimited() -> cds::CircuitBreakers {
    let thresholds = cds::circuit_breakers::Thresholds {
        max_connections: parts::number(u32::MAX),
        max_pending_requests: parts::number(u32::MAX),
        max_requests: parts::number(u32::MAX),
        max_retries: parts::number(u32::MAX),
        ..Default::default()
    };
    cds::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn service(service: &Service) -> Vec<(&'static str, pb::Value)> {
    if *service == Service::default() {
        return Vec::new();
    }
    let fields = vec![
        ("host", parts::string(&service.host)),
        ("name", parts::string(&service.name)),
        ("namespace", parts::string(&service.namespace)),
    ];
    vec![("services", parts::array(vec![parts::object(fields)]))]
}

pub(super) fn decode(cluster: cds::Cluster) -> Decoded<Cluster> {
    apart!(cluster => cds::Cluster {
        read: name, connect_timeout, lb_policy, lb_config, cluster_discovery_type, eds_cluster_config, load_assignment,
            typed_extension_protocol_options, circuit_breakers, metadata;
        ignored: alt_stat_name, stats_matcher, per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout,
            dns_refresh_rate, dns_jitter, dns_failure_refresh_rate, respect_dns_ttl, dns_lookup_family, wait_for_warm_on_init,
            cleanup_interval, common_lb_config, upstream_connection_options, close_connections_on_host_health_failure,
            ignore_health_on_host_removal, track_timeout_budgets, track_cluster_stats, preconnect_policy,
            lrs_server, lrs_report_endpoint_metrics;
        refused: transport_socket_matches, transport_socket_matcher, health_checks, max_requests_per_connection, upstream_http_protocol_options, common_http_protocol_options, http_protocol_options, http2_protocol_options, dns_resolvers, use_tcp_for_dns_lookups, dns_resolution_config, typed_dns_resolver_config, outlier_detection, upstream_bind_config, lb_subset_config, transport_socket, protocol_selection, filters, load_balancing_policy, upstream_config, connection_pool_per_downstream_connection, queuing_policies
    });
    if name.is_empty() {
        return refuse("name", "is empty");
    }
    check_unlimited(circuit_breakers)?;
    let discovery = read_discovery(&name, cluster_discovery_type, eds_cluster_config, load_assignment)?;
    let (protocol, pool) = read_extensions(typed_extension_protocol_options)?;
    Ok(Cluster {
        balancer: read_balancer(&discovery, lb_policy, lb_config)?,
        connect_timeout: connect_timeout
            .map_or(Ok(DEFAULT_CONNECT_TIMEOUT), |timeout| parts::read_duration("connect_timeout", timeout))?,
        service: read_service(metadata.as_ref()),
        origin: parts::read_origin(metadata.as_ref()),
        name,
        discovery,
        protocol,
        pool,
        balancing: Default::default(),
        breakers: Default::default(),
        outlier: None,
        health_checks: Vec::new(),
    })
}

fn read_discovery(
    name: &str,
    kind: Option<ClusterDiscoveryType>,
    config: Option<cluster::EdsClusterConfig>,
    assignment: Option<eds::ClusterLoadAssignment>,
) -> Decoded<Discovery> {
    let kind = match kind {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind)
            .map_err(|_| DecodeError::new("type", format!("{kind} is no discovery type")))?,
        Some(ClusterDiscoveryType::ClusterType(kind)) => return read_forward(kind).at("cluster_type"),
    };
    match kind {
        DiscoveryType::Eds => {
            let config = required("eds_cluster_config", config)?;
            parts::check_over_ads("eds_cluster_config.eds_config", config.eds_config)?;
            if !config.service_name.is_empty() && config.service_name != name {
                return refuse("eds_cluster_config.service_name", "must be the cluster's own name");
            }
            Ok(Discovery::Eds)
        }
        DiscoveryType::Static => {
            let assignment = assignment.unwrap_or_default();
            Ok(Discovery::Static(endpoint::read_assignment(assignment).at("load_assignment")?))
        }
        DiscoveryType::StrictDns => read_dns(required("load_assignment", assignment)?).at("load_assignment"),
        DiscoveryType::LogicalDns | DiscoveryType::OriginalDst => {
            refuse("type", format!("{} is not supported by this proxy", kind.as_str_name()))
        }
    }
}

fn read_forward(kind: CustomClusterType) -> Decoded<Discovery> {
    let config: forward::ClusterConfig =
        parts::unpack(&required("typed_config", kind.typed_config)?).at("typed_config")?;
    match config.cluster_implementation_specifier {
        Some(forward::cluster_config::ClusterImplementationSpecifier::SubClustersConfig(_)) => {
            refuse("typed_config.sub_clusters_config", "is not supported by this proxy")
        }
        _ => Ok(Discovery::Forward),
    }
}

fn read_dns(assignment: eds::ClusterLoadAssignment) -> Decoded<Discovery> {
    let members = endpoint::localities(assignment)?.concat();
    let [eds::LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(host)), .. }] = members.as_slice() else {
        return refuse("endpoints", format!("one DNS name is supported, here are {}", members.len()));
    };
    let (host, port) = parts::read_host_port("endpoints[0].lb_endpoints[0].endpoint.address", host.address.clone())?;
    Ok(Discovery::Dns { host, port })
}

fn read_balancer(discovery: &Discovery, policy: i32, config: Option<LbConfig>) -> Decoded<Balancer> {
    match (LbPolicy::try_from(policy), config) {
        (Ok(LbPolicy::ClusterProvided), None) if *discovery == Discovery::Forward => Ok(Balancer::default()),
        (Ok(LbPolicy::RoundRobin), None) => Ok(Balancer::RoundRobin),
        (Ok(LbPolicy::Random), None) => Ok(Balancer::Random),
        (Ok(LbPolicy::LeastRequest), None) => Ok(Balancer::default()),
        (Ok(LbPolicy::LeastRequest), Some(LbConfig::LeastRequestLbConfig(config))) => {
            read_least_request(config).at("least_request_lb_config")
        }
        (Ok(policy), None) => refuse("lb_policy", format!("{} is not supported by this proxy", policy.as_str_name())),
        (Ok(_), Some(_)) => refuse("lb_config", "is not supported by this proxy for this lb_policy"),
        (Err(_), _) => refuse("lb_policy", format!("{policy} is no balancing policy")),
    }
}

fn read_least_request(config: cluster::LeastRequestLbConfig) -> Decoded<Balancer> {
    apart!(config => cluster::LeastRequestLbConfig {
        read: choice_count;
        ignored: ;
        refused: active_request_bias, slow_start_config
    });
    Ok(Balancer::LeastRequest { choices: choice_count.map_or(2, |count| count.value.max(2)), bias: 1.0 })
}

fn read_extensions(mut extensions: std::collections::HashMap<String, Any>) -> Decoded<(Protocol, Pool)> {
    let options = extensions.remove(HTTP_OPTIONS);
    if let Some(other) = extensions.keys().min() {
        return refuse("typed_extension_protocol_options", format!("`{other}` is not supported by this proxy"));
    }
    let Some(options) = options else { return Ok((Protocol::Http1, Pool::default())) };
    parts::unpack(&options)
        .and_then(read_http_options)
        .at(format_args!("typed_extension_protocol_options[\"{HTTP_OPTIONS}\"]"))
}

fn read_http_options(options: http::HttpProtocolOptions) -> Decoded<(Protocol, Pool)> {
    apart!(options => http::HttpProtocolOptions {
        read: common_http_protocol_options, upstream_protocol_options;
        ignored: upstream_http_protocol_options, header_validation_config;
        refused: http_filters, outlier_detection, request_mirror_policies, hash_policy, retry_policy
    });
    let pool =
        common_http_protocol_options.map_or(Ok(Pool::default()), read_pool).at("common_http_protocol_options")?;
    let protocol = match upstream_protocol_options {
        None => Protocol::Http1,
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => Protocol::Downstream,
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match config.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => Protocol::Http2,
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return refuse("explicit_http_config.http3_protocol_options", "is not supported by this proxy");
            }
            Some(ProtocolConfig::HttpProtocolOptions(_)) | None => Protocol::Http1,
        },
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            return refuse("auto_config", "is not supported by this proxy");
        }
    };
    Ok((protocol, pool))
}

fn read_pool(options: CommonOptions) -> Decoded<Pool> {
    apart!(options => CommonOptions {
        read: idle_timeout, max_requests_per_connection;
        ignored: max_headers_count, max_response_headers_kb, headers_with_underscores_action;
        refused: max_connection_duration, max_connection_duration_jitter, max_stream_duration
    });
    Ok(Pool {
        max_requests_per_connection: max_requests_per_connection.map(|most| most.value).filter(|most| *most > 0),
        idle_timeout: parts::read_limit("idle_timeout", idle_timeout, Some(DEFAULT_IDLE_TIMEOUT))?,
        ..Pool::default()
    })
}

fn check_unlimited(breakers: Option<cds::CircuitBreakers>) -> Decoded<()> {
    let Some(breakers) = breakers else { return Ok(()) };
    let limited = |value: &Option<pb::UInt32Value>| value.as_ref().is_some_and(|value| value.value != u32::MAX);
    let limits = |thresholds: &cds::circuit_breakers::Thresholds| {
        limited(&thresholds.max_connections)
            || limited(&thresholds.max_pending_requests)
            || limited(&thresholds.max_requests)
            || limited(&thresholds.max_retries)
            || limited(&thresholds.max_connection_pools)
            || thresholds.retry_budget.is_some()
    };
    if breakers.thresholds.iter().chain(&breakers.per_host_thresholds).any(limits) {
        return refuse("circuit_breakers", "only unlimited thresholds (4294967295) are supported by this proxy");
    }
    Ok(())
}

fn read_service(metadata: Option<&Metadata>) -> Service {
    let istio = metadata.and_then(|metadata| metadata.filter_metadata.get(ISTIO));
    let services = istio.and_then(|istio| istio.fields.get("services")?.kind.as_ref());
    let Some(pb::value::Kind::ListValue(services)) = services else { return Service::default() };
    let Some(pb::Value { kind: Some(pb::value::Kind::StructValue(first)) }) = services.values.first() else {
        return Service::default();
    };
    let text = |key| parts::text_at(Some(first), key).to_string();
    Service { host: text("host"), name: text("name"), namespace: text("namespace") }
}
