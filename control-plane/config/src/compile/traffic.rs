//! DestinationRules: how callers of a Service behave.

use super::hostname::{covers, specificity};
use super::index::{CLUSTER_DOMAIN, Index, full_name};
use super::protocol::PortProtocol;
use crate::kinds::{DestinationRule, H2Upgrade, LbPolicy};
use crate::{Key, Object};
use std::cmp::Reverse;
use weft_model::Cluster;
use weft_model::cluster::{Balancer, Protocol};

/// The rule that a caller obeys, as Istio looks for it: of the caller's namespace, else of the Service's. Among several
/// the one of the most specific host, then the oldest, then the first by name.
pub(crate) fn rule_for<'i>(
    index: &'i Index,
    service: &Key,
    caller_namespace: &str,
) -> Option<(&'i Object, &'i DestinationRule)> {
    let host = full_name(service);
    let of_namespace = |namespace: &str| {
        let rules = index.destination_rules().filter(|(object, _)| object.key.namespace == namespace);
        let fitting = rules.filter_map(|(object, rule)| {
            let of_rule = full_host(&rule.host, namespace);
            covers(&of_rule, &host).then(|| (Reverse(specificity(&of_rule)), object, rule))
        });
        fitting
            .min_by(|(one, first, _), (other, second, _)| (one, age(first)).cmp(&(other, age(second))))
            .map(|(_, object, rule)| (object, rule))
    };
    of_namespace(caller_namespace).or_else(|| of_namespace(&service.namespace))
}

/// What was created in a cluster is older than what was not; then by name.
pub(crate) fn age(rule: &Object) -> (bool, Option<i64>, &str) {
    let created = rule.meta.creation_timestamp;
    (created.is_none(), created, &rule.key.name)
}

/// A host as it is written in a rule, in full: `order`, `order.shop`, `order.shop.svc`, `order.shop.svc.cluster.local`.
pub(crate) fn full_host(host: &str, namespace: &str) -> String {
    let labels: Vec<&str> = host.split('.').collect();
    match labels.as_slice() {
        [name] => format!("{name}.{namespace}.{}", CLUSTER_DOMAIN),
        [name, namespace] | [name, namespace, "svc"] => format!("{name}.{namespace}.{}", CLUSTER_DOMAIN),
        _ => host.to_owned(),
    }
}

/// What a rule says of one port. Settings of a port stand by themselves: what they leave out is the default, not the rule's.
pub(crate) fn apply(rule: &DestinationRule, port: u16, protocol: PortProtocol, cluster: &mut Cluster) {
    let policy = rule.traffic_policy.for_port(port);
    if let Some(balancer) = policy.load_balancer.as_ref().and_then(|balancer| balancer.policy.as_ref()) {
        cluster.balancer = match balancer {
            LbPolicy::RoundRobin => Balancer::RoundRobin,
            LbPolicy::Random => Balancer::Random,
            // the reader has warned of what is not acted on; the default is what an absent policy means
            LbPolicy::LeastRequest | LbPolicy::Passthrough | LbPolicy::ConsistentHash(_) => Balancer::default(),
        };
    }
    let pool = &policy.connection_pool;
    if let Some(timeout) = pool.tcp.connect_timeout {
        cluster.connect_timeout = timeout;
    }
    if let Some(timeout) = pool.http.idle_timeout {
        cluster.pool.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
    }
    cluster.pool.max_requests_per_connection = pool.http.max_requests_per_connection;
    if pool.http.h2_upgrade_policy == H2Upgrade::Upgrade && protocol != PortProtocol::Tcp {
        cluster.protocol = Protocol::Http2;
    }
    if pool.http.use_client_protocol {
        cluster.protocol = Protocol::Downstream;
    }
}
