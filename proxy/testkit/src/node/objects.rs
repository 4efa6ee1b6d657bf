//! What pods refer to: ConfigMaps, Secrets and their service accounts' tokens.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;

/// Names of files or variables, and what is in them.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// Where they are.
#[derive(Clone)]
pub enum Objects {
    /// Told by the test. Keys are `namespace/name`.
    Given { config_maps: BTreeMap<String, Vec<(String, String)>>, secrets: BTreeMap<String, Vec<(String, String)>> },
    /// Asked for when a pod starts.
    Cluster(kube::Client),
}

impl Default for Objects {
    fn default() -> Objects {
        Objects::Given { config_maps: BTreeMap::new(), secrets: BTreeMap::new() }
    }
}

impl Objects {
    pub(super) async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Data>, String> {
        match self {
            Objects::Given { config_maps, .. } => Ok(given(config_maps, namespace, name)),
            Objects::Cluster(client) => {
                let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
                let found =
                    api.get_opt(name).await.map_err(|error| format!("ConfigMap {namespace}/{name}: {error}"))?;
                Ok(found.map(|map| {
                    let text = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
                    text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)))
                        .collect()
                }))
            }
        }
    }

    pub(super) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Data>, String> {
        match self {
            Objects::Given { secrets, .. } => Ok(given(secrets, namespace, name)),
            Objects::Cluster(client) => {
                let api = Api::<Secret>::namespaced(client.clone(), namespace);
                let found = api.get_opt(name).await.map_err(|error| format!("Secret {namespace}/{name}: {error}"))?;
                Ok(found.map(|secret| {
                    secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect()
                }))
            }
        }
    }

    /// A token of a service account. Without a cluster nobody would believe one: it says whose it would be.
    pub(super) async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<String>,
        seconds: Option<i64>,
    ) -> Result<Vec<u8>, String> {
        let Objects::Cluster(client) = self else { return Ok(format!("{namespace}/{account}").into_bytes()) };
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

fn given(all: &BTreeMap<String, Vec<(String, String)>>, namespace: &str, name: &str) -> Option<Data> {
    let found = all.get(&format!("{namespace}/{name}"))?;
    Some(found.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes())).collect())
}
