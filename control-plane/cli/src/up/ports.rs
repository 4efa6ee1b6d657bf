//! Whether the ports that are needed are free, asked before anything starts: a port that is taken
//! would else show as a part that crashes again and again, with the reason deep in its log.

use super::launch::{ADMIN_PORT, METRICS_PORT, MONITORING_PORT, OUTBOUND_PORT, Site, XDS_PORT};
use super::plan::Plan;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// A port that something of ours wants to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) address: SocketAddr,
    pub(crate) by: String,
    /// What to change to have another one.
    pub(crate) instead: String,
}

/// The ports of everything that the plan starts. `pods` is how many pods there will be.
pub(crate) fn needed(site: &Site, plan: &Plan, pods: u8) -> Vec<Need> {
    let other_network = "give --pod-cidr another /16, such as 127.7.0.0/16".to_owned();
    let own = |address: IpAddr, port: u16, by: &str| Need {
        address: SocketAddr::new(address, port),
        by: by.to_owned(),
        instead: other_network.clone(),
    };
    let control = IpAddr::V4(site.network.control());
    let mut needs = vec![
        own(control, XDS_PORT, "the control plane's xDS"),
        own(control, MONITORING_PORT, "the control plane's status"),
    ];
    for (id, gateway) in &plan.gateways {
        needs.extend(gateway.listeners.iter().map(|listener| Need {
            address: SocketAddr::new(site.bind, listener.port),
            by: format!("gateway {id}, listener {}", listener.name),
            instead: format!("change the port at {}, or listen elsewhere with --bind 127.0.0.2", listener.place),
        }));
    }
    for number in 1..=u8::try_from(plan.gateways.len()).unwrap_or(u8::MAX) {
        let address = IpAddr::V4(site.network.gateway(number));
        needs
            .extend([own(address, ADMIN_PORT, "a gateway's admin"), own(address, METRICS_PORT, "a gateway's metrics")]);
    }
    let app_ports = plan.deployments.values().flat_map(|d| d.template.ports.iter().map(|p| p.number));
    let mut ports: Vec<u16> = app_ports.chain([OUTBOUND_PORT, ADMIN_PORT, METRICS_PORT]).collect();
    ports.sort_unstable();
    ports.dedup();
    for number in 1..=pods {
        let address = IpAddr::V4(site.network.pod(number));
        needs.extend(ports.iter().map(|&port| own(address, port, "a pod")));
    }
    needs
}

/// What is wrong, one sentence for each port, with who holds it where that can be seen.
pub(crate) fn taken(needs: &[Need]) -> Vec<String> {
    let mut said: BTreeMap<(IpAddrKind, u16), String> = BTreeMap::new();
    for need in needs {
        let Err(error) = TcpListener::bind(need.address) else { continue };
        let Need { address, by, instead } = need;
        let sentence = match error.kind() {
            io::ErrorKind::AddrInUse => {
                let holder = holder(*address).map_or_else(String::new, |who| format!(" by {who}"));
                format!("{address}, wanted for {by}, is taken{holder}: stop that, or {instead}")
            }
            io::ErrorKind::PermissionDenied => {
                format!("{address}, wanted for {by}, needs more rights (ports below 1024 do): {instead}")
            }
            _ => format!("{address}, wanted for {by}, cannot be listened on: {error}: {instead}"),
        };
        // Who listens on all addresses stands in the way of every pod; say it once.
        let whose = if by == "a pod" { IpAddrKind::Pods } else { IpAddrKind::One(address.ip()) };
        said.entry((whose, address.port())).or_insert(sentence);
    }
    said.into_values().collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum IpAddrKind {
    One(IpAddr),
    Pods,
}

/// The process that listens there, `nginx (pid 123)`; only where /proc may be read.
fn holder(address: SocketAddr) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = listening_inode(&table, address)?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.any(|link| link.to_str() == Some(&socket))
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{} (pid {pid})", name.trim()))
}

/// The inode of the socket that listens on `address`, or on all addresses at its port, by the text of `/proc/net/tcp`.
fn listening_inode(table: &str, address: SocketAddr) -> Option<&str> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let hex = |ip: [u8; 4]| format!("{:08X}:{:04X}", u32::from_le_bytes(ip), address.port());
    let (exact, any) = (hex(ip.octets()), hex([0; 4]));
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut listening = row.filter(|fields| fields.len() > 9 && fields[3] == "0A");
    listening.find(|fields| fields[1] == exact || fields[1] == any).map(|fields| fields[9])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_holder_and_what_to_change() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let need =
            Need { address, by: "gateway shop, listener http".into(), instead: "change the port at g.yaml:7".into() };
        let said = taken(std::slice::from_ref(&need));
        assert_eq!(said.len(), 1);
        let start = format!("{address}, wanted for gateway shop, listener http, is taken by ");
        let end = format!("(pid {}): stop that, or change the port at g.yaml:7", std::process::id());
        assert!(said[0].starts_with(&start) && said[0].ends_with(&end), "{said:?}");
        drop(listener);
        assert_eq!(taken(&[need]), [""; 0]);
    }

    #[test]
    fn one_that_stands_in_the_way_of_every_pod_is_said_once() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let need = |last: u8| Need {
            address: SocketAddr::from(([127, 0, 1, last], port)),
            by: "a pod".into(),
            instead: String::new(),
        };
        assert_eq!(taken(&[need(1), need(2), need(3)]).len(), 1);
    }

    #[test]
    fn the_kernels_table_is_read_as_it_is_written() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 111 1\n   \
                     1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1\n   \
                     2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        let inode = |address: &str| listening_inode(table, address.parse().unwrap());
        assert_eq!(inode("127.0.0.1:8080"), Some("222"));
        assert_eq!(inode("127.0.1.9:80"), Some("333"));
        assert_eq!(inode("127.0.0.1:81"), None);
    }
}
