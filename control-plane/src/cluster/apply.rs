//! Objects of any kind, applied server-side under one field manager.
//!
//! What others own (an autoscaler's replicas, a load balancer's address) stays theirs. A server that is too old for an
//! object's version gets it in the last one before, where both say the same.

use anyhow::{Context as _, bail};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PropagationPolicy};
use kube::discovery::{self, Scope};
use kube::{Api, Client};
use serde_json::Value;
use std::collections::HashMap;
use tokio::sync::Mutex;

const MANAGER: &str = "weft";

/// Group, version, and the version of the same shape before it.
const OLDER: [(&str, &str, &str); 2] = [("policy", "v1", "v1beta1"), ("autoscaling", "v2", "v2beta2")];

pub struct Applier {
    client: Client,
    /// What the server said of kinds.
    kinds: Mutex<HashMap<GroupVersionKind, (ApiResource, Scope)>>,
}

impl Applier {
    pub fn new(client: Client) -> Applier {
        Applier { client, kinds: Mutex::default() }
    }

    /// Makes the object as it says, or only asks whether the server would.
    ///
    /// # Errors
    /// The server does not know the kind, refuses the object, or does not answer.
    pub async fn apply(&self, object: &Value, dry_run: bool) -> anyhow::Result<DynamicObject> {
        let name = name(object);
        let (api, resource) = self.api(object).await?;
        let mut object = object.clone();
        object["apiVersion"] = Value::from(resource.api_version);
        let params = PatchParams { dry_run, ..PatchParams::apply(MANAGER).force() };
        let plain = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        api.patch(&plain, &params, &Patch::Apply(&object)).await.with_context(|| format!("{name} cannot be applied"))
    }

    /// Whether it was there.
    ///
    /// # Errors
    /// As [`Applier::apply`]; a kind that the server does not know has no objects.
    pub async fn delete(&self, object: &Value) -> anyhow::Result<bool> {
        let Ok((api, _)) = self.api(object).await else { return Ok(false) };
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
        match api.delete(object["metadata"]["name"].as_str().unwrap_or_default(), &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
            Err(error) => Err(error).with_context(|| format!("{} cannot be deleted", name(object))),
        }
    }

    /// As the server has it.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub async fn get(&self, object: &Value) -> anyhow::Result<Option<DynamicObject>> {
        let (api, _) = self.api(object).await?;
        api.get_opt(object["metadata"]["name"].as_str().unwrap_or_default())
            .await
            .with_context(|| format!("{} cannot be read", name(object)))
    }

    async fn api(&self, object: &Value) -> anyhow::Result<(Api<DynamicObject>, ApiResource)> {
        let word = |field: &str| object[field].as_str().unwrap_or_default();
        let (group, version) = word("apiVersion").rsplit_once('/').unwrap_or(("", word("apiVersion")));
        let (resource, scope) = self.find(GroupVersionKind::gvk(group, version, word("kind"))).await?;
        let api = match (scope, object["metadata"]["namespace"].as_str()) {
            (Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            (Scope::Namespaced, None) => bail!("{} names no namespace", name(object)),
        };
        Ok((api, resource))
    }

    async fn find(&self, kind: GroupVersionKind) -> anyhow::Result<(ApiResource, Scope)> {
        let mut kinds = self.kinds.lock().await;
        if let Some(known) = kinds.get(&kind) {
            return Ok(known.clone());
        }
        let older = OLDER.iter().find(|(group, version, _)| *group == kind.group && *version == kind.version);
        let older = older.map(|(group, _, older)| GroupVersionKind::gvk(group, older, &kind.kind));
        let mut last = None;
        for candidate in std::iter::once(kind.clone()).chain(older) {
            match discovery::pinned_kind(&self.client, &candidate).await {
                Ok((resource, capabilities)) => {
                    kinds.insert(kind, (resource.clone(), capabilities.scope.clone()));
                    return Ok((resource, capabilities.scope));
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last.map_or_else(|| anyhow::anyhow!("nothing was asked"), anyhow::Error::new);
        Err(error).with_context(|| format!("the server has no {} of {}", kind.kind, kind.api_version()))
    }
}

/// `Deployment shop/order`.
pub fn name(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{} {namespace}/{}", word(&object["kind"]), word(&metadata["name"])),
        None => format!("{} {}", word(&object["kind"]), word(&metadata["name"])),
    }
}
