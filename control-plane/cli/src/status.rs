//! `weft status`: does every proxy hold what the control plane says now?

use crate::check::Output;
use crate::fetch::{self, Ask};
use crate::look::{BAD, BOLD, DIM, GOOD, Table, WARN, age, paint, print};
use crate::up::control::Client;
use crate::up::view::View;
use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weft_model::Kind;
use weft_model::node::Role;
use weft_xds::server::NodeStatus;

/// Show what every proxy holds: its version, how old, in step with the control plane or not
///
/// Beside a running `weft up` it shows the processes first. Exits with 1 when a proxy is out of step,
/// has refused something, or is missing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  weft status
  weft status -o json | jq '.proxies[] | {id, in_sync}'
  weft status --control-plane 10.0.0.5:15014")]
pub(crate) struct StatusArgs {
    /// The control plane's monitoring address [default: that of the running `weft up`, else 127.0.0.1:15014].
    #[arg(long, value_name = "ADDR")]
    control_plane: Option<String>,
    /// The state directory of the `weft up` to ask.
    #[arg(long, default_value = ".weft", value_name = "DIR")]
    state: PathBuf,
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    // Who names a control plane means that one, whatever runs here.
    let up = match &args.control_plane {
        Some(_) => None,
        None => Client::new(&args.state).view().await?,
    };
    let address = args.control_plane.or_else(|| up.as_ref().map(|up| up.monitoring.clone()));
    let address = address.unwrap_or_else(|| "127.0.0.1:15014".to_owned());
    let proxies = match proxies(&address).await {
        Ok(proxies) => proxies,
        Err(e) if up.is_some() => {
            bail!("the control plane does not answer ({e:#}); `weft up` starts it again, see its log")
        }
        Err(e) => bail!(
            "no control plane answers ({e:#}): start everything with `weft up`, or say where it is with --control-plane"
        ),
    };
    let missing = up.as_ref().map(|up| missing(up, &proxies)).unwrap_or_default();
    let report = Report { in_step: missing.is_empty() && proxies.iter().all(fine), up, proxies, missing };
    match args.output {
        Output::Text => print(report.text(now_ms()))?,
        Output::Json => print(format_args!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(if report.in_step { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn proxies(address: &str) -> anyhow::Result<Vec<NodeStatus>> {
    let address = address.trim_start_matches("http://").trim_end_matches('/');
    let answer = fetch::tcp(address, Ask::get(address, "/debug/syncz"), Duration::from_secs(5)).await?;
    if !answer.status.is_success() {
        bail!("GET http://{address}/debug/syncz answered {}", answer.status);
    }
    serde_json::from_slice(&answer.body).with_context(|| format!("what {address} answers is not of this version"))
}

fn fine(proxy: &NodeStatus) -> bool {
    proxy.in_sync && proxy.last_nack.is_none()
}

/// Proxies that `weft up` runs and the control plane does not know.
fn missing(up: &View, proxies: &[NodeStatus]) -> Vec<String> {
    let connected = |role: Role, namespace: &str, pod: &str| {
        proxies.iter().any(|p| p.node.role == role && p.node.namespace == namespace && p.node.pod == pod)
    };
    let gateways = up.gateways.iter().filter(|g| !connected(Role::Gateway, &g.namespace, &g.name));
    let pods = up.pods.iter().filter(|p| !p.leaving && !connected(Role::Sidecar, &p.namespace, &p.name));
    let gateways = gateways.map(|g| format!("gateway {}", g.name));
    gateways.chain(pods.map(|p| format!("pod {}", p.name))).collect()
}

#[derive(Serialize)]
struct Report {
    in_step: bool,
    /// `None`: not of a `weft up`.
    up: Option<View>,
    proxies: Vec<NodeStatus>,
    /// Run, and are not connected.
    missing: Vec<String>,
}

impl Report {
    fn text(&self, now_ms: u64) -> String {
        let mut out = String::new();
        if let Some(up) = &self.up {
            out.push_str(&format!("{}\n", up.table()));
        }
        let mut table =
            Table::new(["PROXY", "STATE", "VERSION", "SINCE", "CONNECTED", "CDS", "EDS", "LDS", "RDS", "SDS"]);
        for proxy in &self.proxies {
            table.row(row(proxy, now_ms));
        }
        if !self.proxies.is_empty() {
            out.push_str(&table.to_string());
        }
        for proxy in &self.proxies {
            if let Some(nack) = &proxy.last_nack {
                let when = age(now_ms.saturating_sub(nack.at_ms) / 1000);
                let names = nack.names.join(", ");
                let what =
                    format!("{} refused {} {names} {when} ago: {}", name(proxy), nack.kind, printable(&nack.text));
                out.push_str(&format!("\n{} {what}\n  it keeps its last good version\n", paint(BAD, "✗")));
            }
        }
        for missing in &self.missing {
            out.push_str(&format!(
                "\n{} {missing} is not connected to the control plane; it serves what it has\n",
                paint(BAD, "✗")
            ));
        }
        if self.proxies.is_empty() && self.missing.is_empty() {
            out.push_str(&format!("{} no proxy is connected\n", paint(WARN, "!")));
        } else if self.in_step {
            let count = self.proxies.len();
            out.push_str(&format!(
                "\n{} {}\n",
                paint(GOOD, "✓"),
                paint(BOLD, format!("all {count} proxies are in step"))
            ));
        }
        out
    }
}

fn row(proxy: &NodeStatus, now_ms: u64) -> Vec<crate::look::Cell> {
    let state = match (proxy.in_sync, &proxy.last_nack) {
        (_, Some(_)) => paint(BAD, "refuses"),
        (true, None) => paint(GOOD, "in step"),
        (false, None) => paint(WARN, "behind"),
    };
    let ago = |ms: u64| age(now_ms.saturating_sub(ms) / 1000);
    let acked = proxy.kinds.values().filter_map(|kind| kind.last_ack_at_ms).max();
    let mut cells = vec![
        name(proxy).into(),
        state,
        proxy.version.chars().take(8).collect::<String>().into(),
        acked.map_or_else(|| "-".to_owned(), ago).into(),
        paint(DIM, ago(proxy.connected_at_ms)),
    ];
    let count = |kind: Kind| match proxy.kinds.get(kind.discovery()) {
        None => paint(DIM, "-"),
        Some(k) if k.in_sync => k.acked.to_string().into(),
        Some(k) => paint(WARN, format!("{}/{}", k.acked, k.wanted)),
    };
    cells.extend([Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::RouteTable, Kind::Secret].map(count));
    cells
}

fn name(proxy: &NodeStatus) -> String {
    let role = if proxy.node.role == Role::Gateway { "gateway" } else { "pod" };
    match &*proxy.node.namespace {
        "default" => format!("{role} {}", proxy.node.pod),
        namespace => format!("{role} {namespace}/{}", proxy.node.pod),
    }
}

/// A client's words are somebody else's; they do not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
