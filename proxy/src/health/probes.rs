//! The app's probes, as the injector hands them over: JSON in `WEFT_APP_PROBES`.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// Kubernetes' default for a probe; a hook is an errand of its own.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// More than any probe of Kubernetes' is given by people who mean it.
const MOST: Duration = Duration::from_secs(100);

/// By their path at the sidecar: `/app-health/order/livez`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppProbes(pub(super) BTreeMap<String, Probe>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) ask: Ask,
    pub(super) timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Ask {
    HttpGet(HttpGet),
    TcpSocket {
        port: u16,
    },
    Grpc {
        port: u16,
        #[serde(default)]
        service: Option<String>,
    },
    Farewell(Farewell),
}

/// The app goes on until those who call it have heard that its pod ends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Farewell {
    /// For callers that are not in the mesh, and hear of it in another way.
    pub(super) at_least_seconds: u64,
    pub(super) at_most_seconds: u64,
}

/// Kubernetes' HTTPGetAction.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpGet {
    #[serde(default)]
    pub(super) path: String,
    pub(super) port: u16,
    #[serde(default)]
    pub(super) scheme: Scheme,
    #[serde(default)]
    pub(super) http_headers: Vec<Header>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Scheme {
    #[default]
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Header {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
}

/// As it is written; then as it is meant.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(flatten)]
    ask: Ask,
    timeout_seconds: Option<u64>,
}

impl FromStr for AppProbes {
    type Err = String;

    fn from_str(text: &str) -> Result<AppProbes, String> {
        let written: BTreeMap<String, Written> = serde_json::from_str(text).map_err(|error| {
            format!("{error}; write {{\"/app-health/order/livez\": {{\"httpGet\": {{\"path\": \"/live\", \"port\": 8080}}}}}}")
        })?;
        let probes = written.into_iter().map(|(path, Written { ask, timeout_seconds })| {
            let usual = if path.starts_with("/app-lifecycle/") { HOOK_TIMEOUT } else { PROBE_TIMEOUT };
            let timeout = timeout_seconds.map_or(usual, Duration::from_secs).min(MOST);
            (path, Probe { ask, timeout })
        });
        Ok(AppProbes(probes.collect()))
    }
}
