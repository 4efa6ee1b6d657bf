//! Does what an [`Exchange`] decides: *pick an endpoint, send, settle*, until there is an answer.

use crate::body::RequestBody;
use crate::connection::Connection;
use crate::exchange::{Decision, Exchange, Failure, Verdict};
use crate::head;
use crate::live::LiveCluster;
use crate::mirror;
use crate::rejection::Rejection;
use crate::response::{ResponseBody, grpc_status};
use crate::source::Source;
use crate::upgrade;
use crate::worker::WorkerEndpoint;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;
use tokio::time::Sleep;
use weft_model::cluster::{Discovery, Protocol};

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
    match exchange.decide(&parts) {
        Ok(Decision::Forward) => {}
        Ok(Decision::Answer { status, headers, body, details }) => {
            return Ok(answer(exchange, status, headers, body, details));
        }
        Err(rejection) => return Ok(refuse(exchange, rejection)),
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
    let mut request = Some(Request::from_parts(parts, body));
    let timeout = exchange.forwarding().and_then(|(_, forward, _)| forward.model.request_timeout);
    let mut deadline = timeout.map(|timeout| Box::pin(tokio::time::sleep_until((exchange.began + timeout).into())));
    let outcome = {
        let meter = exchange.meter.clone();
        let mut attempts = pin!(attempts(&mut exchange, &mut request, over_http2));
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = attempts.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            if meter.poll_expired(cx).is_some() {
                return Poll::Ready(Err(Rejection::StreamIdle));
            }
            match &mut deadline {
                Some(deadline) => deadline.as_mut().poll(cx).map(|()| Err(Rejection::RequestTimeout)),
                None => Poll::Pending,
            }
        })
        .await
    };
    Ok(match outcome {
        Ok(response) => respond(exchange, response, deadline),
        Err(rejection) => refuse(exchange, rejection),
    })
}

/// Offers the request to one endpoint after the other, as long as the exchange wants it.
async fn attempts(
    exchange: &mut Exchange,
    request: &mut Option<Request<RequestBody>>,
    over_http2: bool,
) -> Result<Response<Source>, Rejection> {
    let backend_timeout = exchange.forwarding().and_then(|(_, forward, _)| forward.model.backend_timeout);
    loop {
        if exchange.cluster()?.spec.discovery == Discovery::Forward {
            pass_through(exchange, request).await?;
        } else {
            exchange.next_attempt()?;
        }
        let Some(attempt) = &exchange.attempt else { return Err(Rejection::NoRoute) };
        let outcome = match backend_timeout {
            None => send(&attempt.host, &attempt.cluster, request, over_http2).await,
            Some(timeout) => {
                let once = Box::pin(send(&attempt.host, &attempt.cluster, request, over_http2));
                match tokio::time::timeout(timeout, once).await {
                    Ok(outcome) => outcome,
                    Err(_) => return Err(Rejection::BackendTimeout),
                }
            }
        };
        let rejection = match outcome {
            Ok(response) => return Ok(response),
            Err(rejection) => rejection,
        };
        // A request that came back was not begun on: another endpoint may have it.
        if let Verdict::GiveUp(rejection) = exchange.settle(Failure { rejection, unsent: request.is_some() }) {
            return Err(rejection);
        }
    }
}

/// The next try goes where the request itself says.
async fn pass_through(exchange: &mut Exchange, request: &Option<Request<RequestBody>>) -> Result<(), Rejection> {
    let cluster = exchange.cluster()?.clone();
    let host = request.as_ref().and_then(|request| {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        host.or_else(|| request.uri().authority().map(|authority| authority.as_str()))
    });
    let host = host.unwrap_or_default();
    let address = resolve(host, 80).await?;
    if address == exchange.connection.local {
        return Err(Rejection::ConnectFailed(format!("{host} is this proxy itself")));
    }
    let host = exchange.connection.worker.passthrough(&cluster, address);
    exchange.attempt_at(&host, cluster, Instant::now());
    Ok(())
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

/// One try at one endpoint. The request is back in its place if not one byte of it was sent.
pub(crate) async fn send(
    host: &WorkerEndpoint,
    cluster: &LiveCluster,
    request: &mut Option<Request<RequestBody>>,
    over_http2: bool,
) -> Result<Response<Source>, Rejection> {
    if over_http2 {
        let mut stream = host.pool.stream(cluster).await.map_err(Rejection::not_connected)?;
        let sent = stream.send(request).await;
        return match sent {
            Ok(response) => Ok(response.map(|body| Source::Streamed { _stream: stream, body })),
            Err(error) => Err(Rejection::not_answered(&error)),
        };
    }
    loop {
        let (mut lease, reused) = match host.pool.idle() {
            Some(lease) => (lease, true),
            None => (host.pool.fresh(cluster, Instant::now()).await.map_err(Rejection::not_connected)?, false),
        };
        match lease.send(request).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Rejection::UpstreamProtocol("it switches protocols without being asked".into()));
            }
            Ok(response) => return Ok(response.map(|()| Source::Leased(lease))),
            // The upstream closed a kept connection in the very moment it was lent: nobody's fault.
            Err(_) if reused && request.is_some() => {}
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
    if exchange.found.grpc {
        exchange.ending.grpc_status = grpc_status(headers);
    }
    if let Some(attempt) = &exchange.attempt {
        let took = attempt.began.elapsed();
        exchange.ending.upstream_time = Some(took);
        let value = exchange.connection.worker.telemetry.milliseconds(took);
        headers.insert(head::X_ENVOY_UPSTREAM_SERVICE_TIME, value);
    }
    if let Some((_, forward, backend)) = exchange.forwarding() {
        forward.backend_edits[backend].response.apply(headers);
    }
    edit_response(exchange, headers);
}

fn edit_response(exchange: &Exchange, headers: &mut HeaderMap) {
    if exchange.connection.is_leaving() && !exchange.http2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(route) = exchange.route() {
        route.route.response_edits.apply(headers);
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
    let (status, headers, body) = match exchange.found.grpc {
        true => (StatusCode::OK, rejection.grpc_headers(), String::new()),
        false => (rejection.appearance().status, HeaderMap::new(), rejection.message() + "\n"),
    };
    let close = matches!(rejection, Rejection::BadRequest(_));
    exchange.refused(rejection);
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
