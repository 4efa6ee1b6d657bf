//! `weft control-plane`.

use super::{duration, until_signal};
use clap::Args;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use weft_control_plane::cluster::Template;
use weft_control_plane::{Cluster, ControlPlane, Kubernetes, Settings, Webhook, Writing};

/// Watch directories of YAML or a cluster, compile them, push the result to proxies over xDS
///
/// What is wrong in a document is said with its file and line (here in the log, at
/// /debug/problems, and by `weft check`), and keeps that document's last good version in force;
/// all others go live.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft control-plane --dir manifests
  weft control-plane --kubernetes
  weft control-plane --kubernetes --kubeconfig ~/.kube/config --context staging
  weft control-plane --dir manifests --dir /etc/weft --xds 127.0.0.1:15010
  curl http://127.0.0.1:15014/debug/syncz")]
pub(crate) struct ControlPlaneArgs {
    /// A directory to watch, with all below it; may be given more than once, and may appear later.
    #[arg(
        long = "dir",
        env = "WEFT_DIRS",
        value_delimiter = ':',
        value_name = "DIR",
        required_unless_present = "kubernetes"
    )]
    dirs: Vec<PathBuf>,
    /// Watch a cluster: the one that this Pod runs in, or that of the kubeconfig
    #[arg(long, env = "WEFT_KUBERNETES")]
    kubernetes: bool,
    /// The kubeconfig to use; without it the Pod's own ServiceAccount, then $KUBECONFIG and ~/.kube/config
    #[arg(long, requires = "kubernetes", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; without it the current one
    #[arg(long, requires = "kubernetes", value_name = "NAME")]
    context: Option<String>,
    /// Where proxies get their configuration (delta ADS, plain gRPC).
    #[arg(long, env = "WEFT_XDS", default_value = "127.0.0.1:15010", value_name = "ADDR")]
    xds: SocketAddr,
    /// Where /ready, /debug/syncz, /debug/problems and /metrics are.
    #[arg(long, env = "WEFT_MONITORING", default_value = "127.0.0.1:15014", value_name = "ADDR")]
    monitoring: SocketAddr,
    /// Where the API server's webhooks are answered (/inject, /validate, over TLS); Istio's port is 15017.
    #[arg(long, env = "WEFT_WEBHOOK", value_name = "ADDR")]
    webhook: Option<SocketAddr>,
    /// A DNS name by which the API server asks; may be given more than once.
    #[arg(
        long,
        env = "WEFT_WEBHOOK_NAMES",
        value_delimiter = ',',
        default_value = "weft-control-plane.weft-system.svc",
        value_name = "NAME"
    )]
    webhook_name: Vec<String>,
    /// The namespace that the control plane is in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "weft-system", value_name = "NS")]
    namespace: String,
    /// Which of the replicas this is.
    #[arg(long, env = "POD_NAME", default_value = "weft-control-plane", value_name = "NAME")]
    pod: String,
    /// The image of the gateways that Gateway objects ask for.
    #[arg(long, env = "WEFT_IMAGE", default_value = "weft:latest", value_name = "IMAGE")]
    image: String,
    /// Where pods reach this control plane's xDS.
    #[arg(
        long,
        env = "WEFT_ADVERTISE",
        default_value = "weft-control-plane.weft-system.svc:15010",
        value_name = "ADDR"
    )]
    advertise: String,
    /// Hold what is compiled back for a random time of up to so long.
    #[arg(long, env = "WEFT_PUSH_DELAY", default_value = "0s", value_parser = duration, hide = true)]
    push_delay: Duration,
    /// YAML that says how sidecars are injected; see `weft inject --help`.
    #[arg(long, env = "WEFT_INJECTION", value_name = "FILE")]
    injection: Option<PathBuf>,
}

#[tokio::main]
pub(crate) async fn run(args: ControlPlaneArgs) -> anyhow::Result<ExitCode> {
    let shutdown = until_signal()?;
    let kubernetes = args.kubernetes.then_some(Kubernetes { kubeconfig: args.kubeconfig, context: args.context });
    let writing = match &kubernetes {
        Some(kubernetes) => Some(kubernetes.client().await?),
        None => None,
    };
    let namespace = args.namespace;
    let cluster = writing.as_ref().map(|(client, _)| Cluster::new(client.clone(), namespace.clone()));
    let settings = Settings { dirs: args.dirs, kubernetes, xds: args.xds, monitoring: args.monitoring };
    let mut control_plane = ControlPlane::new(settings).with_push_delay(args.push_delay);
    if let Some(address) = args.webhook {
        let injection = injection(args.injection.as_deref(), &args.image, &args.advertise)?;
        control_plane = control_plane.with_webhook(Webhook { address, names: args.webhook_name, injection, cluster });
    }
    if let Some((client, _)) = writing {
        let gateways = Template { image: args.image, control_plane: args.advertise };
        control_plane = control_plane.with_writing(Writing { client, namespace, identity: args.pod, gateways });
    }
    control_plane.run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// As the file says; without one, with this control plane's own image and address.
fn injection(file: Option<&Path>, image: &str, advertise: &str) -> anyhow::Result<weft_injector::Settings> {
    let mut settings = crate::inject::settings(file)?;
    if file.is_none() {
        (settings.image, settings.control_plane) = (image.to_owned(), advertise.to_owned());
    }
    Ok(settings)
}
