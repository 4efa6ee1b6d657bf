//! A proxy under comparison, as a run sees it: an address to send to, an access log, and how many hosts it has ejected.

mod control;
mod envoy;
mod ours;

pub(crate) use control::Control;
pub(crate) use envoy::Envoy;
pub(crate) use ours::Ours;

use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use weft_model::listener::{Binding, ChainMatch, Direction, FilterChain, Handler, HttpHandler, Listener};
use weft_testkit::{Client, eventually};

pub(crate) const ROUTE_TABLE: &str = "side";
const LISTENER: &str = "side";

pub(crate) struct Side {
    pub(crate) address: SocketAddr,
    log: PathBuf,
    admin: SocketAddr,
    make: Make,
}

#[derive(Clone, Copy)]
enum Make {
    Envoy,
    Ours,
}

impl Side {
    /// The access log's record of a request, by path and query; of several, the last.
    pub(crate) async fn record(&self, path: &str) -> Value {
        eventually(&format!("a record of {path} in {}", self.log.display()), async || {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            // the last line may be half written
            let (whole, _) = text.rsplit_once('\n')?;
            let named = whole.lines().rev().filter(|line| line.contains(path));
            let mut records = named.map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
            records.find(|record| record["path"] == path)
        })
        .await
    }

    /// How many hosts of the cluster are ejected now.
    pub(crate) async fn ejected(&self, cluster: &str) -> usize {
        match self.make {
            Make::Envoy => envoy::ejected(self.admin, cluster).await,
            Make::Ours => ours::ejected(self.admin, cluster).await,
        }
    }
}

/// The listener of both: as a sidecar's for its own workload.
fn listener(address: SocketAddr) -> Listener {
    let handler = Handler::Http(HttpHandler::new(ROUTE_TABLE));
    let chain = FilterChain { name: LISTENER.into(), matches: ChainMatch::default(), tls: None, handler };
    Listener {
        name: LISTENER.into(),
        address,
        binding: Binding::Socket,
        direction: Direction::Outbound,
        chains: vec![chain],
        detect_timeout: None,
    }
}

async fn admin(address: SocketAddr, path: &str) -> String {
    Client::http1(address).await.get("localhost", path).await.text()
}
