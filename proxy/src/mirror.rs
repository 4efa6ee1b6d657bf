//! Copies of requests whose answers nobody waits for (shadow traffic).
//!
//! A mirror can never hold up, fail or change the request that it was copied from.

use crate::body::RequestBody;
use crate::exchange::Exchange;
use crate::forward::{self, Sending};
use crate::head;
use crate::live::LiveCluster;
use crate::source::Source;
use crate::table::LiveTarget;
use crate::upstream::Wanted;
use crate::worker::Worker;
use http::{Request, request};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weft_model::breaker::Priority;
use weft_model::cluster::Protocol;
use weft_policy::balance::Pick;

/// A mirror's answer is waited for, and thrown away, for so long (Envoy's default route timeout).
const MIRROR_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends the copies that the route wants, under its own rewrite: what a backend does to the URL is for that backend alone.
/// Gives back the body that also feeds them.
pub(crate) fn copy(exchange: &Exchange, parts: &request::Parts, mut body: RequestBody) -> RequestBody {
    let Some((route, forward, _)) = exchange.forwarding() else { return body };
    if route.mirrors.is_empty() {
        return body;
    }
    let worker = &exchange.connection.worker;
    for index in forward.mirrors(&mut worker.dice.borrow_mut()) {
        let LiveTarget::Cluster(cluster) = &route.mirrors[index] else { continue };
        let mut copy = Request::new(());
        *copy.method_mut() = parts.method.clone();
        *copy.uri_mut() = parts.uri.clone();
        *copy.headers_mut() = parts.headers.clone();
        let (mut copy, ()) = copy.into_parts();
        let over_http2 = cluster.spec.protocol == Protocol::Http2;
        if head::address(&mut copy, over_http2, &forward.rewrite).is_ok() {
            let request = Request::from_parts(copy, body.copied());
            tokio::task::spawn_local(send(worker.clone(), cluster.clone(), request, over_http2));
        }
    }
    body
}

async fn send(worker: Rc<Worker>, cluster: Arc<LiveCluster>, request: Request<RequestBody>, over_http2: bool) {
    let sent = tokio::time::timeout(MIRROR_TIMEOUT, attempt(&worker, &cluster, request, over_http2)).await;
    if !matches!(sent, Ok(Some(()))) {
        tracing::debug!(cluster = cluster.spec.name, "a mirrored request had no answer");
    }
}

/// One try; the answer is read to its end and dropped.
async fn attempt(
    worker: &Rc<Worker>,
    cluster: &Arc<LiveCluster>,
    request: Request<RequestBody>,
    over_http2: bool,
) -> Option<()> {
    let endpoint = {
        let picked = cluster.pick(&Pick::default(), Instant::now(), &mut worker.dice.borrow_mut());
        picked.ok()?.endpoint.clone()
    };
    let host = worker.endpoint(cluster, &endpoint);
    let (priority, now) = (Priority::Default, Instant::now());
    let wanted = Wanted { worker, cluster, endpoint: &endpoint, priority, now, again: false };
    let (mut parts, body) = request.into_parts();
    let (mut body, mut permit) = (Some(body), None);
    let sending = Sending { parts: &mut parts, body: &mut body, permit: &mut permit, keeps: false };
    let mut source = forward::send(&wanted, &host, sending, over_http2).await.ok()?.into_body();
    while let Some(frame) = poll_fn(|cx| source.poll_frame(cx)).await {
        frame.ok()?;
    }
    if let Source::Leased(lease) = source {
        host.pool.give_back(lease, cluster, worker.number, Instant::now());
    }
    Some(())
}
