//! Sending the messages, and what the kernel answers, in words.

use crate::message::{self, Batch, HEADER};
use crate::rules::Ruleset;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with, sockopt};

/// Addresses and routes: `NETLINK_ROUTE` is 0, the protocol of who names none.
const ROUTE: Option<Protocol> = None;

/// Why the rules are not as asked. Nothing was changed then: it is safe to try again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "not permitted to change the rules of this network namespace: the container needs the capability NET_ADMIN (securityContext.capabilities.add: [NET_ADMIN], runAsUser: 0)"
    )]
    NotPermitted,
    #[error(
        "this kernel has no nf_tables: it needs the modules nf_tables, nft_redir and nf_conntrack (Linux 5.2 or newer); load them on the node (modprobe nf_tables)"
    )]
    NoTables,
    /// `asked` is the one message that the kernel did not take.
    #[error("the kernel refused to {asked}: {reason}{}", hint(*.reason))]
    Refused { asked: String, reason: Errno },
    #[error("netlink: {0}")]
    Netlink(#[from] Errno),
    #[error("the kernel answered nothing to the request to {0}")]
    Silent(String),
}

fn hint(reason: Errno) -> &'static str {
    if reason == Errno::NOENT { " (a kernel module is missing: nft_redir or nf_nat; Linux 5.2 or newer)" } else { "" }
}

/// Makes the rules those of this process's network namespace, instead of what [`install`] made before.
///
/// # Errors
/// With the reason in words; the rules are as they were.
pub fn install(rules: &Ruleset) -> Result<(), Error> {
    // First the address: it harms nobody, while rules without it would be half of what was asked.
    match exchange(ROUTE, &message::add_address()) {
        // No IPv6 here.
        Err(Error::Refused {
            reason: Errno::ACCESS | Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::NODEV, ..
        }) => {}
        other => other?,
    }
    exchange(Some(netlink::NETFILTER), &message::install(rules))
}

/// Removes what [`install`] made. Fine where nothing is.
///
/// # Errors
/// With the reason in words.
pub fn clean_up() -> Result<(), Error> {
    exchange(Some(netlink::NETFILTER), &message::clean_up())?;
    match exchange(ROUTE, &message::delete_address()) {
        Err(Error::Refused { reason, .. }) if reason != Errno::PERM => Ok(()),
        other => other,
    }
}

/// Sends a batch and reads every answer. The kernel works on it while it is sent, so all answers are there then.
fn exchange(protocol: Option<Protocol>, batch: &Batch) -> Result<(), Error> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol).map_err(|error| {
            match error {
                Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT => Error::NoTables,
                other => Error::Netlink(other),
            }
        })?;
    if batch.bytes.len() > usize::from(u16::MAX) {
        // A transaction must fit the buffer at once; who may not enlarge it may not change rules either.
        sockopt::set_socket_send_buffer_size_force(&socket, 2 * batch.bytes.len())
            .map_err(|error| named(batch, 0, error))?;
    }
    sendto(&socket, &batch.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; HEADER + 4 + batch.bytes.len().max(8192)];
    let mut acknowledged = false;
    loop {
        match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => acknowledged |= read(batch, &buffer[..length])?,
            Err(Errno::AGAIN) if acknowledged => return Ok(()),
            Err(Errno::AGAIN) => return Err(Error::Silent(batch.asked.last().cloned().unwrap_or_default())),
            Err(error) => return Err(error.into()),
        }
    }
}

/// One answer: whether it acknowledges.
fn read(batch: &Batch, answer: &[u8]) -> Result<bool, Error> {
    const ERROR: u16 = 2;
    let number = |at: usize| answer.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let (Some(ERROR), Some(sequence), Some(code)) = (kind, number(8), number(HEADER)) else { return Ok(false) };
    let code = code.cast_signed();
    if code == 0 { Ok(true) } else { Err(named(batch, sequence, Errno::from_raw_os_error(code.saturating_neg()))) }
}

fn named(batch: &Batch, sequence: u32, reason: Errno) -> Error {
    let asked = usize::try_from(sequence).ok().and_then(|at| batch.asked.get(at)).cloned().unwrap_or_default();
    match (reason, sequence) {
        (Errno::PERM, _) => Error::NotPermitted,
        // To the begin of a transaction: nobody is there to take it.
        (Errno::OPNOTSUPP | Errno::INVAL, 0) if batch.asked.len() > 1 => Error::NoTables,
        _ => Error::Refused { asked, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sequence: u32, error: i32) -> Vec<u8> {
        let mut bytes = vec![36, 0, 0, 0];
        bytes.extend(2u16.to_ne_bytes());
        bytes.extend([0, 0]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(error.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    fn told(sequence: u32, error: Errno) -> String {
        read(&message::clean_up(), &answer(sequence, -error.raw_os_error())).unwrap_err().to_string()
    }

    #[test]
    fn the_kernels_refusals_are_words_that_say_what_to_do() {
        assert!(told(0, Errno::PERM).contains("needs the capability NET_ADMIN"));
        assert!(told(0, Errno::OPNOTSUPP).starts_with("this kernel has no nf_tables"));
        let refused = told(2, Errno::BUSY);
        assert!(refused.starts_with("the kernel refused to delete the table inet weft: "), "{refused}");
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_answer_that_is_none() {
        assert!(read(&message::clean_up(), &answer(2, 0)).unwrap());
        assert!(!read(&message::clean_up(), &[1, 2, 3]).unwrap());
    }
}
