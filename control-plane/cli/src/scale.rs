//! `weft scale NAME N`: asks the running `weft up` for another number of pods.

use crate::up::control::{Client, Scale};
use crate::up::plan::Id;
use anyhow::bail;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Change how many pods a Deployment has, while `weft up` runs
///
/// It holds until the Deployment's manifest says another number of replicas, or `weft up` ends.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft scale order 3
  weft scale order 1 --namespace shop")]
pub(crate) struct ScaleArgs {
    /// The Deployment's name.
    name: String,
    /// How many pods it should have, at most 254.
    #[arg(value_parser = clap::value_parser!(u32).range(0..=254))]
    replicas: u32,
    #[arg(long, short, default_value = "default", env = "POD_NAMESPACE", value_name = "NS")]
    namespace: String,
    /// The state directory of the `weft up` to ask.
    #[arg(long, default_value = ".weft", value_name = "DIR")]
    state: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: ScaleArgs) -> anyhow::Result<ExitCode> {
    let deployment = Id::new(args.namespace, args.name);
    let scale = Scale { deployment, replicas: args.replicas };
    if !Client::new(&args.state).scale(&scale).await? {
        bail!(
            "no `weft up` runs with the state directory {}: start it with `weft up`, or name its --state",
            args.state.display()
        );
    }
    anstream::println!("{} is being brought to {} pods; `weft status` shows them", scale.deployment, scale.replicas);
    Ok(ExitCode::SUCCESS)
}
