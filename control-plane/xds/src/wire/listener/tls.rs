//! TLS from callers: Envoy's `DownstreamTlsContext`, the authorities for their certificates inline.
//!
//! Normal form: authorities are not empty. Of Envoy's ways to ask for a certificate two are spoken: it must be there and be vouched
//! for, or it counts for nothing (`ACCEPT_UNTRUSTED`, and not required). One that may be missing but must not be wrong, and one that
//! must be there but may be anybody's, are refused.

use super::super::parts::{self, At, Decoded, apart, each, refuse, required};
use super::super::{Any, secret};
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use tls::certificate_validation_context::TrustChainVerification;
use tls::common_tls_context::ValidationContextType;
use weft_model::listener::{ClientValidation, TlsTermination};

const TLS_SOCKET: &str = "envoy.transport_sockets.tls";

pub(super) fn encode(termination: &TlsTermination) -> TransportSocket {
    let secrets = termination.secrets.iter();
    let clients = termination.clients.as_ref();
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_certificate_sds_secret_configs: secrets
                .map(|name| tls::SdsSecretConfig { name: name.clone(), sds_config: parts::over_ads() })
                .collect(),
            alpn_protocols: termination.alpn.clone(),
            validation_context_type: clients.map(encode_validation).map(ValidationContextType::ValidationContext),
            ..Default::default()
        }),
        require_client_certificate: clients.and_then(|clients| parts::yes_or_no(clients.required)),
        ..Default::default()
    };
    TransportSocket {
        name: TLS_SOCKET.into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(parts::pack(&context))),
    }
}

fn encode_validation(clients: &ClientValidation) -> tls::CertificateValidationContext {
    let verification = match clients.required {
        true => TrustChainVerification::VerifyTrustChain,
        false => TrustChainVerification::AcceptUntrusted,
    };
    tls::CertificateValidationContext {
        trusted_ca: secret::inline(&clients.authorities),
        trust_chain_verification: verification as i32,
        ..Default::default()
    }
}

pub(super) fn decode(socket: TransportSocket) -> Decoded<Option<TlsTermination>> {
    let transport_socket::ConfigType::TypedConfig(config) = required("typed_config", socket.config_type)?;
    if config.type_url.ends_with("/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer") {
        return Ok(None);
    }
    read(&config).map(Some).at("typed_config")
}

fn read(config: &Any) -> Decoded<TlsTermination> {
    apart!(parts::unpack::<tls::DownstreamTlsContext>(config)? => tls::DownstreamTlsContext {
        read: common_tls_context, require_client_certificate;
        ignored: disable_stateful_session_resumption, session_timeout, session_ticket_keys_type, ocsp_staple_policy,
            full_scan_certs_on_sni_mismatch, prefer_client_ciphers;
        refused: require_sni
    });
    let common = required("common_tls_context", common_tls_context)?;
    let termination = read_common(common).at("common_tls_context")?;
    let is_required = parts::is_true(&require_client_certificate);
    match &termination.clients {
        None if is_required => refuse("require_client_certificate", "needs authorities (trusted_ca)"),
        Some(clients) if clients.required != is_required => {
            refuse("require_client_certificate", "goes with VERIFY_TRUST_CHAIN, and only with that")
        }
        _ => Ok(termination),
    }
}

fn read_common(common: tls::CommonTlsContext) -> Decoded<TlsTermination> {
    apart!(common => tls::CommonTlsContext {
        read: tls_certificate_sds_secret_configs, alpn_protocols, validation_context_type;
        ignored: ;
        refused: tls_params, tls_certificates, tls_certificate_provider_instance, custom_tls_certificate_selector, tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance, custom_handshaker, key_log
    });
    let secrets = each("tls_certificate_sds_secret_configs", tls_certificate_sds_secret_configs, |secret| {
        parts::check_over_ads("sds_config", secret.sds_config)?;
        if secret.name.is_empty() { refuse("name", "is empty") } else { Ok(secret.name) }
    })?;
    let clients = match validation_context_type {
        None => None,
        Some(ValidationContextType::ValidationContext(context)) => {
            Some(read_validation(context).at("validation_context")?)
        }
        Some(_) => return refuse("validation_context_type", "only a validation_context is supported by this proxy"),
    };
    Ok(TlsTermination { secrets, alpn: alpn_protocols, clients })
}

fn read_validation(context: tls::CertificateValidationContext) -> Decoded<ClientValidation> {
    apart!(context => tls::CertificateValidationContext {
        read: trusted_ca, trust_chain_verification;
        ignored: suppress_client_ca_list, only_verify_leaf_cert_crl;
        refused: system_root_certs, match_typed_subject_alt_names, ca_certificate_provider_instance, watched_directory, verify_certificate_spki, verify_certificate_hash, match_subject_alt_names, require_signed_certificate_timestamp, crl, allow_expired_certificate, custom_validator_config, max_verify_depth
    });
    let authorities = secret::read_inline("trusted_ca", trusted_ca)?;
    if authorities.is_empty() {
        return refuse("trusted_ca", "is empty");
    }
    match TrustChainVerification::try_from(trust_chain_verification) {
        Ok(TrustChainVerification::VerifyTrustChain) => Ok(ClientValidation { authorities, required: true }),
        Ok(TrustChainVerification::AcceptUntrusted) => Ok(ClientValidation { authorities, required: false }),
        Err(_) => refuse("trust_chain_verification", format!("{trust_chain_verification} is no way to verify")),
    }
}
