//! Takes what the control plane says into service: builds the next snapshot, opens and closes sockets, swaps once.
//!
//! Runs on the control thread, before the acknowledgement goes out, so that what was acknowledged is what serves.

use crate::overflow::Overflows;
use crate::shared::Shared;
use crate::snapshot::{Inputs, Snapshot};
use crate::sockets::Sockets;
use crate::worker::Command;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::{mpsc, watch};
use weft_model::endpoint::Locality;
use weft_model::listener::Binding;
use weft_model::{Kind, Listener, Resource};
use weft_policy::Dice;
use weft_xds::client::{Held, Nack, Sink};

pub(crate) struct Configurator {
    shared: Arc<Shared>,
    sockets: Arc<dyn Sockets>,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    /// Addresses that are being listened on, by listener name.
    bound: BTreeMap<String, SocketAddr>,
    held: watch::Sender<Held>,
    /// The number of the snapshot in service.
    applied: watch::Sender<u64>,
    resolved: BTreeMap<String, Arc<Resource>>,
    dice: Dice,
    /// Where this proxy runs.
    own: Arc<Locality>,
    /// Behind the hashes of rate limiters' keys.
    secret: [u64; 2],
    overflows: Overflows,
}

/// A listener's sockets, one for each worker.
struct Opened {
    name: String,
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

impl Configurator {
    pub(crate) fn new(
        shared: Arc<Shared>,
        sockets: Arc<dyn Sockets>,
        workers: Vec<mpsc::UnboundedSender<Command>>,
        overflows: Overflows,
        seed: u64,
    ) -> Configurator {
        let (bound, resolved) = (BTreeMap::new(), BTreeMap::new());
        let (held, applied) = (watch::Sender::default(), watch::Sender::default());
        let mut dice = Dice::new(seed);
        let own = Arc::new(shared.settings.node.locality.clone());
        let secret = [dice.next_u64(), dice.next_u64()];
        Configurator { shared, sockets, workers, bound, held, applied, resolved, dice, own, secret, overflows }
    }

    /// What is in service, for whoever follows it.
    pub(crate) fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Counts snapshots, for whoever follows what they are made of: newly resolved endpoints too.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// DNS says that these are the members of these clusters.
    pub(crate) fn resolved(&mut self, resolved: BTreeMap<String, Arc<Resource>>) {
        self.resolved = resolved;
        let held = self.held.borrow().clone();
        if let Err(nacks) = self.apply(&held) {
            tracing::error!(?nacks, "what served until now is refused with newly resolved endpoints");
        }
    }

    fn apply(&mut self, held: &Held) -> Result<(), Vec<Nack>> {
        let previous = self.shared.snapshot.load_full();
        let Configurator { resolved, own, secret, overflows, dice, .. } = self;
        let inputs = Inputs { held, resolved, own, seed: *secret, overflows, now: Instant::now() };
        let (next, refused) = Snapshot::build(&inputs, &previous, dice);
        if !refused.is_empty() {
            self.shared.telemetry.metrics.config_rejected(refused.len() as u64);
            return Err(refused);
        }
        let bound_there = |name: &String| socket(&next, name);
        let gone: Vec<String> = self
            .bound
            .iter()
            .filter(|(name, address)| bound_there(name) != Some(**address))
            .map(|(name, _)| name.clone())
            .collect();
        // The old sockets first: a renamed listener may want the address that another one leaves.
        for name in gone {
            self.close(&name);
        }
        let opened = self.open_new(&next)?;
        let number = next.number;
        let handed = previous.listeners.iter().filter(|(_, listener)| listener.spec.binding == Binding::Handed);
        let forgotten: Vec<String> =
            handed.map(|(name, _)| name).filter(|name| !next.listeners.contains_key(*name)).cloned().collect();
        self.shared.snapshot.store(Arc::new(next));
        self.shared.telemetry.metrics.config_applied(number, SystemTime::now());
        self.applied.send_replace(number);
        for Opened { name, address, sockets } in opened {
            self.bound.insert(name.clone(), address);
            for (worker, socket) in self.workers.iter().zip(sockets) {
                tell(worker, Command::Listen { name: name.clone(), socket });
            }
        }
        for worker in &self.workers {
            for name in &forgotten {
                tell(worker, Command::Unlisten { name: name.clone() });
            }
            tell(worker, Command::Refresh);
        }
        Ok(())
    }

    /// Sockets for listeners that have none; all or nothing.
    fn open_new(&self, next: &Snapshot) -> Result<Vec<Opened>, Vec<Nack>> {
        let new = next.listeners.iter().filter(|(name, _)| !self.bound.contains_key(*name));
        let (mut opened, mut refused) = (Vec::new(), Vec::new());
        for (name, listener) in new.filter(|(_, listener)| listener.spec.binding != Binding::Handed) {
            let address = listener.spec.address;
            match self.open(&listener.spec) {
                Ok(sockets) => opened.push(Opened { name: name.clone(), address, sockets }),
                Err(error) => {
                    let reason = format!("cannot listen on {address}: {error}");
                    refused.push(Nack { kind: Kind::Listener, name: name.clone(), reason });
                }
            }
        }
        if refused.is_empty() {
            return Ok(opened);
        }
        for Opened { address, .. } in opened {
            (0..self.workers.len()).for_each(|worker| self.sockets.release(address, worker));
        }
        Err(refused)
    }

    /// One socket for each worker. Connections of both families are redirected to a port, so where there is IPv6 it is
    /// listened on for both.
    fn open(&self, listener: &Listener) -> io::Result<Vec<TcpListener>> {
        let address = listener.address;
        let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        if listener.binding == Binding::OriginalDestination
            && address.ip() == Ipv4Addr::UNSPECIFIED
            && let Ok(sockets) = self.listen(both)
        {
            return Ok(sockets);
        }
        self.listen(address)
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        (0..self.workers.len()).map(|worker| self.sockets.listen(address, worker)).collect()
    }

    fn close(&mut self, name: &str) {
        let Some(address) = self.bound.remove(name) else { return };
        for (number, worker) in self.workers.iter().enumerate() {
            tell(worker, Command::Unlisten { name: name.to_owned() });
            self.sockets.release(address, number);
        }
    }
}

/// Where a listener of that name wants a socket.
fn socket(snapshot: &Snapshot, name: &str) -> Option<SocketAddr> {
    let spec = &snapshot.listeners.get(name)?.spec;
    (spec.binding != Binding::Handed).then_some(spec.address)
}

/// A worker that has ended (it is draining) needs no telling.
fn tell(worker: &mpsc::UnboundedSender<Command>, command: Command) {
    let _ = worker.send(command);
}

/// The configurator as the xDS client knows it.
pub(crate) struct Intake(pub(crate) Arc<Mutex<Configurator>>);

impl Sink for Intake {
    fn apply(&mut self, held: &Held) -> Result<(), Vec<Nack>> {
        let mut configurator = self.0.lock();
        configurator.apply(held)?;
        configurator.held.send_replace(held.clone());
        Ok(())
    }
}
