//! What the caller hears: the upstream's answer, the route's own words, or a refusal in words.
//!
//! Whoever answered, the head that goes out is made here, so that a policy that adds to answers (CORS, edits, `RateLimit-*`, sessions)
//! cannot be forgotten on one of the ways out.

use crate::exchange::Exchange;
use crate::head;
use crate::rejection::Rejection;
use crate::response::ResponseBody;
use crate::source::Source;
use crate::table::CompiledForward;
use crate::try_idle::TryIdle;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::pin::Pin;
use std::time::SystemTime;
use tokio::time::Sleep;

/// Hands the upstream's answer to the caller.
pub(crate) fn respond(
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
    let idle = exchange.try_idle_limit().map(|limit| TryIdle::new(limit, &exchange.meter));
    response.map(|source| ResponseBody::new(source, exchange, deadline, idle))
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
        forward.backends[backend].response_edits.apply(headers);
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
        && let Some((name, value)) = session.answer(exchange.plan.asked, attempt.endpoint().address, SystemTime::now())
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
pub(crate) fn answer(
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
    response.map(|()| ResponseBody::new(Source::Own(Bytes::from(body)), exchange, None, None))
}
