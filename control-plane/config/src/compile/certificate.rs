//! What a listener's certificateRef comes to.

use super::index::{Index, Reference};
use crate::kinds::{CertificateRef, GatewayListener, TlsPair};
use std::fmt;
use weft_model::Secret;

/// Why a certificateRef came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownKind { kind: String },
    NotGranted { from_namespace: String, namespace: String, name: String },
    NoSecret { namespace: String, name: String },
    NoPair { namespace: String, name: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::UnknownKind { kind } => write!(f, "a certificate of kind {kind} is not known; write a Secret"),
            Refusal::NotGranted { from_namespace, namespace, name } => write!(
                f,
                "namespace {namespace} does not grant Gateways of {from_namespace} its Secret {name} (no ReferenceGrant)"
            ),
            Refusal::NoSecret { namespace, name } => write!(f, "there is no Secret {namespace}/{name}"),
            Refusal::NoPair { namespace, name } => {
                write!(f, "Secret {namespace}/{name} has no certificate: it needs tls.crt and tls.key")
            }
        }
    }
}

pub(crate) fn resolve<'i>(
    index: &'i Index,
    gateway_namespace: &str,
    reference: &CertificateRef,
) -> Result<&'i TlsPair, Refusal> {
    if !(matches!(reference.group.as_str(), "" | "core") && reference.kind == "Secret") {
        return Err(Refusal::UnknownKind { kind: reference.kind.clone() });
    }
    let (namespace, name) = full_name(gateway_namespace, reference);
    let crossing = Reference {
        from_kind: "Gateway",
        from_namespace: gateway_namespace,
        to_kind: "Secret",
        to_namespace: &namespace,
        to_name: &name,
    };
    if !index.is_granted(&crossing) {
        return Err(Refusal::NotGranted { from_namespace: gateway_namespace.to_owned(), namespace, name });
    }
    match index.secret(&namespace, &name) {
        None => Err(Refusal::NoSecret { namespace, name }),
        Some(secret) => secret.tls.as_ref().ok_or(Refusal::NoPair { namespace, name }),
    }
}

/// Those of a listener that are to be had, as a data plane gets them.
pub(crate) fn secrets(index: &Index, gateway_namespace: &str, listener: &GatewayListener) -> Vec<Secret> {
    let references = listener.tls.iter().flat_map(|tls| &tls.certificate_refs);
    references.filter_map(|reference| secret(index, gateway_namespace, reference).ok()).collect()
}

/// The certificate as a data plane gets it.
pub(crate) fn secret(index: &Index, gateway_namespace: &str, reference: &CertificateRef) -> Result<Secret, Refusal> {
    let pair = resolve(index, gateway_namespace, reference)?;
    let (namespace, name) = full_name(gateway_namespace, reference);
    Ok(Secret {
        name: format!("kubernetes://{namespace}/{name}"),
        certificate_chain: pair.certificate_chain.clone(),
        private_key: pair.private_key.clone(),
    })
}

fn full_name(gateway_namespace: &str, reference: &CertificateRef) -> (String, String) {
    (reference.namespace.as_deref().unwrap_or(gateway_namespace).to_owned(), reference.name.clone())
}
