//! `weft status`: does every proxy hold what the control plane says now?

use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {}

pub(crate) fn run(_args: StatusArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("no control plane answers")
}
