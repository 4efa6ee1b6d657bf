//! A rule as the kernel runs it: a small program that loads a part of the packet into a register, compares, and goes
//! on only where it fits. The very program that `nft` makes of the same text, so that `nft` shows it as that text again.

use crate::rules::{Action, Match, Rule};
use crate::settings::{Cidr, Port};
use std::net::IpAddr;

/// One instruction. There is one register; a load fills it, a comparison reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// Loads what the kernel knows of the packet.
    Meta(Meta),
    /// Loads bytes of the packet.
    Payload {
        base: Base,
        offset: u32,
        length: u32,
    },
    /// Clears the bits that are not in this mask.
    Mask(Vec<u8>),
    /// Goes on only if the register is these bytes.
    Equal(Vec<u8>),
    /// Goes on only if it is not.
    NotEqual(Vec<u8>),
    Count,
    Return,
    Goto(&'static str),
    /// Loads a port.
    Port(Port),
    /// Sends to the port that was loaded.
    Redirect,
}

/// What the kernel knows of a packet: `NFT_META_*` of `linux/netfilter/nf_tables.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    OutInterface = 5,
    SocketUid = 10,
    SocketGid = 11,
    Family = 15,
    Protocol = 16,
}

/// Which header an offset counts from: `NFT_PAYLOAD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Network = 1,
    Transport = 2,
}

/// `lo` is the first interface of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const TCP: u8 = 6;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

impl Rule {
    pub(crate) fn program(&self) -> Vec<Instruction> {
        let matches = self.matches.iter().flat_map(|fits| fits.program());
        matches.chain(self.action.program()).collect()
    }
}

impl Match {
    fn program(self) -> Vec<Instruction> {
        use Instruction::{Equal, NotEqual};
        let meta = |meta, compare: Instruction| vec![Instruction::Meta(meta), compare];
        match self {
            Match::Tcp => meta(Meta::Protocol, Equal(vec![TCP])),
            Match::NotTcp => meta(Meta::Protocol, NotEqual(vec![TCP])),
            Match::Port(port) => {
                let mut program = Match::Tcp.program();
                program.push(Instruction::Payload { base: Base::Transport, offset: 2, length: 2 });
                program.push(Equal(port.get().to_be_bytes().to_vec()));
                program
            }
            Match::Loopback => meta(Meta::OutInterface, Equal(LOOPBACK_INDEX.to_ne_bytes().to_vec())),
            Match::NotLoopback => meta(Meta::OutInterface, NotEqual(LOOPBACK_INDEX.to_ne_bytes().to_vec())),
            Match::SocketUid(uid) => meta(Meta::SocketUid, Equal(uid.to_ne_bytes().to_vec())),
            Match::SocketGid(gid) => meta(Meta::SocketGid, Equal(gid.to_ne_bytes().to_vec())),
            Match::Source(network) => address(network, 12, 8),
            Match::Destination(network) => address(network, 16, 24),
        }
    }
}

/// The address at this offset of the IPv4 or of the IPv6 header is in `network`.
fn address(network: Cidr, offset_v4: u32, offset_v6: u32) -> Vec<Instruction> {
    let (family, offset, bytes) = match network.address() {
        IpAddr::V4(v4) => (IPV4, offset_v4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (IPV6, offset_v6, v6.octets().to_vec()),
    };
    let mut program = vec![Instruction::Meta(Meta::Family), Instruction::Equal(vec![family])];
    let load = |length: usize| Instruction::Payload {
        base: Base::Network,
        offset,
        length: u32::try_from(length).expect("an address is short"),
    };
    let prefix = usize::from(network.prefix());
    if prefix > 0 && prefix.is_multiple_of(8) {
        program.push(load(prefix / 8));
        program.push(Instruction::Equal(bytes[..prefix / 8].to_vec()));
    } else {
        program.push(load(bytes.len()));
        program.push(Instruction::Mask(mask(prefix, bytes.len())));
        program.push(Instruction::Equal(bytes));
    }
    program
}

/// `ones` ones, then zeros.
fn mask(ones: usize, bytes: usize) -> Vec<u8> {
    let byte = |index: usize| match ones.saturating_sub(index * 8) {
        0 => 0,
        ones @ 1..8 => 0xff << (8 - ones),
        _ => 0xff,
    };
    (0..bytes).map(byte).collect()
}

impl Action {
    fn program(self) -> Vec<Instruction> {
        match self {
            Action::Return => vec![Instruction::Return],
            Action::Goto(chain) => vec![Instruction::Goto(chain)],
            Action::Redirect(port) => vec![Instruction::Count, Instruction::Port(port), Instruction::Redirect],
        }
    }
}
