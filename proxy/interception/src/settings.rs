//! What is brought to the sidecar and what is left alone, as it is written on a command line.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::str::FromStr;

/// Whose traffic is left alone, where the rest goes, and the exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The user that the proxy runs as.
    pub proxy_uid: u32,
    /// The group that the proxy runs as.
    pub proxy_gid: u32,
    /// Where the proxy takes what comes into the pod.
    pub inbound_port: Port,
    /// Where the proxy takes what the app sends.
    pub outbound_port: Port,
    /// Ports of the pod that are brought to the proxy.
    pub include_inbound_ports: Which<Port>,
    /// Ports of the pod that are not, though included.
    pub exclude_inbound_ports: List<Port>,
    /// Destinations whose calls are brought to the proxy.
    pub include_outbound_cidrs: Which<Cidr>,
    /// Destinations whose calls are not, though included.
    pub exclude_outbound_cidrs: List<Cidr>,
    /// Ports whose calls are brought to the proxy, wherever they go.
    pub include_outbound_ports: List<Port>,
    /// Ports whose calls are not, though included.
    pub exclude_outbound_ports: List<Port>,
}

/// Everything, or only what is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which<T> {
    /// Written `*`.
    All,
    /// May be empty: nothing.
    Only(List<T>),
}

/// Some, written with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// A TCP port: 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port(u16);

/// A network: an address whose bits after the prefix are zero, and the length of the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// What was written cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("{0:?} is no port: write a number from 1 to 65535; several with commas between them: 80,443")]
    Port(String),
    #[error("{0:?} is no network: write an address and the length of its prefix: 10.0.0.0/8, fd00::/8 or 192.0.2.1")]
    Cidr(String),
}

impl Port {
    /// `None` for port 0, which nobody can be reached at.
    pub fn new(port: u16) -> Option<Port> {
        (port > 0).then_some(Port(port))
    }

    pub fn get(self) -> u16 {
        self.0
    }
}

impl Cidr {
    /// The network that `address` is in; `None` when the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let zeros = u32::from(width.checked_sub(prefix)?);
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(zeros).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(zeros).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Some(Cidr { address, prefix })
    }

    /// The one address.
    pub fn host(address: IpAddr) -> Cidr {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Cidr { address, prefix }
    }

    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    fn is_host(self) -> bool {
        self == Cidr::host(self.address)
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> Default for List<T> {
    fn default() -> List<T> {
        List(Vec::new())
    }
}

impl FromStr for Port {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Port, Invalid> {
        text.parse().ok().and_then(Port::new).ok_or_else(|| Invalid::Port(text.to_owned()))
    }
}

impl FromStr for Cidr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Cidr, Invalid> {
        let network = match text.split_once('/') {
            Some((address, prefix)) => {
                address.parse().ok().zip(prefix.parse().ok()).and_then(|(a, prefix)| Cidr::new(a, prefix))
            }
            None => text.parse().ok().map(Cidr::host),
        };
        network.ok_or_else(|| Invalid::Cidr(text.to_owned()))
    }
}

impl<T: FromStr<Err = Invalid>> FromStr for List<T> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<List<T>, Invalid> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(List)
    }
}

impl<T: FromStr<Err = Invalid>> FromStr for Which<T> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Which<T>, Invalid> {
        if text.trim() == "*" { Ok(Which::All) } else { text.parse().map(Which::Only) }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { self.address.fmt(f) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_its_prefix_leaves() {
        let shown = |text: &str| text.parse::<Cidr>().unwrap().to_string();
        assert_eq!(shown("10.1.2.3/8"), "10.0.0.0/8");
        assert_eq!(shown("10.1.2.3/32"), "10.1.2.3");
        assert_eq!(shown("10.1.2.3"), "10.1.2.3");
        assert_eq!(shown("fd00:1::5/7"), "fc00::/7");
        assert_eq!(shown("1.2.3.4/0"), "0.0.0.0/0");
        assert_eq!(shown("::1/0"), "::/0");
    }

    #[test]
    fn lists_are_forgiving_about_spaces_and_a_star_is_everything() {
        assert_eq!("80, 443,".parse(), Ok(List(vec![Port(80), Port(443)])));
        assert_eq!("*".parse(), Ok(Which::<Port>::All));
        assert_eq!("".parse(), Ok(Which::<Cidr>::Only(List(vec![]))));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_what_to_write() {
        for wrong in ["0", "65536", "http", "80-90", "*"] {
            let told = wrong.parse::<List<Port>>().unwrap_err().to_string();
            assert!(told.starts_with(&format!("{wrong:?} is no port: write a number")), "{told}");
        }
        for wrong in ["10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/-1", "example.org"] {
            let told = wrong.parse::<Which<Cidr>>().unwrap_err().to_string();
            assert!(told.starts_with(&format!("{wrong:?} is no network: write")), "{told}");
        }
    }
}
