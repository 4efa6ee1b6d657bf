//! Make before break for who asks for clusters by name: a table that is in service waits for the clusters of its successor.
//!
//! Such a client learns that there is a new cluster from the table that routes to it. To obey that table at once would be to refuse
//! its requests until the cluster has come. The first table of its name does not wait: there is nothing that could serve meanwhile.

use super::{Change, Replica};
use crate::client::held;
use std::collections::{BTreeMap, BTreeSet};
use weft_model::cluster::Discovery;
use weft_model::{Kind, Resource, RouteTable};

impl Replica {
    /// The changes that may go live, those that waited for them among them.
    pub(super) fn defer(&mut self, changes: Vec<Change>) -> Vec<Change> {
        let (successors, mut ready): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.kind == Kind::RouteTable);
        for change in successors {
            self.deferred.insert(change.name.clone(), change);
        }
        let all = std::mem::take(&mut self.deferred);
        let (waiting, free): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(_, change)| self.waits(change, &ready));
        ready.extend(free.into_values());
        self.deferred = waiting;
        ready
    }

    fn waits(&self, change: &Change, coming: &[Change]) -> bool {
        let is_first = self.state.held.route_table(&change.name).is_none();
        let Some(table) = table(change).filter(|_| !is_first) else { return false };
        held::targets(table).any(|cluster| !self.is_warm(cluster, coming))
    }

    /// Whether a cluster and its endpoints are there, or said not to exist.
    fn is_warm(&self, name: &str, coming: &[Change]) -> bool {
        let find = |kind: Kind| {
            let comes = coming.iter().find(|change| change.kind == kind && change.name == name);
            match comes {
                Some(change) => change.value.as_ref().map(|(resource, _)| resource),
                None => self.state.held.get(kind, name),
            }
        };
        let is_there = |kind: Kind| find(kind).is_some() || self.absent[kind].contains(name);
        match find(Kind::Cluster).map(|resource| &**resource) {
            Some(Resource::Cluster(cluster)) => cluster.discovery != Discovery::Eds || is_there(Kind::Endpoints),
            _ => is_there(Kind::Cluster),
        }
    }
}

fn table(change: &Change) -> Option<&RouteTable> {
    match &*change.value.as_ref()?.0 {
        Resource::RouteTable(table) => Some(table),
        _ => None,
    }
}

/// The clusters that are waited for, and those that will be needed with them.
pub(super) fn targets(deferred: &BTreeMap<String, Change>) -> BTreeSet<String> {
    deferred.values().filter_map(table).flat_map(held::targets).map(String::from).collect()
}
