//! Balancers, and what stands beside them in Envoy's `common_lb_config`.
//!
//! Envoy has no peak EWMA: there it is least request of two, and our metadata says what it really is.
//! `fail_traffic_on_panic` is a field of Envoy's zone aware routing. Without zones it is written with routing by zone for 0 % of requests,
//! which is none; beside weighted localities Envoy has no place for it, and only our own proxy obeys.
//!
//! Normal form: `choices` under 2 are 2 (Envoy's least); `panic_threshold` is at most 100; only round robin, least request and peak
//! EWMA have a slow start, whose window is not 0; only hashes have a balance factor; zone aware routing of 0 % is none.

use super::super::numbers::{self, count, factor, percent, read_factor, read_percent};
use super::super::parts::{self, At, Decoded, apart, refuse};
use cds::cluster::common_lb_config::{
    ConsistentHashingLbConfig, LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
};
use cds::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig,
    SlowStartConfig, ring_hash_lb_config::HashFunction,
};
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use weft_model::balancer::{Balancer, Balancing, LocalityRule, SlowStart};

/// Names under which Envoy's runtime could override a factor.
const BIAS_KEY: &str = "weft.active_request_bias";
const AGGRESSION_KEY: &str = "weft.slow_start_aggression";
/// Envoy's limits.
const LARGEST_RING: u64 = 8_388_608;
const LARGEST_TABLE: u64 = 5_000_011;
const DEFAULT_TABLE: u64 = 65_537;

pub(super) fn encode(balancer: Balancer, balancing: &Balancing) -> (LbPolicy, Option<LbConfig>, CommonLbConfig) {
    let slow_start = balancing.slow_start.as_ref().map(encode_slow_start);
    let (policy, config) = match balancer {
        Balancer::RoundRobin => (
            LbPolicy::RoundRobin,
            slow_start.map(|slow| LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow) })),
        ),
        Balancer::Random => (LbPolicy::Random, None),
        Balancer::LeastRequest { choices, bias } => (LbPolicy::LeastRequest, least_request(choices, bias, slow_start)),
        Balancer::PeakEwma { .. } => (LbPolicy::LeastRequest, least_request(2, 1.0, slow_start)),
        Balancer::RingHash { minimum_size, maximum_size } => (
            LbPolicy::RingHash,
            Some(LbConfig::RingHashLbConfig(RingHashLbConfig {
                minimum_ring_size: numbers::large(minimum_size),
                hash_function: HashFunction::XxHash as i32,
                maximum_ring_size: numbers::large(maximum_size),
            })),
        ),
        Balancer::Maglev { table_size } => (
            LbPolicy::Maglev,
            Some(LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: numbers::large(table_size) })),
        ),
    };
    (policy, config, encode_common(balancer, balancing))
}

/// What only our metadata can say: the balancer, if Envoy does not know it, and whether panic refuses, if Envoy has no place for it.
pub(super) fn ours(balancer: Balancer, balancing: &Balancing) -> (Option<Balancer>, Option<bool>) {
    let refuses = balancing.fail_traffic_on_panic && balancing.locality == LocalityRule::Weighted;
    (Some(balancer).filter(|balancer| matches!(balancer, Balancer::PeakEwma { .. })), refuses.then_some(true))
}

fn least_request(choices: u32, bias: f64, slow_start_config: Option<SlowStartConfig>) -> Option<LbConfig> {
    Some(LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
        choice_count: parts::number(choices.max(2)),
        active_request_bias: if bias == 1.0 { None } else { factor(BIAS_KEY, bias) },
        slow_start_config,
    }))
}

fn encode_slow_start(slow: &SlowStart) -> SlowStartConfig {
    SlowStartConfig {
        slow_start_window: Some(parts::duration(slow.window)),
        aggression: factor(AGGRESSION_KEY, slow.aggression),
        min_weight_percent: percent(slow.min_weight_percent),
    }
}

fn encode_common(balancer: Balancer, balancing: &Balancing) -> CommonLbConfig {
    let fail_traffic_on_panic = balancing.fail_traffic_on_panic;
    let zone_aware = |routing_enabled, min_cluster_size| {
        LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig {
            routing_enabled: percent(routing_enabled),
            min_cluster_size,
            fail_traffic_on_panic,
        })
    };
    let hash_balance_factor = balancing.hash_balance_factor.filter(|_| balancer.is_consistent());
    CommonLbConfig {
        healthy_panic_threshold: percent(balancing.panic_threshold.min(100).into()),
        consistent_hashing_lb_config: hash_balance_factor.map(|most| ConsistentHashingLbConfig {
            use_hostname_for_hashing: false,
            hash_balance_factor: parts::number(most),
        }),
        locality_config_specifier: match balancing.locality {
            LocalityRule::Ignore => fail_traffic_on_panic.then(|| zone_aware(0.0, None)),
            LocalityRule::Weighted => {
                Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}))
            }
            LocalityRule::ZoneAware { routing_enabled_percent, min_cluster_size } => {
                Some(zone_aware(routing_enabled_percent, numbers::large(min_cluster_size)))
            }
        },
        ..Default::default()
    }
}

/// `balancer` and `fails_on_panic` are what our metadata says.
pub(super) fn decode(
    (policy, config): (i32, Option<LbConfig>),
    common: Option<CommonLbConfig>,
    (balancer, fails_on_panic): (Option<Balancer>, Option<bool>),
) -> Decoded<(Balancer, Balancing)> {
    let (on_the_wire, slow_start) = decode_policy(policy, config)?;
    let balancer = match (on_the_wire, balancer) {
        (Balancer::LeastRequest { .. }, Some(ours @ Balancer::PeakEwma { .. })) => ours,
        (_, Some(_)) => return refuse("metadata", "names a balancer other than peak EWMA in place of least request"),
        (on_the_wire, None) => on_the_wire,
    };
    let mut balancing = decode_common(balancer, common.unwrap_or_default()).at("common_lb_config")?;
    balancing.slow_start = slow_start;
    balancing.fail_traffic_on_panic |= fails_on_panic.unwrap_or_default();
    Ok((balancer, balancing))
}

fn decode_policy(policy: i32, config: Option<LbConfig>) -> Decoded<(Balancer, Option<SlowStart>)> {
    let Ok(policy) = LbPolicy::try_from(policy) else {
        return refuse("lb_policy", format!("{policy} is no balancing policy"));
    };
    match (policy, config) {
        (LbPolicy::RoundRobin, None) => Ok((Balancer::RoundRobin, None)),
        (LbPolicy::RoundRobin, Some(LbConfig::RoundRobinLbConfig(config))) => {
            let slow_start = decode_slow_start(config.slow_start_config).at("round_robin_lb_config")?;
            Ok((Balancer::RoundRobin, slow_start))
        }
        (LbPolicy::Random, None) => Ok((Balancer::Random, None)),
        (LbPolicy::LeastRequest, None) => Ok((Balancer::LEAST_REQUEST, None)),
        (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config))) => {
            decode_least_request(config).at("least_request_lb_config")
        }
        (LbPolicy::RingHash, None) => Ok((Balancer::RING_HASH, None)),
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config))) => {
            Ok((decode_ring(config).at("ring_hash_lb_config")?, None))
        }
        (LbPolicy::Maglev, None) => Ok((Balancer::MAGLEV, None)),
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(config))) => {
            Ok((decode_maglev(config).at("maglev_lb_config")?, None))
        }
        (policy, None) => refuse("lb_policy", format!("{} is not supported by this proxy", policy.as_str_name())),
        (_, Some(_)) => refuse("lb_config", "is not supported by this proxy for this lb_policy"),
    }
}

fn decode_least_request(config: LeastRequestLbConfig) -> Decoded<(Balancer, Option<SlowStart>)> {
    let balancer = Balancer::LeastRequest {
        choices: count(config.choice_count, 2).max(2),
        bias: read_factor("active_request_bias", config.active_request_bias, 1.0)?,
    };
    Ok((balancer, decode_slow_start(config.slow_start_config)?))
}

/// Without a window there is no slow start.
fn decode_slow_start(config: Option<SlowStartConfig>) -> Decoded<Option<SlowStart>> {
    config.map_or(Ok(None), read_slow_start).at("slow_start_config")
}

fn read_slow_start(config: SlowStartConfig) -> Decoded<Option<SlowStart>> {
    let Some(window) = parts::read_limit("slow_start_window", config.slow_start_window, None)? else {
        return Ok(None);
    };
    let aggression = read_factor("aggression", config.aggression, 1.0)?;
    if aggression == 0.0 {
        return refuse("aggression", "is 0");
    }
    let min_weight_percent = read_percent("min_weight_percent", config.min_weight_percent, 10.0)?;
    Ok(Some(SlowStart { window, min_weight_percent, aggression }))
}

fn decode_ring(config: RingHashLbConfig) -> Decoded<Balancer> {
    if HashFunction::try_from(config.hash_function) != Ok(HashFunction::XxHash) {
        return refuse("hash_function", "only XX_HASH is supported by this proxy");
    }
    let minimum_size = numbers::read_large(config.minimum_ring_size, 1024);
    let maximum_size = numbers::read_large(config.maximum_ring_size, LARGEST_RING);
    if minimum_size > maximum_size || maximum_size > LARGEST_RING {
        return refuse(
            "maximum_ring_size",
            format!("{maximum_size} is not between minimum_ring_size {minimum_size} and {LARGEST_RING}"),
        );
    }
    Ok(Balancer::RingHash { minimum_size, maximum_size })
}

fn decode_maglev(config: MaglevLbConfig) -> Decoded<Balancer> {
    let table_size = numbers::read_large(config.table_size, DEFAULT_TABLE);
    if table_size > LARGEST_TABLE || !is_prime(table_size) {
        return refuse("table_size", format!("{table_size} is no prime up to {LARGEST_TABLE}"));
    }
    Ok(Balancer::Maglev { table_size })
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

fn decode_common(balancer: Balancer, common: CommonLbConfig) -> Decoded<Balancing> {
    apart!(common => CommonLbConfig {
        read: healthy_panic_threshold, consistent_hashing_lb_config, locality_config_specifier;
        ignored: update_merge_window, close_connections_on_host_set_change;
        refused: ignore_new_hosts_until_first_hc, override_host_status
    });
    let default = Balancing::default();
    let panic = read_percent("healthy_panic_threshold", healthy_panic_threshold, default.panic_threshold.into())?;
    let (locality, fail_traffic_on_panic) = match locality_config_specifier {
        None => (LocalityRule::Ignore, false),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => (LocalityRule::Weighted, false),
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(config)) => {
            let routed = read_percent("zone_aware_lb_config.routing_enabled", config.routing_enabled, 100.0)?;
            let min_cluster_size = numbers::read_large(config.min_cluster_size, 6);
            let zones = LocalityRule::ZoneAware { routing_enabled_percent: routed, min_cluster_size };
            (if routed == 0.0 { LocalityRule::Ignore } else { zones }, config.fail_traffic_on_panic)
        }
    };
    let hash_balance_factor = consistent_hashing_lb_config.map_or(Ok(None), decode_hashing)?;
    Ok(Balancing {
        // Envoy counts whole percents
        panic_threshold: panic as u32,
        fail_traffic_on_panic,
        slow_start: None,
        hash_balance_factor: hash_balance_factor.filter(|_| balancer.is_consistent()),
        locality,
    })
}

fn decode_hashing(config: ConsistentHashingLbConfig) -> Decoded<Option<u32>> {
    if config.use_hostname_for_hashing {
        return refuse("consistent_hashing_lb_config.use_hostname_for_hashing", "is not supported by this proxy");
    }
    match config.hash_balance_factor.map(|most| most.value) {
        Some(most) if most < 100 => {
            refuse("consistent_hashing_lb_config.hash_balance_factor", format!("{most} is less than 100"))
        }
        most => Ok(most),
    }
}
