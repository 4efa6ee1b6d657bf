//! When an endpoint is out of every data plane: asked by one that ends, answered by its control plane.
//!
//! A pod that ends is known to its callers for a while yet: until the control plane has heard of it, has pushed that, and they have
//! obeyed. Only the control plane sees all three. Envoy's protocols have no word for it, so this one is Weft's own:
//! `weft.v1.EndpointRemoval/Await` is answered when it is so, and the caller's deadline bounds how long that may take.

use crate::client::{endpoint, with_causes};
use futures_util::future::BoxFuture;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

const SERVICE: &str = "weft.v1.EndpointRemoval";
const AWAIT: &str = "/weft.v1.EndpointRemoval/Await";
/// Longer than a pod is given to end by people who mean it.
const MOST: Duration = Duration::from_secs(120);

/// Whose callers are asked about.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Question {
    /// An IP address.
    #[prost(string, tag = "1")]
    address: String,
    /// Only the data planes that are connected to the replica that is asked.
    #[prost(bool, tag = "2")]
    this_replica_only: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Answer {}

/// How far a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The data planes of all replicas.
    Mesh,
    /// Those connected to the replica that is asked.
    Replica,
}

/// Who knows what the data planes hold.
#[tonic::async_trait]
pub trait Removals: Send + Sync + 'static {
    /// Returns once no data plane sends anything new to endpoints of this address.
    async fn removed(&self, address: IpAddr, scope: Scope);
}

/// Returns once no data plane of this control plane sends anything new to endpoints of that address. Errors: why it cannot be
/// said within that time.
pub async fn removed(control_plane: &str, address: IpAddr, scope: Scope, within: Duration) -> Result<(), String> {
    let not_within = || format!("not within {within:?}");
    let asked = async {
        let unusable = |error: tonic::transport::Error| with_causes(&error);
        let channel = endpoint(control_plane).map_err(unusable)?.connect().await.map_err(unusable)?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(unusable)?;
        let question = Question { address: address.to_string(), this_replica_only: scope == Scope::Replica };
        let mut request = Request::new(question);
        request.set_timeout(within);
        let codec = ProstCodec::<Question, Answer>::default();
        match grpc.unary(request, PathAndQuery::from_static(AWAIT), codec).await {
            Ok(_) => Ok(()),
            Err(status) => Err(match status.code() {
                Code::Unimplemented => "the control plane does not know".into(),
                Code::Cancelled | Code::DeadlineExceeded => not_within(),
                code => format!("{code:?}: {}", status.message()),
            }),
        }
    };
    tokio::time::timeout(within, asked).await.unwrap_or_else(|_| Err(not_within()))
}

/// The tonic service.
#[derive(Clone)]
pub struct EndpointRemoval(Arc<dyn Removals>);

impl EndpointRemoval {
    pub fn new(removals: Arc<dyn Removals>) -> Self {
        EndpointRemoval(removals)
    }
}

impl NamedService for EndpointRemoval {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for EndpointRemoval {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Await(self.0.clone());
        Box::pin(async move {
            if request.uri().path() != AWAIT {
                return Ok(Status::unimplemented("there is only Await").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).unary(method, request).await)
        })
    }
}

struct Await(Arc<dyn Removals>);

impl Service<Request<Question>> for Await {
    type Response = Response<Answer>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Answer>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Question>) -> Self::Future {
        let removals = self.0.clone();
        Box::pin(async move {
            let Question { address, this_replica_only } = request.into_inner();
            let Ok(address) = address.parse() else {
                return Err(Status::invalid_argument(format!("address: {address:?} is no IP address")));
            };
            let scope = if this_replica_only { Scope::Replica } else { Scope::Mesh };
            match tokio::time::timeout(MOST, removals.removed(address, scope)).await {
                Ok(()) => Ok(Response::new(Answer {})),
                Err(_) => Err(Status::deadline_exceeded(format!("some data plane has not obeyed within {MOST:?}"))),
            }
        })
    }
}
