//! Opaque TCP: a connection goes to an endpoint as it is.

use crate::connect::{self, Speaks};
use crate::connection::Arrival;
use crate::live::{InFlight, LiveCluster};
use crate::rejection::Rejection;
use crate::snapshot::LiveListener;
use crate::transport::Transport;
use crate::tunnel::{self, Traffic};
use crate::upstream::Counted;
use crate::wire::Wire;
use crate::worker::{Worker, WorkerEndpoint};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_model::breaker::Priority;
use weft_model::cluster::Discovery;
use weft_model::listener::TcpHandler;
use weft_policy::balance::{Pick, Split};
use weft_policy::outlier::Outcome;

/// Endpoints that are tried before the caller is let down.
const MAX_ATTEMPTS: usize = 3;
/// Picks that may be passed over for one that was not tried (Istio's default).
const REPICKS: u32 = 5;

/// How a TCP connection went, for its record.
pub(crate) struct Passage<'a> {
    pub(crate) listener: &'a LiveListener,
    pub(crate) arrival: &'a Arrival,
    pub(crate) cluster_name: &'a str,
    pub(crate) cluster: Option<&'a LiveCluster>,
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
    wire: Wire<impl AsyncRead + AsyncWrite + Unpin>,
    arrival: Arrival,
) {
    let split = Split::new(handler.clusters.iter().map(|cluster| cluster.weight));
    let Some(chosen) = split.pick(&mut worker.dice.borrow_mut()) else { return };
    let cluster_name = handler.clusters[chosen].name.as_str();
    let cluster = worker.snapshot().clusters.get(cluster_name).cloned();
    let mut passage = Passage {
        listener,
        arrival: &arrival,
        cluster_name,
        cluster: cluster.as_deref(),
        host: None,
        began: Instant::now(),
        traffic: Traffic::default(),
        rejection: None,
    };
    match open(worker, cluster_name, cluster.as_ref(), &arrival).await {
        Err(rejection) => passage.rejection = Some(rejection),
        Ok((host, upstream, _counted)) => {
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
    cluster_name: &str,
    cluster: Option<&Arc<LiveCluster>>,
    arrival: &Arrival,
) -> Result<(Rc<WorkerEndpoint>, Transport, Counted), Rejection> {
    let cluster = cluster.ok_or_else(|| Rejection::NoCluster(cluster_name.to_owned()))?;
    if cluster.spec.discovery == Discovery::OriginalDestination {
        return go_on(worker, cluster, arrival).await;
    }
    let mut tried: SmallVec<[usize; MAX_ATTEMPTS]> = SmallVec::new();
    loop {
        let met = |place: usize| tried.contains(&place);
        let wish = Pick { avoid: (!tried.is_empty()).then_some(&met), attempts: REPICKS, ..Pick::default() };
        let (endpoint, place) = {
            let picked = cluster.pick(&wish, Instant::now(), &mut worker.dice.borrow_mut());
            let picked = picked.map_err(|why| Rejection::NoHealthyUpstream(cluster.spec.name.clone(), why))?;
            (picked.endpoint.clone(), picked.place)
        };
        cluster.state.called();
        let counted = Counted::take(cluster, &endpoint, Priority::Default).map_err(Rejection::Overflow)?;
        let connected = connect::open(cluster, endpoint.address, Speaks::Anything).await;
        let outcome = if connected.is_ok() { Outcome::Connected } else { Outcome::ConnectFailed };
        cluster.report(place, outcome, Instant::now(), &mut worker.dice.borrow_mut());
        match connected {
            Ok(stream) => return Ok((worker.endpoint(cluster, &endpoint), stream, counted)),
            Err(error) if tried.len() + 1 == MAX_ATTEMPTS => return Err(Rejection::not_connected(error)),
            Err(_) => tried.push(place),
        }
    }
}

/// A connection to where the caller's was going.
async fn go_on(
    worker: &Rc<Worker>,
    cluster: &Arc<LiveCluster>,
    arrival: &Arrival,
) -> Result<(Rc<WorkerEndpoint>, Transport, Counted), Rejection> {
    let address = arrival.destination.ok_or_else(|| Rejection::not_redirected(arrival.local))?;
    let host = worker.passthrough(cluster, address);
    cluster.state.called();
    let counted = Counted::take(cluster, &host.endpoint, Priority::Default).map_err(Rejection::Overflow)?;
    let stream = connect::open(cluster, address, Speaks::Anything).await.map_err(Rejection::not_connected)?;
    Ok((host, stream, counted))
}
