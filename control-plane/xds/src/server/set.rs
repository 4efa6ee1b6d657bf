//! Everything that one node should hold, encoded and versioned.

use crate::per_kind::PerKind;
use crate::wire;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use weft_model::listener::{Binding, Direction};
use weft_model::{Kind, Resource};

/// Immutable; what did not change between two sets is shared by them.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    kinds: PerKind<Arc<BTreeMap<String, Arc<Versioned>>>>,
}

/// A resource as it goes over the wire.
#[derive(Debug)]
pub struct Versioned {
    /// [`wire::version`] of the bytes.
    pub version: String,
    pub any: wire::Any,
    pub resource: Resource,
    /// Of kind, name and version; the digests of a set's members add up to the set's.
    pub(super) digest: u64,
}

impl Versioned {
    /// Of use only to those whose traffic goes there; there is one for every address of every Service.
    pub(super) fn is_on_demand(&self) -> bool {
        matches!(&self.resource, Resource::Listener(listener)
            if listener.binding == Binding::Handed && listener.direction == Direction::Outbound)
    }

    fn new(resource: Resource) -> Self {
        let any = wire::encode(&resource);
        let version = wire::version(&any);
        let digest = digest(resource.kind(), resource.name(), &version);
        Versioned { version, any, resource, digest }
    }
}

/// Eight bytes of the SHA-256 of kind, name and version.
pub(super) fn digest(kind: Kind, name: &str, version: &str) -> u64 {
    let hash = Sha256::new().chain_update([kind as u8]).chain_update(name).chain_update([0]).chain_update(version);
    let hash = hash.finalize();
    u64::from_be_bytes(hash[..8].try_into().expect("a SHA-256 has more than 8 bytes"))
}

impl ResourceSet {
    /// Of two resources of the same kind and name the later one counts. What `previous` already holds
    /// is not encoded again.
    pub fn build(resources: Vec<Resource>, previous: Option<&ResourceSet>) -> ResourceSet {
        let mut kinds: PerKind<BTreeMap<String, Arc<Versioned>>> = PerKind::default();
        for resource in resources {
            let (kind, name) = (resource.kind(), resource.name().to_string());
            let held = previous.and_then(|set| set.get(kind, &name)).filter(|held| held.resource == resource);
            let versioned = held.map_or_else(|| Arc::new(Versioned::new(resource)), Arc::clone);
            kinds[kind].insert(name, versioned);
        }
        let mut set = ResourceSet::default();
        for kind in Kind::ALL {
            let map = std::mem::take(&mut kinds[kind]);
            let unchanged = previous.filter(|previous| same(&previous.kinds[kind], &map));
            set.kinds[kind] = unchanged.map_or_else(|| Arc::new(map), |previous| Arc::clone(&previous.kinds[kind]));
        }
        set
    }

    /// With these in the place of those of the same kind and name; `None` when all of them are there already. What is encoded on the way is
    /// remembered, for other nodes that hold the same.
    pub fn with(&self, resources: Vec<Resource>, encoded: &mut Encoded) -> Option<ResourceSet> {
        let is_news = |resource: &Resource| {
            self.get(resource.kind(), resource.name()).is_none_or(|held| held.resource != *resource)
        };
        let news: Vec<Resource> = resources.into_iter().filter(is_news).collect();
        if news.is_empty() {
            return None;
        }
        let mut set = self.clone();
        for resource in news {
            let (kind, name) = (resource.kind(), resource.name().to_string());
            Arc::make_mut(&mut set.kinds[kind]).insert(name, encoded.of(resource));
        }
        Some(set)
    }

    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Versioned>> {
        self.kinds[kind].get(name)
    }

    /// By name.
    pub fn iter(&self, kind: Kind) -> impl Iterator<Item = (&str, &Arc<Versioned>)> {
        self.kinds[kind].iter().map(|(name, versioned)| (name.as_str(), versioned))
    }

    pub fn len(&self, kind: Kind) -> usize {
        self.kinds[kind].len()
    }

    pub fn is_empty(&self) -> bool {
        self.kinds.iter().all(|(_, map)| map.is_empty())
    }

    /// Whether both hold the very same resources of a kind.
    pub(super) fn shares(&self, other: &ResourceSet, kind: Kind) -> bool {
        Arc::ptr_eq(&self.kinds[kind], &other.kinds[kind])
    }
}

/// What several nodes hold is encoded once, and held once.
#[derive(Debug, Default)]
pub struct Encoded(HashMap<(Kind, String), Vec<Arc<Versioned>>>);

impl Encoded {
    fn of(&mut self, resource: Resource) -> Arc<Versioned> {
        let known = self.0.entry((resource.kind(), resource.name().to_string())).or_default();
        if let Some(same) = known.iter().find(|known| known.resource == resource) {
            return same.clone();
        }
        let versioned = Arc::new(Versioned::new(resource));
        known.push(versioned.clone());
        versioned
    }
}

fn same(one: &BTreeMap<String, Arc<Versioned>>, other: &BTreeMap<String, Arc<Versioned>>) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
}
