//! When nobody sends to an endpoint any more: the mesh has it no longer, and every data plane has acknowledged that.

use crate::cluster::peers::Peers;
use crate::publish::Publisher;
use futures_util::future::join_all;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use weft_xds::removal::{self, Scope};
use weft_xds::server::Status;

/// Often enough for those who go on for seconds, and seldom enough where many end among many.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What another replica's data planes may take; who asks is bounded by a deadline of its own.
const OTHERS_WITHIN: Duration = Duration::from_secs(60);

/// What this replica and the others know of it.
pub(crate) struct Removals {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) status: Arc<Status>,
    /// The other replicas, if this is one of several, and the port where they are asked.
    pub(crate) others: Option<(Mutex<Peers>, u16)>,
}

#[tonic::async_trait]
impl removal::Removals for Removals {
    async fn removed(&self, address: IpAddr, scope: Scope) {
        match (scope, &self.others) {
            (Scope::Mesh, Some((peers, port))) => {
                tokio::join!(self.removed_here(address), removed_there(address, peers, *port));
            }
            _ => self.removed_here(address).await,
        }
    }
}

impl Removals {
    async fn removed_here(&self, address: IpAddr) {
        let mut meshes = self.publisher.published();
        if meshes.wait_for(|mesh| !mesh.sends_to(address)).await.is_err() {
            return;
        }
        // Each has to be seen once: where there is always news, there is no moment in which all are done.
        let now = || self.status.behind(|node| self.publisher.now(node));
        let mut behind = now();
        while !behind.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
            let still = now();
            behind.retain(|stream| still.contains(stream));
        }
    }
}

async fn removed_there(address: IpAddr, peers: &Mutex<Peers>, port: u16) {
    let others = peers.lock().await.addresses().await.to_vec();
    let asked = others.into_iter().map(|other| async move {
        let control_plane = SocketAddr::new(other, port).to_string();
        // One that is gone has no data planes: they are connected to another, and have been given what is new.
        if let Err(why) = removal::removed(&control_plane, address, Scope::Replica, OTHERS_WITHIN).await {
            tracing::debug!(%other, "another replica: {why}");
        }
    });
    join_all(asked).await;
}
