//! Who the server is, and who its users are.

use super::Ca;
use rcgen::KeyPair;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The names that the server's certificate has.
const SERVER_NAMES: [&str; 5] = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc", super::SERVICE_IP];

pub(super) struct Credentials {
    pub(super) ca: Ca,
}

impl Credentials {
    /// Writes what the server needs to `directory`: `ca.pem`, `server.pem`, `server.key`, `account.key`, `account.pub`.
    pub(super) fn new(directory: &Path, address: Ipv4Addr) -> Credentials {
        let ca = Ca::new();
        let own = address.to_string();
        let names: Vec<&str> = SERVER_NAMES.into_iter().chain([own.as_str()]).collect();
        let server = ca.issue(&names);
        let account = KeyPair::generate().expect("the provider makes keys");
        let write = |name: &str, text: String| fs::write(directory.join(name), text).expect("it is writable");
        write("ca.pem", ca.pem());
        write("server.pem", server.chain_pem);
        write("server.key", server.key_pem);
        write("account.key", account.serialize_pem());
        write("account.pub", account.public_key_pem());
        Credentials { ca }
    }

    /// Writes a kubeconfig for that user, who is who its certificate says.
    pub(super) fn kubeconfig(&self, directory: &Path, user: &str, groups: &[&str], server: &str) -> PathBuf {
        let certificate = self.ca.issue_user(user, groups);
        let port = server.rsplit_once(':').map_or("", |(_, port)| port);
        let path = directory.join(format!("{}-{port}.kubeconfig", user.replace(':', "-")));
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": {
                "server": server,
                "certificate-authority-data": encode(&self.ca.pem()),
            }}],
            "users": [{ "name": user, "user": {
                "client-certificate-data": encode(&certificate.chain_pem),
                "client-key-data": encode(&certificate.key_pem),
            }}],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
            "current-context": "test",
        });
        fs::write(&path, kubeconfig.to_string()).expect("it is writable");
        path
    }
}

fn encode(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
