//! What runs, for people and programs: `<state>/up.json`, the control socket's `GET /fleet`, the
//! table on the screen.

use super::member::MemberView;
use super::network::Network;
use crate::look::{BAD, Cell, DIM, GOOD, Table, WARN, paint};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// Of `weft up` itself.
    pub(crate) pid: u32,
    pub(crate) network: Network,
    /// The control plane's status address, `host:port`.
    pub(crate) monitoring: String,
    pub(crate) control_plane: Option<MemberView>,
    pub(crate) gateways: Vec<GatewayView>,
    pub(crate) pods: Vec<PodState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GatewayView {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) listeners: Vec<u16>,
    /// Where its admin (15000) and metrics (15090) are.
    pub(crate) admin: Ipv4Addr,
    pub(crate) process: Option<MemberView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodState {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) deployment: String,
    /// As others see it: its sidecar.
    pub(crate) address: Ipv4Addr,
    /// Its own localhost, where its app listens.
    pub(crate) app_address: Ipv4Addr,
    pub(crate) ready: bool,
    pub(crate) leaving: bool,
    pub(crate) app: Option<MemberView>,
    pub(crate) sidecar: Option<MemberView>,
}

impl View {
    /// One row for each process, a pod's two in one.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(["WHO", "ADDRESS", "STATUS", "RESTARTS", "PID", "SIDECAR PID", "LOG"]);
        if let Some(process) = &self.control_plane {
            table.row(own_row("control plane".to_owned(), self.monitoring.clone(), process));
        }
        for gateway in &self.gateways {
            let ports: Vec<String> = gateway.listeners.iter().map(u16::to_string).collect();
            let address = format!("{}:{}", gateway.address, ports.join(","));
            let name = format!("gateway {}", named(&gateway.namespace, &gateway.name));
            match &gateway.process {
                Some(process) => table.row(own_row(name, address, process)),
                None => table.row([name.into(), address.into(), paint(WARN, "leaving")]),
            }
        }
        for pod in &self.pods {
            table.row(pod.row());
        }
        table
    }
}

impl PodState {
    fn row(&self) -> Vec<Cell> {
        let name = named(&self.namespace, &self.name);
        let (Some(app), Some(sidecar)) = (&self.app, &self.sidecar) else {
            return vec![format!("pod {name}").into(), self.address.to_string().into(), paint(WARN, "leaving")];
        };
        let status = match (app.ready, sidecar.ready) {
            (true, true) => paint(GOOD, "ready"),
            (false, _) => trouble("app", app),
            (true, false) => trouble("sidecar", sidecar),
        };
        vec![
            format!("pod {name}").into(),
            self.address.to_string().into(),
            status,
            format!("{}+{}", app.restarts, sidecar.restarts).into(),
            paint(DIM, pid(app)),
            paint(DIM, pid(sidecar)),
            paint(DIM, app.log.display()),
        ]
    }
}

fn own_row(name: String, address: String, process: &MemberView) -> Vec<Cell> {
    let status = if process.ready { paint(GOOD, "ready") } else { trouble("", process) };
    vec![
        name.into(),
        address.into(),
        status,
        process.restarts.to_string().into(),
        paint(DIM, pid(process)),
        paint(DIM, "-"),
        paint(DIM, process.log.display()),
    ]
}

fn trouble(whose: &str, process: &MemberView) -> Cell {
    let what = process.trouble.as_deref().unwrap_or("starting");
    let style = if process.pid.is_some() { WARN } else { BAD };
    paint(style, format!("{whose} {what}").trim())
}

fn pid(process: &MemberView) -> String {
    process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

fn named(namespace: &str, name: &str) -> String {
    super::plan::Id::new(namespace, name).to_string()
}
