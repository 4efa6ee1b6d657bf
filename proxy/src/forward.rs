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
use crate::response::ResponseBody;
use crate::source::Source;
use crate::table::CompiledForward;
use crate::telemetry::flags::{Flag, Flags};
use crate::upgrade;
use crate::upstream::Wanted;
use crate::worker::WorkerEndpoint;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
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
    // Until the response starts nothing comes, so the idle timeout of a try is one more limit of it.
    let idle = forward.model.retry.as_ref().and_then(|retry| retry.per_try_idle_timeout);
    let per_try = exchange.plan.timeouts.per_try.into_iter().chain(idle).min();
    let limit = match (per_try, forward.model.backend_timeout) {
        (Some(per_try), Some(backend)) if backend < per_try => Some((backend, Rejection::BackendTimeout)),
        (Some(per_try), _) => Some((per_try, Rejection::PerTryTimeout)),
        (None, Some(backend)) => Some((backend, Rejection::BackendTimeout)),
        (None, None) => None,
    };
    let keeps = exchange.plan.attempts.is_some();
    let worker = exchange.connection.worker.clone();
    let Some(attempt) = &mut exchange.attempt else { return Err(Rejection::NoRoute) };
    let (host, cluster, now) = (attempt.host.clone(), attempt.cluster.clone(), attempt.began);
    let again = attempt.retry.is_some();
    let wanted = Wanted { worker: &worker, cluster: &cluster, endpoint: &host.endpoint, priority, now, again };
    let sending = Sending { parts, body, permit: &mut attempt.permit, keeps };
    match limit {
        None => send(&wanted, &host, sending, over_http2).await,
        Some((limit, rejection)) => {
            let once = Box::pin(send(&wanted, &host, sending, over_http2));
            match tokio::time::timeout(limit, once).await {
                Ok(answer) => answer,
                Err(_) => {
                    Counts::one(&cluster.state.counts.upstream_rq_per_try_timeout);
                    Err(rejection)
                }
            }
        }
    }
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
    let in_flight = || {
        let breaker = &wanted.cluster.breaker;
        match wanted.again {
            true => breaker.again(wanted.priority),
            false => breaker.request(wanted.priority, wanted.now),
        }
        .map_err(Rejection::Overflow)
    };
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

/// Makes the head fit for the backend. Whether it goes there over HTTP/2.
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
    let mut new_path = None;
    let mut new_host = None;
    if let Some((route, forward, backend)) = exchange.forwarding() {
        if let Some(rewrite) = &forward.rewrite {
            new_path = Some(rewrite.path_and_query(parts.uri.path(), parts.uri.query()));
        }
        new_host = forward.rewrite_host.clone();
        route.route.request_edits.apply(&mut parts.headers);
        forward.backend_edits[backend].request.apply(&mut parts.headers);
    }
    head::address(parts, over_http2, new_host.as_ref(), new_path)
        .map_err(|_| Rejection::BadRequest("the host or the rewritten path is not valid"))?;
    Ok(over_http2)
}

/// Adds what tells the next hop who asked, and under which request id and trace.
fn introduce(exchange: &mut Exchange, parts: &mut request::Parts) {
    let connection = exchange.connection.clone();
    let edge = connection.handler().edge;
    let headers = &mut parts.headers;
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

/// Hands the upstream's answer to the caller.
fn respond(
    mut exchange: Box<Exchange>,
    mut response: Response<Source>,
    deadline: Option<Pin<Box<Sleep>>>,
) -> Response<ResponseBody> {
    head::prepare_response(&mut response);
    answered(&mut exchange, &mut response);
    if let Some(deadline) = &deadline {
        // Nobody asks for the body while the caller does not read: then the sweeper sees that time is up.
        exchange.meter.due(deadline.deadline().into_std());
    }
    response.map(|source| ResponseBody::new(source, exchange, deadline))
}

/// Notes what the upstream answered, and edits the answer's head as the route says.
pub(crate) fn answered<B>(exchange: &mut Exchange, response: &mut Response<B>) {
    exchange.meter.moved();
    exchange.ending.status = response.status().as_u16();
    let headers = response.headers_mut();
    exchange.ending.details = "via_upstream";
    if let Some(took) = exchange.ending.upstream_time {
        let value = exchange.connection.worker.telemetry.milliseconds(took);
        headers.insert(head::X_ENVOY_UPSTREAM_SERVICE_TIME, value);
    }
    if let Some((_, forward, backend)) = exchange.forwarding() {
        forward.backend_edits[backend].response.apply(headers);
        bind(exchange, forward, headers);
    }
    if exchange.ending.status == 503 && !exchange.plan.retried_outside {
        headers.remove(head::X_WEFT_UNSENT);
    }
    edit_response(exchange, headers);
}

/// Tells the caller how it finds back to the endpoint.
fn bind(exchange: &Exchange, forward: &CompiledForward, headers: &mut HeaderMap) {
    for cookie in &exchange.plan.cookies {
        headers.append(header::SET_COOKIE, cookie.clone());
    }
    if let (Some(session), Some(attempt)) = (&forward.session, &exchange.attempt)
        && let Some((name, value)) = session.answer(exchange.plan.asked, attempt.endpoint().address)
    {
        headers.append(name, value);
    }
}

fn edit_response(exchange: &Exchange, headers: &mut HeaderMap) {
    if exchange.connection.is_leaving() && !exchange.http2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(route) = exchange.route() {
        route.route.response_edits.apply(headers);
    }
    if let Some(left) = &exchange.allowance {
        left.write(headers);
    }
    if let (Some(grant), Some(policy)) = (&exchange.grant, exchange.cors()) {
        grant.apply(policy, headers);
    }
}

/// Answers with the route's own words.
fn answer(
    mut exchange: Box<Exchange>,
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    details: &'static str,
) -> Response<ResponseBody> {
    exchange.ending.status = status.as_u16();
    exchange.ending.details = details;
    own(exchange, status, headers, body)
}

/// Refuses, in words.
pub(crate) fn refuse(mut exchange: Box<Exchange>, rejection: Rejection) -> Response<ResponseBody> {
    let mut headers = rejection.headers();
    let (mut status, mut body) = (rejection.appearance().status, String::new());
    match exchange.found.grpc {
        true => {
            status = StatusCode::OK;
            headers.extend(rejection.grpc_headers());
        }
        false => body = rejection.message() + "\n",
    }
    if exchange.plan.timeouts.alt_response && matches!(rejection, Rejection::RequestTimeout) {
        (status, body) = (StatusCode::NO_CONTENT, String::new());
    }
    if exchange.plan.retried_outside && rejection.is_unsent() {
        headers.insert(head::X_WEFT_UNSENT, HeaderValue::from_static("true"));
    }
    let close = matches!(rejection, Rejection::BadRequest(_));
    exchange.refused(rejection);
    exchange.ending.status = status.as_u16();
    let http1 = !exchange.http2;
    let mut response = own(exchange, status, headers, body);
    if close && http1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn own(exchange: Box<Exchange>, status: StatusCode, headers: HeaderMap, body: String) -> Response<ResponseBody> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !body.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    edit_response(&exchange, response.headers_mut());
    response.map(|()| ResponseBody::new(Source::Own(Bytes::from(body)), exchange, None))
}
