//! `v1` Secret: certificates for TLS listeners. What else a Secret holds is neither kept nor shown.

use crate::Place;
use crate::read::{Cursor, Fields, text};
use crate::tree::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque`, ….
    pub kind: String,
    /// A whole pair, `tls.crt` and `tls.key`: there always with `kubernetes.io/tls`, and for other types when both keys are there.
    pub tls: Option<TlsPair>,
    /// `ca.crt`, as written.
    pub ca_certificates: Option<String>,
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

/// Values of a Secret never go into a message.
pub(crate) fn read_secret(f: &mut Fields<'_>) -> Option<Secret> {
    f.skip(&["immutable"]);
    let kind = f.opt("type", text).unwrap_or_else(|| "Opaque".into());
    let needed = kind == TLS_TYPE;
    let mut encoded = Pems::default();
    let mut plain = Pems::default();
    if let Some(data) = f.get("data") {
        encoded = pems(&data, Encoding::Base64);
    }
    if let Some(data) = f.get("stringData") {
        plain = pems(&data, Encoding::Plain);
    }
    // as the API server merges them: stringData wins
    let certificate = plain.certificate.or(encoded.certificate);
    let key = plain.key.or(encoded.key);
    if needed {
        for (name, there) in [("tls.crt", certificate.is_some()), ("tls.key", key.is_some())] {
            if !there {
                let message = format!("a Secret of type {TLS_TYPE} has no \"{name}\"");
                f.cursor.error::<()>(message, "write it as base64 in data, or as PEM in stringData");
            }
        }
    }
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => pair(&certificate, &key, needed),
        _ => None,
    };
    let ca_certificates = plain.authorities.or(encoded.authorities);
    Some(Secret { kind, tls, ca_certificates })
}

const TLS_TYPE: &str = "kubernetes.io/tls";

/// How the values of a mapping are written.
#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    Base64,
    Plain,
}

#[derive(Default)]
struct Pems<'a> {
    certificate: Option<Pem<'a>>,
    key: Option<Pem<'a>>,
    authorities: Option<String>,
}

struct Pem<'a> {
    at: Cursor<'a>,
    /// Nothing when it could not be decoded (and that was said).
    text: Option<String>,
}

/// Every value of `data` or `stringData` is checked for its encoding; three are kept.
fn pems<'a>(at: &Cursor<'a>, encoding: Encoding) -> Pems<'a> {
    let mut found = Pems::default();
    if let Value::Scalar(_) | Value::List(_) = &at.node.value {
        at.error::<()>("must be a mapping", "write `name: value` lines below it");
        return found;
    }
    for (name, value) in at.entries(|_, value| Some(value.clone())) {
        let text = decode(&value, encoding);
        match name.as_str() {
            "tls.crt" => found.certificate = Some(Pem { at: value, text }),
            "tls.key" => found.key = Some(Pem { at: value, text }),
            "ca.crt" => found.authorities = text,
            _ => {}
        }
    }
    found
}

/// `None` also for bytes that are no text: no PEM, and none of ours.
fn decode(at: &Cursor<'_>, encoding: Encoding) -> Option<String> {
    let Value::Scalar(scalar) = &at.node.value else {
        return at.error("must be text", "write one value");
    };
    if scalar.is_null() {
        return Some(String::new());
    }
    if encoding == Encoding::Plain {
        if scalar.is_number() || scalar.boolean().is_some() {
            return at.error("must be text, not a number or a boolean", "put it in quotes");
        }
        return Some(scalar.text.to_string());
    }
    let compact: String = scalar.text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    match STANDARD.decode(compact) {
        Ok(bytes) => String::from_utf8(bytes).ok(),
        Err(_) => at.error("is not base64", "encode it with `base64 -w0`, or write it plainly in stringData"),
    }
}

/// The pair, if both are what they should be. `strict`: it is an error when they are not.
fn pair(certificate: &Pem<'_>, key: &Pem<'_>, strict: bool) -> Option<TlsPair> {
    let (chain, private_key) = (certificate.text.as_ref()?, key.text.as_ref()?);
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let is_chain = certificates.is_ok_and(|certificates| !certificates.is_empty());
    let is_key = PrivateKeyDer::from_pem_slice(private_key.as_bytes()).is_ok();
    if strict && !is_chain {
        certificate.at.error::<()>(
            "holds no PEM certificate",
            "it begins with -----BEGIN CERTIFICATE----- (before base64, if it stands in data)",
        );
    }
    if strict && !is_key {
        key.at.error::<()>(
            "holds no PEM private key",
            "it begins with -----BEGIN PRIVATE KEY----- (before base64, if it stands in data), without a password",
        );
    }
    (is_chain && is_key).then(|| TlsPair {
        place: certificate.at.place(),
        certificate_chain: chain.clone(),
        private_key: private_key.clone(),
    })
}
