//! `v1` Secret: certificates for TLS listeners. What else a Secret holds is neither kept nor shown.

use crate::Place;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque`, ….
    pub kind: String,
    /// A whole pair, `tls.crt` and `tls.key`: there always with `kubernetes.io/tls`, and for other types when both keys are there.
    pub tls: Option<TlsPair>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct TlsPair {
    /// The place of `tls.crt`.
    pub place: Place,
    /// PEM: one certificate or more.
    pub certificate_chain: String,
    /// PEM: one private key (PKCS#8, PKCS#1 or SEC1).
    pub private_key: String,
}

impl fmt::Debug for TlsPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPair")
            .field("place", &self.place)
            .field("private_key", &"[redacted]")
            .finish_non_exhaustive()
    }
}
