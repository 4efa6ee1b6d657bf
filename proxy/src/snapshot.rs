//! Everything that a request reads, in one value that is swapped whole.
//!
//! A request keeps the snapshot that it began with, so it never sees half of a change. What did not
//! change is the same allocation in both, with its counters and connections.

mod handed;

pub(crate) use handed::Handed;

use crate::live::{LiveCluster, Parts};
use crate::overflow::Overflows;
use crate::table::{Clusters, Compiled, Limiters, LiveTable};
use crate::tls::{self, TlsError};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;
use weft_model::cluster::Discovery;
use weft_model::endpoint::Locality;
use weft_model::listener::{FilterChain, Handler};
use weft_model::{Cluster, Endpoints, Kind, Listener, Resource, Secret};
use weft_policy::Dice;
use weft_xds::client::{Held, Nack};

/// One whole configuration, live.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Counts the swaps.
    pub(crate) number: u64,
    pub(crate) listeners: BTreeMap<String, Arc<LiveListener>>,
    pub(crate) handed: Handed,
    pub(crate) tables: HashMap<String, Arc<LiveTable>>,
    pub(crate) clusters: Clusters,
    /// What was compiled, by the resource that it was compiled from.
    sources: Sources,
}

/// Compiled forms that the next snapshot may take over: by name, with the identity of their resource.
#[derive(Debug, Default)]
struct Sources {
    tables: HashMap<String, (Arc<Resource>, Arc<Compiled>)>,
    clusters: HashMap<String, ClusterSource>,
    secrets: HashMap<String, (Arc<Resource>, Arc<CertifiedKey>)>,
    listeners: HashMap<String, Arc<Resource>>,
}

#[derive(Clone, Debug)]
struct ClusterSource {
    cluster: Arc<Resource>,
    endpoints: Option<Arc<Resource>>,
    /// What its endpoints are shown.
    key: Option<Arc<CertifiedKey>>,
}

/// A listener whose parts are all there.
#[derive(Debug)]
pub(crate) struct LiveListener {
    pub(crate) spec: Listener,
    pub(crate) chains: Vec<Arc<LiveChain>>,
    /// Some chain can only be chosen by looking at the first bytes.
    pub(crate) detects: bool,
    /// Some chain is chosen by the name in the TLS handshake, or shows a certificate that is.
    pub(crate) asks_for_names: bool,
}

#[derive(Debug)]
pub(crate) struct LiveChain {
    pub(crate) spec: FilterChain,
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// What a snapshot is built from.
pub(crate) struct Inputs<'a> {
    pub(crate) held: &'a Held,
    /// The endpoints of clusters that are resolved by DNS, by cluster.
    pub(crate) resolved: &'a BTreeMap<String, Arc<Resource>>,
    /// Where this proxy runs.
    pub(crate) own: &'a Arc<Locality>,
    /// The secret behind the rate limiters' hashes.
    pub(crate) seed: [u64; 2],
    pub(crate) overflows: &'a Overflows,
    pub(crate) now: Instant,
}

impl Snapshot {
    /// The snapshot that follows `previous`. What is wrong is refused and keeps its last good value.
    pub(crate) fn build(inputs: &Inputs<'_>, previous: &Snapshot, dice: &mut Dice) -> (Snapshot, Vec<Nack>) {
        let mut next = Snapshot { number: previous.number + 1, ..Snapshot::default() };
        let mut refused = Vec::new();
        next.build_secrets(inputs, previous, &mut refused);
        next.build_clusters(inputs, previous, dice);
        next.build_tables(inputs, previous, &mut refused);
        next.build_listeners(inputs, previous, &mut refused);
        next.handed = Handed::of(&next.listeners);
        (next, refused)
    }

    /// The resources in service, by kind and name. A secret's key is not among what they show.
    pub(crate) fn resources(&self) -> BTreeMap<&'static str, Vec<&Resource>> {
        let sources = &self.sources;
        let endpoints = sources.clusters.values().filter_map(|source| source.endpoints.as_ref());
        let all = (sources.listeners.values())
            .chain(sources.tables.values().map(|(resource, _)| resource))
            .chain(sources.clusters.values().map(|source| &source.cluster))
            .chain(sources.secrets.values().map(|(resource, _)| resource))
            .chain(endpoints);
        let mut resources: BTreeMap<&'static str, Vec<&Resource>> = BTreeMap::new();
        for resource in all {
            resources.entry(resource.kind().discovery()).or_default().push(resource);
        }
        resources.values_mut().for_each(|kind| kind.sort_by(|a, b| a.name().cmp(b.name())));
        resources
    }

    fn build_clusters(&mut self, inputs: &Inputs<'_>, previous: &Snapshot, dice: &mut Dice) {
        for (name, resource) in inputs.held.iter(Kind::Cluster) {
            let Resource::Cluster(spec) = &**resource else { continue };
            let discovered = match spec.discovery {
                Discovery::Eds => inputs.held.get(Kind::Endpoints, name),
                Discovery::Dns { .. } => inputs.resolved.get(name),
                Discovery::Static(_) | Discovery::Forward | Discovery::OriginalDestination => None,
            };
            let wanted = spec.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
            let key = wanted.and_then(|name| self.sources.secrets.get(name)).map(|(_, key)| key.clone());
            if wanted.is_some() && key.is_none() {
                // what it is to show has not come: until then its old self serves (Envoy: it warms)
                if let (Some(old), Some(before)) = (previous.clusters.get(name), previous.sources.clusters.get(name)) {
                    self.clusters.insert(name.to_owned(), old.clone());
                    self.sources.clusters.insert(name.to_owned(), before.clone());
                    continue;
                }
            }
            let source = ClusterSource { cluster: resource.clone(), endpoints: discovered.cloned(), key };
            let old = previous.clusters.get(name);
            let same = previous.sources.clusters.get(name).is_some_and(|before| before.is(&source));
            let live = match old {
                Some(old) if same => old.clone(),
                _ => Arc::new(rebuild(inputs, spec, &source, old.map(Arc::as_ref), dice)),
            };
            self.clusters.insert(name.to_owned(), live);
            self.sources.clusters.insert(name.to_owned(), source);
        }
    }

    fn build_tables(&mut self, inputs: &Inputs<'_>, previous: &Snapshot, refused: &mut Vec<Nack>) {
        let same_clusters = self.clusters.len() == previous.clusters.len()
            && self
                .clusters
                .iter()
                .all(|(name, new)| previous.clusters.get(name).is_some_and(|old| Arc::ptr_eq(old, new)));
        let known = previous.sources.tables.values().map(|(_, compiled)| compiled);
        let mut limiters = Limiters::of(known, inputs);
        for (name, resource) in inputs.held.iter(Kind::RouteTable) {
            let Resource::RouteTable(model) = &**resource else { continue };
            let old = previous.sources.tables.get(name);
            let source = match old {
                Some(old) if Arc::ptr_eq(&old.0, resource) => old.clone(),
                _ => match Compiled::compile(model, &mut limiters).map_err(|error| error.to_string()) {
                    Ok(compiled) => (resource.clone(), Arc::new(compiled)),
                    Err(reason) => {
                        refused.push(Nack { kind: Kind::RouteTable, name: name.to_owned(), reason });
                        let Some(old) = old else { continue };
                        old.clone()
                    }
                },
            };
            let unchanged = same_clusters && old.is_some_and(|old| Arc::ptr_eq(&old.1, &source.1));
            let table = match previous.tables.get(name) {
                Some(table) if unchanged => table.clone(),
                _ => Arc::new(LiveTable::bind(&source.1, &self.clusters)),
            };
            self.tables.insert(name.to_owned(), table);
            self.sources.tables.insert(name.to_owned(), source);
        }
    }

    fn build_secrets(&mut self, inputs: &Inputs<'_>, previous: &Snapshot, refused: &mut Vec<Nack>) {
        for (name, resource) in inputs.held.iter(Kind::Secret) {
            let Resource::Secret(secret) = &**resource else { continue };
            let old = previous.sources.secrets.get(name);
            let source = match old {
                Some(old) if Arc::ptr_eq(&old.0, resource) => old.clone(),
                _ => match certify(secret) {
                    Ok(key) => (resource.clone(), key),
                    Err(reason) => {
                        refused.push(Nack { kind: Kind::Secret, name: name.to_owned(), reason });
                        let Some(old) = old else { continue };
                        old.clone()
                    }
                },
            };
            self.sources.secrets.insert(name.to_owned(), source);
        }
    }

    /// A listener waits (Envoy: warms) until its route tables and certificates have come; until then its old
    /// self serves, as it does where the new one is refused.
    fn build_listeners(&mut self, inputs: &Inputs<'_>, previous: &Snapshot, refused: &mut Vec<Nack>) {
        for (name, resource) in inputs.held.iter(Kind::Listener) {
            let Resource::Listener(spec) = &**resource else { continue };
            let old = previous.listeners.get(name).zip(previous.sources.listeners.get(name));
            let built = match old {
                Some((old, before)) if Arc::ptr_eq(before, resource) && self.keys_are_same(spec, previous) => {
                    Ok(Some(old.clone()))
                }
                _ => self.listener(spec),
            };
            let built = built.unwrap_or_else(|error| {
                let reason = error.to_string();
                refused.push(Nack { kind: Kind::Listener, name: name.to_owned(), reason });
                None
            });
            // one that waits is tried again, so it is not what its old self was made of
            let (live, source) = match (built, old) {
                (Some(live), _) => (live, resource.clone()),
                (None, Some((old, before))) => (old.clone(), before.clone()),
                (None, None) => continue,
            };
            self.listeners.insert(name.to_owned(), live);
            self.sources.listeners.insert(name.to_owned(), source);
        }
    }

    /// `None`: something of it has not come.
    fn listener(&self, spec: &Listener) -> Result<Option<Arc<LiveListener>>, TlsError> {
        let mut chains = Vec::with_capacity(spec.chains.len());
        for chain in &spec.chains {
            let Some(live) = self.chain(chain)? else { return Ok(None) };
            chains.push(Arc::new(live));
        }
        let detects = chains.iter().any(|chain| {
            chain.spec.tls.is_some()
                || chain.spec.matches.application.is_some()
                || chain.spec.matches.tls.is_some()
                || !chain.spec.matches.server_names.is_empty()
        });
        let asks_for_names =
            chains.iter().any(|chain| chain.tls.is_some() || !chain.spec.matches.server_names.is_empty());
        Ok(Some(Arc::new(LiveListener { spec: spec.clone(), chains, detects, asks_for_names })))
    }

    fn chain(&self, spec: &FilterChain) -> Result<Option<LiveChain>, TlsError> {
        if let Handler::Http(http) = &spec.handler
            && !self.tables.contains_key(&http.route_table)
        {
            return Ok(None);
        }
        let tls = match &spec.tls {
            None => None,
            Some(termination) => {
                let keys = termination.secrets.iter().map(|name| Some(self.sources.secrets.get(name)?.1.clone()));
                let Some(keys) = keys.collect::<Option<Vec<_>>>() else { return Ok(None) };
                Some(tls::server_config(termination, keys)?)
            }
        };
        Ok(Some(LiveChain { spec: spec.clone(), tls }))
    }

    fn keys_are_same(&self, spec: &Listener, previous: &Snapshot) -> bool {
        let secrets = spec.chains.iter().filter_map(|chain| chain.tls.as_ref()).flat_map(|tls| &tls.secrets);
        secrets.into_iter().all(|name| match (self.sources.secrets.get(name), previous.sources.secrets.get(name)) {
            (Some(new), Some(old)) => Arc::ptr_eq(&new.1, &old.1),
            (new, old) => new.is_none() && old.is_none(),
        })
    }
}

impl ClusterSource {
    fn is(&self, other: &ClusterSource) -> bool {
        let same_endpoints = match (&self.endpoints, &other.endpoints) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let same_key = match (&self.key, &other.key) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        Arc::ptr_eq(&self.cluster, &other.cluster) && same_endpoints && same_key
    }
}

fn rebuild(
    inputs: &Inputs<'_>,
    spec: &Cluster,
    source: &ClusterSource,
    old: Option<&LiveCluster>,
    dice: &mut Dice,
) -> LiveCluster {
    let discovered: Option<&Endpoints> = source.endpoints.as_deref().and_then(|resource| match resource {
        Resource::Endpoints(endpoints) => Some(endpoints),
        _ => None,
    });
    // An equal cluster keeps its allocation, so that whoever compares by identity sees no change.
    let spec = match old {
        Some(old) if *old.spec == *spec => old.spec.clone(),
        _ => Arc::new(spec.clone()),
    };
    let parts = Parts { spec, discovered, key: source.key.clone(), own: inputs.own.clone() };
    LiveCluster::build(parts, old, inputs.now, dice)
}

fn certify(secret: &Secret) -> Result<Arc<CertifiedKey>, String> {
    tls::certified(secret).map_err(|error| error.to_string())
}
