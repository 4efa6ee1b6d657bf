//! What the API server trusts: each webhook's `caBundle`, in step with the authority, whoever else writes there.
//!
//! `kubectl apply` of the manifests takes the bundle out again, and a rotation makes it stale. So both
//! configurations are watched, and mended at each change that is not ours.

use super::Cluster;
use super::authority::Authority;
use futures_util::StreamExt as _;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation, jsonptr::PointerBuf};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::PatchParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Never ends by itself.
pub(super) async fn keep(cluster: &Cluster, authorities: watch::Receiver<Arc<Authority>>) {
    tokio::join!(
        of_kind::<MutatingWebhookConfiguration>(cluster, authorities.clone()),
        of_kind::<ValidatingWebhookConfiguration>(cluster, authorities),
    );
}

async fn of_kind<K>(cluster: &Cluster, mut authorities: watch::Receiver<Arc<Authority>>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let api: Api<K> = Api::all(cluster.client.clone());
    let name = &cluster.configuration;
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = watcher(api.clone(), config).default_backoff().applied_objects().boxed();
    let (mut held, mut retry): (Option<K>, Option<Duration>) = (None, None);
    loop {
        let again = async {
            match retry {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(object)) => held = Some(object),
                Some(Err(error)) => {
                    tracing::warn!("webhooks: {} {name} cannot be watched: {error}", K::kind(&()));
                    continue;
                }
                None => return,
            },
            Ok(()) = authorities.changed() => {}
            () = again => {}
        }
        let bundle = authorities.borrow().bundle();
        let patch = held.as_ref().and_then(|held| patch(&serde_json::to_value(held).ok()?, &bundle));
        retry = match patch {
            Some(patch) => match api.patch(name, &PatchParams::default(), &kube::api::Patch::Json::<()>(patch)).await {
                Ok(_) => {
                    tracing::info!("webhooks: caBundle of {} {name} is in step", K::kind(&()));
                    None
                }
                Err(error) => {
                    tracing::warn!("webhooks: caBundle of {} {name} cannot be written: {error}", K::kind(&()));
                    Some(retry.map_or(FIRST_RETRY, |pause| (pause * 2).min(LAST_RETRY)))
                }
            },
            None => None,
        };
    }
}

/// What makes every webhook of `configuration` trust `bundle`; `None` when all do.
///
/// Each change is bound to the webhook's name at its place, so that a list which somebody has just changed is left alone.
pub(super) fn patch(configuration: &Value, bundle: &str) -> Option<Patch> {
    let wanted = serde_json::to_value(ByteString(bundle.as_bytes().to_vec())).ok()?;
    let webhooks = configuration.get("webhooks")?.as_array()?;
    let stale = webhooks.iter().enumerate().filter(|(_, webhook)| webhook["clientConfig"]["caBundle"] != wanted);
    let at = |index: usize, rest: &[&str]| {
        let index = index.to_string();
        PointerBuf::from_tokens(["webhooks", &index].into_iter().chain(rest.iter().copied()))
    };
    let changes: Vec<PatchOperation> = stale
        .flat_map(|(index, webhook)| {
            let name = TestOperation { path: at(index, &["name"]), value: webhook["name"].clone() };
            let bundle = AddOperation { path: at(index, &["clientConfig", "caBundle"]), value: wanted.clone() };
            [PatchOperation::Test(name), PatchOperation::Add(bundle)]
        })
        .collect();
    (!changes.is_empty()).then_some(Patch(changes))
}
