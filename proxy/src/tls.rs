//! Terminating TLS with the certificate that fits the name the caller asked for.

mod clients;

use crate::telemetry::metrics::Counters;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use weft_model::Secret;
use weft_model::listener::TlsTermination;

/// TLS handshakes must end within this.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a listener cannot terminate TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the certificate chain is not valid PEM: {0}")]
    Chain(rustls::pki_types::pem::Error),
    #[error("there is no certificate in the chain")]
    NoCertificate,
    #[error("the private key is not valid PEM: {0}")]
    Key(rustls::pki_types::pem::Error),
    #[error("certificate and key cannot be used: {0}")]
    Unusable(rustls::Error),
    #[error("callers cannot be asked who they are: {0}")]
    Authorities(rustls::server::VerifierBuilderError),
}

/// A certificate with its key, ready to be served.
pub(crate) fn certified(secret: &Secret) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(secret.certificate_chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(TlsError::Chain)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(secret.private_key.as_bytes()).map_err(TlsError::Key)?;
    let certified = CertifiedKey::from_der(chain, key, provider()).map_err(TlsError::Unusable)?;
    Ok(Arc::new(certified))
}

/// What a listener's chain terminates TLS with. No session of one is resumed with another, so whom it believes counts from the next
/// handshake on.
pub(crate) fn server_config(
    termination: &TlsTermination,
    keys: Vec<Arc<CertifiedKey>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = clients::verifier(termination.clients.as_ref()).map_err(TlsError::Authorities)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider().clone()))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(ByName(keys)));
    config.alpn_protocols = termination.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// Believes nobody where the text is no PEM.
pub(crate) fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    roots
}

/// A handshake that fails is counted, and said in words.
pub(crate) async fn accept<S>(config: Arc<ServerConfig>, stream: S, counters: &Counters) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
    let error = match handshake {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => error,
        Err(elapsed) => elapsed.into(),
    };
    counters.tls_handshake_failures.one();
    let refusal = clients::refusal(&error);
    if refusal.is_some() {
        counters.client_certificate_failures.one();
    }
    let why = refusal.unwrap_or_else(|| error.to_string());
    Err(io::Error::new(error.kind(), format!("the TLS handshake failed: {why}")))
}

pub(crate) fn provider() -> &'static CryptoProvider {
    CryptoProvider::get_default().map_or_else(
        || {
            // Losing this race means that somebody else installed one, which serves as well.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            CryptoProvider::get_default().expect("one was installed just now")
        },
        Arc::as_ref,
    )
}

/// The first certificate that is valid for the name, else the first.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = || {
            let name = ServerName::try_from(hello.server_name()?).ok()?;
            self.0.iter().find(|key| is_valid_for(key, &name))
        };
        match self.0.as_slice() {
            [only] => Some(only.clone()),
            _ => named().or(self.0.first()).cloned(),
        }
    }
}

fn is_valid_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|certificate| rustls::client::verify_server_name(&certificate, name))
        .is_ok()
}
