//! Our client as a scripted control plane sees it.

use crate::kit::{Running, cluster, listener, revision, table, within};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as Wire,
};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use weft_model::{Kind, Resource};
use weft_xds::wire;

/// One stream that a client opened.
struct Stream {
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

struct Script(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Script {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, queue) = mpsc::channel(8);
        self.0.send(Stream { requests: request.into_inner(), responses }).await.map_err(|_| Status::unavailable(""))?;
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

impl Stream {
    async fn hear(&mut self) -> DeltaDiscoveryRequest {
        within(self.requests.message()).await.unwrap().expect("the client goes on")
    }

    async fn say(&self, nonce: &str, kind: Kind, resources: Vec<Wire>, removed: &[&str]) {
        let response = DeltaDiscoveryResponse {
            type_url: wire::type_url(kind).into(),
            nonce: nonce.into(),
            resources,
            removed_resources: removed.iter().map(|name| name.to_string()).collect(),
            ..Default::default()
        };
        self.responses.send(Ok(response)).await.unwrap();
    }
}

async fn script() -> (SocketAddr, mpsc::Receiver<Stream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, streams) = mpsc::channel(1);
    let server = tonic::transport::Server::builder().add_service(AggregatedDiscoveryServiceServer::new(Script(sender)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, streams)
}

fn encoded(resource: &Resource) -> Wire {
    let any = wire::encode(resource);
    Wire { name: resource.name().into(), version: wire::version(&any), resource: Some(any), ..Default::default() }
}

fn kind_of(request: &DeltaDiscoveryRequest) -> Kind {
    wire::kind(&request.type_url).unwrap()
}

#[tokio::test]
async fn names_are_subscribed_to_while_something_refers_to_them() {
    let (address, mut streams) = script().await;
    let mut client = Running::start(address, "a", None);
    let mut stream = within(streams.recv()).await.unwrap();
    let clusters = stream.hear().await;
    assert_eq!(kind_of(&clusters), Kind::Cluster);
    assert_eq!(clusters.node.as_ref().unwrap().id, "sidecar~127.0.1.2~a.default~default.svc.cluster.local");
    assert!(clusters.resource_names_subscribe.is_empty(), "a wildcard");
    assert_eq!(kind_of(&stream.hear().await), Kind::Listener);

    stream.say("1", Kind::Cluster, vec![encoded(&cluster("a")), encoded(&cluster("b"))], &[]).await;
    assert_eq!(stream.hear().await.response_nonce, "1");
    let members = stream.hear().await;
    assert_eq!((kind_of(&members), members.resource_names_subscribe), (Kind::Endpoints, vec!["a".into(), "b".into()]));

    stream.say("2", Kind::Cluster, vec![], &["a"]).await;
    assert_eq!(stream.hear().await.response_nonce, "2");
    let members = stream.hear().await;
    assert_eq!((kind_of(&members), members.resource_names_unsubscribe), (Kind::Endpoints, vec!["a".into()]));

    stream.say("3", Kind::Listener, vec![encoded(&listener("edge"))], &[]).await;
    assert_eq!(stream.hear().await.response_nonce, "3");
    let routes = stream.hear().await;
    assert_eq!((kind_of(&routes), routes.resource_names_subscribe), (Kind::RouteTable, vec!["edge".into()]));
    let held = client.holds(|held| held.len(Kind::Listener) == 1).await;
    assert_eq!(held.missing(), [(Kind::Endpoints, "b".to_string()), (Kind::RouteTable, "edge".to_string())]);
    assert!(!*client.ready.borrow());

    stream.say("4", Kind::RouteTable, vec![encoded(&table("edge", "one"))], &[]).await;
    stream.say("5", Kind::Endpoints, vec![], &["b"]).await;
    within(client.ready.wait_for(|ready| *ready)).await.unwrap();
    client.stop().await;
}

#[tokio::test]
async fn what_cannot_be_decoded_is_rejected_by_name_and_path_and_the_rest_is_kept() {
    let (address, mut streams) = script().await;
    let mut client = Running::start(address, "a", None);
    let mut stream = within(streams.recv()).await.unwrap();
    stream.hear().await;
    stream.hear().await;
    let mut wrong = encoded(&cluster("wrong"));
    wrong.resource.as_mut().unwrap().value = vec![0xff; 7];
    let misnamed = Wire { name: "alias".into(), ..encoded(&cluster("other")) };
    stream.say("1", Kind::Cluster, vec![encoded(&cluster("good")), wrong, misnamed], &[]).await;
    let answer = stream.hear().await;
    assert_eq!(answer.response_nonce, "1");
    let error = answer.error_detail.unwrap();
    assert!(error.message.contains("wrong: no envoy.config.cluster.v3.Cluster"), "{}", error.message);
    assert!(error.message.contains("alias: holds the CDS \"other\""), "{}", error.message);
    assert_eq!(error.details.len(), 2);
    let held = client.holds(|held| held.len(Kind::Cluster) > 0).await;
    assert_eq!(held.clusters().map(|cluster| cluster.name.as_str()).collect::<Vec<_>>(), ["good"]);
    client.stop().await;
}

#[tokio::test]
async fn a_new_stream_says_what_is_held() {
    let (address, mut streams) = script().await;
    let mut client = Running::start(address, "a", None);
    let mut stream = within(streams.recv()).await.unwrap();
    stream.hear().await;
    stream.hear().await;
    let (edge, routes) = (encoded(&listener("edge")), encoded(&table("edge", "one")));
    stream.say("1", Kind::Listener, vec![edge.clone()], &[]).await;
    stream.say("2", Kind::RouteTable, vec![routes.clone()], &[]).await;
    client.holds(|held| revision(held, "edge").is_some()).await;
    drop(stream);

    let mut stream = within(streams.recv()).await.unwrap();
    assert!(stream.hear().await.initial_resource_versions.is_empty(), "no clusters were held");
    let listeners = stream.hear().await;
    assert_eq!(listeners.initial_resource_versions, [(edge.name, edge.version)].into());
    let tables = stream.hear().await;
    assert_eq!(tables.resource_names_subscribe, ["edge"]);
    assert_eq!(tables.initial_resource_versions, [(routes.name, routes.version)].into());
    client.stop().await;
}
