//! Health by gRPC: `grpc.health.v1.Health/Check`, as the gRPC health checking protocol says.
//!
//! An answer that is not SERVING is a word on the endpoint's own health, and believed at once (Envoy).

use super::http::{Client, read};
use super::probe::{Answered, Broken, Finding};
use crate::attempt::grpc_status;
use ::http::uri::Authority;
use ::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use prost::Message;
use weft_policy::health_check::CheckResult;

const PATH: &str = "/grpc.health.v1.Health/Check";
/// Of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

#[derive(Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

pub(super) async fn ask(client: &mut Client, service: &str, authority: &Authority) -> Result<Answered, Broken> {
    let response = client.send(request(service), authority).await?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Ok(answered(Err(format!("HTTP status {}", head.status))));
    }
    let Some((body, trailers)) = read(body).await? else { return Ok(answered(Err("far too many bytes".into()))) };
    Ok(answered(match grpc_status(&trailers).or_else(|| grpc_status(&head.headers)) {
        Some(0) => serving(&body),
        Some(status) => Err(format!("gRPC status {status}")),
        None => Err("no gRPC status".into()),
    }))
}

/// `Err`: what it says instead of SERVING.
fn answered(answer: Result<(), String>) -> Answered {
    let (result, what) = match answer {
        Ok(()) => (CheckResult::Success, "SERVING".to_owned()),
        Err(what) => (CheckResult::Unwell, what),
    };
    Answered { finding: Finding::new(result, format!("its gRPC health service says {what}")), is_reusable: true }
}

fn request(service: &str) -> Request<Full<Bytes>> {
    let message = HealthCheckRequest { service: service.to_owned() };
    let mut body = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
    body.put_u8(0);
    body.put_u32(message.encoded_len() as u32); // a name of a service, which came in a message itself
    message.encode(&mut body).expect("a buffer grows");
    let mut request = Request::new(Full::new(body.freeze()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(PATH);
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

fn serving(body: &[u8]) -> Result<(), String> {
    let message = match body.split_first_chunk::<PREFIX_BYTES>() {
        Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => message,
        _ => return Err("something that is not one plain message".into()),
    };
    let answer = HealthCheckResponse::decode(message).map_err(|error| format!("no health: {error}"))?;
    match ServingStatus::try_from(answer.status) {
        Ok(ServingStatus::Serving) => Ok(()),
        Ok(other) => Err(other.as_str().to_owned()),
        Err(_) => Err(format!("the unknown status {}", answer.status)),
    }
}

impl ServingStatus {
    /// Its name in the protocol.
    fn as_str(self) -> &'static str {
        match self {
            ServingStatus::Unknown => "UNKNOWN",
            ServingStatus::Serving => "SERVING",
            ServingStatus::NotServing => "NOT_SERVING",
            ServingStatus::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn the_question_is_one_message_with_the_services_name() {
        let body = request("shop").into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"\0\0\0\0\x06\x0a\x04shop");
        let body = request("").into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"\0\0\0\0\0", "the server as a whole");
    }

    #[test]
    fn only_serving_is_healthy() {
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x01"), Ok(()));
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x02"), Err("NOT_SERVING".into()));
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x03"), Err("SERVICE_UNKNOWN".into()));
        assert_eq!(serving(b"\0\0\0\0\0"), Err("UNKNOWN".into()));
        assert_eq!(serving(b"\0\0\0\0\x02\x08\x09"), Err("the unknown status 9".into()));
        for broken in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x02\x08\x01", b"\0\0\0\0\x03\x08\x01", b"\0\0\0\0\x01\x08"] {
            assert!(serving(broken).is_err(), "{broken:?}");
        }
    }
}
