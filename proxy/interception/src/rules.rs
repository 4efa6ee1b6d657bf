//! Which packet goes where: the decision, as a value.
//!
//! The order of the rules is the policy. Who is it from (the proxy, or the app), does it leave the pod at all, is it
//! excepted; what is left goes to the proxy. `inbound` is asked for what comes from outside and for what the proxy
//! sends to its own pod, so both obey the same exceptions.

use crate::settings::{Cidr, Port, Settings, Which};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of our table, of the family `inet`.
pub const TABLE: &str = "weft";

/// From where the proxy hands a connection on to its app, as Istio's does: so that it is told from a call of the proxy's to
/// its own pod.
pub(crate) const HANDED_ON_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
pub(crate) const HANDED_ON_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

const INBOUND: &str = "inbound";
const OUTBOUND: &str = "outbound";
const PROXY: &str = "proxy";

/// All rules, chain by chain; a chain comes after those that it sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    pub chains: Vec<Chain>,
}

/// Rules that are asked one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: &'static str,
    /// Where the kernel begins with this chain; the others are sent to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// Where the kernel asks for a packet's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// For what comes in.
    Prerouting,
    /// For what programs here send.
    Output,
}

/// What to do with a packet that every match fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub action: Action,
    /// Why, for those who list the rules; without quotes.
    pub why: &'static str,
}

/// One thing about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Tcp,
    NotTcp,
    /// It is TCP to this port.
    Port(Port),
    /// It stays in the pod.
    Loopback,
    /// It leaves the pod.
    NotLoopback,
    SocketUid(u32),
    SocketGid(u32),
    Source(Cidr),
    Destination(Cidr),
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is left alone.
    Return,
    /// Another chain decides, with no way back.
    Goto(&'static str),
    /// It goes to this port of the pod. Counted.
    Redirect(Port),
}

impl Ruleset {
    pub fn new(settings: &Settings) -> Ruleset {
        let prerouting = vec![rule([], Action::Goto(INBOUND), "what comes into the pod")];
        Ruleset {
            chains: vec![
                chain(INBOUND, None, inbound(settings)),
                chain(OUTBOUND, None, outbound(settings)),
                chain(PROXY, None, proxy()),
                chain("prerouting", Some(Hook::Prerouting), prerouting),
                chain("output", Some(Hook::Output), output(settings)),
            ],
        }
    }
}

/// What comes to a port of the pod.
fn inbound(settings: &Settings) -> Vec<Rule> {
    let to_proxy = Action::Redirect(settings.inbound_port);
    let mut rules = each(&settings.exclude_inbound_ports, Match::Port, Action::Return, "excluded inbound port");
    match &settings.include_inbound_ports {
        Which::All => rules.push(rule([Match::Tcp], to_proxy, "inbound, to the proxy")),
        Which::Only(ports) => rules.extend(each(ports, Match::Port, to_proxy, "included inbound port, to the proxy")),
    }
    rules
}

/// What a program sends.
fn output(settings: &Settings) -> Vec<Rule> {
    vec![
        rule([Match::NotTcp], Action::Return, "only TCP is intercepted"),
        rule([Match::SocketUid(settings.proxy_uid)], Action::Goto(PROXY), "the proxy itself"),
        rule([Match::SocketGid(settings.proxy_gid)], Action::Goto(PROXY), "the proxy itself"),
        rule([Match::Loopback], Action::Return, "the app within its pod"),
        rule([], Action::Goto(OUTBOUND), "the app, out of its pod"),
    ]
}

/// What the proxy sends.
fn proxy() -> Vec<Rule> {
    let handed_on = "handed on to the app";
    let local = "the proxy within its pod, by a loopback address";
    let loopback = Cidr::new(Ipv4Addr::LOCALHOST.into(), 8).expect("8 bits of 32");
    vec![
        rule([Match::NotLoopback], Action::Return, "the proxy, out of its pod"),
        rule([Match::Source(Cidr::host(HANDED_ON_V4))], Action::Return, handed_on),
        rule([Match::Source(Cidr::host(HANDED_ON_V6.into()))], Action::Return, handed_on),
        rule([Match::Destination(loopback)], Action::Return, local),
        rule([Match::Destination(Cidr::host(Ipv6Addr::LOCALHOST.into()))], Action::Return, local),
        rule([], Action::Goto(INBOUND), "the pod calls itself: as from anybody else"),
    ]
}

/// What the app sends to others.
fn outbound(settings: &Settings) -> Vec<Rule> {
    let to_proxy = Action::Redirect(settings.outbound_port);
    let mut rules = each(&settings.exclude_outbound_ports, Match::Port, Action::Return, "excluded outbound port");
    rules.extend(each(&settings.exclude_outbound_cidrs, Match::Destination, Action::Return, "excluded destination"));
    match &settings.include_outbound_cidrs {
        Which::All => rules.push(rule([Match::Tcp], to_proxy, "outbound, to the proxy")),
        Which::Only(networks) => {
            let why = "included outbound port, to the proxy";
            rules.extend(each(&settings.include_outbound_ports, Match::Port, to_proxy, why));
            let why = "included destination, to the proxy";
            rules
                .extend(networks.iter().map(|network| rule([Match::Destination(*network), Match::Tcp], to_proxy, why)));
        }
    }
    rules
}

fn each<T: Copy>(items: &[T], fits: impl Fn(T) -> Match, action: Action, why: &'static str) -> Vec<Rule> {
    items.iter().map(|item| rule([fits(*item)], action, why)).collect()
}

fn rule<const N: usize>(matches: [Match; N], action: Action, why: &'static str) -> Rule {
    Rule { matches: matches.to_vec(), action, why }
}

fn chain(name: &'static str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    Chain { name, hook, rules }
}
