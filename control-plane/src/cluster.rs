//! What is written to a Kubernetes cluster: objects that are applied, statuses, and what Gateway objects ask for.
//!
//! Reading is the sources' business. Of several replicas one writes, the one that holds the Lease (`election`).

mod apply;
mod election;
mod gateways;
mod merge;
pub(crate) mod peers;
mod statuses;

pub use apply::{Applier, name};
pub use gateways::Template;

use crate::pipeline::Live;
use election::Election;
use peers::Peers;
use statuses::Writer;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use weft_xds::server::Status;

/// The Lease that the one who writes holds.
const LEASE: &str = "weft-control-plane";

/// What a replica must know to write.
#[derive(Clone)]
pub struct Writing {
    pub client: kube::Client,
    /// Of the control plane.
    pub namespace: String,
    /// Which of the replicas this is: the pod's name.
    pub identity: String,
    pub gateways: Template,
}

/// Stands for election and writes when elected, until `shutdown`.
pub(crate) async fn run(
    writing: Writing,
    live: Arc<Live>,
    streams: Arc<Status>,
    monitoring: u16,
    shutdown: CancellationToken,
) {
    let Writing { client, namespace, identity, gateways } = writing;
    let election = Election::new(client.clone(), &namespace, LEASE, identity.clone());
    let leads = election.leads();
    let peers = Peers::new(client.clone(), &namespace, identity);
    let writer = Writer::new(client, live, streams, (peers, monitoring), gateways);
    tokio::join!(election.run(shutdown.clone()), writer.run(leads, shutdown));
}
