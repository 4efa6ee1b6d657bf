//! Which callers are let in, by the certificate that they show, and what is said of those who are not.

use super::{provider, roots};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::VerifierBuilderError;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::io;
use std::sync::Arc;
use weft_model::listener::ClientValidation;

/// Fails where none of the authorities can be read.
pub(super) fn verifier(
    clients: Option<&ClientValidation>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let Some(clients) = clients else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let provider = Arc::new(provider().clone());
    let roots = Arc::new(roots(&clients.authorities));
    let strict = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
    Ok(if clients.required { strict } else { Arc::new(Anybody(strict)) })
}

/// Asks as the strict one would, and lets everybody in. Nothing that a caller shows is believed, so neither is its proof that it has
/// the key: a certificate too odd to be read is not turned away either.
#[derive(Debug)]
struct Anybody(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// In words, where a handshake failed for the caller's certificate, or for want of one.
pub(super) fn refusal(error: &io::Error) -> Option<String> {
    match error.get_ref()?.downcast_ref()? {
        Error::NoCertificatesPresented => {
            Some("the caller showed no certificate, which this listener asks for".to_owned())
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Some("no authority of this listener vouches for the caller's certificate".to_owned())
        }
        Error::InvalidCertificate(error) => Some(format!("the caller's certificate is not believed: {error}")),
        _ => None,
    }
}
