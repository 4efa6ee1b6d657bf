//! DestinationRules: how callers of a Service behave.

use super::hostname::{covers, specificity};
use super::index::{CLUSTER_DOMAIN, full_name};
use super::protocol::PortProtocol;
use crate::kinds::{DestinationRule, H2Upgrade, LbPolicy};
use crate::{Body, Key, Object};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use weft_model::Cluster;
use weft_model::cluster::{Balancer, Protocol};

/// All DestinationRules, by the host that they are for. A namespace has one rule for a host: the oldest, then the first by name.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// By the rule's namespace and full host.
    exact: BTreeMap<(String, String), Arc<Object>>,
    /// The same for hosts such as `*.shop.svc.cluster.local`, the most specific first.
    wildcards: Vec<(String, Arc<Object>)>,
}

impl Rules {
    pub(crate) fn new<'w>(objects: impl Iterator<Item = &'w Arc<Object>>) -> Self {
        let mut rules = Rules::default();
        for object in objects {
            let Body::DestinationRule(rule) = &object.body else { continue };
            let host = full_host(&rule.host, &object.key.namespace);
            if host.starts_with('*') {
                rules.wildcards.push((host, object.clone()));
                continue;
            }
            let winner = rules.exact.entry((object.key.namespace.clone(), host)).or_insert_with(|| object.clone());
            if age(object) < age(winner) {
                *winner = object.clone();
            }
        }
        rules.wildcards.sort_by(|(one, first), (other, second)| {
            (Reverse(specificity(one)), age(first)).cmp(&(Reverse(specificity(other)), age(second)))
        });
        rules
    }

    /// The rule that a caller obeys, as Istio looks for it: of the caller's namespace, else of the Service's; in each
    /// that of the most specific host.
    pub(crate) fn for_caller(&self, service: &Key, caller_namespace: &str) -> Option<(&Object, &DestinationRule)> {
        let host = full_name(service);
        self.of_namespace(caller_namespace, &host).or_else(|| self.of_namespace(&service.namespace, &host))
    }

    /// The rule of the namespace that counts for a full host, which may be a wildcard.
    pub(crate) fn of_namespace(&self, namespace: &str, host: &str) -> Option<(&Object, &DestinationRule)> {
        let exact = self.exact.get(&(namespace.to_owned(), host.to_owned()));
        let mut wildcards = self.wildcards.iter();
        let object = exact.or_else(|| {
            let found = wildcards.find(|(of_rule, object)| object.key.namespace == namespace && covers(of_rule, host));
            found.map(|(_, object)| object)
        })?;
        match &object.body {
            Body::DestinationRule(rule) => {
                let rule: &DestinationRule = rule;
                Some((object, rule))
            }
            _ => None,
        }
    }
}

/// What was created in a cluster is older than what was not; then by name.
fn age(rule: &Object) -> (bool, Option<i64>, &str) {
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
