//! Clusters and their members in normal form.

use super::*;
use weft_model::balancer::{Balancer, Balancing, LocalityRule, SlowStart};
use weft_model::breaker::{CircuitBreakers, RetryBudget, RetryLimit, ShareOf, Thresholds, Trip, TripOn};
use weft_model::cluster::{
    Cluster, Discovery, Http2Keepalive, Keepalive, PeerName, Pool, Protocol, Service, Trust, UpstreamTls,
};
use weft_model::endpoint::{Endpoint, Endpoints, Health, Locality, Workload};
use weft_model::health_check::{HealthCheck, Probe};
use weft_model::outlier::{Consecutive, FailurePercentage, OutlierDetection, Slow, SuccessRate};

pub(super) fn cluster() -> impl Strategy<Value = Cluster> {
    let discovery = prop_oneof![
        2 => Just(Discovery::Eds),
        1 => vec(endpoint().boxed(), 0..3).prop_map(sorted).prop_map(Discovery::Static),
        1 => (text(), any::<u16>()).prop_map(|(host, port)| Discovery::Dns { host, port }),
        1 => Just(Discovery::Forward),
        1 => Just(Discovery::OriginalDestination),
    ];
    let protocol = prop_oneof![Just(Protocol::Http1), Just(Protocol::Http2), Just(Protocol::Downstream)];
    let service = (text(), text(), text()).prop_map(|(host, name, namespace)| Service { host, name, namespace });
    let speaks = (discovery, (protocol, of(tls().boxed())), time(), (vec(any::<IpAddr>(), 0..3), pool().boxed()));
    let guards = (breakers().boxed(), of(outlier().boxed()), vec(health_check().boxed(), 0..3));
    (name(), speaks, (balancer(), balancing().boxed()), guards, service, origin()).prop_map(
        |(
            name,
            (discovery, (protocol, tls), connect_timeout, (bind_source, pool)),
            (balancer, balancing),
            guards,
            service,
            origin,
        )| {
            let (breakers, outlier, health_checks) = guards;
            normal(Cluster {
                name,
                discovery,
                balancer,
                balancing,
                protocol,
                tls,
                connect_timeout,
                bind_source,
                pool,
                breakers,
                outlier,
                health_checks,
                service,
                origin,
            })
        },
    )
}

fn tls() -> impl Strategy<Value = UpstreamTls> {
    let peer = prop_oneof![
        word().prop_map(PeerName::Dns),
        word().prop_map(|name| PeerName::Dns(format!("*.{name}"))),
        text().prop_map(PeerName::Uri),
    ];
    let trust = prop_oneof![Just(Trust::System), name().prop_map(Trust::Authorities)];
    (text(), trust, vec(peer, 1..4), of(name())).prop_map(|(server_name, trust, names, certificate)| UpstreamTls {
        server_name,
        trust,
        names,
        certificate,
    })
}

/// Without what goes with no balancer, discovery or protocol like these.
fn normal(mut cluster: Cluster) -> Cluster {
    if matches!(cluster.discovery, Discovery::Forward | Discovery::OriginalDestination) {
        (cluster.balancer, cluster.balancing) = (Balancer::default(), Balancing::default());
    }
    if cluster.discovery != Discovery::Eds && cluster.balancing.locality == LocalityRule::Weighted {
        cluster.balancing.locality = LocalityRule::Ignore;
    }
    if !cluster.balancer.is_consistent() {
        cluster.balancing.hash_balance_factor = None;
    }
    if cluster.balancer.is_consistent() || cluster.balancer == Balancer::Random {
        cluster.balancing.slow_start = None;
    }
    if cluster.protocol == Protocol::Http1 {
        (cluster.pool.max_concurrent_streams, cluster.pool.http2_keepalive) = (None, None);
    }
    cluster
}

fn balancer() -> impl Strategy<Value = Balancer> {
    let ring = (0..=8_388_608_u64, 0..=8_388_608_u64);
    prop_oneof![
        Just(Balancer::RoundRobin),
        Just(Balancer::Random),
        (2..=u32::MAX, real(0.0..100.0)).prop_map(|(choices, bias)| Balancer::LeastRequest { choices, bias }),
        (time(), time()).prop_map(|(default_rtt, decay)| Balancer::PeakEwma { default_rtt, decay }),
        ring.prop_map(|(one, other)| Balancer::RingHash { minimum_size: one.min(other), maximum_size: one.max(other) }),
        prop_oneof![Just(2_u64), Just(65_537), Just(5_000_011)].prop_map(|table_size| Balancer::Maglev { table_size }),
    ]
}

fn balancing() -> impl Strategy<Value = Balancing> {
    let slow_start = (time(), real(0.0..100.0), real(1.0..100.0))
        .prop_map(|(window, min_weight_percent, aggression)| SlowStart { window, min_weight_percent, aggression });
    let zones = (real(1.0..100.0), any::<u64>()).prop_map(|(routing_enabled_percent, min_cluster_size)| {
        LocalityRule::ZoneAware { routing_enabled_percent, min_cluster_size }
    });
    let locality = prop_oneof![Just(LocalityRule::Ignore), Just(LocalityRule::Weighted), zones];
    (0..=100_u32, any::<bool>(), of(slow_start), of(100..=u32::MAX), locality).prop_map(
        |(panic_threshold, fail_traffic_on_panic, slow_start, hash_balance_factor, locality)| Balancing {
            panic_threshold,
            fail_traffic_on_panic,
            slow_start,
            hash_balance_factor,
            locality,
        },
    )
}

fn pool() -> impl Strategy<Value = Pool> {
    let seconds = || of(any::<u32>().prop_map(|seconds| Duration::from_secs(seconds.into())));
    let keepalive = (of(any::<u32>()), seconds(), seconds()).prop_map(|(probes, time, interval)| Keepalive {
        probes,
        time,
        interval,
    });
    let http2_keepalive = (time(), time()).prop_map(|(interval, timeout)| Http2Keepalive { interval, timeout });
    let ages = (of(1..=u32::MAX), of(time()), of(time()));
    (ages, of(1..i32::MAX as u32), of(keepalive), of(http2_keepalive)).prop_map(
        |(ages, max_concurrent_streams, keepalive, http2_keepalive)| Pool {
            max_requests_per_connection: ages.0,
            idle_timeout: ages.1,
            max_connection_duration: ages.2,
            max_concurrent_streams,
            keepalive,
            http2_keepalive,
        },
    )
}

fn breakers() -> impl Strategy<Value = CircuitBreakers> {
    (thresholds().boxed(), thresholds().boxed(), of(any::<u32>()), of(trip().boxed())).prop_map(
        |(default, high, max_connections_per_host, trip)| CircuitBreakers {
            default,
            high,
            max_connections_per_host,
            trip,
        },
    )
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let share = prop_oneof![
        Just(ShareOf::FirstTries),
        Just(ShareOf::AllTries),
        time().prop_map(|interval| match interval.is_zero() {
            true => ShareOf::AllTries,
            false => ShareOf::BegunWithin(interval),
        }),
    ];
    let budget = (real(0.0..100.0), any::<u32>(), share).prop_map(|(percent, min_concurrency, of)| RetryBudget {
        percent,
        of,
        min_concurrency,
    });
    let retries = prop_oneof![any::<u32>().prop_map(RetryLimit::Concurrent), budget.prop_map(RetryLimit::Budget)];
    (any::<[u32; 3]>(), retries).prop_map(|([max_connections, max_pending_requests, max_requests], retries)| {
        Thresholds { max_connections, max_pending_requests, max_requests, retries }
    })
}

fn trip() -> impl Strategy<Value = Trip> {
    let rate = (real(0.0..1.0), time(), any::<u32>())
        .prop_map(|(threshold, window, min_requests)| TripOn::SuccessRate { threshold, window, min_requests });
    let on = prop_oneof![any::<u32>().prop_map(|failures| TripOn::Consecutive { failures }), rate];
    (on, time(), time(), real(0.0..10.0)).prop_map(|(on, min_penalty, max_penalty, jitter)| Trip {
        on,
        min_penalty,
        max_penalty,
        jitter,
    })
}

fn outlier() -> impl Strategy<Value = OutlierDetection> {
    let consecutive =
        || (any::<u32>(), 0..=100_u32).prop_map(|(threshold, enforcing)| Consecutive { threshold, enforcing });
    let success_rate = (0..=100_u32, 0..=100_u32, any::<[u32; 3]>()).prop_map(
        |(enforcing, enforcing_local_origin, [minimum_hosts, request_volume, stdev_factor])| SuccessRate {
            enforcing,
            enforcing_local_origin,
            minimum_hosts,
            request_volume,
            stdev_factor,
        },
    );
    let failure_percentage = (0..=100_u32, 0..=100_u32, 0..=100_u32, any::<[u32; 2]>()).prop_map(
        |(threshold, enforcing, enforcing_local_origin, [minimum_hosts, request_volume])| FailurePercentage {
            threshold,
            enforcing,
            enforcing_local_origin,
            minimum_hosts,
            request_volume,
        },
    );
    let slow = (real(0.0..100.0), time(), any::<u32>()).prop_map(|(factor, floor, request_volume)| Slow {
        factor,
        floor,
        request_volume,
    });
    let ours = (any::<[bool; 5]>(), vec(100..=599_u16, 0..4), of(slow));
    let times = (time(), time(), time(), time(), 0..=100_u32);
    ([consecutive(), consecutive(), consecutive()], times, success_rate, failure_percentage, ours).prop_map(
        |([any_5xx, gateway, local], times, success_rate, failure_percentage, (flags, error_codes, slow))| {
            OutlierDetection {
                consecutive_5xx: any_5xx,
                consecutive_gateway_failure: gateway,
                consecutive_local_origin_failure: local,
                interval: times.0,
                base_ejection_time: times.1,
                max_ejection_time: times.2.max(times.1),
                max_ejection_time_jitter: times.3,
                max_ejection_percent: times.4,
                always_eject_one_host: flags[0],
                keep_one_host: flags[1],
                success_rate,
                failure_percentage,
                split_external_local_origin_errors: flags[2],
                healthy_check_restores: flags[3],
                error_codes,
                slow: slow.filter(|_| flags[4]),
            }
        },
    )
}

fn health_check() -> impl Strategy<Value = HealthCheck> {
    let range = (100..=599_u16, 100..=599_u16).prop_map(|(one, other)| one.min(other)..=one.max(other));
    let method = prop_oneof![Just("GET"), Just("HEAD"), Just("POST"), Just("PATCH")].prop_map(String::from);
    let path = text().prop_filter("is not empty", |path| !path.is_empty());
    let http = (text(), path, method, vec(range.clone(), 0..3), vec(range, 0..3), any::<bool>()).prop_map(
        |(host, path, method, expected, retriable, http2)| Probe::Http {
            host,
            path,
            method,
            expected,
            retriable,
            http2,
        },
    );
    let grpc = (text(), text()).prop_map(|(service, authority)| Probe::Grpc { service, authority });
    let tcp = (vec(any::<u8>(), 0..4), vec(vec(any::<u8>(), 1..4), 0..3))
        .prop_map(|(send, receive)| Probe::Tcp { send, receive });
    let probe = prop_oneof![http, grpc, tcp];
    let times = (time(), time(), time(), prop_oneof![Just(Duration::ZERO), time()]);
    (times, any::<[u32; 2]>(), any::<bool>(), probe).prop_map(|(times, thresholds, reuse_connection, probe)| {
        HealthCheck {
            timeout: times.0,
            interval: times.1,
            no_traffic_interval: times.2,
            interval_jitter: times.3,
            unhealthy_threshold: thresholds[0],
            healthy_threshold: thresholds[1],
            reuse_connection,
            probe,
        }
    })
}

pub(super) fn endpoints() -> impl Strategy<Value = Endpoints> {
    (name(), vec(endpoint().boxed(), 0..6), vec(of(1..=u32::MAX), 6)).prop_map(|(cluster, endpoints, weights)| {
        let localities: std::collections::BTreeSet<_> =
            endpoints.iter().map(|endpoint: &Endpoint| endpoint.locality.clone()).collect();
        let locality_weights = localities.into_iter().zip(weights);
        Endpoints {
            cluster,
            endpoints: sorted(endpoints),
            locality_weights: locality_weights.filter_map(|(locality, weight)| Some((locality, weight?))).collect(),
        }
    })
}

fn sorted(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_by(|one, other| (one.priority, &one.locality).cmp(&(other.priority, &other.locality)));
    endpoints
}

/// One of few, so that some are the same.
pub(super) fn locality() -> impl Strategy<Value = Locality> {
    ("[ab]?", "[ab]?", "b?").prop_map(|(region, zone, sub_zone)| Locality { region, zone, sub_zone })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let health = prop_oneof![Just(Health::Healthy), Just(Health::Draining), Just(Health::Unhealthy)];
    let part = || "[a-z0-9.]{0,6}";
    let workload = (part(), part(), part(), part()).prop_map(|(name, namespace, app, version)| Workload {
        name,
        namespace,
        app,
        version,
    });
    let priority = prop_oneof![0..3_u32, Just(128)];
    (any::<SocketAddr>().prop_map(plain), health, 1..=u32::MAX, priority, locality(), workload).prop_map(
        |(address, health, weight, priority, locality, workload)| Endpoint {
            address,
            health,
            weight,
            priority,
            locality,
            workload,
        },
    )
}
