//! The listeners without a socket, by the address for which connections are handed to them.
//!
//! Looked up once per redirected connection, as Envoy does it: the exact address, then the port at any address. Only
//! within one direction: a pod's own port is the same address to who calls it and to who answers.

use super::LiveListener;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use weft_model::listener::{Binding, Direction};

#[derive(Debug, Default)]
pub(crate) struct Handed(HashMap<(Direction, SocketAddr), Arc<LiveListener>>);

impl Handed {
    pub(super) fn of(listeners: &BTreeMap<String, Arc<LiveListener>>) -> Handed {
        let mut handed = HashMap::new();
        for listener in listeners.values().filter(|listener| listener.spec.binding == Binding::Handed) {
            let address = listener.spec.address;
            let address = if address.ip().is_unspecified() { any(address.port()) } else { address };
            // Of two for one address the first by name has it.
            handed.entry((listener.spec.direction, address)).or_insert_with(|| listener.clone());
        }
        Handed(handed)
    }

    pub(crate) fn find(&self, direction: Direction, destination: SocketAddr) -> Option<&Arc<LiveListener>> {
        let at = |address| self.0.get(&(direction, address));
        at(destination).or_else(|| at(any(destination.port())))
    }
}

/// Stands for every address of either family.
fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::Listener;

    fn found(wanted: (Direction, &str)) -> Option<String> {
        let listener = |name: &str, direction, binding, address: &str| {
            let address = address.parse().unwrap();
            let spec =
                Listener { name: name.into(), address, binding, direction, chains: vec![], detect_timeout: None };
            (name.to_owned(), Arc::new(LiveListener { spec, chains: vec![], detects: false, asks_for_names: false }))
        };
        let listeners = [
            listener("exact", Direction::Outbound, Binding::Handed, "10.96.0.1:80"),
            listener("any", Direction::Outbound, Binding::Handed, "0.0.0.0:80"),
            listener("in", Direction::Inbound, Binding::Handed, "0.0.0.0:8080"),
            listener("socket", Direction::Outbound, Binding::Socket, "10.96.0.1:81"),
        ];
        let handed = Handed::of(&listeners.into_iter().collect());
        handed.find(wanted.0, wanted.1.parse().unwrap()).map(|listener| listener.spec.name.clone())
    }

    #[test]
    fn the_exact_address_comes_before_the_port_at_any_of_either_family() {
        assert_eq!(found((Direction::Outbound, "10.96.0.1:80")).as_deref(), Some("exact"));
        assert_eq!(found((Direction::Outbound, "10.96.0.2:80")).as_deref(), Some("any"));
        assert_eq!(found((Direction::Outbound, "[fd00::1]:80")).as_deref(), Some("any"));
    }

    #[test]
    fn nothing_is_handed_across_directions_or_to_a_listener_with_a_socket() {
        assert_eq!(found((Direction::Outbound, "10.0.0.1:8080")), None);
        assert_eq!(found((Direction::Inbound, "10.96.0.1:80")), None);
        assert_eq!(found((Direction::Outbound, "10.96.0.1:81")), None);
    }
}
