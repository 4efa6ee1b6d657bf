//! `weft install`, `weft uninstall`: Weft in a Kubernetes cluster, and out of it again.
//!
//! What is applied is manifests/weft, which this binary carries, so that what is installed and what installs it are of one
//! make. `cluster` talks to the server, `preflight` looks whether it can work and whether it does.

mod cluster;
pub(crate) mod manifests;
pub(crate) mod preflight;

use crate::check::Output;
use crate::look::{BAD, DIM, GOOD, WARN, paint};
use anyhow::Context as _;
use clap::Args;
use cluster::Cluster;
use preflight::{Finding, Stage};
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Which cluster.
#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    /// The kubeconfig file; by default $KUBECONFIG, then ~/.kube/config, then the pod's own account.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<std::path::PathBuf>,
    /// The kubeconfig's context; by default its current one.
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// Install Weft in a Kubernetes cluster
///
/// Applies the kinds, the control plane and its webhooks (manifests/weft) server-side, waits until
/// they work, and checks that they do. Applied again it upgrades.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft check --pre                             # can this cluster take it?
  weft install --image IMAGE                   # IMAGE as your pipeline published it
  weft install --dry-run | kubectl diff -f -   # what would be applied
  kubectl label namespace default istio-injection=enabled")]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The image of everything that runs.
    #[arg(long, default_value = "weft:latest", value_name = "IMAGE")]
    image: String,
    /// Print what would be applied, and apply nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long to wait until it works; 0s does not wait.
    #[arg(long, default_value = "5m", value_parser = crate::run::duration, value_name = "TIME")]
    wait: Duration,
}

/// Remove Weft from a Kubernetes cluster
///
/// Running pods keep their sidecars until they are started anew, and those go on with what they have;
/// gateways that Gateway objects asked for are deleted. Policies stay unless --kinds takes their kinds along.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft uninstall
  weft uninstall --kinds       # with every RateLimitPolicy there is")]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Delete the kinds too, and with them all their objects.
    #[arg(long)]
    kinds: bool,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn install(args: InstallArgs) -> anyhow::Result<ExitCode> {
    let objects = manifests::objects(&args.image)?;
    if args.dry_run {
        anstream::print!("{}", manifests::yaml(&objects)?);
        return Ok(ExitCode::SUCCESS);
    }
    let cluster = Cluster::connect(&args.cluster).await?;
    let findings = preflight::look(&cluster, Stage::Before).await;
    if findings.iter().any(Finding::is_bad) {
        report(&findings);
        anyhow::bail!("this cluster cannot take it; nothing was applied");
    }
    for object in &objects {
        cluster.apply(object).await?;
        anstream::eprintln!("{} {}", paint(GOOD, "applied"), weft_control_plane::cluster::name(object));
    }
    wait(&cluster, args.wait).await
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn uninstall(args: UninstallArgs) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(&args.cluster).await?;
    // the webhooks first: nobody should wait for who is going
    for object in manifests::objects("")?.iter().rev() {
        let name = weft_control_plane::cluster::name(object);
        if object["kind"] == "CustomResourceDefinition" && !args.kinds {
            anstream::eprintln!("{} {name} (--kinds deletes it, with all its objects)", paint(DIM, "kept"));
            continue;
        }
        let was_there = cluster.delete(object).await?;
        let word = if was_there { paint(GOOD, "deleted") } else { paint(DIM, "was not there:") };
        anstream::eprintln!("{word} {name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until nothing is wrong; says what is, whenever that changes.
async fn wait(cluster: &Cluster, patience: Duration) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let findings = preflight::look(cluster, Stage::After).await;
        let Some(bad) = findings.iter().find(|finding| finding.is_bad()) else {
            report(&findings);
            return Ok(ExitCode::SUCCESS);
        };
        if began.elapsed() >= patience {
            report(&findings);
            let hint = "kubectl -n weft-system get pods, and `weft check` again later";
            anyhow::bail!("not working after {} s; look with {hint}", patience.as_secs());
        }
        let line = bad.to_string();
        if line != told {
            anstream::eprintln!("{} {line}", paint(WARN, "waiting:"));
            told = line;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// `weft check` without files: whether the cluster can take Weft (`--pre`), or whether Weft works in it.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn check(args: &ClusterArgs, stage: Stage, output: Output) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(args).await?;
    let findings = preflight::look(&cluster, stage).await;
    match output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&findings)?),
        Output::Text => report(&findings),
    }
    Ok(if findings.iter().any(Finding::is_bad) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(findings: &[Finding]) {
    for finding in findings {
        let mark = match finding.is_bad() {
            false if finding.is_warning() => paint(WARN, "!"),
            false => paint(GOOD, "✓"),
            true => paint(BAD, "✗"),
        };
        anstream::println!("{mark} {finding}");
    }
}

/// The server's object at `path`, a JSON pointer.
fn at<'v>(object: &'v Value, path: &str) -> &'v Value {
    object.pointer(path).unwrap_or(&Value::Null)
}

/// A document's text, for a message.
fn context(name: &str) -> String {
    format!("{name} of the manifests that this binary carries")
}

/// Reads a manifest that was compiled in.
fn documents(name: &str, text: &str) -> anyhow::Result<Vec<Value>> {
    serde_saphyr::from_multiple(text).with_context(|| context(name))
}
