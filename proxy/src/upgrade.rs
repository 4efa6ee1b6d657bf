//! Requests that turn their connection into a tunnel: `Upgrade` (WebSocket) and `CONNECT`.

use crate::attempt::Attempt;
use crate::body::RequestBody;
use crate::connect::{self, Speaks};
use crate::exchange::{Exchange, Failure, Verdict};
use crate::forward::{address, next_attempt, prepare, resolve};
use crate::head;
use crate::http1::Lease;
use crate::live::LiveCluster;
use crate::rejection::Rejection;
use crate::reply::{answered, refuse};
use crate::response::ResponseBody;
use crate::source::Source;
use crate::telemetry::flags::Flag;
use crate::transport::Transport;
use crate::tunnel::{self, End, Traffic};
use crate::upstream::{Counted, Wanted};
use crate::worker::WorkerEndpoint;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::rc::Rc;
use std::time::Instant;
use weft_model::cluster::Discovery;

/// An upgrade that may pass.
pub(crate) struct Upgrade {
    protocol: HeaderValue,
    caller: OnUpgrade,
}

/// The upgrade that a request asks for, if it asks for one.
pub(crate) fn wanted(exchange: &Exchange, parts: &mut request::Parts) -> Result<Option<Upgrade>, Rejection> {
    if !exchange.found.upgrade {
        return Ok(None);
    }
    let Some(protocol) = head::upgrade(&parts.headers).cloned() else { return Ok(None) };
    let Some(caller) = parts.extensions.remove::<OnUpgrade>() else { return Ok(None) };
    if allows(exchange, protocol.as_bytes()) {
        return Ok(Some(Upgrade { protocol, caller }));
    }
    // An offer to speak HTTP/2 may simply be declined.
    if protocol.as_bytes().eq_ignore_ascii_case(b"h2c") { Ok(None) } else { Err(Rejection::UpgradeRefused) }
}

fn allows(exchange: &Exchange, protocol: &[u8]) -> bool {
    let allowed = &exchange.connection.handler().upgrades;
    allowed.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(protocol))
}

/// Passes an upgrade through: the upstream says whether it agrees.
pub(crate) async fn forward(
    mut exchange: Box<Exchange>,
    mut parts: request::Parts,
    body: Incoming,
    upgrade: Upgrade,
) -> Response<ResponseBody> {
    match prepare(&mut exchange, &mut parts) {
        Ok(false) => {}
        Ok(true) => return refuse(exchange, Rejection::UpgradeRefused),
        Err(rejection) => return refuse(exchange, rejection),
    }
    if let Err(rejection) = address(&exchange, &mut parts, false) {
        return refuse(exchange, rejection);
    }
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, upgrade.protocol.clone());
    let (host, cluster) = match (next_attempt(&mut exchange, &parts).await, exchange.cluster()) {
        (Ok(host), Ok(cluster)) => (host, cluster.clone()),
        (Err(rejection), _) | (_, Err(rejection)) => return refuse(exchange, rejection),
    };
    let mut lease = match fresh(&mut exchange, &host, &cluster).await {
        Ok(lease) => lease,
        Err(rejection) => return refuse(exchange, rejection),
    };
    let mut body = Some(RequestBody::new(body, &exchange.meter));
    let mut response = match lease.send(&mut parts, &mut body).await {
        Ok(response) => response,
        Err(error) => return refuse(exchange, Rejection::broken(&error)),
    };
    exchange.heard(&response);
    let agreed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(header::UPGRADE).cloned();
    head::prepare_response(&mut response);
    answered(&mut exchange, &mut response);
    if !agreed {
        return response.map(|()| ResponseBody::new(Source::Leased(lease), exchange, None, None));
    }
    let (upstream, ahead, counted) = lease.into_transport();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol.unwrap_or(upgrade.protocol));
    join(exchange, upgrade.caller, upstream, ahead, counted);
    response.map(|_| ResponseBody::empty())
}

/// A connection that will belong to this exchange for ever.
async fn fresh(exchange: &mut Exchange, host: &WorkerEndpoint, cluster: &LiveCluster) -> Result<Box<Lease>, Rejection> {
    let priority = exchange.priority();
    let worker = exchange.connection.worker.clone();
    let now = Instant::now();
    let wanted = Wanted { worker: &worker, cluster, endpoint: &host.endpoint, priority, now, again: false };
    let lease = host.pool.fresh(&wanted).await.map_err(Rejection::unavailable)?;
    let permit = wanted.in_flight().map_err(Rejection::Overflow)?;
    if let Some(attempt) = &mut exchange.attempt {
        attempt.permit = Some(permit);
    }
    Ok(lease)
}

/// Opens a tunnel to the endpoint that the route of a `CONNECT` names.
pub(crate) async fn connect(mut exchange: Box<Exchange>, mut parts: request::Parts) -> Response<ResponseBody> {
    let caller = parts.extensions.remove::<OnUpgrade>();
    let Some(caller) = caller.filter(|_| allows(&exchange, b"CONNECT")) else {
        return refuse(exchange, Rejection::UpgradeRefused);
    };
    let (upstream, counted) = match open(&mut exchange, &parts).await {
        Ok(upstream) => upstream,
        Err(rejection) => return refuse(exchange, rejection),
    };
    exchange.ending.status = 200;
    exchange.ending.details = "via_upstream";
    join(exchange, caller, upstream, Bytes::new(), counted);
    Response::new(ResponseBody::empty())
}

async fn open(exchange: &mut Exchange, parts: &request::Parts) -> Result<(Transport, Counted), Rejection> {
    loop {
        let cluster = exchange.cluster()?.clone();
        let host = match cluster.spec.discovery {
            Discovery::Forward => {
                let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
                let address = resolve(authority, 443).await?;
                let host = exchange.connection.worker.passthrough(&cluster, address);
                exchange.attempt_with(Attempt::passing(host.clone(), cluster.clone(), Instant::now()));
                host
            }
            Discovery::OriginalDestination => exchange.go_on()?,
            _ => exchange.next_attempt()?,
        };
        let counted = Counted::take(&cluster, &host.endpoint, exchange.priority()).map_err(Rejection::Overflow)?;
        let failure = match connect::open(&cluster, host.endpoint.address, Speaks::Anything).await {
            Ok(stream) => return Ok((stream, counted)),
            Err(error) => Failure { rejection: Rejection::not_connected(error), unsent: true },
        };
        drop(counted);
        match exchange.settle(failure, &parts.method, true) {
            Verdict::TryAnother { after } => tokio::time::sleep(after).await,
            Verdict::GiveUp(rejection) => return Err(rejection),
        }
    }
}

/// Copies both ways once hyper has handed the caller's connection over; the exchange lives until the tunnel ends.
fn join(mut exchange: Box<Exchange>, caller: OnUpgrade, upstream: Transport, ahead: Bytes, counted: Counted) {
    let worker = Rc::clone(&exchange.connection.worker);
    let open = worker.opened();
    tokio::task::spawn_local(async move {
        let (_open, _counted) = (open, counted);
        let idle = exchange.connection.handler().stream_idle_timeout;
        let traffic = Traffic::default();
        let upstream = crate::wire::Wire::new(upstream, ahead.to_vec());
        let end = match caller.await {
            Ok(caller) => tunnel::run(TokioIo::new(caller), upstream, idle, &traffic).await,
            Err(_) => End::Broken,
        };
        exchange.meter.received.set(traffic.received());
        exchange.ending.sent = traffic.sent();
        match end {
            End::Closed | End::Broken => exchange.ending.whole = true,
            End::Idle => exchange.cut(Flag::StreamIdle, "stream_idle_timeout"),
        }
    });
}
