//! DestinationRules: how callers of a Service behave.

use super::hostname::{covers, specificity};
use super::index::{CLUSTER_DOMAIN, full_name};
use crate::kinds::{
    ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, PortPolicy, RetryBudget, Subset, TrafficPolicy,
};
use crate::{Body, Key, Object};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

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

/// What a rule says of one port of its host, or of a subset there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy<'r> {
    pub(crate) load_balancer: Option<&'r LoadBalancer>,
    pub(crate) connection_pool: Option<&'r ConnectionPool>,
    pub(crate) outlier_detection: Option<&'r OutlierDetection>,
    pub(crate) retry_budget: Option<RetryBudget>,
}

impl<'r> Policy<'r> {
    /// As Istio joins them: a port's own settings stand in place of its host's, and what a subset says stands, group by group
    /// (load balancer, connection pool, outlier detection, retry budget), in place of the rule's. Settings that a subset has for the port
    /// stand in place of everything; what they leave out is the default.
    pub(crate) fn of(rule: &'r DestinationRule, subset: Option<&'r Subset>, port: u16) -> Self {
        let whole = Policy::of_policy(&rule.traffic_policy, port);
        let Some(own) = subset.and_then(|subset| subset.traffic_policy.as_ref()) else { return whole };
        let of_subset = Policy::of_policy(own, port);
        let retry_budget = of_subset.retry_budget.or(whole.retry_budget);
        if own.ports.iter().any(|(number, _)| *number == port) {
            return Policy { retry_budget, ..of_subset };
        }
        Policy {
            load_balancer: of_subset.load_balancer.or(whole.load_balancer),
            connection_pool: of_subset.connection_pool.or(whole.connection_pool),
            outlier_detection: of_subset.outlier_detection.or(whole.outlier_detection),
            retry_budget,
        }
    }

    fn of_policy(policy: &'r TrafficPolicy, port: u16) -> Self {
        let PortPolicy { load_balancer, connection_pool, outlier_detection, .. } = policy.for_port(port);
        Policy {
            load_balancer: load_balancer.as_ref(),
            connection_pool: connection_pool.as_ref(),
            outlier_detection: outlier_detection.as_ref(),
            retry_budget: policy.retry_budget,
        }
    }
}
