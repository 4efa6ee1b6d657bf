//! Machines as a cluster's network makes pods: each in a network namespace of its own, with an IPv4 and an IPv6 address, all on one
//! bridge.
//!
//! Redirected connections cannot be had otherwise: the rules, the addresses and the loopback must be the pod's alone. A
//! socket belongs to the namespace in which it was made and may then be used from anywhere, so a test only steps into one to bind or
//! to connect ([`Host::within`]).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A bridge and the machines on it. Dropped, all of it is gone.
pub struct Room {
    name: String,
    hosts: Vec<String>,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Room {
    /// `None`, with a printed word, where this process may not make network namespaces.
    pub fn open() -> Option<Room> {
        static OPENED: AtomicU32 = AtomicU32::new(0);
        let name = format!("weft-{}-{}", std::process::id(), OPENED.fetch_add(1, Ordering::Relaxed));
        if let Err(error) = try_run("ip", &["netns", "add", &name]) {
            println!(
                "SKIPPED: network namespaces are not permitted here ({error}); run as root, with iproute2 and nftables"
            );
            return None;
        }
        let room = Room { name, hosts: Vec::new() };
        room.ip(&["link", "add", "name", "br0", "type", "bridge"]);
        room.ip(&["link", "set", "br0", "up"]);
        Some(room)
    }

    /// One more machine: `10.99.0.N` and `fd99::N`, where the first N is 1. Whatever has no address there is sent to the bridge.
    pub fn host(&mut self) -> Host {
        let number = u8::try_from(self.hosts.len() + 1).expect("a few machines");
        let host = Host {
            namespace: format!("{}-{number}", self.name),
            v4: Ipv4Addr::new(10, 99, 0, number),
            v6: Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into()),
        };
        run("ip", &["netns", "add", &host.namespace]);
        self.hosts.push(host.namespace.clone());
        let port = format!("port{number}");
        self.ip(&["link", "add", "name", &port, "type", "veth", "peer", "name", "eth0", "netns", &host.namespace]);
        self.ip(&["link", "set", &port, "master", "br0", "up"]);
        host.ip(&["link", "set", "lo", "up"]);
        host.ip(&["addr", "add", &format!("{}/16", host.v4), "dev", "eth0"]);
        host.ip(&["addr", "add", &format!("{}/64", host.v6), "dev", "eth0", "nodad"]);
        host.ip(&["link", "set", "eth0", "up"]);
        host.ip(&["route", "add", "default", "dev", "eth0"]);
        host.ip(&["-6", "route", "add", "default", "dev", "eth0"]);
        host
    }

    fn ip(&self, args: &[&str]) {
        run("ip", &[&["-n", &self.name], args].concat());
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.name]) {
            if let Err(error) = try_run("ip", &["netns", "del", name]) {
                eprintln!("the namespace {name} stays: {error}");
            }
        }
    }
}

impl Host {
    pub fn v4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.v4.into(), port)
    }

    pub fn v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.v6.into(), port)
    }

    /// One more address, on the loopback.
    pub fn own(&self, address: IpAddr) {
        self.ip(&["addr", "add", &address.to_string(), "dev", "lo"]);
    }

    /// The machine's `ip`.
    pub fn ip(&self, args: &[&str]) {
        run("ip", &[&["-n", &self.namespace], args].concat());
    }

    /// Feeds rules to the machine's nftables.
    pub fn nft(&self, rules: &str) {
        let mut nft =
            self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nftables is installed");
        nft.stdin.take().expect("it was asked for").write_all(rules.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("nft runs").success(), "nft refuses {rules}");
    }

    /// A program that runs there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Does something there: sockets that it makes are the machine's.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let namespace = File::open(format!("/run/netns/{}", self.namespace)).expect("the namespace is there");
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .expect("who made a namespace may enter it");
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A connection from there.
    pub fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.within(|| TcpStream::connect_timeout(&address, crate::PATIENCE))?;
        stream.set_read_timeout(Some(crate::PATIENCE))?;
        Ok(stream)
    }

    /// A program there that serves each connection with `serve`, until the test ends.
    pub fn serve(&self, address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) {
        let listener = self.within(|| TcpListener::bind(address)).unwrap_or_else(|error| panic!("{address}: {error}"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
        });
    }

    /// The whole answer to a `GET`, or why there is none.
    pub fn get(&self, address: SocketAddr, host: &str, path: &str) -> std::io::Result<String> {
        let mut stream = self.connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn run(program: &str, args: &[&str]) {
    try_run(program, args).unwrap_or_else(|error| panic!("{program} {args:?}: {error}"));
}

fn try_run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
