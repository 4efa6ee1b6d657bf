//! A certificate authority that lives as long as a test.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// The authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate, for servers and clients, and its key.
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
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
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

    /// A Kubernetes `ConfigMap` with its certificate.
    pub fn config_map_yaml(&self, namespace: &str, name: &str) -> String {
        let pem: String = self.pem().lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  ca.crt: |\n{pem}"
        )
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate of our own");
        roots
    }

    /// Trusts this authority alone; shows a certificate of its own where it is asked for one.
    pub fn client_config(&self, alpn: &[&str], own: Option<&Certificate>) -> rustls::ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(self.roots());
        let mut config = match own.map(Certificate::parts) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a certificate and its key"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

impl Certificate {
    /// The leaf, as it goes over the wire.
    pub fn der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.chain_pem.as_bytes()).expect("a PEM of our own").to_vec()
    }

    /// Shows it; with `clients` only to callers that show one of that authority's.
    pub fn server_config(&self, alpn: &[&str], clients: Option<&Ca>) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = match clients {
            None => rustls::server::WebPkiClientVerifier::no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(ca.roots());
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .expect("one authority")
            }
        };
        let (chain, key) = self.parts();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a PEM of our own");
        (chain.map(|certificate| certificate.expect("a PEM of our own")).collect(), key)
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
