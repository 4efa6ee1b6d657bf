//! What the API server asks before it stores an object: does this pod get a sidecar, is this policy sound?
//!
//! A webhook stands in the way of a whole cluster, so it answers quickly, whatever it is sent, and by a certificate that
//! never runs out: `server` bounds every connection, `review` reads the question, `mutate` and `validate` answer it
//! (the one is `weft-injector`, the other the checks of `weft check`), `serving` renews the certificate while it
//! serves. `authority` issues it; `secret` shares the authority between replicas, and `bundle` keeps what the API server
//! trusts in step, in the very order that leaves no moment without trust: first the new root is told, then it is used.

mod authority;
mod bundle;
mod mutate;
mod review;
mod secret;
mod server;
mod serving;
#[cfg(test)]
mod tests;
mod validate;

use crate::pipeline::Live;
use anyhow::Context as _;
use authority::Authority;
use server::Server;
use serving::Serving;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// What the webhooks are told.
#[derive(Clone)]
pub struct Webhook {
    /// Istio's port is 15017. Port 0: any that is free.
    pub address: SocketAddr,
    /// The DNS names by which the API server asks: `weft-control-plane.weft-system.svc`.
    pub names: Vec<String>,
    pub injection: weft_injector::Settings,
    /// Where the authority is shared and made known; without it there is one in memory, for this process alone.
    pub cluster: Option<Cluster>,
}

/// The webhooks' place in a cluster.
#[derive(Clone)]
pub struct Cluster {
    pub client: kube::Client,
    /// Of the control plane.
    pub namespace: String,
    /// The Secret that holds the authority. It is made when it is not there.
    pub secret: String,
    /// The name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration.
    pub configuration: String,
}

impl Cluster {
    /// With the names that the manifests have.
    pub fn new(client: kube::Client, namespace: impl Into<String>) -> Cluster {
        Cluster { client, namespace: namespace.into(), secret: "weft-webhook-ca".into(), configuration: "weft".into() }
    }
}

/// Whether this cluster has them: what is written, else what the API server's version says. A node may be older by
/// three versions; where one is, it has to be written.
async fn native_sidecars(cluster: &Cluster, written: Option<bool>) -> bool {
    if let Some(written) = written {
        return written;
    }
    match cluster.client.apiserver_version().await {
        Ok(version) => has_native_sidecars(&version.major, &version.minor),
        Err(error) => {
            tracing::warn!("webhooks: the API server's version cannot be read, sidecars are containers: {error}");
            false
        }
    }
}

/// On by default since Kubernetes 1.29. Providers write `29+`.
fn has_native_sidecars(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    number(major).zip(number(minor)).is_some_and(|version| version >= (1, 29))
}

/// Serves until `shutdown`. Errors: no certificate can be made.
pub(crate) async fn run(
    webhook: Webhook,
    listener: TcpListener,
    live: Arc<Live>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Webhook { names, mut injection, cluster, .. } = webhook;
    let first = match &cluster {
        Some(cluster) => match shutdown.run_until_cancelled(secret::first(cluster)).await {
            Some(authority) => {
                injection.native_sidecars = Some(native_sidecars(cluster, injection.native_sidecars).await);
                authority
            }
            None => return Ok(()),
        },
        None => Authority::create(SystemTime::now(), None).context("the webhooks' authority")?,
    };
    let (sender, authorities) = watch::channel(Arc::new(first));
    let serving = Serving::new(&authorities.borrow().clone(), names).context("the webhooks' certificate")?;
    let tls = serving.tls().context("the webhooks' TLS")?;
    let server = Server { tls: TlsAcceptor::from(Arc::new(tls)), injection, live };
    let cluster = async {
        match cluster {
            Some(cluster) => {
                let keep = secret::keep(&cluster, sender);
                shutdown
                    .run_until_cancelled(async { tokio::join!(keep, bundle::keep(&cluster, authorities.clone())) })
                    .await;
            }
            None => {
                // The authority stays as it is; its sender must not be gone.
                shutdown.cancelled().await;
                drop(sender);
            }
        }
    };
    tokio::join!(
        server.run(listener, shutdown.clone()),
        shutdown.run_until_cancelled(serving.keep(authorities.clone())),
        cluster
    );
    Ok(())
}
