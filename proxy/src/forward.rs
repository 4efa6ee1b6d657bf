//! Does what an [`Exchange`] decides: *pick an endpoint, send, settle*, until there is an answer.

use crate::attempt::Attempt;
use crate::body::{RequestBody, Supply};
use crate::connection::Connection;
use crate::exchange::{Decision, Exchange, Failure, Verdict};
use crate::head;
use crate::live::Counts;
use crate::mirror;
use crate::plan::{KEEP_BYTES, Plan};
use crate::rejection::Rejection;
use crate::reply::{answer, refuse, respond};
use crate::response::ResponseBody;
use crate::source::Source;
use crate::telemetry::flags::{Flag, Flags};
use crate::try_idle::TryIdle;
use crate::upgrade;
use crate::upstream::Wanted;
use crate::worker::WorkerEndpoint;
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use weft_model::cluster::{Discovery, Protocol};
use weft_model::fault::AbortWith;
use weft_policy::breaker::Permit;

/// Serves one request. What cannot be answered any more is cut by its body's error, never by this future's.
///
/// One flat function, with the request in one place: what is moved from future to future is copied each time.
pub(crate) async fn serve(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let mut exchange = Exchange::begin(&connection, &parts, Instant::now());
    if connection.head_is_ambiguous(exchange.found) {
        let why = "it has both content-length and transfer-encoding";
        return Ok(refuse(exchange, Rejection::BadRequest(why)));
    }
    let decision = match exchange.decide(&parts) {
        Ok(decision) => decision,
        Err(rejection) => return Ok(refuse(exchange, rejection)),
    };
    if let Some(fault) = &exchange.fault
        && let Err(rejection) = suffer(fault.delay, fault.abort, &mut exchange.ending.flags).await
    {
        return Ok(refuse(exchange, rejection));
    }
    if let Decision::Answer { status, headers, body, details } = decision {
        return Ok(answer(exchange, status, headers, body, details));
    }
    if parts.method == Method::CONNECT {
        return Ok(Box::pin(upgrade::connect(exchange, parts)).await);
    }
    match upgrade::wanted(&exchange, &mut parts) {
        Ok(None) => {}
        Ok(Some(upgrade)) => return Ok(Box::pin(upgrade::forward(exchange, parts, body, upgrade)).await),
        Err(rejection) => return Ok(refuse(exchange, rejection)),
    }
    let over_http2 = match prepare(&mut exchange, &mut parts) {
        Ok(over_http2) => over_http2,
        Err(rejection) => return Ok(refuse(exchange, rejection)),
    };
    let body = mirror::copy(&exchange, &parts, RequestBody::new(body, &exchange.meter));
    if let Err(rejection) = address(&exchange, &mut parts, over_http2) {
        return Ok(refuse(exchange, rejection));
    }
    let mut supply = Supply::of(body, exchange.plan.attempts.is_some().then_some(KEEP_BYTES));
    let timeout = exchange.plan.timeouts.global;
    // An injected delay comes before the route's time.
    let start = if exchange.fault.is_some() { Instant::now() } else { exchange.began };
    let mut deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep_until((start + timeout).into())));
    let outcome = {
        let meter = exchange.meter.clone();
        let mut attempts = pin!(attempts(&mut exchange, &mut parts, &mut supply, over_http2));
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = attempts.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            if meter.poll_expired(cx).is_some() {
                let request_complete = meter.complete.get();
                return Poll::Ready(Err(Rejection::StreamIdle { request_complete }));
            }
            match &mut deadline {
                Some(deadline) => deadline.as_mut().poll(cx).map(|()| Err(Rejection::RequestTimeout)),
                None => Poll::Pending,
            }
        })
        .await
    };
    if let Err(Rejection::RequestTimeout) = outcome {
        exchange.timed_out();
    }
    Ok(match outcome {
        Ok(response) => respond(exchange, response, deadline),
        Err(Rejection::RequestTimeout) if exchange.plan.timeouts.asked_by_grpc => {
            refuse(exchange, Rejection::GrpcDeadline)
        }
        Err(rejection) => refuse(exchange, rejection),
    })
}

/// Delays and aborts as the route's fault says.
async fn suffer(delay: Option<Duration>, abort: Option<AbortWith>, flags: &mut Flags) -> Result<(), Rejection> {
    if let Some(delay) = delay {
        *flags |= Flags::from(Flag::DelayInjected);
        tokio::time::sleep(delay).await;
    }
    abort.map_or(Ok(()), |abort| Err(Rejection::FaultInjected(abort)))
}

/// Offers the request to one endpoint after the other, as long as the exchange wants it.
async fn attempts(
    exchange: &mut Exchange,
    parts: &mut request::Parts,
    supply: &mut Supply,
    over_http2: bool,
) -> Result<Response<Source>, Rejection> {
    loop {
        next_attempt(exchange, parts).await?;
        exchange.tell_next_hop(&mut parts.headers);
        let mut body = supply.take();
        let answer = once(exchange, parts, &mut body, over_http2).await;
        let after = match answer {
            Ok(response) => {
                exchange.heard(&response);
                match exchange.settle_answer(&response, &parts.method, supply.is_at_hand()) {
                    None => return Ok(response),
                    Some(after) => {
                        discard(exchange, response.into_body());
                        after
                    }
                }
            }
            Err(rejection) => {
                let failure = Failure { rejection, unsent: body.is_some() };
                // A body that came back was not begun on: another endpoint may have it.
                if let Some(unsent) = body {
                    supply.give_back(unsent);
                }
                match exchange.settle(failure, &parts.method, supply.is_at_hand()) {
                    Verdict::TryAnother { after } => after,
                    Verdict::GiveUp(rejection) => return Err(rejection),
                }
            }
        };
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
    }
}

/// One try, within its time.
async fn once(
    exchange: &mut Exchange,
    parts: &mut request::Parts,
    body: &mut Option<RequestBody>,
    over_http2: bool,
) -> Result<Response<Source>, Rejection> {
    let Some((_, forward, _)) = exchange.forwarding() else { return Err(Rejection::NoRoute) };
    let priority = forward.model.priority;
    let limit = match (exchange.plan.timeouts.per_try, forward.model.backend_timeout) {
        (Some(per_try), Some(backend)) if backend < per_try => Some((backend, Rejection::BackendTimeout)),
        (Some(per_try), _) => Some((per_try, Rejection::PerTryTimeout)),
        (None, Some(backend)) => Some((backend, Rejection::BackendTimeout)),
        (None, None) => None,
    };
    let idle = exchange.try_idle_limit().map(|limit| TryIdle::new(limit, &exchange.meter));
    let keeps = exchange.plan.attempts.is_some();
    let worker = exchange.connection.worker.clone();
    let Some(attempt) = &mut exchange.attempt else { return Err(Rejection::NoRoute) };
    let (host, cluster, now) = (attempt.host.clone(), attempt.cluster.clone(), attempt.began);
    let again = attempt.retry.is_some();
    let wanted = Wanted { worker: &worker, cluster: &cluster, endpoint: &host.endpoint, priority, now, again };
    let sending = Sending { parts, body, permit: &mut attempt.permit, keeps };
    if limit.is_none() && idle.is_none() {
        return send(&wanted, &host, sending, over_http2).await;
    }
    let answer = within(limit, idle, Box::pin(send(&wanted, &host, sending, over_http2))).await;
    match answer {
        Err(Rejection::PerTryTimeout | Rejection::BackendTimeout) => {
            Counts::one(&cluster.state.counts.upstream_rq_per_try_timeout);
        }
        Err(Rejection::PerTryIdle) => Counts::one(&cluster.state.counts.upstream_rq_per_try_idle_timeout),
        _ => {}
    }
    answer
}

/// An answer, unless its time passes first or nothing moves for too long.
async fn within<T>(
    limit: Option<(Duration, Rejection)>,
    mut idle: Option<Box<TryIdle>>,
    answer: impl Future<Output = Result<T, Rejection>>,
) -> Result<T, Rejection> {
    let mut answer = pin!(async {
        match limit {
            None => answer.await,
            Some((limit, rejection)) => tokio::time::timeout(limit, answer).await.unwrap_or(Err(rejection)),
        }
    });
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(answer),
        Poll::Pending => match &mut idle {
            Some(idle) => idle.poll(cx).map(|()| Err(Rejection::PerTryIdle)),
            None => Poll::Pending,
        },
    })
    .await
}

/// Throws an answer away. Its connection is kept if the answer is short and there already.
fn discard(exchange: &mut Exchange, mut source: Source) {
    const FRAMES: usize = 4;
    let quiet = &mut Context::from_waker(Waker::noop());
    for _ in 0..FRAMES {
        match source.poll_frame(quiet) {
            Poll::Ready(Some(Ok(_))) if !source.is_end_stream() => {}
            _ => break,
        }
    }
    if let (Source::Leased(lease), Some(attempt)) = (source, &exchange.attempt) {
        let worker = exchange.connection.worker.number;
        attempt.host.pool.give_back(lease, &attempt.cluster, worker, Instant::now());
    }
}

/// Begins the next try: at an endpoint of the cluster, or where the request or its connection was going.
pub(crate) async fn next_attempt(
    exchange: &mut Exchange,
    parts: &request::Parts,
) -> Result<Rc<WorkerEndpoint>, Rejection> {
    match exchange.cluster()?.spec.discovery {
        Discovery::Forward => pass_through(exchange, parts).await,
        Discovery::OriginalDestination => exchange.go_on(),
        Discovery::Eds | Discovery::Static(_) | Discovery::Dns { .. } => exchange.next_attempt(),
    }
}

/// The next try goes where the request itself says.
async fn pass_through(exchange: &mut Exchange, parts: &request::Parts) -> Result<Rc<WorkerEndpoint>, Rejection> {
    let cluster = exchange.cluster()?.clone();
    let host = head::host(parts).unwrap_or_default();
    let address = resolve(host, 80).await?;
    if address == exchange.connection.local {
        return Err(Rejection::ConnectFailed(format!("{host} is this proxy itself")));
    }
    let host = exchange.connection.worker.passthrough(&cluster, address);
    exchange.attempt_with(Attempt::passing(host.clone(), cluster, Instant::now()));
    Ok(host)
}

/// The address of an authority that no configuration knows.
pub(crate) async fn resolve(authority: &str, default_port: u16) -> Result<std::net::SocketAddr, Rejection> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
    let mut found = tokio::net::lookup_host(&target)
        .await
        .map_err(|error| Rejection::ConnectFailed(format!("cannot resolve {authority}: {error}")))?;
    found.next().ok_or_else(|| Rejection::ConnectFailed(format!("{authority} has no address")))
}

/// What is sent, and what it holds while it is in flight.
pub(crate) struct Sending<'s> {
    pub(crate) parts: &'s mut request::Parts,
    /// Still there after an error if not one byte of the request was sent.
    pub(crate) body: &'s mut Option<RequestBody>,
    pub(crate) permit: &'s mut Option<Permit>,
    /// The head may be needed again.
    pub(crate) keeps: bool,
}

/// One try at one endpoint.
pub(crate) async fn send(
    wanted: &Wanted<'_>,
    host: &WorkerEndpoint,
    sending: Sending<'_>,
    over_http2: bool,
) -> Result<Response<Source>, Rejection> {
    let Sending { parts, body, permit, keeps } = sending;
    let in_flight = || wanted.in_flight().map_err(Rejection::Overflow);
    if over_http2 {
        let mut stream = host.pool.stream(wanted).await.map_err(Rejection::unavailable)?;
        *permit = Some(in_flight()?);
        let kept = if keeps { parts.clone() } else { Request::new(()).into_parts().0 };
        let whole = body.take().expect("a request's body waits in its place");
        let request = Request::from_parts(std::mem::replace(parts, kept), whole);
        return match stream.send(request).await {
            Ok(response) => Ok(response.map(|body| Source::Streamed { _stream: stream, body })),
            Err((error, unsent)) => {
                if let Some(request) = unsent {
                    let (head, unsent) = request.into_parts();
                    *parts = head;
                    *body = Some(unsent);
                }
                Err(Rejection::not_answered(&error))
            }
        };
    }
    loop {
        let (mut lease, reused) = host.pool.lease(wanted).await.map_err(Rejection::unavailable)?;
        match in_flight() {
            Ok(taken) => *permit = Some(taken),
            Err(overflow) => {
                host.pool.give_back(lease, wanted.cluster, wanted.worker.number, Instant::now());
                return Err(overflow);
            }
        }
        match lease.send(parts, body).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Rejection::UpstreamProtocol("it switches protocols without being asked".into()));
            }
            Ok(response) => return Ok(response.map(|()| Source::Leased(lease))),
            // The upstream closed a kept connection in the very moment it was lent: nobody's fault.
            Err(_) if reused && body.is_some() => {}
            Err(error) => return Err(Rejection::broken(&error)),
        }
    }
}

/// Makes the head fit for the backend, but for its [`address`], which no mirror sees. Whether it goes there over HTTP/2.
pub(crate) fn prepare(exchange: &mut Exchange, parts: &mut request::Parts) -> Result<bool, Rejection> {
    let over_http2 = match exchange.cluster()?.spec.protocol {
        Protocol::Http1 => false,
        Protocol::Http2 => true,
        Protocol::Downstream => exchange.http2,
    };
    if exchange.found.hop_by_hop {
        head::strip_hop_by_hop(&mut parts.headers);
    }
    introduce(exchange, parts);
    if let Some(table) = exchange.forward_route() {
        exchange.plan = Plan::of(exchange, table.forward(), parts);
        exchange.meter.limit_idle(table.forward().model.idle_timeout);
    }
    if let Some((route, forward, backend)) = exchange.forwarding() {
        route.route.request_edits.apply(&mut parts.headers);
        forward.backends[backend].request_edits.apply(&mut parts.headers);
    }
    Ok(over_http2)
}

/// Gives the head the host and the path that the chosen backend knows it by, for every try.
pub(crate) fn address(exchange: &Exchange, parts: &mut request::Parts, over_http2: bool) -> Result<(), Rejection> {
    let (_, forward, backend) = exchange.forwarding().ok_or(Rejection::NoRoute)?;
    head::address(parts, over_http2, forward.rewrite_for(backend))
        .map_err(|_| Rejection::BadRequest("the host or the rewritten path is not valid"))
}

/// How many headers a request is given at most on its way, by whatever policy: forwarded-for, its scheme, request id, trace, time
/// left (two names), whose retry it is, which try. With room for all of them at once, no policy makes their map grow.
const HEADERS_ADDED: usize = 8;

/// Adds what tells the next hop who asked, and under which request id and trace.
fn introduce(exchange: &mut Exchange, parts: &mut request::Parts) {
    let connection = exchange.connection.clone();
    let edge = connection.handler().edge;
    let headers = &mut parts.headers;
    headers.reserve(HEADERS_ADDED);
    if edge {
        head::append_forwarded_for(headers, &connection.peer_ip);
        headers.insert(head::X_FORWARDED_PROTO, HeaderValue::from_static(connection.scheme()));
    } else {
        headers.entry(head::X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(connection.scheme()));
    }
    let telemetry = &connection.worker.telemetry;
    if edge || !exchange.found.request_id {
        headers.insert(head::X_REQUEST_ID, telemetry.request_id());
    }
    if let Some(facts) = &mut exchange.facts {
        facts.request_id = headers.get(head::X_REQUEST_ID).cloned();
    }
    // A trace that nobody here would ever see begins where somebody does.
    if exchange.found.traceparent || telemetry.wants_facts() {
        exchange.trace = Some(telemetry.trace(headers));
    }
}
