//! The webhooks' own certificate authority: whom the API server trusts when it asks.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Of a serving certificate.
pub(super) const SERVING_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Certificates count seconds; a clock from before 1970 is taken for 1970.
macro_rules! date {
    ($time:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + ($time).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    };
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
    /// The one before: what it has issued is trusted until it is replaced.
    pub(super) previous_pem: Option<String>,
    pub(super) expires: SystemTime,
}

impl Authority {
    pub(super) fn create(now: SystemTime, previous_pem: Option<String>) -> anyhow::Result<Authority> {
        let key = KeyPair::generate()?;
        let mut params = params()?;
        let expires = now + AUTHORITY_LIFE;
        (params.not_before, params.not_after) = (date!(now - DAY), date!(expires));
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Authority { certificate_pem, key_pem: key.serialize_pem(), previous_pem, expires })
    }

    /// Whether the next one is to be made.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        self.expires.duration_since(now).is_ok_and(|left| left < AUTHORITY_LIFE / 3) || self.expires <= now
    }

    /// What the API server is to trust.
    pub(super) fn bundle(&self) -> String {
        let previous = self.previous_pem.as_deref().unwrap_or_default();
        format!("{}{previous}", self.certificate_pem)
    }

    /// A new certificate for a server of these names.
    pub(super) fn issue(&self, names: &[String], now: SystemTime) -> anyhow::Result<CertifiedKey> {
        let own = KeyPair::from_pem(&self.key_pem).context("the authority's key")?;
        let issuer = Issuer::new(params()?, own);
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name.push(DnType::CommonName, "weft webhooks");
        leaf.use_authority_key_identifier_extension = true;
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A clock may be wrong by a day.
        (leaf.not_before, leaf.not_after) = (date!(now - DAY), date!(now + SERVING_LIFE));
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;
        let authority =
            CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).context("the authority's certificate")?;
        let chain = vec![certificate.der().clone(), authority];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?)
    }
}

/// The same for every authority of ours, so that one can be put together again from its key.
fn params() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "weft webhooks' authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
