//! One connection to an API server.

use super::ClusterArgs;
use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use weft_control_plane::cluster::Applier;

pub(crate) struct Cluster {
    pub(crate) client: Client,
    applier: Applier,
}

impl Cluster {
    pub(crate) async fn connect(args: &ClusterArgs) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match &args.kubeconfig {
            Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
            None if args.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer().await?,
        };
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config)?;
        let hint = "is the cluster up, and does --kubeconfig or --context name the right one?";
        client.apiserver_version().await.with_context(|| format!("no answer from {server}: {hint}"))?;
        Ok(Cluster { applier: Applier::new(client.clone()), client })
    }

    pub(crate) async fn apply(&self, object: &Value) -> anyhow::Result<()> {
        self.applier.apply(object, false).await.map(drop)
    }

    pub(crate) async fn would_take(&self, object: &Value) -> anyhow::Result<()> {
        self.applier.apply(object, true).await.map(drop)
    }

    pub(crate) async fn delete(&self, object: &Value) -> anyhow::Result<bool> {
        self.applier.delete(object).await
    }

    /// `Null`: it is not there.
    pub(crate) async fn get(&self, object: &Value) -> anyhow::Result<Value> {
        let found = self.applier.get(object).await?;
        Ok(found.map_or(Ok(Value::Null), serde_json::to_value)?)
    }
}
