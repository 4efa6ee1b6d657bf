//! What a listener's certificateRef comes to.

use super::index::{Index, Reference};
use crate::Key;
use crate::kinds::{CertificateRef, GatewayListener, TlsPair};
use std::fmt;
use weft_model::Secret;

/// Why a certificateRef came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownKind { kind: String },
    NotGranted { from_kind: String, from_namespace: String, namespace: String, name: String },
    NoSecret { namespace: String, name: String },
    NoPair { namespace: String, name: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownKind { kind } => write!(f, "a certificate of kind {kind} is not known; write a Secret"),
            Refusal::NotGranted { from_kind, from_namespace, namespace, name } => write!(
                f,
                "namespace {namespace} does not grant {from_kind}s of {from_namespace} its Secret {name} (no ReferenceGrant)"
            ),
            Refusal::NoSecret { namespace, name } => write!(f, "there is no Secret {namespace}/{name}"),
            Refusal::NoPair { namespace, name } => {
                write!(f, "Secret {namespace}/{name} has no certificate: it needs tls.crt and tls.key")
            }
        }
    }
}

/// `from`: the Gateway or ListenerSet that refers to it.
pub(crate) fn resolve<'i>(index: &'i Index, from: &Key, reference: &CertificateRef) -> Result<&'i TlsPair, Refusal> {
    if !(matches!(reference.group.as_str(), "" | "core") && reference.kind == "Secret") {
        return Err(Refusal::UnknownKind { kind: reference.kind.clone() });
    }
    let (namespace, name) = full_name(from, reference);
    let crossing = Reference {
        from_kind: from.kind.as_str(),
        from_namespace: &from.namespace,
        to_kind: "Secret",
        to_namespace: &namespace,
        to_name: &name,
    };
    if !index.is_granted(&crossing) {
        let (from_kind, from_namespace) = (from.kind.as_str().to_owned(), from.namespace.clone());
        return Err(Refusal::NotGranted { from_kind, from_namespace, namespace, name });
    }
    match index.secret(&namespace, &name) {
        None => Err(Refusal::NoSecret { namespace, name }),
        Some(secret) => secret.tls.as_ref().ok_or(Refusal::NoPair { namespace, name }),
    }
}

/// Those of a Gateway's listener that are to be had, as a data plane gets them.
pub(crate) fn secrets(index: &Index, gateway: &Key, listener: &GatewayListener) -> Vec<Secret> {
    let references = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
    references.filter_map(|reference| secret(index, listener.owner(gateway), reference).ok()).collect()
}

/// The certificate as a data plane gets it.
pub(crate) fn secret(index: &Index, from: &Key, reference: &CertificateRef) -> Result<Secret, Refusal> {
    let pair = resolve(index, from, reference)?;
    let (namespace, name) = full_name(from, reference);
    Ok(Secret {
        name: format!("kubernetes://{namespace}/{name}"),
        certificate_chain: pair.certificate_chain.clone(),
        private_key: pair.private_key.clone(),
    })
}

fn full_name(from: &Key, reference: &CertificateRef) -> (String, String) {
    (reference.namespace.as_ref().unwrap_or(&from.namespace).clone(), reference.name.clone())
}
