//! What a data plane holds.

use crate::per_kind::PerKind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use weft_model::cluster::Discovery;
use weft_model::listener::Handler;
use weft_model::route::{Action, Forward, Target};
use weft_model::{Cluster, Endpoints, Kind, Listener, Resource, RouteTable, Secret};

/// All resources by kind and name. Cheap to clone. A resource that did not change is the same `Arc` as before.
#[derive(Clone, Debug, Default)]
pub struct Held {
    kinds: PerKind<Arc<BTreeMap<String, Arc<Resource>>>>,
}

impl Held {
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        self.kinds[kind].get(name)
    }

    /// By name.
    pub fn iter(&self, kind: Kind) -> impl Iterator<Item = (&str, &Arc<Resource>)> {
        self.kinds[kind].iter().map(|(name, resource)| (name.as_str(), resource))
    }

    pub fn len(&self, kind: Kind) -> usize {
        self.kinds[kind].len()
    }

    pub fn is_empty(&self) -> bool {
        self.kinds.iter().all(|(_, map)| map.is_empty())
    }

    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.kinds[Kind::Listener].values().filter_map(|resource| match &**resource {
            Resource::Listener(listener) => Some(listener),
            _ => None,
        })
    }

    pub fn route_tables(&self) -> impl Iterator<Item = &RouteTable> {
        self.kinds[Kind::RouteTable].values().filter_map(|resource| match &**resource {
            Resource::RouteTable(table) => Some(table),
            _ => None,
        })
    }

    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.kinds[Kind::Cluster].values().filter_map(|resource| match &**resource {
            Resource::Cluster(cluster) => Some(cluster),
            _ => None,
        })
    }

    pub fn route_table(&self, name: &str) -> Option<&RouteTable> {
        match &**self.get(Kind::RouteTable, name)? {
            Resource::RouteTable(table) => Some(table),
            _ => None,
        }
    }

    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        match &**self.get(Kind::Cluster, name)? {
            Resource::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// The members of a cluster whose discovery is by EDS.
    pub fn endpoints(&self, cluster: &str) -> Option<&Endpoints> {
        match &**self.get(Kind::Endpoints, cluster)? {
            Resource::Endpoints(endpoints) => Some(endpoints),
            _ => None,
        }
    }

    pub fn secret(&self, name: &str) -> Option<&Secret> {
        match &**self.get(Kind::Secret, name)? {
            Resource::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    /// What is referred to by what is held and is not held itself: a request that needs it is refused.
    pub fn missing(&self) -> Vec<(Kind, String)> {
        let names =
            Kind::ALL.into_iter().flat_map(|kind| self.referred(kind).into_iter().map(move |name| (kind, name)));
        let missing = names.filter(|(kind, name)| self.get(*kind, name).is_none());
        missing.map(|(kind, name)| (kind, name.to_string())).collect()
    }

    /// Names of this kind that what is held refers to. Nothing refers to a listener.
    pub(super) fn referred(&self, kind: Kind) -> BTreeSet<&str> {
        let chains = || self.listeners().flat_map(|listener| &listener.chains);
        match kind {
            Kind::Listener => BTreeSet::new(),
            Kind::Cluster => {
                let tcp = chains().flat_map(|chain| match &chain.handler {
                    Handler::Tcp(tcp) => tcp.clusters.as_slice(),
                    Handler::Http(_) => &[],
                });
                tcp.map(|cluster| cluster.name.as_str()).chain(self.route_tables().flat_map(targets)).collect()
            }
            Kind::Endpoints => {
                let by_eds = self.clusters().filter(|cluster| cluster.discovery == Discovery::Eds);
                by_eds.map(|cluster| cluster.name.as_str()).collect()
            }
            Kind::Secret => {
                let terminations = chains().filter_map(|chain| chain.tls.as_ref());
                let shown = self.clusters().filter_map(|cluster| cluster.tls.as_ref()?.certificate.as_ref());
                terminations.flat_map(|tls| &tls.secrets).chain(shown).map(String::as_str).collect()
            }
            Kind::RouteTable => {
                let tables = chains().filter_map(|chain| match &chain.handler {
                    Handler::Http(http) => Some(http.route_table.as_str()),
                    Handler::Tcp(_) => None,
                });
                tables.collect()
            }
        }
    }

    pub(super) fn set(&mut self, kind: Kind, name: &str, resource: Option<Arc<Resource>>) {
        let map = Arc::make_mut(&mut self.kinds[kind]);
        match resource {
            Some(resource) => map.insert(name.to_string(), resource),
            None => map.remove(name),
        };
    }
}

/// The clusters that a table's routes name.
pub(super) fn targets(table: &RouteTable) -> impl Iterator<Item = &str> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let forwards = routes.filter_map(|route| match &route.action {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Respond(_) => None,
    });
    forwards.flat_map(Forward::targets).filter_map(|target| match target {
        Target::Cluster(name) => Some(name.as_str()),
        Target::Invalid { .. } => None,
    })
}
