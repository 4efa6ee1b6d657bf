//! `weft init`: the rules that bring a pod's traffic to its sidecar, made before its app starts.

use crate::look::print;
use anyhow::ensure;
use clap::Args;
use std::process::ExitCode;
use weft_interception::{Cidr, List, Port, Ruleset, Settings, Which};

/// Bring a pod's traffic to its sidecar: set the rules of this network namespace
///
/// For a pod's init container, with the capability NET_ADMIN. TCP that comes in goes to the proxy's inbound port, TCP that
/// programs send to its outbound port; what the proxy itself sends is left alone, and so are UDP and whatever stays
/// within the pod. All is one nftables table, `inet weft`, replaced in one transaction: to run it twice is to run it once.
/// Exclusions win over inclusions.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft init
  weft init --exclude-inbound-ports 15020,15021,15090 --exclude-outbound-cidrs 10.0.0.0/8,fd00::/8
  weft init --include-outbound-cidrs '' --include-outbound-ports 80,443   # only these
  weft init --dry-run | nft --check --file -
  weft init --clean-up")]
pub(crate) struct InitArgs {
    /// The user that the proxy runs as.
    #[arg(long, default_value_t = 1337, value_name = "UID")]
    proxy_uid: u32,
    /// The group that the proxy runs as.
    #[arg(long, default_value_t = 1337, value_name = "GID")]
    proxy_gid: u32,
    /// Where the proxy takes what comes in.
    #[arg(long, default_value = "15006", value_name = "PORT")]
    inbound_port: Port,
    /// Where the proxy takes what programs send.
    #[arg(long, default_value = "15001", value_name = "PORT")]
    outbound_port: Port,
    /// Ports of the pod that are brought to the proxy: * for all.
    #[arg(long, default_value = "*", value_name = "PORTS")]
    include_inbound_ports: Which<Port>,
    /// Ports of the pod that are left alone.
    #[arg(long, default_value = "", value_name = "PORTS", hide_default_value = true)]
    exclude_inbound_ports: List<Port>,
    /// Destinations whose calls are brought to the proxy: * for all.
    #[arg(long, default_value = "*", value_name = "CIDRS")]
    include_outbound_cidrs: Which<Cidr>,
    /// Destinations whose calls are left alone.
    #[arg(long, default_value = "", value_name = "CIDRS", hide_default_value = true)]
    exclude_outbound_cidrs: List<Cidr>,
    /// Ports whose calls are brought to the proxy, wherever they go.
    #[arg(long, default_value = "", value_name = "PORTS", hide_default_value = true)]
    include_outbound_ports: List<Port>,
    /// Ports whose calls are left alone.
    #[arg(long, default_value = "", value_name = "PORTS", hide_default_value = true)]
    exclude_outbound_ports: List<Port>,
    /// Print the rules, as `nft --file` takes them, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Remove the rules instead.
    #[arg(long, conflicts_with = "dry_run")]
    clean_up: bool,
}

pub(crate) fn run(args: InitArgs) -> anyhow::Result<ExitCode> {
    let (dry_run, clean_up) = (args.dry_run, args.clean_up);
    let settings = args.settings();
    ensure!(
        settings.inbound_port != settings.outbound_port,
        "--inbound-port and --outbound-port are both {}: the proxy could not tell what comes in from what goes out; give each its own",
        settings.inbound_port
    );
    let rules = Ruleset::new(&settings);
    if dry_run {
        print(&rules)?;
    } else if clean_up {
        weft_interception::clean_up()?;
        tracing::info!("interception removed");
    } else {
        weft_interception::install(&rules)?;
        tracing::info!(inbound = %settings.inbound_port, outbound = %settings.outbound_port, "interception is on");
    }
    Ok(ExitCode::SUCCESS)
}

impl InitArgs {
    fn settings(self) -> Settings {
        Settings {
            proxy_uid: self.proxy_uid,
            proxy_gid: self.proxy_gid,
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            include_inbound_ports: self.include_inbound_ports,
            exclude_inbound_ports: self.exclude_inbound_ports,
            include_outbound_cidrs: self.include_outbound_cidrs,
            exclude_outbound_cidrs: self.exclude_outbound_cidrs,
            include_outbound_ports: self.include_outbound_ports,
            exclude_outbound_ports: self.exclude_outbound_ports,
        }
    }
}
