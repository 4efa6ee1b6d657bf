//! What a request says of its own retries. It works on routes without a policy too, as in Envoy; what cannot be read is
//! passed over.

use crate::x_envoy;
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;
use weft_model::retry::RetryOn;

/// Read from a request's headers; adds to the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
    pub on: RetryOn,
    /// `x-envoy-max-retries`.
    pub max_retries: Option<u32>,
    /// `x-envoy-retriable-status-codes`.
    pub status_codes: SmallVec<[u16; 4]>,
    /// `x-envoy-retriable-header-names`: response headers, whatever their values.
    pub header_names: SmallVec<[HeaderName; 1]>,
}

impl Overrides {
    /// `None` when the request says nothing.
    pub fn read(headers: &HeaderMap) -> Option<Overrides> {
        if !x_envoy::is_asked(headers) {
            return None;
        }
        let parsed = Overrides {
            on: reasons(headers, &x_envoy::RETRY_ON, false) | reasons(headers, &x_envoy::RETRY_GRPC_ON, true),
            max_retries: x_envoy::number(headers, &x_envoy::MAX_RETRIES),
            status_codes: x_envoy::items(headers, &x_envoy::RETRIABLE_STATUS_CODES)
                .filter_map(|code| code.parse().ok())
                .collect(),
            header_names: x_envoy::items(headers, &x_envoy::RETRIABLE_HEADER_NAMES)
                .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
                .collect(),
        };
        (parsed != Overrides::default()).then_some(parsed)
    }
}

/// Either header has names of its own.
fn reasons(headers: &HeaderMap, name: &HeaderName, of_grpc: bool) -> RetryOn {
    let grpc = RetryOn::CANCELLED
        | RetryOn::DEADLINE_EXCEEDED
        | RetryOn::INTERNAL
        | RetryOn::RESOURCE_EXHAUSTED
        | RetryOn::UNAVAILABLE;
    x_envoy::items(headers, name)
        .filter_map(RetryOn::named)
        .filter(|reason| reason.has(grpc) == of_grpc)
        .fold(RetryOn::NONE, |all, reason| all | reason)
}
