//! Listening sockets in an envelope.
//!
//! pingora hands descriptors over in one message of at most 32, with their names in 2 KiB, and
//! checks neither: the thirty-third would end the new process in a panic while the old one goes.
//! One listener with 33 workers is enough. So pingora carries a single descriptor, one end of a
//! socket pair in whose queue every listening socket waits, and each of those messages says what it
//! holds. The kernel keeps the queue; the two processes need not be in step.

use crate::inventory::Place;
use anyhow::{Context, bail, ensure};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The first line of every message, so that binaries of different age understand each other or say so.
const GREETING: &str = "weft-sockets 1";

/// The kernel takes at most 253 descriptors in a message.
const PER_MESSAGE: usize = 200;

/// A message's text: the greeting and [`PER_MESSAGE`] lines of an address (at most 58 bytes) and a worker.
const TEXT_LIMIT: usize = 24 * 1024;

/// Puts `sockets` into a mailbox and returns the end to read it from. They stay open for as long as
/// the mailbox does.
///
/// # Errors
/// When the kernel's buffers do not hold them all (some thousands fit), or the process has no
/// descriptors left.
pub(crate) fn pack(sockets: &[(Place, BorrowedFd<'_>)]) -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (writer, reader) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    for some in sockets.chunks(PER_MESSAGE) {
        let text = some
            .iter()
            .fold(String::from(GREETING), |text, ((address, worker), _)| text + &format!("\n{address} {worker}"));
        let descriptors: Vec<BorrowedFd<'_>> = some.iter().map(|(_, socket)| *socket).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "a message holds {PER_MESSAGE} sockets");
        rustix::net::sendmsg(&writer, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)
            .with_context(|| format!("{} listening sockets do not fit in the hand-over's buffer", sockets.len()))?;
    }
    Ok(reader)
}

/// Takes out what [`pack`] put in.
///
/// # Errors
/// When a message is not one of ours, or descriptors were lost on the way (the process's limit).
pub(crate) fn unpack(reader: &OwnedFd) -> anyhow::Result<Vec<(Place, TcpListener)>> {
    let mut sockets = Vec::new();
    let mut text = vec![0; TEXT_LIMIT];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            rustix::net::recvmsg(reader, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
                .context("reading the old process's sockets")?;
        if received.bytes == 0 {
            return Ok(sockets);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            bail!("sockets of the old process were lost on the way: raise the limit of open files (ulimit -n)");
        }
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let places = places(&text[..received.bytes])?;
        ensure!(places.len() == descriptors.len(), "{} sockets for {} places", descriptors.len(), places.len());
        sockets.extend(places.into_iter().zip(descriptors.into_iter().map(TcpListener::from)));
    }
}

fn places(text: &[u8]) -> anyhow::Result<Vec<Place>> {
    let text = std::str::from_utf8(text).context("the old process's message is not text")?;
    let mut lines = text.lines();
    let greeting = lines.next().unwrap_or_default();
    ensure!(
        greeting == GREETING,
        "the old process speaks \"{greeting}\" where this one knows \"{GREETING}\": stop the old one, then start without upgrade"
    );
    lines.map(|line| place(line).with_context(|| format!("\"{line}\" names no listening socket"))).collect()
}

fn place(line: &str) -> Option<Place> {
    let (address, worker) = line.split_once(' ')?;
    Some((address.parse().ok()?, worker.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{SocketAddr, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn every_socket_arrives_at_its_place_with_its_queue() {
        let listeners: Vec<TcpListener> =
            (0..450).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound socket has an address");
        let callers: Vec<TcpStream> =
            listeners.iter().map(|l| TcpStream::connect(address(l)).expect("the listener listens")).collect();
        let packed: Vec<(Place, BorrowedFd<'_>)> =
            listeners.iter().enumerate().map(|(i, l)| ((address(l), i % 7), l.as_fd())).collect();
        let expected: Vec<Place> = packed.iter().map(|(place, _)| *place).collect();

        let reader = pack(&packed).expect("450 sockets fit");
        drop(packed);
        drop(listeners);
        let unpacked = unpack(&reader).expect("what was packed can be unpacked");

        assert_eq!(unpacked.iter().map(|(place, _)| *place).collect::<Vec<_>>(), expected);
        for ((_, listener), caller) in unpacked.iter().zip(&callers) {
            let (_, from) = listener.accept().expect("the caller still waits in the queue");
            assert_eq!(from, caller.local_addr().expect("a connected socket has an address"));
        }
    }

    #[test]
    fn an_empty_mailbox_is_no_error() {
        let reader = pack(&[]).expect("nothing fits");
        assert!(unpack(&reader).expect("nothing to read").is_empty());
    }

    #[test]
    fn a_message_of_another_age_is_refused_in_words() {
        let (writer, reader) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a socket pair");
        std::fs::File::from(writer).write_all(b"weft-sockets 2\n127.0.0.1:80 0").expect("the pair is connected");
        let error = unpack(&reader).expect_err("version 2 is unknown").to_string();
        assert!(error.contains("\"weft-sockets 2\"") && error.contains("\"weft-sockets 1\""), "{error}");
    }

    #[test]
    fn addresses_of_both_families_are_places() {
        for address in ["127.0.0.1:80", "[::1]:8080"] {
            let expected: SocketAddr = address.parse().expect("an address");
            assert_eq!(place(&format!("{address} 3")), Some((expected, 3)));
        }
        assert_eq!(place("127.0.0.1:80"), None);
        assert_eq!(place("shop 1"), None);
    }
}
