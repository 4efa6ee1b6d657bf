//! The access log: one line for each request, however it ended.
//!
//! The line answers "why did this request fail?": Istio's JSON fields under Istio's names, then the
//! trace, the reason in words and the policy that was the cause, with its file and line. Values are bytes
//! that strangers chose, so whatever they are the line stays one line of valid JSON.
//!
//! A request only appends bytes to its worker's buffer; [`sink`] carries them away.

mod json;
mod sink;
pub(crate) mod time;

pub use sink::{AccessLogger, LogWriter};

use super::flags::Flags;
use super::trace::TraceContext;
use json::Object;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use weft_model::Origin;

/// What is known of one request (or opaque connection) when it has ended. Absent values are `null`
/// in the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub start_time: SystemTime,
    /// Absent for opaque connections.
    pub method: Option<&'a str>,
    /// Path and query, as they came.
    pub path: Option<&'a [u8]>,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: Option<&'a str>,
    /// 0: there was no response.
    pub response_code: u16,
    pub grpc_status: Option<u8>,
    pub response_flags: Flags,
    pub response_code_details: Option<&'a str>,
    pub connection_termination_details: Option<&'a str>,
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Of the request's body.
    pub bytes_received: u64,
    /// Of the response's body.
    pub bytes_sent: u64,
    /// From the head to the end of the answer.
    pub duration: Duration,
    /// From the last try's beginning to its response head.
    pub upstream_service_time: Option<Duration>,
    /// How many endpoints it was offered to. Told when more than one.
    pub upstream_request_attempt_count: u32,
    pub x_forwarded_for: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub request_id: Option<&'a [u8]>,
    pub authority: Option<&'a [u8]>,
    pub upstream_host: Option<SocketAddr>,
    pub upstream_cluster: Option<&'a str>,
    pub upstream_local_address: Option<SocketAddr>,
    pub downstream_local_address: Option<SocketAddr>,
    pub downstream_remote_address: Option<SocketAddr>,
    /// By SNI.
    pub requested_server_name: Option<&'a str>,
    pub route_name: Option<&'a str>,
    pub trace: Option<&'a TraceContext>,
    /// Why it failed, for people.
    pub message: Option<&'a str>,
    /// What somebody wrote that made it fail, or that it was answered by.
    pub policy: Option<&'a Origin>,
}

impl Record<'_> {
    /// A record of nothing but its beginning.
    pub fn at(start_time: SystemTime) -> Record<'static> {
        Record {
            start_time,
            method: None,
            path: None,
            protocol: None,
            response_code: 0,
            grpc_status: None,
            response_flags: Flags::NONE,
            response_code_details: None,
            connection_termination_details: None,
            upstream_transport_failure_reason: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            upstream_service_time: None,
            upstream_request_attempt_count: 0,
            x_forwarded_for: None,
            user_agent: None,
            request_id: None,
            authority: None,
            upstream_host: None,
            upstream_cluster: None,
            upstream_local_address: None,
            downstream_local_address: None,
            downstream_remote_address: None,
            requested_server_name: None,
            route_name: None,
            trace: None,
            message: None,
            policy: None,
        }
    }

    /// Appends it as one line of JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = Object::begin(out);
        line.time("start_time", self.start_time);
        line.text("method", self.method);
        line.bytes("path", self.path);
        line.text("protocol", self.protocol);
        line.number("response_code", u64::from(self.response_code));
        if let Some(code) = self.grpc_status {
            line.number("grpc_status", u64::from(code));
        }
        line.display("response_flags", Some(self.response_flags));
        line.text("response_code_details", self.response_code_details);
        line.text("connection_termination_details", self.connection_termination_details);
        line.text("upstream_transport_failure_reason", self.upstream_transport_failure_reason);
        line.number("bytes_received", self.bytes_received);
        line.number("bytes_sent", self.bytes_sent);
        line.number("duration", millis(self.duration));
        // Istio takes it from a header, so it is text there.
        line.display("upstream_service_time", self.upstream_service_time.map(millis));
        if self.upstream_request_attempt_count > 1 {
            line.number("upstream_request_attempt_count", u64::from(self.upstream_request_attempt_count));
        }
        line.bytes("x_forwarded_for", self.x_forwarded_for);
        line.bytes("user_agent", self.user_agent);
        line.bytes("request_id", self.request_id);
        line.bytes("authority", self.authority);
        line.address("upstream_host", self.upstream_host);
        line.text("upstream_cluster", self.upstream_cluster);
        line.address("upstream_local_address", self.upstream_local_address);
        line.address("downstream_local_address", self.downstream_local_address);
        line.address("downstream_remote_address", self.downstream_remote_address);
        line.text("requested_server_name", self.requested_server_name);
        line.text("route_name", self.route_name);
        line.ascii("trace_id", self.trace.map(|trace| trace.trace_id.hex()).as_ref().map(|hex| &hex[..]));
        line.text("message", self.message);
        line.policy("policy", self.policy);
        line.end();
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
