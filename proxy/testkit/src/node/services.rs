//! What kube-proxy and the cluster's DNS do: a Service's addresses lead to its endpoints, and its names to its addresses.
//!
//! Every packet of a pod passes the node, so rules there are enough; they come back the same way. Names are in each pod's
//! `/etc/hosts`, the short ones of its own namespace too.

use crate::netns::Network;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A Service, as far as pods see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    pub namespace: String,
    pub name: String,
    /// Its virtual addresses; none when it is headless.
    pub addresses: Vec<IpAddr>,
    /// Each port with its ready endpoints.
    pub ports: BTreeMap<u16, Vec<SocketAddr>>,
}

#[derive(Default)]
pub(super) struct Services(Mutex<State>);

#[derive(Default)]
struct State {
    services: Vec<ServiceAddress>,
    hosts: BTreeMap<PathBuf, Pod>,
}

/// What a pod's hosts file says besides Services.
struct Pod {
    namespace: String,
    own: String,
}

impl Services {
    pub(super) fn replace(&self, network: &Network, services: Vec<ServiceAddress>) {
        let mut state = self.0.lock().expect("nobody panics in here");
        if state.services == services {
            return;
        }
        network.node().nft(&["-f", "-"], &rules(&services));
        state.services = services;
        for (file, pod) in &state.hosts {
            write(file, &hosts(&state.services, pod));
        }
    }

    pub(super) fn add_hosts(&self, file: &Path, namespace: &str, name: &str, v4: Ipv4Addr, v6: Ipv6Addr) {
        let mut state = self.0.lock().expect("nobody panics in here");
        let pod = Pod { namespace: namespace.to_owned(), own: format!("{v4} {name}\n{v6} {name}\n") };
        write(file, &hosts(&state.services, &pod));
        state.hosts.insert(file.to_owned(), pod);
    }

    pub(super) fn remove_hosts(&self, file: &Path) {
        self.0.lock().expect("nobody panics in here").hosts.remove(file);
    }
}

/// In place: containers have this very file mounted.
fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

fn hosts(services: &[ServiceAddress], pod: &Pod) -> String {
    let mut out = format!("127.0.0.1 localhost\n::1 localhost\n{}", pod.own);
    for service in services {
        let (name, namespace) = (&service.name, &service.namespace);
        let short = if *namespace == pod.namespace { format!(" {name}") } else { String::new() };
        let mut addresses = service.addresses.clone();
        if addresses.is_empty() {
            addresses = service.ports.values().flatten().map(SocketAddr::ip).collect();
            addresses.sort_unstable();
            addresses.dedup();
        }
        for address in addresses {
            let _ = writeln!(
                out,
                "{address} {name}.{namespace}.svc.cluster.local {name}.{namespace}.svc {name}.{namespace}{short}"
            );
        }
    }
    out
}

/// The node's whole table. Whom nobody stands behind is refused, as kube-proxy refuses; a pod that reaches itself by a
/// Service gets the node's address as its caller, or it would answer itself past the node.
fn rules(services: &[ServiceAddress]) -> String {
    let (mut nat, mut refuse, mut itself) = (String::new(), String::new(), String::new());
    let mut endpoints: Vec<IpAddr> = Vec::new();
    for service in services {
        for address in &service.addresses {
            for (port, all) in &service.ports {
                let all: Vec<_> = all.iter().filter(|endpoint| endpoint.is_ipv4() == address.is_ipv4()).collect();
                let family = family(address);
                let to = format!("{family} daddr {address} tcp dport {port}");
                if all.is_empty() {
                    let _ = writeln!(refuse, "    {to} reject with tcp reset");
                    continue;
                }
                let map = all.iter().enumerate().map(|(index, e)| format!("{index} : {} . {}", e.ip(), e.port()));
                let map = map.collect::<Vec<_>>().join(", ");
                let _ = writeln!(nat, "    {to} dnat {family} to numgen random mod {} map {{ {map} }}", all.len());
                endpoints.extend(all.iter().map(|endpoint| endpoint.ip()));
            }
        }
    }
    endpoints.sort_unstable();
    endpoints.dedup();
    for ip in endpoints {
        let family = family(&ip);
        let _ = writeln!(itself, "    ct status dnat {family} saddr {ip} {family} daddr {ip} masquerade");
    }
    format!(
        "table inet services
delete table inet services
table inet services {{
  chain services {{
{nat}  }}
  chain refused {{
{refuse}  }}
  chain prerouting {{ type nat hook prerouting priority -100; jump services; }}
  chain output {{ type nat hook output priority -100; jump services; }}
  chain postrouting {{
    type nat hook postrouting priority 100;
{itself}  }}
  chain forward {{ type filter hook forward priority 0; jump refused; }}
  chain output_filter {{ type filter hook output priority 0; jump refused; }}
}}
"
    )
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}
