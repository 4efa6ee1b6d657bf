//! Opaque TCP: a connection goes to an endpoint as it is.

use crate::connect::connect;
use crate::connection::Arrival;
use crate::live::{EndpointId, InFlight, LiveCluster};
use crate::rejection::Rejection;
use crate::snapshot::LiveListener;
use crate::tunnel::{self, Traffic};
use crate::wire::Wire;
use crate::worker::{Worker, WorkerEndpoint};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use weft_model::listener::TcpHandler;

/// Endpoints that are tried before the caller is let down.
const MAX_ATTEMPTS: usize = 3;

/// How a TCP connection went, for its record.
pub(crate) struct Passage<'a> {
    pub(crate) listener: &'a LiveListener,
    pub(crate) arrival: &'a Arrival,
    pub(crate) cluster: &'a str,
    pub(crate) host: Option<Rc<WorkerEndpoint>>,
    pub(crate) began: Instant,
    pub(crate) traffic: Traffic,
    pub(crate) rejection: Option<Rejection>,
}

/// Serves one TCP connection to its end.
pub(crate) async fn proxy(
    worker: &Rc<Worker>,
    listener: &Arc<LiveListener>,
    handler: &TcpHandler,
    cluster: Option<Arc<LiveCluster>>,
    wire: Wire<impl AsyncRead + AsyncWrite + Unpin>,
    arrival: Arrival,
) {
    let mut passage = Passage {
        listener,
        arrival: &arrival,
        cluster: &handler.cluster,
        host: None,
        began: Instant::now(),
        traffic: Traffic::default(),
        rejection: None,
    };
    match open(worker, handler, cluster).await {
        Err(rejection) => passage.rejection = Some(rejection),
        Ok((host, upstream)) => {
            let _in_flight = InFlight::at(&host.endpoint);
            worker.telemetry.tcp_opened(listener, &host);
            passage.host = Some(host);
            tunnel::run(wire, upstream, handler.idle_timeout, &passage.traffic).await;
        }
    }
    worker.telemetry.record_tcp(&passage);
}

/// A connection to an endpoint, the next one when the first does not answer.
async fn open(
    worker: &Rc<Worker>,
    handler: &TcpHandler,
    cluster: Option<Arc<LiveCluster>>,
) -> Result<(Rc<WorkerEndpoint>, TcpStream), Rejection> {
    let cluster = cluster.ok_or_else(|| Rejection::NoCluster(handler.cluster.clone()))?;
    let mut tried: SmallVec<[EndpointId; MAX_ATTEMPTS]> = SmallVec::new();
    loop {
        let endpoint = cluster.pick(&mut worker.dice.borrow_mut(), &tried).cloned();
        let endpoint = endpoint.ok_or_else(|| Rejection::NoHealthyUpstream(cluster.spec.name.clone()))?;
        match connect(endpoint.address, cluster.spec.connect_timeout).await {
            Ok(stream) => return Ok((worker.endpoint(&cluster, &endpoint), stream)),
            Err(error) if tried.len() + 1 == MAX_ATTEMPTS => return Err(Rejection::not_connected(error)),
            Err(_) => tried.push(endpoint.id),
        }
    }
}
