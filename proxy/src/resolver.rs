//! Clusters that are a DNS name: every address that it has is an endpoint, asked for again and again.

use crate::configurator::Configurator;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use weft_model::cluster::Discovery;
use weft_model::{Endpoint, Endpoints};
use weft_model::{Kind, Resource};
use weft_xds::client::Held;

/// Envoy's default DNS refresh rate.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// Keeps DNS clusters resolved until `shutdown`.
pub(crate) async fn run(configurator: Arc<Mutex<Configurator>>, shutdown: CancellationToken) {
    let mut held = configurator.lock().held();
    let mut known = BTreeMap::new();
    loop {
        let current = held.borrow_and_update().clone();
        let found = resolve_all(&current, &known).await;
        if found != known {
            known = found;
            configurator.lock().resolved(known.clone());
        }
        let has_names = !known.is_empty() || current.clusters().any(|cluster| is_dns(&cluster.discovery));
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = held.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(REFRESH_EVERY), if has_names => {}
        }
    }
}

fn is_dns(discovery: &Discovery) -> bool {
    matches!(discovery, Discovery::Dns { .. })
}

/// What every name has now; a name that cannot be asked for keeps what it had.
async fn resolve_all(held: &Held, known: &BTreeMap<String, Arc<Resource>>) -> BTreeMap<String, Arc<Resource>> {
    let mut found = BTreeMap::new();
    for (name, resource) in held.iter(Kind::Cluster) {
        let Resource::Cluster(cluster) = &**resource else { continue };
        let Discovery::Dns { host, port } = &cluster.discovery else { continue };
        let resolved = match tokio::net::lookup_host((host.as_str(), *port)).await {
            Ok(addresses) => Some(members(name, addresses)),
            Err(error) => {
                tracing::warn!(cluster = name, host, %error, "cannot resolve; the addresses known before stay");
                None
            }
        };
        let before = known.get(name);
        let now = match resolved {
            // The same members are the same resource, so that nothing is rebuilt for them.
            Some(resolved) if before.is_none_or(|before| **before != resolved) => Some(Arc::new(resolved)),
            _ => before.cloned(),
        };
        if let Some(now) = now {
            found.insert(name.to_owned(), now);
        }
    }
    found
}

fn members(cluster: &str, addresses: impl Iterator<Item = std::net::SocketAddr>) -> Resource {
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    let endpoints = addresses.into_iter().map(Endpoint::at).collect();
    Resource::Endpoints(Endpoints { cluster: cluster.to_owned(), endpoints, ..Endpoints::default() })
}
