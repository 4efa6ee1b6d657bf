//! Policies that our proxy would not obey to the letter.

use super::{refusal, table};
use crate::wire::{Any, decode, encode};
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{self as pb, value::Kind};
use prost::{Message, Name};
use rds::weighted_cluster::cluster_weight::HostRewriteSpecifier;
use std::time::Duration;
use weft_model::breaker::{Thresholds, Trip, TripOn};
use weft_model::endpoint::Locality;
use weft_model::outlier::OutlierDetection;
use weft_model::rate_limit::Mode;
use weft_model::route::{Action, Backend, Forward, Redirect, Route, Target, UrlChange};
use weft_model::{Cluster, Endpoint, Endpoints, Resource};

fn cluster() -> Resource {
    Resource::Cluster(Cluster::new("c"))
}

/// What decoding the changed cluster says.
fn refused(change: impl FnOnce(&mut cds::Cluster)) -> String {
    refusal(cluster(), change)
}

/// A resource's message, changed and read.
fn read<M: Message + Name + Default>(resource: Resource, change: impl FnOnce(&mut M)) -> Resource {
    let mut message = M::decode(encode(&resource).value.as_slice()).unwrap();
    change(&mut message);
    decode(&Any { type_url: M::type_url(), value: message.encode_to_vec() }).unwrap()
}

fn read_cluster(change: impl FnOnce(&mut cds::Cluster)) -> Cluster {
    let Resource::Cluster(cluster) = read(cluster(), change) else { panic!("a cluster stays one") };
    cluster
}

fn read_route(change: impl FnOnce(&mut rds::Route)) -> Route {
    let read = read(table(), |table: &mut rds::RouteConfiguration| change(&mut table.virtual_hosts[0].routes[0]));
    let Resource::RouteTable(mut table) = read else { panic!("a table stays one") };
    table.virtual_hosts[0].routes.remove(0)
}

fn refused_route(change: impl FnOnce(&mut rds::Route)) -> String {
    let said = refusal(table(), |table: &mut rds::RouteConfiguration| change(&mut table.virtual_hosts[0].routes[0]));
    said.strip_prefix("virtual_hosts[0].routes[0].").expect("the path starts at the table").to_string()
}

fn forward(route: &mut rds::Route) -> &mut rds::RouteAction {
    match &mut route.action {
        Some(rds::route::Action::Route(forward)) => forward,
        _ => panic!("a forward was written"),
    }
}

fn filter<M: Message + Name>(route: &mut rds::Route, name: &str, config: &M) {
    let any = Any { type_url: M::type_url(), value: config.encode_to_vec() };
    route.typed_per_filter_config.insert(format!("envoy.filters.http.{name}"), any);
}

fn number(value: u32) -> Option<pb::UInt32Value> {
    Some(pb::UInt32Value { value })
}

#[test]
fn what_is_left_out_has_envoys_limits_and_not_ours() {
    let cluster = read_cluster(|cluster| {
        cluster.circuit_breakers = None;
        cluster.outlier_detection = Some(Default::default());
        cluster.common_lb_config = None;
    });
    assert_eq!((cluster.breakers.default, cluster.breakers.high), (Thresholds::ENVOY, Thresholds::ENVOY));
    assert_eq!(cluster.outlier, Some(OutlierDetection::default()));
    assert_eq!(cluster.balancing.panic_threshold, 50);
    let route = read_route(|route| forward(route).retry_policy = Some(Default::default()));
    let Action::Forward(forward) = route.action else { panic!("a forward stays one") };
    assert_eq!(forward.retry, Some(weft_model::retry::RetryPolicy::default()));
}

#[test]
fn the_longest_ejection_follows_a_long_base_and_is_never_shorter() {
    let seconds = |seconds| Some(pb::Duration { seconds, nanos: 0 });
    let outlier = |base, max| cds::OutlierDetection {
        base_ejection_time: seconds(base),
        max_ejection_time: max,
        ..Default::default()
    };
    let long = read_cluster(|cluster| cluster.outlier_detection = Some(outlier(600, None)));
    assert_eq!(long.outlier.unwrap().max_ejection_time, Duration::from_secs(600));
    let said = refused(|cluster| cluster.outlier_detection = Some(outlier(600, seconds(300))));
    assert_eq!(said, "outlier_detection.max_ejection_time: is less than base_ejection_time");
}

#[test]
fn percentages_over_a_hundred_are_refused_by_their_path() {
    let said = refused(|cluster| {
        let outlier = cds::OutlierDetection { max_ejection_percent: number(101), ..Default::default() };
        cluster.outlier_detection = Some(outlier);
    });
    assert_eq!(said, "outlier_detection.max_ejection_percent: 101 is more than 100 %");
    let said = refused(|cluster| {
        let common = cluster.common_lb_config.as_mut().unwrap();
        common.healthy_panic_threshold = Some(Percent { value: f64::NAN });
    });
    assert_eq!(said, "common_lb_config.healthy_panic_threshold: NaN is not between 0 and 100");
}

#[test]
fn balancers_that_envoy_would_refuse_are_refused() {
    let said = refused(|cluster| {
        cluster.lb_policy = cds::cluster::LbPolicy::Maglev as i32;
        let config = cds::cluster::MaglevLbConfig { table_size: Some(pb::UInt64Value { value: 65_536 }) };
        cluster.lb_config = Some(cds::cluster::LbConfig::MaglevLbConfig(config));
    });
    assert_eq!(said, "maglev_lb_config.table_size: 65536 is no prime up to 5000011");
    let said = refused(|cluster| {
        cluster.lb_policy = cds::cluster::LbPolicy::RingHash as i32;
        let config = cds::cluster::RingHashLbConfig { hash_function: 1, ..Default::default() };
        cluster.lb_config = Some(cds::cluster::LbConfig::RingHashLbConfig(config));
    });
    assert_eq!(said, "ring_hash_lb_config.hash_function: only XX_HASH is supported by this proxy");
}

#[test]
fn a_forward_proxy_with_a_balancer_of_its_own_is_refused() {
    let mut forward = Cluster::new("c");
    forward.discovery = weft_model::cluster::Discovery::Forward;
    let said = refusal(Resource::Cluster(forward), |cluster: &mut cds::Cluster| {
        cluster.lb_policy = cds::cluster::LbPolicy::RoundRobin as i32;
    });
    assert_eq!(said, "lb_policy: only CLUSTER_PROVIDED goes with a dynamic forward proxy or an original destination");
}

#[test]
fn limits_of_connection_pools_and_of_one_priority_per_host_are_refused() {
    let said = refused(|cluster| {
        cluster.circuit_breakers.as_mut().unwrap().thresholds[1].max_connection_pools = number(1);
    });
    assert_eq!(said, "circuit_breakers.thresholds[1].max_connection_pools: is not supported by this proxy");
    let said = refused(|cluster| {
        let limit = |priority, most| cds::circuit_breakers::Thresholds {
            priority,
            max_connections: number(most),
            ..Default::default()
        };
        cluster.circuit_breakers.as_mut().unwrap().per_host_thresholds = vec![limit(0, 1), limit(1, 2)];
    });
    assert!(said.starts_with("circuit_breakers.per_host_thresholds: one max_connections"), "{said}");
}

#[test]
fn our_metadata_is_obeyed_whole_or_refused() {
    let mut with_trip = Cluster::new("c");
    let on = TripOn::Consecutive { failures: 7 };
    let second = Duration::from_secs(1);
    with_trip.breakers.trip = Some(Trip { on, min_penalty: second, max_penalty: second, jitter: 0.5 });
    let newer = |cluster: &mut cds::Cluster| {
        let ours = cluster.metadata.as_mut().unwrap().filter_metadata.get_mut("weft.dev").unwrap();
        let trip = ours.fields.get_mut("trip").unwrap();
        let Some(pb::value::Kind::StructValue(trip)) = &mut trip.kind else { panic!("a trip is an object") };
        trip.fields.insert("newer".into(), pb::Value { kind: Some(pb::value::Kind::BoolValue(true)) });
    };
    let said = refusal(Resource::Cluster(with_trip), newer);
    assert_eq!(said, "metadata.filter_metadata[\"weft.dev\"].trip: says more than this proxy understands");
}

#[test]
fn health_checks_by_other_means_are_refused() {
    let check = |change: fn(&mut core::HealthCheck)| {
        let second = Some(pb::Duration { seconds: 1, nanos: 0 });
        let mut check = core::HealthCheck {
            timeout: second,
            interval: second,
            unhealthy_threshold: number(1),
            healthy_threshold: number(1),
            health_checker: Some(core::health_check::HealthChecker::TcpHealthCheck(Default::default())),
            ..Default::default()
        };
        change(&mut check);
        refused(|cluster| cluster.health_checks = vec![check])
    };
    let said = check(|check| check.alt_port = number(80));
    assert_eq!(said, "health_checks[0].alt_port: is not supported by this proxy");
    let said = check(|check| check.interval = None);
    assert_eq!(said, "health_checks[0].interval: is missing");
    let said = check(|check| {
        let checker = core::health_check::HealthChecker::CustomHealthCheck(Default::default());
        check.health_checker = Some(checker);
    });
    assert_eq!(said, "health_checks[0].custom_health_check: is not supported by this proxy");
}

#[test]
fn a_health_check_in_our_metadata_is_held_to_the_same_rules() {
    let check = |interval| weft_model::health_check::HealthCheck {
        timeout: Duration::from_secs(1),
        interval,
        no_traffic_interval: Duration::from_secs(1),
        interval_jitter: Duration::ZERO,
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        reuse_connection: true,
        probe: weft_model::health_check::Probe::Tcp { send: vec![], receive: vec![] },
    };
    let mut cluster = Cluster::new("c");
    cluster.health_checks = vec![check(Duration::from_secs(1)), check(Duration::ZERO)];
    let error = decode(&encode(&Resource::Cluster(cluster))).unwrap_err().to_string();
    assert_eq!(error, "metadata.filter_metadata[\"weft.dev\"].more_health_checks[0].interval: is 0");
}

#[test]
fn another_overprovisioning_factor_and_two_weights_of_one_locality_are_refused() {
    let locality = Locality { zone: "a".into(), ..Locality::default() };
    let member = |priority| {
        let address = "127.0.0.1:80".parse().unwrap();
        Endpoint { priority, locality: locality.clone(), ..Endpoint::at(address) }
    };
    let endpoints = || {
        Resource::Endpoints(Endpoints {
            cluster: "c".into(),
            endpoints: vec![member(0), member(1)],
            locality_weights: vec![(locality.clone(), 3)],
        })
    };
    let said = refusal(endpoints(), |assignment: &mut eds::ClusterLoadAssignment| {
        let overprovisioning_factor = number(200);
        assignment.policy =
            Some(eds::cluster_load_assignment::Policy { overprovisioning_factor, ..Default::default() });
    });
    assert_eq!(said, "policy.overprovisioning_factor: 200: only 140 is supported");
    let said = refusal(endpoints(), |assignment: &mut eds::ClusterLoadAssignment| {
        assignment.endpoints[1].load_balancing_weight = number(4);
    });
    assert!(said.starts_with("endpoints[1].load_balancing_weight: differs"), "{said}");
}

#[test]
fn a_retry_for_an_unknown_reason_or_to_unknown_hosts_is_refused() {
    let retry = |policy: rds::RetryPolicy| refused_route(|route| forward(route).retry_policy = Some(policy));
    let said = retry(rds::RetryPolicy { retry_on: "5xx, moonphase".into(), ..Default::default() });
    assert_eq!(said, "route.retry_policy.retry_on: `moonphase` is no reason for a retry that this proxy knows");
    let canary = rds::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.omit_canary_hosts".into(),
        ..Default::default()
    };
    let said = retry(rds::RetryPolicy { retry_host_predicate: vec![canary], ..Default::default() });
    assert!(said.starts_with("route.retry_policy.retry_host_predicate[0]: only"), "{said}");
}

#[test]
fn a_try_timeout_without_retries_is_a_backend_timeout() {
    let second = Some(pb::Duration { seconds: 1, nanos: 0 });
    let route = read_route(|route| {
        forward(route).retry_policy =
            Some(rds::RetryPolicy { num_retries: number(0), per_try_timeout: second, ..Default::default() });
    });
    let Action::Forward(forward) = route.action else { panic!("a forward stays one") };
    assert_eq!((forward.retry, forward.backend_timeout), (None, Some(Duration::from_secs(1))));
}

#[test]
fn a_rate_limit_that_is_neither_enabled_nor_enforced_lets_everything_pass() {
    let bucket = envoy_types::pb::envoy::r#type::v3::TokenBucket {
        max_tokens: 10,
        tokens_per_fill: None,
        fill_interval: Some(pb::Duration { seconds: 1, nanos: 0 }),
    };
    let limit = LocalRateLimit { stat_prefix: "p".into(), token_bucket: Some(bucket), ..Default::default() };
    let all = || {
        let share = envoy_types::pb::envoy::r#type::v3::FractionalPercent { numerator: 100, denominator: 0 };
        Some(core::RuntimeFractionalPercent { default_value: Some(share), ..Default::default() })
    };
    let read = |limit: &LocalRateLimit| read_route(|route| filter(route, "local_ratelimit", limit)).rate_limits;
    assert_eq!(read(&limit), vec![]);
    let enabled = LocalRateLimit { filter_enabled: all(), ..limit };
    assert_eq!(read(&enabled)[0].mode, Mode::Shadow);
    let enforced = LocalRateLimit { filter_enforced: all(), ..enabled };
    let read = &read(&enforced)[0];
    assert_eq!((read.mode, read.answer.status), (Mode::Enforce, 429));
    assert_eq!((read.buckets[0].limit.max_tokens, read.buckets[0].limit.tokens_per_fill), (10, 1));
}

#[test]
fn faults_by_header_and_policies_of_a_whole_listener_are_refused() {
    let abort =
        FaultAbort { error_type: Some(fault_abort::ErrorType::HeaderAbort(Default::default())), ..Default::default() };
    let fault = HttpFault { abort: Some(abort), ..Default::default() };
    let said = refused_route(|route| filter(route, "fault", &fault));
    assert_eq!(
        said,
        "typed_per_filter_config[\"envoy.filters.http.fault\"].abort.header_abort: is not supported by this proxy"
    );
    let abort = FaultAbort { error_type: Some(fault_abort::ErrorType::HttpStatus(500)), ..Default::default() };
    let fault = HttpFault { abort: Some(abort), ..Default::default() };
    let said = refusal(super::listener(), |listener| {
        super::with_manager(listener, |manager| {
            let any = Any { type_url: HttpFault::type_url(), value: fault.encode_to_vec() };
            manager.http_filters[0].config_type = Some(hcm::http_filter::ConfigType::TypedConfig(any));
        });
    });
    assert_eq!(
        said,
        "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config: \
         a policy of envoy.filters.http.fault is supported by this proxy only on a route"
    );
}

#[test]
fn our_word_on_backends_has_to_fit_them() {
    let url = UrlChange::redirect(Redirect { status: 302, ..Redirect::default() });
    let backends = vec![Backend { url, ..Backend::new(Target::Cluster("a".into()), 1) }];
    let route = Route::all("", Action::Forward(Forward { backends, ..Forward::default() }));
    let resource = super::table_of(route);
    let said = |change: fn(&mut rds::WeightedCluster)| {
        let said = refusal(resource.clone(), |table: &mut rds::RouteConfiguration| {
            let specifier = &mut forward(&mut table.virtual_hosts[0].routes[0]).cluster_specifier;
            let Some(rds::route_action::ClusterSpecifier::WeightedClusters(weighted)) = specifier else {
                panic!("what has no field needs a cluster with a weight: {specifier:?}")
            };
            change(weighted);
        });
        said.strip_prefix("virtual_hosts[0].routes[0].route.weighted_clusters.").expect("where they are").to_owned()
    };
    assert_eq!(
        said(|weighted| weighted.clusters[0].name = "a".into()),
        "clusters[0].name: `a` and our metadata do not agree whether the backend redirects"
    );
    let two = said(|weighted| weighted.clusters.push(Default::default()));
    assert_eq!(two, "clusters: are 2, but our metadata speaks of 1 backends");
    let host = said(|weighted| {
        let host = HostRewriteSpecifier::HostRewriteLiteral("b.example".into());
        weighted.clusters[0].host_rewrite_specifier = Some(host);
    });
    assert_eq!(host, "clusters[0].host_rewrite_literal: means nothing for a backend that redirects");
}

#[test]
fn an_origin_that_we_cannot_compare_is_refused() {
    let said = |pattern, ignore_case| {
        let origin = StringMatcher { match_pattern: Some(pattern), ignore_case };
        let cors = CorsPolicy { allow_origin_string_match: vec![origin], ..Default::default() };
        let said = refused_route(|route| filter(route, "cors", &cors));
        let path = "typed_per_filter_config[\"envoy.filters.http.cors\"].allow_origin_string_match[0]";
        said.strip_prefix(path).expect("the path names the origin").to_owned()
    };
    let suffix = MatchPattern::Suffix(".example".into());
    assert_eq!(said(suffix, false), ": an origin is told by exact, prefix or safe_regex");
    let prefix = MatchPattern::Prefix("https://shop.".into());
    assert_eq!(said(prefix, true), ".ignore_case: is not supported by this proxy");
}

#[test]
fn the_lifetimes_of_no_session_are_refused() {
    let lifetimes =
        pb::Struct { fields: [("absolute", Kind::NullValue(0)), ("idle", Kind::NullValue(0))].map(field).into() };
    let ours = pb::Struct { fields: [("session_lifetimes", Kind::StructValue(lifetimes))].map(field).into() };
    let said = refused_route(|route| {
        let metadata = core::Metadata { filter_metadata: [("weft.dev".to_owned(), ours)].into(), ..Default::default() };
        route.metadata = Some(metadata);
    });
    let path = "metadata.filter_metadata[\"weft.dev\"].session_lifetimes";
    assert_eq!(said, format!("{path}: is there without a stateful session"));
}

fn field((name, kind): (&str, Kind)) -> (String, pb::Value) {
    (name.to_owned(), pb::Value { kind: Some(kind) })
}
