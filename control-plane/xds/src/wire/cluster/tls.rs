//! TLS towards endpoints: Envoy's `UpstreamTlsContext`, its authorities inline.
//!
//! Normal form: there is at least one name to match, and authorities that are inline are not empty: without either Envoy would
//! believe everybody. ALPN follows from what the cluster speaks.

use super::super::parts::{self, At, Decoded, apart, each, refuse, required};
use super::super::secret;
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use tls::certificate_validation_context::SystemRootCerts;
use tls::common_tls_context::ValidationContextType;
use tls::subject_alt_name_matcher::SanType;
use weft_model::Cluster;
use weft_model::cluster::{PeerName, Protocol, Trust, UpstreamTls};

const TLS_SOCKET: &str = "envoy.transport_sockets.tls";

pub(super) fn encode(cluster: &Cluster) -> Option<TransportSocket> {
    let upstream = cluster.tls.as_ref()?;
    let mut validation = tls::CertificateValidationContext {
        match_typed_subject_alt_names: upstream.names.iter().map(encode_name).collect(),
        ..Default::default()
    };
    match &upstream.trust {
        Trust::System => validation.system_root_certs = Some(SystemRootCerts {}),
        Trust::Authorities(pem) => validation.trusted_ca = secret::inline(pem),
    }
    let alpn: &[&str] = match cluster.protocol {
        Protocol::Http1 => &["http/1.1"],
        Protocol::Http2 => &["h2"],
        Protocol::Downstream => &["h2", "http/1.1"],
    };
    let certificates = upstream.certificate.iter();
    let context = tls::UpstreamTlsContext {
        sni: upstream.server_name.clone(),
        common_tls_context: Some(tls::CommonTlsContext {
            alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
            tls_certificate_sds_secret_configs: certificates
                .map(|name| tls::SdsSecretConfig { name: name.clone(), sds_config: parts::over_ads() })
                .collect(),
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(TransportSocket {
        name: TLS_SOCKET.into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(parts::pack(&context))),
    })
}

fn encode_name(name: &PeerName) -> tls::SubjectAltNameMatcher {
    let (kind, pattern) = match name {
        PeerName::Dns(name) => match name.strip_prefix('*') {
            Some(suffix) => (SanType::Dns, MatchPattern::Suffix(suffix.to_owned())),
            None => (SanType::Dns, MatchPattern::Exact(name.clone())),
        },
        PeerName::Uri(uri) => (SanType::Uri, MatchPattern::Exact(uri.clone())),
    };
    tls::SubjectAltNameMatcher {
        san_type: kind as i32,
        matcher: Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    }
}

pub(super) fn decode(socket: TransportSocket) -> Decoded<Option<UpstreamTls>> {
    let transport_socket::ConfigType::TypedConfig(config) = required("typed_config", socket.config_type)?;
    if config.type_url.ends_with("/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer") {
        return Ok(None);
    }
    parts::unpack(&config).and_then(read).map(Some).at("typed_config")
}

fn read(context: tls::UpstreamTlsContext) -> Decoded<UpstreamTls> {
    apart!(context => tls::UpstreamTlsContext {
        read: common_tls_context, sni;
        ignored: max_session_keys, enforce_rsa_key_usage;
        refused: auto_host_sni, auto_sni_san_validation, allow_renegotiation
    });
    let common = required("common_tls_context", common_tls_context)?;
    read_common(sni, common).at("common_tls_context")
}

fn read_common(server_name: String, common: tls::CommonTlsContext) -> Decoded<UpstreamTls> {
    apart!(common => tls::CommonTlsContext {
        read: tls_certificate_sds_secret_configs, validation_context_type;
        ignored: alpn_protocols;
        refused: tls_params, tls_certificates, tls_certificate_provider_instance, custom_tls_certificate_selector, tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance, custom_handshaker, key_log
    });
    let mut certificates = each("tls_certificate_sds_secret_configs", tls_certificate_sds_secret_configs, |secret| {
        parts::check_over_ads("sds_config", secret.sds_config)?;
        if secret.name.is_empty() { refuse("name", "is empty") } else { Ok(secret.name) }
    })?;
    if certificates.len() > 1 {
        return refuse("tls_certificate_sds_secret_configs", "one is supported by this proxy");
    }
    let Some(ValidationContextType::ValidationContext(validation)) = validation_context_type else {
        return refuse("validation_context", "is missing: this proxy does not believe everybody");
    };
    let (trust, names) = read_validation(validation).at("validation_context")?;
    Ok(UpstreamTls { server_name, trust, names, certificate: certificates.pop() })
}

fn read_validation(context: tls::CertificateValidationContext) -> Decoded<(Trust, Vec<PeerName>)> {
    apart!(context => tls::CertificateValidationContext {
        read: trusted_ca, system_root_certs, match_typed_subject_alt_names;
        ignored: suppress_client_ca_list, only_verify_leaf_cert_crl;
        refused: ca_certificate_provider_instance, watched_directory, verify_certificate_spki, verify_certificate_hash, match_subject_alt_names, require_signed_certificate_timestamp, crl, allow_expired_certificate, trust_chain_verification, custom_validator_config, max_verify_depth
    });
    let trust = match (trusted_ca, system_root_certs) {
        (None, Some(_)) => Trust::System,
        (trusted_ca, None) => Trust::Authorities(secret::read_inline("trusted_ca", trusted_ca)?),
        (Some(_), Some(_)) => return refuse("system_root_certs", "stands beside trusted_ca"),
    };
    if trust == Trust::Authorities(String::new()) {
        return refuse("trusted_ca", "is empty");
    }
    let names = each("match_typed_subject_alt_names", match_typed_subject_alt_names, read_name)?;
    match names.is_empty() {
        true => refuse("match_typed_subject_alt_names", "is empty: any certificate of the authorities would do"),
        false => Ok((trust, names)),
    }
}

fn read_name(matcher: tls::SubjectAltNameMatcher) -> Decoded<PeerName> {
    let pattern = matcher.matcher.filter(|matcher| !matcher.ignore_case).and_then(|matcher| matcher.match_pattern);
    match (SanType::try_from(matcher.san_type), pattern) {
        (Ok(SanType::Dns), Some(MatchPattern::Exact(name))) => Ok(PeerName::Dns(name)),
        (Ok(SanType::Dns), Some(MatchPattern::Suffix(suffix))) if suffix.starts_with('.') => {
            Ok(PeerName::Dns(format!("*{suffix}")))
        }
        (Ok(SanType::Uri), Some(MatchPattern::Exact(uri))) => Ok(PeerName::Uri(uri)),
        _ => refuse("", "only DNS (exact, or a suffix that begins with a dot) and URI (exact) are supported"),
    }
}
