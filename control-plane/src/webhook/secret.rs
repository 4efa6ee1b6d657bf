//! The authority in a Secret, so that all replicas issue by one and the API server trusts each of them.
//!
//! Whoever is first writes it; the others find theirs refused and read again. Nothing here ends the control plane: while
//! the API server is away, what is known goes on being used.

use super::Cluster;
use super::authority::Authority;
use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const PREVIOUS: &str = "previous.crt";
/// Seconds since 1970.
const EXPIRES: &str = "expires";
/// How soon another replica's new authority is heard of. It is used a minute after it was made known.
const CHECK: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_secs(2);

/// The authority to begin with; waits for the API server.
pub(super) async fn first(cluster: &Cluster) -> Authority {
    loop {
        match current(cluster, None).await {
            Ok(authority) => return authority,
            Err(error) => tracing::warn!("webhooks: no authority yet: {error:#}"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Hears of other replicas' authorities, and makes the next in time.
pub(super) async fn keep(cluster: &Cluster, authorities: watch::Sender<Arc<Authority>>) {
    loop {
        tokio::time::sleep(CHECK).await;
        let known = authorities.borrow().clone();
        match current(cluster, Some(&known)).await {
            Ok(authority) => drop(authorities.send_if_modified(|known| {
                let is_new = **known != authority;
                *known = Arc::new(authority);
                is_new
            })),
            Err(error) => tracing::warn!("webhooks: the authority cannot be read: {error:#}"),
        }
    }
}

/// What the Secret holds, or what it now holds. The one that is `known` is trusted on, also when its Secret was lost.
async fn current(cluster: &Cluster, known: Option<&Authority>) -> anyhow::Result<Authority> {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let name = &cluster.secret;
    let found = secrets.get_opt(name).await.with_context(|| format!("Secret {name}"))?;
    let held = found.as_ref().and_then(read);
    let now = SystemTime::now();
    if let Some(held) = held.clone().filter(|held| !held.is_due(now)) {
        return Ok(held);
    }
    let before = held.or_else(|| known.cloned()).map(|before| before.certificate_pem);
    let next = Authority::create(now, before)?;
    let post = PostParams::default();
    // A conflict is another replica that was quicker: the caller reads again.
    match found {
        Some(found) => {
            let secret = Secret { data: Some(data(&next)), ..found };
            secrets.replace(name, &post, &secret).await.with_context(|| format!("Secret {name} cannot be replaced"))?;
        }
        None => {
            let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
            let secret = Secret { metadata, data: Some(data(&next)), ..Secret::default() };
            secrets.create(&post, &secret).await.with_context(|| format!("Secret {name} cannot be made"))?;
        }
    }
    tracing::info!(secret = %name, "webhooks: a new authority");
    Ok(next)
}

/// `None`: it holds none that can be used.
pub(super) fn read(secret: &Secret) -> Option<Authority> {
    let data = secret.data.as_ref()?;
    let text = |name: &str| String::from_utf8(data.get(name)?.0.clone()).ok();
    let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(text(EXPIRES)?.trim().parse().ok()?))?;
    let authority = Authority {
        certificate_pem: text(CERTIFICATE)?,
        key_pem: text(KEY)?,
        previous_pem: text(PREVIOUS).filter(|pem| !pem.is_empty()),
        expires,
    };
    // One that cannot issue is none.
    authority.issue(&["probe".to_owned()], SystemTime::now()).is_ok().then_some(authority)
}

pub(super) fn data(authority: &Authority) -> BTreeMap<String, ByteString> {
    let expires = authority.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let previous = authority.previous_pem.as_deref().unwrap_or_default();
    let fields = [
        (CERTIFICATE, authority.certificate_pem.as_str()),
        (KEY, &authority.key_pem),
        (PREVIOUS, previous),
        (EXPIRES, &expires.to_string()),
    ]
    .map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())));
    fields.into()
}
