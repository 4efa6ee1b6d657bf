//! What a caller sends to: a Service's port, or a subset of it, under the DestinationRule that this caller obeys.
//!
//! The rule depends on the caller's namespace, so an upstream is always somebody's. Without a rule a cluster is safe as it stands: it
//! ejects endpoints that fail, never the last one, whatever the number of replicas, and its retries have a budget.

use super::clusters::{self, identity, origin, port_protocol};
use super::index::{Index, cluster_name, subset_cluster_name};
use super::outbound::tcp_ports;
use super::protocol::PortProtocol;
use super::traffic::Policy;
use super::{accrual, backend_policies, backend_tls, policy};
use crate::Object;
use crate::kinds::{DestinationRule, Service, ServicePort, ServiceType, Subset};
use weft_model::cluster::Discovery;
use weft_model::node::Role;
use weft_model::outlier::OutlierDetection;
use weft_model::{Cluster, Endpoints};

/// One cluster of one caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstream<'i> {
    pub(crate) object: &'i Object,
    pub(crate) service: &'i Service,
    pub(crate) port: &'i ServicePort,
    rule: Option<(&'i Object, &'i DestinationRule)>,
    pub(crate) subset: Option<&'i Subset>,
}

/// All of them, Services in order, each port whole and then by subset.
pub(crate) fn of_caller<'i>(index: &'i Index, caller_namespace: &str) -> Vec<Upstream<'i>> {
    let services = index.services();
    services.flat_map(|(object, service)| of_service(index, object, service, caller_namespace)).collect()
}

/// Those of one Service.
pub(crate) fn of_service<'i>(
    index: &'i Index,
    object: &'i Object,
    service: &'i Service,
    caller_namespace: &str,
) -> Vec<Upstream<'i>> {
    let rule = index.rules.for_caller(&object.key, caller_namespace);
    let subsets = rule.map_or(&[][..], |(_, rule)| &rule.subsets);
    let of_port = |port| {
        let whole = Upstream { object, service, port, rule, subset: None };
        std::iter::once(whole).chain(subsets.iter().map(move |subset| Upstream { subset: Some(subset), ..whole }))
    };
    tcp_ports(service).flat_map(of_port).collect()
}

impl<'i> Upstream<'i> {
    pub(crate) fn name(&self) -> String {
        match self.subset {
            Some(subset) => subset_cluster_name(&self.object.key, self.port.port, &subset.name),
            None => cluster_name(&self.object.key, self.port.port),
        }
    }

    /// Its Service does not say what it speaks.
    pub(crate) fn is_of_unknown_protocol(&self) -> bool {
        port_protocol(self.port) == PortProtocol::Unknown
    }

    pub(crate) fn policy(&self) -> Policy<'i> {
        self.rule.map(|(_, rule)| Policy::of(rule, self.subset, self.port.port)).unwrap_or_default()
    }

    /// The DestinationRule that its caller obeys.
    pub(crate) fn rule(&self) -> Option<&'i Object> {
        self.rule.map(|(object, _)| object)
    }

    /// Whether it has [`Endpoints`]: an alias of a name outside is resolved by the proxy.
    pub(crate) fn has_endpoints(&self) -> bool {
        !clusters::is_external(self.service)
    }

    pub(crate) fn endpoints(&self, index: &Index) -> Endpoints {
        let labels = self.subset.map(|subset| &subset.labels);
        let members = clusters::members(index, self.object, self.port, labels);
        let endpoints = members.into_iter().map(|member| member.endpoint).collect();
        Endpoints { cluster: self.name(), endpoints, ..Endpoints::default() }
    }

    pub(crate) fn cluster(&self, index: &Index, caller: Role) -> Cluster {
        let protocol = port_protocol(self.port);
        let mut cluster = Cluster {
            discovery: match &self.service.kind {
                ServiceType::ExternalName(host) => Discovery::Dns { host: host.clone(), port: self.port.port },
                _ => Discovery::Eds,
            },
            protocol: protocol.upstream(caller == Role::Sidecar),
            outlier: Some(OutlierDetection::safe()),
            service: identity(self.object),
            origin: origin(self.object, ""),
            ..Cluster::new(self.name())
        };
        match backend_tls::tls(index, &self.object.key, self.port) {
            Some(Ok(tls)) => cluster.tls = Some(tls),
            // never without TLS, so not at all
            Some(Err(_)) => cluster.discovery = Discovery::Static(Vec::new()),
            None => {}
        }
        // what ejects hosts must not be undone by panic
        cluster.balancing.panic_threshold = 0;
        cluster.breakers.trip = accrual::read(&self.object.meta.annotations).trip;
        if let Some(budget) = backend_policies::retry_budget(index, &self.object.key) {
            policy::budget_retries(budget, &mut cluster);
        }
        if let Some(rule) = self.rule() {
            policy::apply(&self.policy(), protocol, &mut cluster);
            let inside = self.subset.map(|subset| format!("subset {}", subset.name)).unwrap_or_default();
            cluster.origin = origin(rule, &inside);
        }
        if self.service.publish_not_ready_addresses {
            cluster.balancing.panic_threshold = 0;
        }
        cluster
    }
}
