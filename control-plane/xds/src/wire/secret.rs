//! Certificates: a `Secret` with an inline `TlsCertificate`.

use super::DecodeError;
use super::parts::{At, Decoded, apart, refuse};
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use weft_model::Secret;

pub(super) fn encode(secret: &Secret) -> tls::Secret {
    let certificate = tls::TlsCertificate {
        certificate_chain: inline(&secret.certificate_chain),
        private_key: inline(&secret.private_key),
        ..Default::default()
    };
    tls::Secret { name: secret.name.clone(), r#type: Some(tls::secret::Type::TlsCertificate(certificate)) }
}

pub(super) fn decode(secret: tls::Secret) -> Decoded<Secret> {
    let Some(tls::secret::Type::TlsCertificate(certificate)) = secret.r#type else {
        return refuse("type", "only a tls_certificate is supported");
    };
    let (certificate_chain, private_key) = read_certificate(certificate).at("tls_certificate")?;
    Ok(Secret { name: secret.name, certificate_chain, private_key })
}

fn read_certificate(certificate: tls::TlsCertificate) -> Decoded<(String, String)> {
    apart!(certificate => tls::TlsCertificate {
        read: certificate_chain, private_key;
        ignored: ocsp_staple, signed_certificate_timestamp;
        refused: pkcs12, watched_directory, private_key_provider, password, tls_params
    });
    Ok((read_inline("certificate_chain", certificate_chain)?, read_inline("private_key", private_key)?))
}

pub(super) fn inline(text: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineString(text.into())), ..Default::default() })
}

/// Errors never quote what they read: it may be a key.
pub(super) fn read_inline(field: &str, source: Option<DataSource>) -> Decoded<String> {
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineString(text)) => Ok(text),
        Some(Specifier::InlineBytes(bytes)) => {
            String::from_utf8(bytes).map_err(|_| DecodeError::new(field, "is no PEM text"))
        }
        _ => refuse(field, "only inline_string and inline_bytes are supported"),
    }
}
