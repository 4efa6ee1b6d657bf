//! What a change of the world can mean at most.
//!
//! In a cluster nearly every change is a pod that came, went or became ready: its EndpointSlice's, and its own. Who serves says
//! nothing of routes, rules and limits, so all of these may be kept; compiling a large mesh anew for each would make a
//! rollout as dear as the cluster is large. Whatever else differs, everything is compiled anew.

use super::index::Index;
use super::moved::{Moved, Name};
use crate::kinds::EndpointSlice;
use crate::{Body, Object, World};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What differs between two worlds in which only EndpointSlices and Pods do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// Those whose slices differ.
    services: BTreeSet<Name>,
    pods: BTreeSet<Name>,
}

impl Served {
    /// `None` when anything else differs.
    pub(crate) fn between(before: &World, after: &World) -> Option<Served> {
        let mut served = Served::default();
        let (mut before, mut after) = (before.objects.iter().peekable(), after.objects.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return Some(served),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let old = before.next_if(|_| order.is_le()).map(|(_, object)| object);
            let new = after.next_if(|_| order.is_ge()).map(|(_, object)| object);
            if let (Some(old), Some(new)) = (old, new)
                && (Arc::ptr_eq(old, new) || old == new)
            {
                continue;
            }
            for object in [old, new].into_iter().flatten() {
                served.add(object)?;
            }
        }
    }

    fn add(&mut self, object: &Object) -> Option<()> {
        match &object.body {
            Body::EndpointSlice(_) => {
                let service = EndpointSlice::service(&object.meta);
                self.services.extend(service.map(|name| (object.key.namespace.clone(), name.to_owned())));
            }
            Body::Pod(_) => {
                self.pods.insert((object.key.namespace.clone(), object.key.name.clone()));
            }
            _ => return None,
        }
        Some(())
    }

    /// Whose endpoints may be others now: a Pod tells whose an endpoint is, and where.
    pub(crate) fn moved(mut self, before: &Index, after: &Index) -> Moved {
        if !self.pods.is_empty() {
            let is_of = |slice: &EndpointSlice| {
                slice.endpoints.iter().any(|endpoint| endpoint.pod.as_ref().is_some_and(|pod| self.pods.contains(pod)))
            };
            let moved: Vec<Name> =
                after.services_by_slice().filter(|(_, slice)| is_of(slice)).map(|(of, _)| of.clone()).collect();
            self.services.extend(moved);
        }
        Moved::new(self.services, self.pods, before, after)
    }
}
