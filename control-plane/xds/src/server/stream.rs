//! The driver: feeds one [`Session`] from its stream, its catalog and the clock.
//!
//! The stream of responses is what drives it: while the transport cannot take more, it is not polled,
//! reads no more requests, and so a client that does not listen is not listened to.

use super::session::{Answer, Session};
use super::set::ResourceSet;
use super::status::{Entry, shorten};
use super::{Catalog, Settings, Status as Registry};
use crate::wire;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_model::Node;

/// The aggregated discovery service.
pub struct Ads {
    catalog: Arc<dyn Catalog>,
    status: Arc<Registry>,
    settings: Settings,
}

impl Ads {
    pub(super) fn new(catalog: Arc<dyn Catalog>, status: Arc<Registry>, settings: Settings) -> Self {
        Ads { catalog, status, settings }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = BoxStream<'static, Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = BoxStream<'static, Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("ask for delta: set `api_type: DELTA_GRPC` in the client's ads_config"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        let Some(first) = requests.message().await? else { return Ok(Response::new(stream::empty().boxed())) };
        let node = node_of(&first)?;
        tracing::info!(node = node.id(), "data plane connected");
        let sets = self.catalog.subscribe(&node);
        let driver = Driver::new(requests, sets, self.status.enter(&node), &self.settings, node, first)?;
        Ok(Response::new(driver.into_stream().boxed()))
    }
}

fn node_of(first: &DeltaDiscoveryRequest) -> Result<Node, Status> {
    let Some(node) = &first.node else {
        return Err(Status::invalid_argument("the first request of a stream must carry a node"));
    };
    wire::node::decode(node).map_err(|error| Status::invalid_argument(error.to_string()))
}

struct Driver {
    requests: Streaming<DeltaDiscoveryRequest>,
    sets: watch::Receiver<Arc<ResourceSet>>,
    session: Session,
    ready: VecDeque<DeltaDiscoveryResponse>,
    entry: Entry,
    node: Node,
    shutdown: CancellationToken,
    ended: bool,
}

enum Event {
    Request(Box<Result<Option<DeltaDiscoveryRequest>, Status>>),
    Set(Result<(), watch::error::RecvError>),
    Timer,
    Shutdown,
}

impl Driver {
    fn new(
        requests: Streaming<DeltaDiscoveryRequest>,
        mut sets: watch::Receiver<Arc<ResourceSet>>,
        entry: Entry,
        settings: &Settings,
        node: Node,
        first: DeltaDiscoveryRequest,
    ) -> Result<Driver, Status> {
        let session = Session::new(Arc::clone(&sets.borrow_and_update()), settings.patience);
        let asks_by_name = first.node.as_ref().is_some_and(wire::node::is_on_demand);
        let session = if asks_by_name { session.on_demand() } else { session };
        let shutdown = settings.shutdown.clone();
        let mut driver =
            Driver { requests, sets, session, ready: VecDeque::new(), entry, node, shutdown, ended: false };
        driver.receive(first)?;
        Ok(driver)
    }

    fn into_stream(self) -> impl Stream<Item = Result<DeltaDiscoveryResponse, Status>> {
        stream::unfold(self, |mut driver| async move {
            let response = driver.next().await?;
            driver.ended = response.is_err();
            Some((response, driver))
        })
    }

    /// The next response; `None` when the client has gone.
    async fn next(&mut self) -> Option<Result<DeltaDiscoveryResponse, Status>> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Some(Ok(response));
            }
            let outcome = match self.event().await {
                Event::Request(request) => match *request {
                    Ok(Some(request)) => self.receive(request),
                    Ok(None) => return None,
                    Err(status) => Err(status),
                },
                Event::Set(Ok(())) => {
                    let set = Arc::clone(&self.sets.borrow_and_update());
                    self.session.want(set);
                    self.advance(None);
                    Ok(())
                }
                Event::Timer => {
                    self.advance(None);
                    Ok(())
                }
                Event::Set(Err(_)) | Event::Shutdown => {
                    Err(Status::unavailable("the control plane is going; come again"))
                }
            };
            if let Err(status) = outcome {
                return Some(Err(status));
            }
        }
    }

    async fn event(&mut self) -> Event {
        let wake_at = self.session.wake_at(Instant::now().into_std());
        let timer = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = self.requests.message() => Event::Request(Box::new(request)),
            set = self.sets.changed() => Event::Set(set),
            () = timer => Event::Timer,
            () = self.shutdown.cancelled() => Event::Shutdown,
        }
    }

    fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let type_url = request.type_url.clone();
        let answer =
            self.session.receive(request).map_err(|refused| Status::resource_exhausted(refused.to_string()))?;
        match &answer {
            None => tracing::debug!(node = self.node.id(), type_url, "a type that is not ours was asked for"),
            Some((kind, Answer::Nack { names, text })) => {
                tracing::warn!(node = self.node.id(), %kind, ?names, "data plane rejects: {}", shorten(text));
            }
            Some(_) => {}
        }
        self.advance(answer);
        Ok(())
    }

    fn advance(&mut self, answer: Option<(weft_model::Kind, Answer)>) {
        self.ready.extend(self.session.next(Instant::now().into_std()));
        self.entry.update(&self.session, answer.as_ref().map(|(kind, answer)| (*kind, answer)));
    }
}
