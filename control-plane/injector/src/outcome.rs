//! What can come of a pod.

use serde_json::Value;
use std::fmt;

/// What became of a pod that was not refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Injected(Injected),
    /// It stays exactly as it is.
    Left {
        reason: Reason,
        warnings: Vec<String>,
    },
}

/// A pod with its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    pub pod: Value,
    /// For the author: what is likely not meant, or not acted on.
    pub warnings: Vec<String>,
}

/// Why a pod is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody asked for a sidecar, or somebody asked for none.
    NotAsked(String),
    /// It is in the node's network, where interception would catch everybody's traffic.
    HostNetwork,
    AlreadyInjected,
    /// Istio's sidecar is in it; two would intercept each other.
    OtherMesh,
    /// It runs on Windows; the sidecar is a Linux program.
    Windows,
    /// The namespace is one that the mesh itself, or the cluster, needs to start.
    SystemNamespace(String),
    /// It is not shaped as pods are.
    NotUnderstood(String),
}

impl Reason {
    /// Whether the author of the pod ought to hear of it: nobody chose it.
    pub fn is_a_surprise(&self) -> bool {
        matches!(self, Reason::NotUnderstood(_) | Reason::OtherMesh | Reason::Windows)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NotAsked(why) => f.write_str(why),
            Reason::HostNetwork => f.write_str("the pod is in the node's network (hostNetwork: true)"),
            Reason::AlreadyInjected => f.write_str("the pod has its sidecar already"),
            Reason::OtherMesh => f.write_str("the pod has Istio's sidecar already (sidecar.istio.io/status)"),
            Reason::Windows => f.write_str("the pod runs on Windows, the sidecar on Linux"),
            Reason::SystemNamespace(name) => write!(f, "namespace {name} never gets sidecars"),
            Reason::NotUnderstood(why) => write!(f, "the pod is not understood: {why}"),
        }
    }
}

/// Every annotation that cannot be meant, each in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub problems: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sidecar cannot be injected: {}", self.problems.join("; "))
    }
}

impl std::error::Error for Refusal {}
