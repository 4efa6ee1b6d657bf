//! Clusters.
//!
//! What is in the modules below has its normal forms there. [`Discovery::Forward`] and [`Discovery::OriginalDestination`] have no
//! balancer of their own: they come back with the default one. Only localities of [`Discovery::Eds`] have weights, so elsewhere they are ignored.

mod balancer;
mod breakers;
mod health_check;
mod http;
mod outlier;
mod source;
mod tls;

use super::parts::{self, At, Decoded, ISTIO, WEFT, apart, each, refuse, required};
use super::{DecodeError, endpoint, ours};
use cds::cluster::{self, ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, LbPolicy};
use eds::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::{HealthCheck as HealthCheckMessage, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3 as forward;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::google::protobuf as pb;
use std::time::Duration;
use weft_model::Cluster;
use weft_model::balancer::{Balancer, Balancing, LocalityRule};
use weft_model::cluster::{Discovery, Service};
use weft_model::health_check::HealthCheck;

/// Envoy's name of the dynamic forward proxy, cluster type and filter alike.
const FORWARD: &str = "envoy.clusters.dynamic_forward_proxy";
/// What leaving it out means to Envoy.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The keys of our own metadata, see [`ours`].
const TRIP: &str = "trip";
const BUDGET_OF_FIRST_TRIES: &str = "retry_budget_of_first_tries";
const OUTLIER: &str = "outlier";
const MORE_HEALTH_CHECKS: &str = "more_health_checks";
const BALANCER: &str = "balancer";
const FAILS_ON_PANIC: &str = "fail_traffic_on_panic";

/// The DNS cache that the forward proxy's clusters and its filter must agree on.
pub(super) fn dns_cache() -> DnsCacheConfig {
    DnsCacheConfig { name: "weft".into(), dns_lookup_family: DnsLookupFamily::V4Preferred as i32, ..Default::default() }
}

pub(super) fn encode(cluster: &Cluster) -> cds::Cluster {
    let mut encoded = cds::Cluster {
        name: cluster.name.clone(),
        connect_timeout: Some(parts::duration(cluster.connect_timeout)),
        circuit_breakers: Some(breakers::encode(&cluster.breakers)),
        outlier_detection: cluster.outlier.as_ref().map(outlier::encode),
        health_checks: cluster.health_checks.iter().take(1).map(health_check::encode).collect(),
        upstream_bind_config: source::encode(&cluster.bind_source),
        transport_socket: tls::encode(cluster),
        upstream_connection_options: http::connection_options(&cluster.pool),
        metadata: parts::metadata([(ISTIO, service(&cluster.service)), (WEFT, our_metadata(cluster))]),
        ..Default::default()
    };
    let (policy, config, common) = balancer::encode(cluster.balancer, &balancing(cluster));
    (encoded.lb_policy, encoded.lb_config, encoded.common_lb_config) = (policy as i32, config, Some(common));
    encode_discovery(cluster, &mut encoded);
    encoded.typed_extension_protocol_options.insert(http::OPTIONS.into(), parts::pack(&http::encode(cluster)));
    encoded
}

/// Localities without weights would get no requests.
fn balancing(cluster: &Cluster) -> Balancing {
    match cluster.balancing.locality {
        LocalityRule::Weighted if cluster.discovery != Discovery::Eds => {
            Balancing { locality: LocalityRule::Ignore, ..cluster.balancing }
        }
        _ => cluster.balancing,
    }
}

fn our_metadata(cluster: &Cluster) -> Vec<ours::Field> {
    let mut fields = parts::origin(&cluster.origin);
    let breakers::Ours { trip, of_first_tries } = breakers::ours(&cluster.breakers);
    fields.extend(trip.map(|trip| ours::field(TRIP, &trip)));
    fields.extend(of_first_tries.map(|of| ours::field(BUDGET_OF_FIRST_TRIES, &of)));
    fields.extend(cluster.outlier.as_ref().and_then(outlier::ours).map(|outlier| ours::field(OUTLIER, &outlier)));
    if let [_, more @ ..] = cluster.health_checks.as_slice()
        && !more.is_empty()
    {
        fields.push(ours::field(MORE_HEALTH_CHECKS, &more));
    }
    if balances(&cluster.discovery) {
        let (balancer, fails_on_panic) = balancer::ours(cluster.balancer, &balancing(cluster));
        fields.extend(balancer.map(|balancer| ours::field(BALANCER, &balancer)));
        fields.extend(fails_on_panic.map(|fails| ours::field(FAILS_ON_PANIC, &fails)));
    }
    fields
}

/// Whether there is a choice among endpoints.
fn balances(discovery: &Discovery) -> bool {
    !matches!(discovery, Discovery::Forward | Discovery::OriginalDestination)
}

fn encode_discovery(cluster: &Cluster, encoded: &mut cds::Cluster) {
    if !balances(&cluster.discovery) {
        encoded.lb_policy = LbPolicy::ClusterProvided as i32;
        (encoded.lb_config, encoded.common_lb_config) = (None, None);
    }
    let kind = match &cluster.discovery {
        Discovery::Eds => {
            encoded.eds_cluster_config =
                Some(cluster::EdsClusterConfig { eds_config: parts::over_ads(), ..Default::default() });
            DiscoveryType::Eds
        }
        Discovery::Static(endpoints) => {
            encoded.load_assignment = Some(endpoint::assignment(&cluster.name, endpoints, &Default::default()));
            DiscoveryType::Static
        }
        Discovery::Dns { host, port } => {
            encoded.load_assignment = Some(dns_assignment(&cluster.name, host, *port));
            encoded.dns_lookup_family = DnsLookupFamily::V4Preferred as i32;
            DiscoveryType::StrictDns
        }
        Discovery::OriginalDestination => DiscoveryType::OriginalDst,
        Discovery::Forward => {
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
            typed_extension_protocol_options, circuit_breakers, outlier_detection, health_checks, common_lb_config,
            transport_socket, upstream_bind_config, upstream_connection_options, metadata;
        ignored: alt_stat_name, stats_matcher, per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout,
            dns_refresh_rate, dns_jitter, dns_failure_refresh_rate, respect_dns_ttl, dns_lookup_family, wait_for_warm_on_init,
            cleanup_interval, close_connections_on_host_health_failure,
            ignore_health_on_host_removal, track_timeout_budgets, track_cluster_stats, preconnect_policy,
            lrs_server, lrs_report_endpoint_metrics;
        refused: transport_socket_matches, transport_socket_matcher, max_requests_per_connection, upstream_http_protocol_options, common_http_protocol_options, http_protocol_options, http2_protocol_options, dns_resolvers, use_tcp_for_dns_lookups, dns_resolution_config, typed_dns_resolver_config, lb_subset_config, protocol_selection, filters, load_balancing_policy, upstream_config, connection_pool_per_downstream_connection, queuing_policies
    });
    if name.is_empty() {
        return refuse("name", "is empty");
    }
    let metadata = metadata.as_ref();
    let discovery = read_discovery(&name, cluster_discovery_type, eds_cluster_config, load_assignment)?;
    let http = http::decode(typed_extension_protocol_options)?;
    let (balancer, balancing) = if !balances(&discovery) {
        if lb_policy != LbPolicy::ClusterProvided as i32 {
            return refuse(
                "lb_policy",
                "only CLUSTER_PROVIDED goes with a dynamic forward proxy or an original destination",
            );
        }
        if lb_config.is_some() {
            return refuse("lb_config", "is not supported where the request or its connection names the endpoint");
        }
        (Balancer::default(), Balancing::default())
    } else {
        let ours = (ours::read(metadata, BALANCER)?, ours::read(metadata, FAILS_ON_PANIC)?);
        balancer::decode((lb_policy, lb_config), common_lb_config, ours)?
    };
    if balancing.locality == LocalityRule::Weighted && discovery != Discovery::Eds {
        return refuse(
            "common_lb_config.locality_weighted_lb_config",
            "is supported only for clusters whose endpoints come by EDS",
        );
    }
    let our_breakers = breakers::Ours {
        trip: ours::read(metadata, TRIP)?,
        of_first_tries: ours::read(metadata, BUDGET_OF_FIRST_TRIES)?,
    };
    let outlier = match outlier_detection {
        Some(outlier) => {
            let ours = ours::read(metadata, OUTLIER)?;
            Some(outlier::decode(outlier, http.error_codes, ours).at("outlier_detection")?)
        }
        None => None,
    };
    Ok(Cluster {
        balancer,
        balancing,
        connect_timeout: connect_timeout
            .map_or(Ok(DEFAULT_CONNECT_TIMEOUT), |timeout| parts::read_duration("connect_timeout", timeout))?,
        bind_source: upstream_bind_config.map_or(Ok(Vec::new()), source::decode).at("upstream_bind_config")?,
        pool: http::with_keepalive(http.pool, upstream_connection_options).at("upstream_connection_options")?,
        breakers: breakers::decode(circuit_breakers, our_breakers).at("circuit_breakers")?,
        outlier,
        health_checks: read_health_checks(health_checks, ours::read(metadata, MORE_HEALTH_CHECKS)?)?,
        service: read_service(metadata),
        origin: parts::read_origin(metadata),
        tls: transport_socket.map(tls::decode).transpose().at("transport_socket")?.flatten(),
        protocol: http.protocol,
        name,
        discovery,
    })
}

/// What our metadata adds is held to the same rules.
fn read_health_checks(checks: Vec<HealthCheckMessage>, more: Option<Vec<HealthCheck>>) -> Decoded<Vec<HealthCheck>> {
    let mut read = each("health_checks", checks, health_check::decode)?;
    let again = |check: HealthCheck| health_check::decode(health_check::encode(&check));
    read.extend(each(&ours::path(MORE_HEALTH_CHECKS), more.unwrap_or_default(), again)?);
    Ok(read)
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
            let (endpoints, _) = endpoint::read_assignment(assignment.unwrap_or_default()).at("load_assignment")?;
            Ok(Discovery::Static(endpoints))
        }
        DiscoveryType::StrictDns => read_dns(required("load_assignment", assignment)?).at("load_assignment"),
        DiscoveryType::OriginalDst => Ok(Discovery::OriginalDestination),
        DiscoveryType::LogicalDns => refuse("type", format!("{} is not supported by this proxy", kind.as_str_name())),
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
    let members: Vec<_> = endpoint::read_groups(assignment)?.into_iter().flat_map(|group| group.members).collect();
    let [eds::LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(host)), .. }] = members.as_slice() else {
        return refuse("endpoints", format!("one DNS name is supported, here are {}", members.len()));
    };
    let (host, port) = parts::read_host_port("endpoints[0].lb_endpoints[0].endpoint.address", host.address.clone())?;
    Ok(Discovery::Dns { host, port })
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
