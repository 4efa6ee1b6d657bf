//! What the API server trusts: each webhook's `caBundle`, in step with the authority, whoever else writes there.
//!
//! `kubectl apply` of the manifests takes the bundle out again, and a rotation makes it stale. So both
//! configurations are watched, and mended at each change that is not ours. Replicas learn of a new authority one after the
//! other; a bundle that trusts one's own authority, whoever else it trusts, is left alone, or they would write in turns.

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
/// After a change of ours: whoever writes against us makes no more work than this.
const PAUSE: Duration = Duration::from_millis(500);

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
        let authority = authorities.borrow().clone();
        let patch = held.as_ref().and_then(|held| patch(&serde_json::to_value(held).ok()?, &authority));
        retry = match patch {
            Some(patch) => match api.patch(name, &PatchParams::default(), &kube::api::Patch::Json::<()>(patch)).await {
                Ok(changed) => {
                    held = Some(changed);
                    tracing::info!("webhooks: caBundle of {} {name} is in step", K::kind(&()));
                    tokio::time::sleep(PAUSE).await;
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

/// What makes every webhook of `configuration` trust the authority; `None` when all do.
///
/// Each change is bound to the webhook's name at its place, so that a list which somebody has just changed is left alone.
pub(super) fn patch(configuration: &Value, authority: &Authority) -> Option<Patch> {
    let wanted = serde_json::to_value(ByteString(authority.bundle().into_bytes())).ok()?;
    let webhooks = configuration.get("webhooks")?.as_array()?;
    let trusts = |webhook: &Value| {
        let held = serde_json::from_value::<ByteString>(webhook["clientConfig"]["caBundle"].clone());
        held.is_ok_and(|held| String::from_utf8_lossy(&held.0).contains(&authority.certificate_pem))
    };
    let stale = webhooks.iter().enumerate().filter(|(_, webhook)| !trusts(webhook));
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
