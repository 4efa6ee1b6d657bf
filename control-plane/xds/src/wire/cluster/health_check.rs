//! Active health checks.
//!
//! Envoy 1.40 wants a name for each when there are several, for which the API that we are built against has no field. So a stock
//! Envoy is given the first one, and all others travel in our metadata. From other control planes several are read.
//!
//! Normal form: a method that Envoy has no name for, and CONNECT, is GET; expected parts of a TCP answer are not empty.
//! Envoy takes gRPC checks only of clusters that speak HTTP/2.

use super::super::numbers::read_time;
use super::super::parts::{self, At, Decoded, apart, each, refuse, required};
use core::health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck, payload};
use envoy_types::pb::envoy::config::core::v3::{self as core, RequestMethod};
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use std::ops::RangeInclusive;
use std::time::Duration;
use weft_model::health_check::{HealthCheck, Probe};

/// Envoy's, when it is left out.
const DEFAULT_NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn encode(check: &HealthCheck) -> core::HealthCheck {
    core::HealthCheck {
        timeout: Some(parts::duration(check.timeout)),
        interval: Some(parts::duration(check.interval)),
        no_traffic_interval: Some(parts::duration(check.no_traffic_interval)),
        interval_jitter: (!check.interval_jitter.is_zero()).then(|| parts::duration(check.interval_jitter)),
        unhealthy_threshold: parts::number(check.unhealthy_threshold),
        healthy_threshold: parts::number(check.healthy_threshold),
        reuse_connection: parts::yes_or_no(check.reuse_connection),
        health_checker: Some(encode_probe(&check.probe)),
        ..Default::default()
    }
}

fn encode_probe(probe: &Probe) -> HealthChecker {
    match probe {
        Probe::Http { host, path, method, expected, retriable, http2 } => {
            let codec = if *http2 { CodecClientType::Http2 } else { CodecClientType::Http1 };
            HealthChecker::HttpHealthCheck(HttpHealthCheck {
                host: host.clone(),
                path: path.clone(),
                method: known_method(method).unwrap_or(RequestMethod::Get) as i32,
                expected_statuses: expected.iter().map(range).collect(),
                retriable_statuses: retriable.iter().map(range).collect(),
                codec_client_type: codec as i32,
                ..Default::default()
            })
        }
        Probe::Grpc { service, authority } => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.clone(),
            authority: authority.clone(),
            ..Default::default()
        }),
        Probe::Tcp { send, receive } => HealthChecker::TcpHealthCheck(TcpHealthCheck {
            send: (!send.is_empty()).then(|| binary(send)),
            receive: receive.iter().filter(|part| !part.is_empty()).map(|part| binary(part)).collect(),
            ..Default::default()
        }),
    }
}

fn known_method(method: &str) -> Option<RequestMethod> {
    RequestMethod::from_str_name(method)
        .filter(|known| !matches!(known, RequestMethod::MethodUnspecified | RequestMethod::Connect))
}

fn binary(bytes: &[u8]) -> Payload {
    Payload { payload: Some(payload::Payload::Binary(bytes.to_vec())) }
}

/// Envoy's ranges leave out their end.
fn range(statuses: &RangeInclusive<u16>) -> Int64Range {
    Int64Range { start: (*statuses.start()).into(), end: i64::from(*statuses.end()) + 1 }
}

pub(super) fn decode(check: core::HealthCheck) -> Decoded<HealthCheck> {
    apart!(check => core::HealthCheck {
        read: timeout, interval, interval_jitter, unhealthy_threshold, healthy_threshold, reuse_connection,
            no_traffic_interval, health_checker;
        ignored: initial_jitter, event_log_path, event_logger, event_service, always_log_health_check_failures,
            always_log_health_check_success;
        refused: interval_jitter_percent, alt_port, no_traffic_healthy_interval, unhealthy_interval, unhealthy_edge_interval, healthy_edge_interval, tls_options, transport_socket_match_criteria
    });
    Ok(HealthCheck {
        timeout: read_time("timeout", Some(required("timeout", timeout)?), Duration::ZERO)?,
        interval: read_time("interval", Some(required("interval", interval)?), Duration::ZERO)?,
        no_traffic_interval: read_time("no_traffic_interval", no_traffic_interval, DEFAULT_NO_TRAFFIC_INTERVAL)?,
        interval_jitter: interval_jitter
            .map_or(Ok(Duration::ZERO), |jitter| parts::read_duration("interval_jitter", jitter))?,
        unhealthy_threshold: required("unhealthy_threshold", unhealthy_threshold)?.value,
        healthy_threshold: required("healthy_threshold", healthy_threshold)?.value,
        reuse_connection: reuse_connection.is_none_or(|reuse| reuse.value),
        probe: match required("health_checker", health_checker)? {
            HealthChecker::HttpHealthCheck(http) => decode_http(http).at("http_health_check")?,
            HealthChecker::GrpcHealthCheck(grpc) => decode_grpc(grpc).at("grpc_health_check")?,
            HealthChecker::TcpHealthCheck(tcp) => decode_tcp(tcp).at("tcp_health_check")?,
            HealthChecker::CustomHealthCheck(_) => {
                return refuse("custom_health_check", "is not supported by this proxy");
            }
        },
    })
}

fn decode_http(check: HttpHealthCheck) -> Decoded<Probe> {
    apart!(check => HttpHealthCheck {
        read: host, path, method, expected_statuses, retriable_statuses, codec_client_type;
        ignored: response_buffer_size;
        refused: send, receive, request_headers_to_add, request_headers_to_remove, service_name_matcher
    });
    if path.is_empty() {
        return refuse("path", "is empty");
    }
    let method = match RequestMethod::try_from(method) {
        Ok(RequestMethod::MethodUnspecified) => RequestMethod::Get,
        Ok(known) if known != RequestMethod::Connect => known,
        _ => return refuse("method", "is not supported by this proxy"),
    };
    let http2 = match CodecClientType::try_from(codec_client_type) {
        Ok(CodecClientType::Http1) => false,
        Ok(CodecClientType::Http2) => true,
        _ => return refuse("codec_client_type", "only HTTP1 and HTTP2 are supported by this proxy"),
    };
    Ok(Probe::Http {
        host,
        path,
        method: method.as_str_name().into(),
        expected: each("expected_statuses", expected_statuses, read_range)?,
        retriable: each("retriable_statuses", retriable_statuses, read_range)?,
        http2,
    })
}

fn read_range(range: Int64Range) -> Decoded<RangeInclusive<u16>> {
    let Int64Range { start, end } = range;
    if !(100 <= start && start < end && end <= 600) {
        return refuse("", format!("[{start}, {end}) is no range of HTTP statuses"));
    }
    Ok(start as u16..=(end - 1) as u16)
}

fn decode_grpc(check: GrpcHealthCheck) -> Decoded<Probe> {
    apart!(check => GrpcHealthCheck {
        read: service_name, authority;
        ignored: ;
        refused: initial_metadata
    });
    Ok(Probe::Grpc { service: service_name, authority })
}

fn decode_tcp(check: TcpHealthCheck) -> Decoded<Probe> {
    apart!(check => TcpHealthCheck {
        read: send, receive;
        ignored: ;
        refused: proxy_protocol_config
    });
    let mut receive = each("receive", receive, read_payload)?;
    receive.retain(|part| !part.is_empty());
    Ok(Probe::Tcp { send: send.map_or(Ok(Vec::new()), read_payload).at("send")?, receive })
}

/// A text is hexadecimal.
fn read_payload(payload: Payload) -> Decoded<Vec<u8>> {
    match required("payload", payload.payload)? {
        payload::Payload::Binary(bytes) => Ok(bytes),
        payload::Payload::Text(text) => {
            read_hex(&text).map_or_else(|| refuse("text", format!("`{text}` is not hexadecimal")), Ok)
        }
    }
}

fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
        _ => None,
    });
    pairs.collect()
}
