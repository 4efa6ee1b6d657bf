//! What pods refer to: ConfigMaps, Secrets and their service accounts' tokens.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Names of files or variables, and what is in them.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Told by the test, and once the node is a cluster's, asked for there when a pod starts.
#[derive(Default)]
pub struct Objects {
    config_maps: BTreeMap<String, Data>,
    secrets: BTreeMap<String, Data>,
    cluster: OnceLock<kube::Client>,
}

impl Objects {
    /// `name` is `namespace/name`.
    pub fn with_config_map(mut self, name: &str, data: &[(&str, &str)]) -> Objects {
        self.config_maps.insert(name.to_owned(), given(data));
        self
    }

    /// `name` is `namespace/name`.
    pub fn with_secret(mut self, name: &str, data: &[(&str, &str)]) -> Objects {
        self.secrets.insert(name.to_owned(), given(data));
        self
    }

    /// Whether there is a cluster whose API server pods may ask.
    pub(super) fn is_a_clusters(&self) -> bool {
        self.cluster.get().is_some()
    }

    pub(super) fn ask(&self, client: kube::Client) {
        assert!(self.cluster.set(client).is_ok(), "a node joins one cluster, once");
    }

    pub(super) async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Data>, String> {
        let Some(client) = self.cluster.get() else {
            return Ok(self.config_maps.get(&format!("{namespace}/{name}")).cloned());
        };
        let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| format!("ConfigMap {namespace}/{name}: {error}"))?;
        Ok(found.map(|map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
            text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0))).collect()
        }))
    }

    pub(super) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Data>, String> {
        let Some(client) = self.cluster.get() else {
            return Ok(self.secrets.get(&format!("{namespace}/{name}")).cloned());
        };
        let api = Api::<Secret>::namespaced(client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|error| format!("Secret {namespace}/{name}: {error}"))?;
        Ok(found.map(|secret| secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect()))
    }

    /// A token of a service account. Without a cluster nobody would believe one: it says whose it would be.
    pub(super) async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<String>,
        seconds: Option<i64>,
    ) -> Result<Vec<u8>, String> {
        let Some(client) = self.cluster.get() else { return Ok(format!("{namespace}/{account}").into_bytes()) };
        let spec = TokenRequestSpec {
            audiences: audience.into_iter().collect(),
            expiration_seconds: seconds,
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let made = api.create_token_request(account, &PostParams::default(), &request).await;
        let made = made.map_err(|error| format!("a token of {namespace}/{account}: {error}"))?;
        Ok(made.status.map(|status| status.token.into_bytes()).unwrap_or_default())
    }
}

fn given(data: &[(&str, &str)]) -> Data {
    data.iter().map(|&(key, text)| (key.to_owned(), text.as_bytes().to_vec())).collect()
}
