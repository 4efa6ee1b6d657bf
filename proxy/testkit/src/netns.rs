//! Networks of namespaces: what a cluster's node gives its pods, on one machine and away from its own network.
//!
//! A [`Network`] is a node: a namespace with a bridge. Each [`Namespace`] that joins it has an interface, an IPv4 and an
//! IPv6 address and a way to all others, as a pod has: through the node, so that the node's rules see every packet. A closure runs in one on a thread of its own; what it opens or
//! starts (sockets, runtimes, programs) stays in there. Names tell whose they are, so that what a killed test left is
//! removed by the next one.

use crate::peers;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Where `ip netns` keeps them.
const NAMESPACES: &str = "/run/netns";
/// Names begin so, then the id of the process that made it.
const PREFIX: &str = "weft-";

/// A network of its own, with nothing in it but `lo`. Removed with all its processes when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// A node: a bridge in a namespace of its own, and who joined it.
#[derive(Debug)]
pub struct Network {
    node: Namespace,
    joined: AtomicU32,
}

/// A namespace in a network.
#[derive(Debug)]
pub struct Joined {
    pub namespace: Namespace,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Namespace {
    /// `None` where this process may not make one; it says so, once each time.
    pub fn new() -> Option<Namespace> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_left_behind();
        let name = format!("{PREFIX}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let made = ip().args(["netns", "add", &name]).output().expect("the program was found");
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            eprintln!("SKIPPED: network namespaces are not permitted here, they need root ({})", why.trim());
            return None;
        }
        let namespace = Namespace { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        Some(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` in here, on a thread of its own.
    ///
    /// # Panics
    /// As `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread in here, for good.
    pub fn enter(&self) {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd as _;
        let file =
            File::open(Path::new(NAMESPACES).join(&self.name)).expect("the namespace is there until it is dropped");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("who made it may enter it");
    }

    /// A program that will run in here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = ip();
        command.args(["netns", "exec", &self.name]).arg(program).stdin(Stdio::null());
        command
    }

    /// `ip` in here.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, arguments: &[&str]) -> String {
        done(ip().args(["-n", &self.name]).args(arguments), &format!("ip {}", arguments.join(" ")))
    }

    /// Sets what is below `/proc/sys/net` for in here.
    ///
    /// # Panics
    /// When it cannot be set.
    pub fn set(&self, key: &str, value: &str) {
        let written = self.run(|| fs::write(Path::new("/proc/sys/net").join(key), value));
        written.unwrap_or_else(|error| panic!("/proc/sys/net/{key}: {error}"));
    }

    /// `nft` in here, with this on its standard input when the arguments say `-f -`.
    ///
    /// # Panics
    /// When it fails.
    pub fn nft(&self, arguments: &[&str], input: &str) -> String {
        use std::io::Write as _;
        let nft = peers::debian("nftables", "nft");
        let mut command = self.command(nft);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program was found");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).expect("nft reads");
        drop(stdin);
        told(&child.wait_with_output().expect("it is our child"), "nft")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

impl Network {
    /// `None` as for [`Namespace::new`].
    pub fn new() -> Option<Network> {
        let node = Namespace::new()?;
        node.ip(&["link", "add", "bridge", "type", "bridge"]);
        node.ip(&["address", "add", &format!("{}/16", v4(0, 1)), "dev", "bridge"]);
        node.ip(&["address", "add", &format!("{}/64", v6(1)), "dev", "bridge", "nodad"]);
        node.ip(&["link", "set", "bridge", "up"]);
        // Whoever is meant by an address that nobody has: rules may know, and they are only asked where there is a way.
        node.ip(&["route", "add", "default", "dev", "bridge"]);
        node.ip(&["-6", "route", "add", "default", "dev", "bridge"]);
        node.set("ipv4/ip_forward", "1");
        node.set("ipv6/conf/all/forwarding", "1");
        node.set("ipv4/conf/all/send_redirects", "0");
        // Where the bridge itself asks the rules, what goes back to where it came from would be lost.
        for asks in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
            if Path::new("/proc/sys/net").join(asks).exists() {
                node.set(asks, "0");
            }
        }
        Some(Network { node, joined: AtomicU32::new(1) })
    }

    /// The node itself. Its addresses are [`NODE_V4`] and [`NODE_V6`].
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// A new namespace on the bridge.
    ///
    /// # Panics
    /// When it cannot be made, though the network could.
    pub fn join(&self) -> Joined {
        let namespace = Namespace::new().expect("the network itself could be made");
        let number = self.joined.fetch_add(1, Ordering::Relaxed) + 1;
        let number = u16::try_from(number).expect("a node has few pods");
        let (v4, v6) = (v4(number / 250, number % 250), v6(number));
        let veth = format!("veth{number}");
        self.node.ip(&["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", namespace.name()]);
        self.node.ip(&["link", "set", &veth, "master", "bridge", "up"]);
        namespace.ip(&["address", "add", &format!("{v4}/32"), "dev", "eth0"]);
        namespace.ip(&["address", "add", &format!("{v6}/128"), "dev", "eth0", "nodad"]);
        namespace.ip(&["link", "set", "eth0", "up"]);
        // There is a shorter way to who is on the same bridge, but not one that the node's rules see.
        namespace.set("ipv6/conf/eth0/accept_redirects", "0");
        namespace.ip(&["route", "add", "default", "via", &NODE_V4.to_string(), "dev", "eth0", "onlink"]);
        namespace.ip(&["-6", "route", "add", "default", "via", &NODE_V6.to_string(), "dev", "eth0", "onlink"]);
        Joined { namespace, v4, v6 }
    }
}

/// The node's addresses on the bridge.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1);

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let byte = |number| u8::try_from(number).expect("a node has few pods");
    Ipv4Addr::new(10, 88, byte(high), byte(low))
}

fn v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, number)
}

fn ip() -> Command {
    let mut command = Command::new(peers::debian("iproute2", "ip"));
    command.stdin(Stdio::null());
    command
}

fn done(command: &mut Command, what: &str) -> String {
    told(&command.output().expect("the program was found"), what)
}

fn told(output: &Output, what: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{what}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Ends its processes, then removes it. Best effort: it may be gone.
fn remove(name: &str) {
    if let Ok(pids) = ip().args(["netns", "pids", name]).output() {
        let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
        // Not a test itself, one of whose threads is in there.
        let ours = std::process::id().to_string();
        for pid in pids.split_whitespace().filter(|pid| *pid != ours) {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }
    let _ = ip().args(["netns", "delete", name]).output();
}

/// What tests left that did not live to remove it.
fn remove_left_behind() {
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_left_behind(&name, PREFIX) {
            remove(&name);
        }
    }
}

/// Whether the process that made it is gone. What tests make outside of themselves is called prefix, process id, `-`, number.
pub(crate) fn is_left_behind(name: &str, prefix: &str) -> bool {
    let owner = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse().ok());
    owner.is_some_and(|pid: u32| !Path::new("/proc").join(pid.to_string()).exists())
}
