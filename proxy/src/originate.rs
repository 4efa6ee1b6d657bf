//! TLS towards upstreams: whom to believe, and what to show.
//!
//! An upstream proves by its certificate that it is one of the names that its cluster is to have; which name the handshake asks
//! for is another matter (BackendTLSPolicy allows both), so names are checked here and not by rustls.

use crate::connect::Speaks;
use crate::tls::{self, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::EndEntityCert;
use weft_model::cluster::{PeerName, Trust, UpstreamTls};

/// How a cluster's endpoints are spoken to.
#[derive(Debug)]
pub(crate) struct Originator {
    /// `None`: what is to be asked for is no name.
    server_name: Option<ServerName<'static>>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    opaque: Arc<ClientConfig>,
    key: Option<Arc<CertifiedKey>>,
}

impl Originator {
    pub(crate) fn new(spec: &UpstreamTls, key: Option<Arc<CertifiedKey>>) -> Originator {
        let roots = match &spec.trust {
            Trust::System => system_roots(),
            Trust::Authorities(pem) => Arc::new(tls::roots(pem)),
        };
        let verifier = Arc::new(ByName {
            roots,
            names: spec.names.clone(),
            algorithms: provider().signature_verification_algorithms,
        });
        let builder = ClientConfig::builder_with_provider(Arc::new(provider().clone()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default protocol versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let opaque = match &key {
            Some(key) => builder.with_client_cert_resolver(Arc::new(Shown(key.clone()))),
            None => builder.with_no_client_auth(),
        };
        let with = |alpn: &[u8]| {
            let mut config = opaque.clone();
            config.alpn_protocols = vec![alpn.to_vec()];
            Arc::new(config)
        };
        let server_name = ServerName::try_from(spec.server_name.clone()).ok();
        Originator { server_name, http1: with(b"http/1.1"), http2: with(b"h2"), opaque: Arc::new(opaque), key }
    }

    /// Whether it shows the same certificate.
    pub(crate) fn shows(&self, key: Option<&Arc<CertifiedKey>>) -> bool {
        match (&self.key, key) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        }
    }

    pub(crate) async fn handshake(&self, stream: TcpStream, speaks: Speaks) -> io::Result<TlsStream<TcpStream>> {
        let config = match speaks {
            Speaks::Http1 => &self.http1,
            Speaks::Http2 => &self.http2,
            Speaks::Anything => &self.opaque,
        };
        let Some(name) = self.server_name.clone() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the cluster's server name is none"));
        };
        TlsConnector::from(config.clone()).connect(name, stream).await
    }
}

/// Read once in the life of the process.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "an authority of this machine cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    };
    ROOTS.get_or_init(read).clone()
}

/// The one certificate, whatever is asked for.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes whom one of the roots vouches for, if it is one of the names.
#[derive(Debug)]
struct ByName {
    roots: Arc<RootCertStore>,
    names: Vec<PeerName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ByName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, self.algorithms.all)?;
        let names = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let is = |name: &PeerName| match name {
            PeerName::Uri(uri) => names.valid_uri_names().any(|own| own == uri),
            PeerName::Dns(name) => match name.strip_prefix('*') {
                Some(suffix) => names.valid_dns_names().any(|own| own.ends_with(suffix)),
                None => ServerName::try_from(name.as_str())
                    .is_ok_and(|name| verify_server_name(&certificate, &name).is_ok()),
            },
        };
        match self.names.iter().any(is) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
