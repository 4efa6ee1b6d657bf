//! The other replicas, and what they know: a data plane is connected to one of them, and only that one hears its acknowledgements.
//!
//! For statuses they are asked at their monitoring ports, all at once and with little patience: one that is just being replaced must
//! not hold up the statuses of the whole cluster, and its data planes come to another one soon.

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use weft_xds::server::NodeStatus;

/// Their Deployment's, in the manifests.
const LABELS: &str = "app=weft-control-plane";
/// How often it is looked who they are.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(1);
/// Some thousand gateways.
const MOST_BYTES: usize = 8 << 20;

pub(crate) struct Peers {
    api: Api<Pod>,
    /// This replica's pod.
    own: String,
    addresses: Vec<IpAddr>,
    looked: Option<Instant>,
}

impl Peers {
    /// Of the control plane in that namespace.
    pub(crate) fn new(client: Client, namespace: &str, own: String) -> Peers {
        let api = Api::namespaced(client, namespace);
        Peers { api, own, addresses: Vec::new(), looked: None }
    }

    /// Where the others are. All of them listen on the same ports.
    pub(crate) async fn addresses(&mut self) -> &[IpAddr] {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.look().await;
        }
        &self.addresses
    }

    /// The gateways that are connected to the others, who tell it at this port.
    pub(super) async fn gateways(&mut self, monitoring: u16) -> Vec<NodeStatus> {
        let addresses = self.addresses().await.iter().map(|ip| SocketAddr::new(*ip, monitoring));
        let answers = join_all(addresses.map(|address| async move {
            match tokio::time::timeout(PATIENCE, ask(address)).await {
                Ok(Ok(nodes)) => nodes,
                Ok(Err(error)) => {
                    tracing::debug!(%address, "another replica: {error:#}");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            }
        }));
        answers.await.into_iter().flatten().collect()
    }

    async fn look(&mut self) {
        self.looked = Some(Instant::now());
        match self.api.list(&ListParams::default().labels(LABELS)).await {
            Ok(pods) => {
                let others = pods.items.into_iter().filter(|pod| pod.metadata.name.as_deref() != Some(&self.own));
                self.addresses = others.filter_map(|pod| pod.status?.pod_ip?.parse().ok()).collect();
            }
            Err(error) => tracing::debug!("the other replicas cannot be listed: {error}"),
        }
    }
}

async fn ask(address: SocketAddr) -> anyhow::Result<Vec<NodeStatus>> {
    let stream = TcpStream::connect(address).await.context("no connection")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/debug/syncz?role=gateway").header(header::HOST, address.to_string());
    let asked = async move {
        let response = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
        if response.status() != StatusCode::OK {
            bail!("{}", response.status());
        }
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        serde_json::from_slice(&body).context("its answer")
    };
    // the connection ends with the answer
    let (nodes, _) = tokio::join!(asked, async { connection.await.ok() });
    nodes
}
