//! `weft endpoints NAME`: who answers for a service, as each proxy sees it, and who does not, why, and until when.
//!
//! Every proxy judges endpoints by its own experience, so that one may have ejected what another still calls. Hence each is
//! asked, and each has its own table.

mod name;
mod proxies;
mod report;
#[cfg(test)]
mod tests;

use crate::check::Output;
use crate::look::print;
use anyhow::bail;
use clap::Args;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show who answers for a service, who is ejected or full, why, and until when
///
/// Asks every proxy of the running `weft up`, as each judges endpoints by its own experience. Exits with 1
/// when no proxy knows the service, or one does not answer.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft endpoints order
  weft endpoints order.shop --proxy gateway
  weft endpoints 'outbound|8080||order.default.svc.cluster.local' --admin 127.0.3.1:15000
  weft endpoints order -o json | jq '.proxies[].clusters[].endpoints[] | select(.ejection)'")]
pub(crate) struct EndpointsArgs {
    /// A Service, `order` or `order.shop`, or a cluster's full name.
    name: String,
    /// Ask only this one: a pod (`order-0`, `shop/order-0`), a gateway's name, or `gateway` for all gateways.
    #[arg(long, value_name = "POD|gateway")]
    proxy: Option<String>,
    /// Ask the proxy whose admin listens there, whoever runs it.
    #[arg(long, value_name = "ADDR", conflicts_with = "proxy")]
    admin: Option<String>,
    /// The state directory of the `weft up` to ask.
    #[arg(long, default_value = ".weft", value_name = "DIR")]
    state: PathBuf,
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: EndpointsArgs) -> anyhow::Result<ExitCode> {
    let proxies = match &args.admin {
        Some(address) => vec![proxies::Proxy::at(address)],
        None => proxies::of_up(&args.state, args.proxy.as_deref()).await?,
    };
    let report = Report::of(&args.name, proxies::ask_all(proxies).await);
    if !report.is_known() && report.answered() {
        bail!("{}", report.unknown());
    }
    match args.output {
        Output::Text => print(report.text())?,
        Output::Json => print(format_args!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(if report.all_answered() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
