//! The rules as people read them and as `nft -f` takes them.

use crate::rules::{Action, Chain, Hook, Match, Rule, Ruleset, TABLE};
use crate::settings::Cidr;
use std::fmt;

/// A whole transaction: what is there under our name is replaced. (A table can only be deleted when it is there, so it is
/// made first.)
impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{")?;
        for (index, chain) in self.chains.iter().enumerate() {
            let blank = if index > 0 { "\n" } else { "" };
            write!(f, "{blank}{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = self.hook {
            writeln!(f, "\t\ttype nat hook {hook} priority {}; policy accept;", hook.priority())?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fits in &self.matches {
            write!(f, "{fits} ")?;
        }
        write!(f, "{} comment \"{}\"", self.action, self.why)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::Tcp => f.write_str("meta l4proto tcp"),
            Match::NotTcp => f.write_str("meta l4proto != tcp"),
            Match::Port(port) => write!(f, "tcp dport {port}"),
            Match::Loopback => f.write_str("oif \"lo\""),
            Match::NotLoopback => f.write_str("oif != \"lo\""),
            Match::SocketUid(uid) => write!(f, "meta skuid {uid}"),
            Match::SocketGid(gid) => write!(f, "meta skgid {gid}"),
            Match::Source(network) => write!(f, "{} saddr {network}", family(*network)),
            Match::Destination(network) => write!(f, "{} daddr {network}", family(*network)),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Return => f.write_str("return"),
            Action::Goto(chain) => write!(f, "goto {chain}"),
            Action::Redirect(port) => write!(f, "counter redirect to :{port}"),
        }
    }
}

fn family(network: Cidr) -> &'static str {
    if network.address().is_ipv4() { "ip" } else { "ip6" }
}

#[cfg(test)]
mod tests;
