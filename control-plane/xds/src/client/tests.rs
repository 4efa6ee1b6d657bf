//! What happens when a sink says no.

use super::replica::Replica;
use super::{Held, Nack, Sink};
use crate::wire;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource as Wire};
use std::collections::BTreeMap;
use std::time::Duration;
use weft_model::node::Role;
use weft_model::{Cluster, Kind, Node, Resource};

/// Refuses what it is told to, and remembers the clusters that it obeys.
#[derive(Default)]
struct Fussy {
    /// When there is a cluster of this name, the other is blamed.
    refuses: Option<(&'static str, &'static str)>,
    obeys: Vec<(String, Duration)>,
}

impl Sink for Fussy {
    fn apply(&mut self, held: &Held) -> Result<(), Vec<Nack>> {
        let hurts =
            |(name, _): &(&str, &str)| held.cluster(name).is_some_and(|cluster| cluster.connect_timeout.as_secs() > 1);
        if let Some((_, blamed)) = self.refuses.filter(hurts) {
            return Err(vec![Nack { kind: Kind::Cluster, name: blamed.into(), reason: "is too slow".into() }]);
        }
        self.obeys = held.clusters().map(|cluster| (cluster.name.clone(), cluster.connect_timeout)).collect();
        Ok(())
    }
}

fn replica() -> Replica {
    let mut replica = Replica::new(&Node {
        role: Role::Gateway,
        address: "127.0.0.1".parse().unwrap(),
        pod: "edge-0".into(),
        namespace: "default".into(),
        workload: "edge".into(),
        labels: BTreeMap::new(),
        app_address: None,
        interception: false,
        locality: Default::default(),
    });
    replica.open();
    replica
}

fn clusters(names: &[&str], seconds: u64) -> DeltaDiscoveryResponse {
    let resources = names.iter().map(|name| {
        let mut cluster = Cluster::new(*name);
        cluster.connect_timeout = Duration::from_secs(seconds);
        cluster.discovery = weft_model::cluster::Discovery::Static(vec![]);
        let any = wire::encode(&Resource::Cluster(cluster));
        Wire { name: name.to_string(), version: wire::version(&any), resource: Some(any), ..Default::default() }
    });
    DeltaDiscoveryResponse {
        type_url: wire::type_url(Kind::Cluster).into(),
        nonce: "n".into(),
        resources: resources.collect(),
        ..Default::default()
    }
}

/// Each cluster's name and its connect timeout in seconds.
fn obeyed(sink: &Fussy) -> Vec<(&str, u64)> {
    sink.obeys.iter().map(|(name, timeout)| (name.as_str(), timeout.as_secs())).collect()
}

#[test]
fn what_the_sink_refuses_keeps_its_last_good_value_and_the_version_of_it() {
    let (mut replica, mut sink) = (replica(), Fussy::default());
    replica.receive(clusters(&["a", "b"], 1), &mut sink);
    let version = replica.saved()[Kind::Cluster]["a"].version.clone();
    sink.refuses = Some(("a", "a"));
    let answer = replica.receive(clusters(&["a", "b"], 5), &mut sink).remove(0);
    assert_eq!(answer.error_detail.unwrap().message, "a: is too slow");
    assert_eq!(obeyed(&sink), [("a", 1), ("b", 5)]);
    assert_eq!(replica.saved()[Kind::Cluster]["a"].version, version);
}

#[test]
fn what_the_sink_refuses_and_was_not_held_before_is_not_held() {
    let (mut replica, mut sink) = (replica(), Fussy { refuses: Some(("a", "a")), ..Fussy::default() });
    replica.receive(clusters(&["a", "b"], 5), &mut sink);
    assert_eq!(obeyed(&sink), [("b", 5)]);
}

#[test]
fn when_the_blamed_did_not_change_the_whole_response_is_refused_and_says_why() {
    let (mut replica, mut sink) = (replica(), Fussy::default());
    replica.receive(clusters(&["a", "b", "c"], 1), &mut sink);
    sink.refuses = Some(("a", "c"));
    let answer = replica.receive(clusters(&["a", "b"], 5), &mut sink).remove(0);
    let message = answer.error_detail.unwrap().message;
    assert!(message.contains("b: with this change, the data plane refuses CDS c: is too slow"), "{message}");
    assert_eq!(obeyed(&sink), [("a", 1), ("b", 1), ("c", 1)]);
}

mod on_demand;
