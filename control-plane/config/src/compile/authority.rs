//! What a caCertificateRef comes to: the certificates of authorities, which ConfigMaps and Secrets hold.
//!
//! Nobody may be believed by mistake: a reference that comes to nothing is a [`Refusal`], and where all of them do, whoever asks is
//! told so and closes the door.

use super::index::{Index, Reference};
use crate::Key;
use crate::kinds::AuthorityRef;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;

/// Why an authority comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownKind { kind: String },
    NotGranted { from_kind: String, from_namespace: String, kind: String, namespace: String, name: String },
    NoAuthority { kind: String, namespace: String, name: String },
    NoCertificate { kind: String, namespace: String, name: String },
    NoAnchor { kind: String, namespace: String, name: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownKind { kind } => {
                write!(f, "authorities of kind {kind} are not known; write a ConfigMap or a Secret")
            }
            Refusal::NotGranted { from_kind, from_namespace, kind, namespace, name } => write!(
                f,
                "namespace {namespace} does not grant {from_kind}s of {from_namespace} its {kind} {name} (no ReferenceGrant)"
            ),
            Refusal::NoAuthority { kind, namespace, name } => write!(f, "there is no {kind} {namespace}/{name}"),
            Refusal::NoCertificate { kind, namespace, name } => {
                write!(f, "{kind} {namespace}/{name} has no certificate under the key ca.crt")
            }
            Refusal::NoAnchor { kind, namespace, name } => {
                write!(f, "what {kind} {namespace}/{name} has under the key ca.crt is no certificate in PEM")
            }
        }
    }
}

/// All that are to be had, in one PEM; `Err` when there are none. `from`: the object that refers to them.
pub(crate) fn bundle(index: &Index, from: &Key, references: &[AuthorityRef]) -> Result<String, Vec<Refusal>> {
    let (mut pem, mut refused) = (String::new(), Vec::new());
    for reference in references {
        match resolve(index, from, reference) {
            Ok(found) => pem.extend([found.trim_end(), "\n"]),
            Err(refusal) => refused.push(refusal),
        }
    }
    if pem.is_empty() { Err(refused) } else { Ok(pem) }
}

/// An authority's certificates, PEM. `from`: the object that refers to it.
pub(crate) fn resolve<'i>(index: &'i Index, from: &Key, reference: &AuthorityRef) -> Result<&'i str, Refusal> {
    let (kind, name) = (reference.kind.clone(), reference.name.clone());
    let namespace = reference.namespace.as_ref().unwrap_or(&from.namespace).clone();
    let is_map = match (reference.group.as_str(), kind.as_str()) {
        ("" | "core", "ConfigMap") => true,
        ("" | "core", "Secret") => false,
        _ => return Err(Refusal::UnknownKind { kind }),
    };
    let crossing = Reference {
        from_kind: from.kind.as_str(),
        from_namespace: &from.namespace,
        to_kind: &kind,
        to_namespace: &namespace,
        to_name: &name,
    };
    if !index.is_granted(&crossing) {
        let (from_kind, from_namespace) = (from.kind.as_str().to_owned(), from.namespace.clone());
        return Err(Refusal::NotGranted { from_kind, from_namespace, kind, namespace, name });
    }
    let found = match is_map {
        true => index.config_map(&namespace, &name).map(|found| &found.ca_certificates),
        false => index.secret(&namespace, &name).map(|found| &found.ca_certificates),
    };
    match found.map(Option::as_deref) {
        None => Err(Refusal::NoAuthority { kind, namespace, name }),
        Some(None) => Err(Refusal::NoCertificate { kind, namespace, name }),
        Some(Some(pem)) if !has_anchor(pem) => Err(Refusal::NoAnchor { kind, namespace, name }),
        Some(Some(pem)) => Ok(pem),
    }
}

/// Whether a data plane can believe anybody by it: all of it is PEM, and at least one certificate can be read.
fn has_anchor(pem: &str) -> bool {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let is_anchor = |certificate: &CertificateDer<'_>| webpki::anchor_from_trusted_cert(certificate).is_ok();
    certificates.is_ok_and(|certificates| certificates.iter().any(is_anchor))
}

#[cfg(test)]
pub(crate) mod tests;
