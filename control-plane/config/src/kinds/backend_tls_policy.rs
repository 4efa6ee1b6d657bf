//! `gateway.networking.k8s.io/v1` BackendTLSPolicy: a Service is spoken to over TLS, and must prove who it is.

use super::{AuthorityRef, Hostname, PolicyTarget, local_authority_ref, policy_targets};
use crate::read::{Cursor, Fields, one_of, precise_hostname, sized, texts};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTlsPolicy {
    /// Services, perhaps a named port of theirs; 1 to 16.
    pub target_refs: Vec<PolicyTarget>,
    /// What is asked for in the handshake, and what the certificate must be for unless there are `subject_alt_names`.
    pub hostname: Hostname,
    pub trust: BackendTrust,
    /// Any of them; at most 5.
    pub subject_alt_names: Vec<AltName>,
}

/// Whose signature is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendTrust {
    /// `wellKnownCACertificates: System`.
    System,
    /// 1 to 8 ConfigMaps or Secrets of the policy's namespace, with `ca.crt`.
    Authorities(Vec<AuthorityRef>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AltName {
    /// Perhaps with a wildcard.
    Hostname(String),
    Uri(String),
}

pub(crate) fn read_backend_tls_policy(f: &mut Fields<'_>) -> Option<BackendTlsPolicy> {
    f.must("spec", |at| at.fields(spec)).flatten()
}

fn spec(f: &mut Fields<'_>) -> Option<BackendTlsPolicy> {
    f.later("options", texts);
    let target_refs = policy_targets(f, true);
    let (hostname, trust, subject_alt_names) = f.must("validation", |at| at.fields(validation).flatten())?;
    Some(BackendTlsPolicy { target_refs, hostname, trust, subject_alt_names })
}

fn validation(f: &mut Fields<'_>) -> Option<(Hostname, BackendTrust, Vec<AltName>)> {
    let hostname = f.must("hostname", precise_hostname);
    let authorities = f.list("caCertificateRefs", 0..=8, authority);
    let well_known = f.opt("wellKnownCACertificates", one_of(&[("System", BackendTrust::System)]));
    let subject_alt_names = f.list("subjectAltNames", 0..=5, alt_name);
    let trust = match (well_known, authorities.is_empty()) {
        (Some(system), true) => Some(system),
        (None, false) => Some(BackendTrust::Authorities(authorities)),
        (Some(_), false) => {
            f.wrong("wellKnownCACertificates", "stands beside `caCertificateRefs`", "keep one of the two");
            None
        }
        (None, true) if f.has("wellKnownCACertificates") => None,
        (None, true) => f.missing("caCertificateRefs", "write it, or wellKnownCACertificates: System"),
    };
    Some((hostname?, trust?, subject_alt_names))
}

fn authority(at: &Cursor<'_>) -> Option<AuthorityRef> {
    at.fields(|f| local_authority_ref(f, None))
}

fn alt_name(at: &Cursor<'_>) -> Option<AltName> {
    at.fields(|f| {
        let is_uri = f.must("type", one_of(&[("Hostname", false), ("URI", true)]));
        let name = f.opt("hostname", crate::read::hostname);
        let uri = f.opt("uri", sized(1, 253));
        match is_uri? {
            true if f.has("uri") && !f.has("hostname") => uri.map(AltName::Uri),
            false if f.has("hostname") && !f.has("uri") => name.map(|name| AltName::Hostname(name.as_str().to_owned())),
            true => f.cursor.error("of type URI needs `uri` and nothing else", "write uri: spiffe://…"),
            false => f.cursor.error("of type Hostname needs `hostname` and nothing else", "write hostname:"),
        }
    })?
}
