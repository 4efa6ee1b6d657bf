//! Our server as a bare tonic client sees it.

use crate::kit::{Server, cluster, endpoints, listener, node, small, table, within};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use std::net::SocketAddr;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use weft_model::Kind;
use weft_xds::wire;

struct Raw {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Raw {
    async fn open(address: SocketAddr, first: DeltaDiscoveryRequest) -> Result<Raw, Status> {
        let mut service = AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.unwrap();
        let (requests, queue) = mpsc::channel(8);
        requests.send(first).await.unwrap();
        let responses = within(service.delta_aggregated_resources(ReceiverStream::new(queue))).await?.into_inner();
        Ok(Raw { requests, responses })
    }

    async fn ask(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn ack(&self, response: &DeltaDiscoveryResponse) {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.ask(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }).await;
    }

    async fn next(&mut self) -> DeltaDiscoveryResponse {
        within(self.responses.message()).await.unwrap().expect("the stream goes on")
    }

    /// The next response, acknowledged: `CDS +a -b`.
    async fn take(&mut self) -> String {
        let response = self.next().await;
        self.ack(&response).await;
        let kind = wire::kind(&response.type_url).unwrap();
        let added = response.resources.iter().map(|resource| format!(" +{}", resource.name));
        let removed = response.removed_resources.iter().map(|name| format!(" -{name}"));
        format!("{kind}{}", added.chain(removed).collect::<String>())
    }
}

fn ask(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: wire::type_url(kind).into(),
        resource_names_subscribe: names.iter().map(|name| name.to_string()).collect(),
        ..Default::default()
    }
}

fn hello(kind: Kind) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node: Some(wire::node::encode(&node("a"))), ..ask(kind, &[]) }
}

#[tokio::test]
async fn a_change_is_made_before_what_it_replaces_is_broken() {
    let server = Server::start().await;
    server.shelf.put("a", small("to order"));
    let mut raw = Raw::open(server.address, hello(Kind::Cluster)).await.unwrap();
    assert_eq!(raw.take().await, "CDS +order");
    raw.ask(ask(Kind::Endpoints, &["order"])).await;
    assert_eq!(raw.take().await, "EDS +order");
    raw.ask(ask(Kind::Listener, &[])).await;
    assert_eq!(raw.take().await, "LDS +edge");
    raw.ask(ask(Kind::RouteTable, &["edge"])).await;
    assert_eq!(raw.take().await, "RDS +edge");

    let other = [cluster("order-v2"), endpoints("order-v2", &[8081]), listener("edge"), table("edge", "to order-v2")];
    server.shelf.put("a", other.into());
    assert_eq!(raw.take().await, "CDS +order-v2");
    raw.ask(ask(Kind::Endpoints, &["order-v2"])).await;
    assert_eq!(raw.take().await, "EDS +order-v2");
    assert_eq!(raw.take().await, "RDS +edge");
    assert_eq!(raw.take().await, "CDS -order");
    assert_eq!(raw.take().await, "EDS -order");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_resumes_is_not_sent_what_it_holds() {
    let server = Server::start().await;
    server.shelf.put("a", small("one"));
    let mut raw = Raw::open(server.address, hello(Kind::Cluster)).await.unwrap();
    let first = raw.next().await;
    let versions = first.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone()));
    let resumed = DeltaDiscoveryRequest { initial_resource_versions: versions.collect(), ..hello(Kind::Cluster) };
    let mut again = Raw::open(server.address, resumed).await.unwrap();
    assert_eq!(again.take().await, "CDS");
    server.stop().await;
}

#[tokio::test]
async fn a_foreign_node_is_refused_in_words() {
    let server = Server::start().await;
    let foreign = core::Node { id: "my-envoy".into(), ..Default::default() };
    let first = DeltaDiscoveryRequest { node: Some(foreign), ..ask(Kind::Cluster, &[]) };
    let status = Raw::open(server.address, first).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("node.id: `my-envoy`: has 1 parts; write role~address~"), "{status}");
    let status = Raw::open(server.address, ask(Kind::Cluster, &[])).await.err().unwrap();
    assert_eq!(status.message(), "the first request of a stream must carry a node");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_leaves_the_status_when_it_ends() {
    let server = Server::start().await;
    server.shelf.put("a", small("one"));
    let raw = Raw::open(server.address, hello(Kind::Cluster)).await.unwrap();
    let status = server.status_of("a", |status| status.kinds.contains_key("CDS")).await;
    assert_eq!((status.kinds["CDS"].sent, status.kinds["CDS"].acked, status.in_sync), (1, 0, false));
    drop(raw);
    within(async {
        while !server.status.snapshot().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.stop().await;
}
