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
