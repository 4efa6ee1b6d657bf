//! Every listening socket of the process, so that each can go over to the next.
//!
//! The workers of one listener accept from sockets of one `SO_REUSEPORT` group, and the kernel deals
//! new connections out to all of them. A socket that nobody inherits is closed with the connections
//! in its queue, and a socket that is inherited but not accepted from swallows its share for ever.
//! So: all go over; each place (address, worker) gets its old socket back; and what no place asks
//! for, once the configuration is live, is closed.
//!
//! The first place to be asked for says that the configuration is live; only then is it time to take
//! the sockets over. Until they have come, whoever asks waits.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use tokio::sync::watch;
use weft_proxy::Sockets;

/// Where a socket belongs: a listener's address and a worker's number.
pub(crate) type Place = (SocketAddr, usize);

/// Lends listening sockets and remembers them.
pub(crate) struct Inventory {
    /// Addresses that are served from the start and not handed over: admin and metrics. Old and new
    /// process share them while both live.
    early: Vec<SocketAddr>,
    state: Mutex<State>,
    changed: Condvar,
    live: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// From the old process, not yet asked for.
    inherited: BTreeMap<Place, TcpListener>,
    /// A second handle of each socket that is lent out.
    lent: BTreeMap<Place, TcpListener>,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    /// The old process's sockets have not come yet.
    #[default]
    Waiting,
    Open,
    /// The process ends.
    Ended,
}

impl Inventory {
    pub(crate) fn new(early: Vec<SocketAddr>) -> Inventory {
        let live = watch::Sender::new(false);
        Inventory { early, state: Mutex::default(), changed: Condvar::new(), live }
    }

    /// Returns when the data plane has asked for its first listener.
    pub(crate) async fn live(&self) {
        let mut live = self.live.subscribe();
        live.wait_for(|live| *live).await.expect("the sender lives as long as self");
    }

    /// The old process's sockets are here (none, without one): whoever waits goes on.
    pub(crate) fn open(&self, inherited: Vec<(Place, TcpListener)>) {
        let mut state = self.state.lock();
        state.inherited = inherited.into_iter().collect();
        state.phase = Phase::Open;
        self.changed.notify_all();
    }

    /// The process ends: whoever waits for sockets waits no longer, and a socket is open only for as
    /// long as its worker accepts, so that callers are refused at once and not left in a queue.
    pub(crate) fn end(&self) {
        *self.state.lock() = State { phase: Phase::Ended, ..State::default() };
        self.changed.notify_all();
    }

    /// Closes what was inherited and not asked for, and says which places these were.
    pub(crate) fn close_unclaimed(&self) -> Vec<Place> {
        std::mem::take(&mut self.state.lock().inherited).into_keys().collect()
    }

    /// Shows every socket that a successor must get to `pack`.
    pub(crate) fn all<T>(&self, pack: impl FnOnce(&[(Place, BorrowedFd<'_>)]) -> T) -> T {
        let state = self.state.lock();
        let all = state.lent.iter().chain(&state.inherited);
        pack(&all.map(|(place, socket)| (*place, socket.as_fd())).collect::<Vec<_>>())
    }

    fn wait(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.phase == Phase::Waiting);
        match state.phase {
            Phase::Ended => Err(io::Error::other("the process ends")),
            Phase::Open | Phase::Waiting => Ok(state),
        }
    }
}

impl Sockets for Inventory {
    fn listen(&self, address: SocketAddr, worker: usize) -> io::Result<TcpListener> {
        if self.early.contains(&address) {
            return weft_proxy::sockets::bind(address);
        }
        self.live.send_replace(true);
        let mut state = self.wait()?;
        let place = (address, worker);
        if let Some(socket) = state.lent.get(&place) {
            return socket.try_clone();
        }
        let socket = match state.inherited.remove(&place) {
            Some(socket) => socket,
            None => weft_proxy::sockets::bind(address)?,
        };
        let lent = socket.try_clone()?;
        state.lent.insert(place, socket);
        Ok(lent)
    }

    fn release(&self, address: SocketAddr, worker: usize) {
        self.state.lock().lent.remove(&(address, worker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn free_address() -> SocketAddr {
        let probe = weft_proxy::sockets::bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
        probe.local_addr().expect("a bound socket has an address")
    }

    fn open(inherited: Vec<(Place, TcpListener)>) -> Inventory {
        let inventory = Inventory::new(vec![]);
        inventory.open(inherited);
        inventory
    }

    fn count(inventory: &Inventory) -> usize {
        inventory.all(|sockets| sockets.len())
    }

    #[test]
    fn a_place_gets_its_old_socket_with_the_callers_in_its_queue() {
        let address = free_address();
        let old = weft_proxy::sockets::bind(address).expect("the address is free");
        let caller = TcpStream::connect(address).expect("the old socket listens");
        let inventory = open(vec![((address, 1), old)]);

        let lent = inventory.listen(address, 1).expect("it was inherited");
        let (_, from) = lent.accept().expect("the caller waits in the queue");
        assert_eq!(from, caller.local_addr().expect("a connected socket has an address"));
        assert_eq!(inventory.close_unclaimed(), vec![]);
    }

    #[test]
    fn workers_that_the_old_process_did_not_have_get_new_sockets_of_the_same_group() {
        let address = free_address();
        let old = weft_proxy::sockets::bind(address).expect("the address is free");
        let inventory = open(vec![((address, 0), old)]);
        let lent: Vec<_> =
            (0..3).map(|worker| inventory.listen(address, worker).expect("reuse-port lets all bind")).collect();
        assert!(lent.iter().all(|socket| socket.local_addr().expect("bound") == address));
        assert_eq!(count(&inventory), 3);
    }

    #[test]
    fn what_no_worker_asks_for_is_handed_on_until_it_is_closed() {
        let address = free_address();
        let old = weft_proxy::sockets::bind(address).expect("the address is free");
        let inventory = open(vec![((address, 0), old)]);
        assert_eq!(count(&inventory), 1);
        assert_eq!(inventory.close_unclaimed(), vec![(address, 0)]);
        assert_eq!(count(&inventory), 0);
        assert!(TcpStream::connect(address).is_err(), "nobody listens there any more");
    }

    #[test]
    fn a_released_socket_is_closed_and_not_handed_over() {
        let inventory = open(vec![]);
        let address = free_address();
        drop(inventory.listen(address, 0).expect("the address is free"));
        assert!(TcpStream::connect(address).is_ok(), "the inventory's own handle keeps it open");
        inventory.release(address, 0);
        assert!(TcpStream::connect(address).is_err());
        assert_eq!(count(&inventory), 0);
    }

    #[test]
    fn asking_twice_for_a_place_lends_the_same_socket_twice() {
        let inventory = open(vec![]);
        let address = free_address();
        let _first = inventory.listen(address, 0).expect("the address is free");
        let second = inventory.listen(address, 0).expect("it is lent again");
        let caller = TcpStream::connect(address).expect("it listens");
        second.set_nonblocking(false).expect("a socket can block");
        let (_, from) = second.accept().expect("both handles are one queue");
        assert_eq!(from, caller.local_addr().expect("a connected socket has an address"));
    }

    #[test]
    fn who_asks_before_the_sockets_came_waits_for_them_and_says_that_the_configuration_is_live() {
        let address = free_address();
        let inventory = Inventory::new(vec![]);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| inventory.listen(address, 0));
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(inventory.live());
            assert!(!asking.is_finished());
            let old = weft_proxy::sockets::bind(address).expect("the address is free");
            inventory.open(vec![((address, 0), old)]);
            asking.join().expect("no panic").expect("the socket has come");
        });
        assert_eq!(inventory.close_unclaimed(), vec![]);
    }

    #[test]
    fn when_the_process_ends_its_workers_alone_hold_the_sockets() {
        let inventory = open(vec![]);
        let address = free_address();
        let lent = inventory.listen(address, 0).expect("the address is free");
        inventory.end();
        assert!(TcpStream::connect(address).is_ok(), "the worker still accepts");
        drop(lent);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn who_waits_when_the_process_ends_is_told() {
        let inventory = Inventory::new(vec![]);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| inventory.listen(free_address(), 0));
            inventory.end();
            assert!(asking.join().expect("no panic").is_err());
        });
    }

    #[test]
    fn admin_and_metrics_are_served_at_once_and_shared() {
        let address = free_address();
        let inventory = Inventory::new(vec![address]);
        let _old_process = weft_proxy::sockets::bind(address).expect("the address is free");
        inventory.listen(address, 0).expect("early addresses wait for nobody");
        assert_eq!(count(&inventory), 0);
    }
}
