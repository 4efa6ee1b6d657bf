//! VirtualServices: which of them speaks for a host, to whom.
//!
//! Several may name one host, and each may be exported to some namespaces only; whoever asks must always get the same answer, and
//! Istio's. Inside the mesh one VirtualService has a host: one that is private to the caller's namespace before one that is
//! exported to it by name before one for all, then the oldest. At a gateway all that name a host are joined, the oldest
//! first. A host that is named exactly comes before one that a wildcard covers.

mod delegates;
mod matches;
mod routes;

use super::hostname::{covers, intersect, specificity};
use super::index::{CLUSTER_DOMAIN, Index};
use super::traffic::full_host;
use crate::kinds::{MESH, VirtualRoute, VirtualService};
use crate::{Key, Object};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) use delegates::{Refusal, find as find_delegate, meets};
pub(crate) use routes::{ForCaller, Listening};

/// All that have hosts, the oldest first.
#[derive(Debug)]
pub(crate) struct VirtualServices<'i>(Vec<Merged<'i>>);

/// A VirtualService with its delegates' routes in place.
#[derive(Debug)]
pub(crate) struct Merged<'i> {
    pub(crate) object: &'i Object,
    pub(crate) service: &'i VirtualService,
    /// In full.
    pub(crate) hosts: Vec<String>,
    rules: Vec<Rule<'i>>,
}

/// One entry of `http`.
#[derive(Debug)]
struct Rule<'i> {
    /// Where it is written: the object itself, or its delegate.
    object: &'i Object,
    at: usize,
    route: Cow<'i, VirtualRoute>,
}

impl<'i> VirtualServices<'i> {
    pub(crate) fn new(index: &'i Index) -> Self {
        let roots = index.virtual_services().filter(|(_, service)| !service.hosts.is_empty());
        let mut all: Vec<Merged<'i>> = roots
            .map(|(object, service)| Merged {
                object,
                service,
                hosts: service.hosts.iter().map(|host| host_in_full(index, host, &object.key.namespace)).collect(),
                rules: delegates::rules(index, object, service),
            })
            .collect();
        all.sort_by(|one, other| age(one.object).cmp(&age(other.object)));
        VirtualServices(all)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Merged<'i>> {
        self.0.iter()
    }

    /// What the sidecars of a namespace go by.
    pub(crate) fn of_mesh(&self, namespace: &str) -> MeshHosts<'_> {
        let mut hosts = MeshHosts::default();
        for merged in self.visible(namespace).into_iter().filter(|merged| merged.is_of_mesh()) {
            for host in &merged.hosts {
                if host.starts_with('*') {
                    hosts.wildcards.push((host, merged));
                } else {
                    hosts.exact.entry(host).or_insert(merged);
                }
            }
        }
        hosts.wildcards.sort_by_key(|(host, _)| (Reverse(specificity(host)), *host));
        hosts.wildcards.dedup_by_key(|(host, _)| *host);
        hosts
    }

    /// Those that name a gateway, and that its namespace may see.
    pub(crate) fn of_gateway(&self, gateway: &Key) -> Vec<&Merged<'i>> {
        let mut bound = self.visible(&gateway.namespace);
        bound.retain(|merged| merged.names_gateway(gateway));
        bound
    }

    fn visible(&self, namespace: &str) -> Vec<&Merged<'i>> {
        let mut visible: Vec<(Exported, &Merged<'i>)> =
            self.0.iter().filter_map(|merged| Some((merged.exported_to(namespace)?, merged))).collect();
        visible.sort_by_key(|(exported, _)| *exported);
        visible.into_iter().map(|(_, merged)| merged).collect()
    }
}

/// By how narrow an `exportTo` a namespace sees an object; the narrowest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exported {
    Privately,
    ByName,
    ToAll,
}

impl Merged<'_> {
    fn exported_to(&self, namespace: &str) -> Option<Exported> {
        let (export_to, own) = (&self.service.export_to, &self.object.key.namespace);
        if export_to.is_empty() || export_to.iter().any(|to| to == "*") {
            return Some(Exported::ToAll);
        }
        let is_own = own == namespace;
        match export_to.iter().any(|to| to == namespace) {
            true => Some(Exported::ByName),
            false => (is_own && export_to.iter().any(|to| to == ".")).then_some(Exported::Privately),
        }
    }

    pub(crate) fn is_of_mesh(&self) -> bool {
        let gateways = &self.service.gateways;
        gateways.is_empty() || gateways.iter().any(|gateway| gateway.value == MESH)
    }

    fn names_gateway(&self, gateway: &Key) -> bool {
        let named = (gateway.namespace.as_str(), gateway.name.as_str());
        self.service.gateways.iter().any(|written| gateway_named(written, &self.object.key.namespace) == Some(named))
    }

    /// The routes at a gateway's listener, by domain: what the hosts and the listener's host name have in common.
    /// With each how specific the host was.
    fn domains<'a>(&'a self, listener_hostname: &'a str) -> impl Iterator<Item = (&'a str, (usize, usize))> {
        let met = |host: &'a String| Some((intersect(listener_hostname, host)?, specificity(host)));
        self.hosts.iter().filter_map(met)
    }

    /// The numbers that `match.port` names.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.rules.iter().flat_map(|rule| &rule.route.matches).filter_map(|entry| entry.port).collect()
    }
}

/// The VirtualServices of one listener of a gateway: its domains, each with its routes.
pub(crate) fn of_listener(
    index: &Index,
    bound: &[&Merged<'_>],
    listener_hostname: &str,
    listening: &Listening<'_>,
) -> BTreeMap<String, Vec<weft_model::route::Route>> {
    let mut by_domain: BTreeMap<String, ((usize, usize), Vec<weft_model::route::Route>)> = BTreeMap::new();
    for merged in bound {
        let routes: Vec<_> = merged.routes(index, listening).into_iter().map(|entry| entry.route).collect();
        if routes.is_empty() {
            continue;
        }
        for (domain, host) in merged.domains(listener_hostname) {
            let (best, of_domain) = by_domain.entry(domain.to_owned()).or_insert((host, Vec::new()));
            if host > *best {
                (*best, *of_domain) = (host, Vec::new());
            }
            if host == *best {
                of_domain.extend(routes.iter().cloned());
            }
        }
    }
    by_domain.into_iter().map(|(domain, (_, routes))| (domain, routes)).collect()
}

/// For each host the VirtualService that a sidecar obeys.
#[derive(Debug, Default)]
pub(crate) struct MeshHosts<'s> {
    exact: BTreeMap<&'s str, &'s Merged<'s>>,
    /// The most specific first.
    wildcards: Vec<(&'s str, &'s Merged<'s>)>,
}

impl<'s> MeshHosts<'s> {
    pub(crate) fn of(&self, host: &str) -> Option<&'s Merged<'s>> {
        let covering = || self.wildcards.iter().find(|(wildcard, _)| covers(wildcard, host)).map(|(_, merged)| *merged);
        self.exact.get(host).copied().or_else(covering)
    }

    /// Whose a host is that is named in these very words.
    pub(crate) fn named(&self, host: &str) -> Option<&'s Merged<'s>> {
        let wildcard = || self.wildcards.iter().find(|(wildcard, _)| *wildcard == host).map(|(_, merged)| *merged);
        self.exact.get(host).copied().or_else(wildcard)
    }

    /// Every host that is named, with whose it is.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'s str, &'s Merged<'s>)> {
        let exact = self.exact.iter().map(|(host, merged)| (*host, *merged));
        exact.chain(self.wildcards.iter().copied())
    }
}

/// A host of a VirtualService, in full: a short name is a Service of its namespace; `order.shop` is the Service of that name
/// if there is one, and otherwise a host like `shop.example`.
pub(crate) fn host_in_full(index: &Index, host: &str, namespace: &str) -> String {
    if host == "*" || host.starts_with('[') {
        return host.to_owned();
    }
    let full = full_host(host, namespace);
    let is_written_short = host.contains('.') && full != host;
    match is_written_short && service_of(&full).is_none_or(|(namespace, name)| index.service(namespace, name).is_none())
    {
        true => host.to_owned(),
        false => full,
    }
}

/// `order.shop.svc.cluster.local` → (`shop`, `order`).
pub(crate) fn service_of(host: &str) -> Option<(&str, &str)> {
    let (name, namespace) = host.strip_suffix(CLUSTER_DOMAIN)?.strip_suffix('.')?.split_once('.')?;
    (!namespace.contains('.') && name != "*").then_some((namespace, name))
}

/// The namespace and name of a gateway that is written as `name` or `namespace/name`; `None` for `mesh`.
pub(crate) fn gateway_named<'a>(written: &'a str, namespace: &'a str) -> Option<(&'a str, &'a str)> {
    match written.split_once('/') {
        None if written == MESH => None,
        None => Some((namespace, written)),
        Some((".", name)) => Some((namespace, name)),
        Some(named) => Some(named),
    }
}

/// What was created in a cluster is older than what was not; then by name, then by namespace.
fn age(object: &Object) -> (bool, Option<i64>, &str, &str) {
    let created = object.meta.creation_timestamp;
    (created.is_none(), created, &object.key.name, &object.key.namespace)
}
