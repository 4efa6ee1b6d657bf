//! A TLS certificate with its key.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A server certificate chain and its private key, both PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// `kubernetes://namespace/name`, as Istio and others name them in SDS.
    pub name: String,
    pub certificate_chain: String,
    #[serde(skip_serializing, default)]
    pub private_key: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("private_key", &"[redacted]").finish_non_exhaustive()
    }
}
