//! A certificate authority that lives as long as a test.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;

/// The authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A server's certificate and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Leaf and authority.
    pub chain_pem: String,
    pub key_pem: String,
}

impl Ca {
    #[expect(clippy::new_without_default, reason = "a new authority each time is no default")]
    pub fn new() -> Ca {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a throwaway CA of Weft's tests");
        let key = KeyPair::generate().expect("the provider makes keys");
        Ca(CertifiedIssuer::self_signed(params, key).expect("a CA may sign itself"))
    }

    /// A new certificate for these DNS names or addresses.
    pub fn issue(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("DNS names or addresses");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("the provider makes keys");
        let leaf = params.signed_by(&key, &self.0).expect("the CA may sign");
        Certificate { chain_pem: leaf.pem() + &self.pem(), key_pem: key.serialize_pem() }
    }

    /// A new certificate for a client: common name and organizations are a Kubernetes user and its groups.
    pub fn issue_user(&self, name: &str, organizations: &[&str]) -> Certificate {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        for organization in organizations {
            params.distinguished_name.push(rcgen::DnType::OrganizationName, *organization);
        }
        let key = KeyPair::generate().expect("the provider makes keys");
        let leaf = params.signed_by(&key, &self.0).expect("the CA may sign");
        Certificate { chain_pem: leaf.pem() + &self.pem(), key_pem: key.serialize_pem() }
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Trusts this authority alone.
    pub fn client_config(&self, alpn: &[&str]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate of our own");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

impl Certificate {
    /// The leaf, as it goes over the wire.
    pub fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.chain_pem.as_bytes()).expect("a PEM of our own").to_vec()
    }

    /// A Kubernetes `Secret` that holds it.
    pub fn secret_yaml(&self, namespace: &str, name: &str) -> String {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let (chain, key) = (encode(&self.chain_pem), encode(&self.key_pem));
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\ntype: kubernetes.io/tls\ndata:\n  tls.crt: {chain}\n  tls.key: {key}\n"
        )
    }
}
