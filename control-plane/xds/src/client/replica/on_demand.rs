//! What is held because traffic wants it.

use super::{Change, Replica};
use crate::client::Sink;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use std::collections::BTreeSet;
use weft_model::Kind;
use weft_model::listener::{Binding, Direction};

impl Replica {
    /// Asks for these listeners and no others of their sort; those that nobody wants any more are let go, with all that only they needed.
    pub(in crate::client) fn demand(
        &mut self,
        names: BTreeSet<String>,
        sink: &mut impl Sink,
    ) -> Vec<DeltaDiscoveryRequest> {
        let Some(demanded) = &mut self.demanded else { return Vec::new() };
        let before = std::mem::replace(demanded, names.clone());
        let held = |name: &&String| self.state.held.get(Kind::Listener, name).is_some();
        let gone = before.difference(&names).filter(held);
        let gone: Vec<Change> =
            gone.map(|name| Change { kind: Kind::Listener, name: name.clone(), value: None }).collect();
        if !gone.is_empty() {
            for nack in self.apply(gone, sink) {
                tracing::error!("{} \"{}\" cannot be let go of: {}", nack.kind, nack.name, nack.reason);
            }
        }
        self.resubscribe(Kind::Listener).into_iter().chain(self.follow()).collect()
    }

    /// The names that the control plane has spoken of, once all that they need is there.
    pub(in crate::client) fn spoken_of(&self) -> Option<BTreeSet<String>> {
        if !self.is_complete() {
            return None;
        }
        Some(self.subscribed[Kind::Listener].clone())
    }

    /// What was wanted before this process was started.
    pub(in crate::client) fn wanted_before(&self) -> BTreeSet<String> {
        let held = self.state.held.listeners();
        let on_demand =
            held.filter(|listener| listener.binding == Binding::Handed && listener.direction == Direction::Outbound);
        on_demand.map(|listener| listener.name.clone()).collect()
    }
}
