//! Which protocol a connection speaks, from its first bytes.
//!
//! What is read to find out is handed on, so nothing is lost; a caller that says nothing is opaque
//! after the listener's detection timeout (server-first protocols).

use crate::wire::{HTTP2_PREFACE, READ_AHEAD_BYTES};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tls,
    Http1,
    Http2,
    Opaque,
}

/// No registered method is longer; a longer first word is not HTTP.
const LONGEST_METHOD: usize = 32;

/// Reads until the protocol is clear, for at most `timeout`. `None` when the peer closed without a word.
pub(crate) async fn detect(
    stream: &mut (impl AsyncRead + Unpin),
    timeout: Option<Duration>,
) -> std::io::Result<Option<(Protocol, Vec<u8>)>> {
    let mut ahead = Vec::new();
    let outcome = match timeout {
        Some(timeout) => tokio::time::timeout(timeout, read_until_clear(stream, &mut ahead)).await,
        None => Ok(read_until_clear(stream, &mut ahead).await),
    };
    match outcome {
        Err(_) => Ok(Some((Protocol::Opaque, ahead))),
        Ok(protocol) => Ok(protocol?.map(|protocol| (protocol, ahead))),
    }
}

async fn read_until_clear(
    stream: &mut (impl AsyncRead + Unpin),
    ahead: &mut Vec<u8>,
) -> std::io::Result<Option<Protocol>> {
    loop {
        ahead.reserve(READ_AHEAD_BYTES);
        let read = stream.read_buf(ahead).await?;
        match classify(ahead) {
            Some(protocol) => return Ok(Some(protocol)),
            None if read == 0 && ahead.is_empty() => return Ok(None),
            None if read == 0 => return Ok(Some(Protocol::Opaque)),
            None => {}
        }
    }
}

/// `None`: too early to tell.
fn classify(bytes: &[u8]) -> Option<Protocol> {
    let first = *bytes.first()?;
    // A TLS handshake record.
    if first == 0x16 {
        return Some(Protocol::Tls);
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return (bytes.len() >= HTTP2_PREFACE.len()).then_some(Protocol::Http2);
    }
    if bytes.starts_with(HTTP2_PREFACE) {
        return Some(Protocol::Http2);
    }
    let word = bytes.iter().take(LONGEST_METHOD).position(|byte| !is_method_byte(*byte));
    match word {
        Some(end) if end > 0 && bytes[end] == b' ' => Some(Protocol::Http1),
        Some(_) => Some(Protocol::Opaque),
        None => (bytes.len() >= LONGEST_METHOD).then_some(Protocol::Opaque),
    }
}

/// Methods in use are upper-case letters and hyphens; that keeps lower-case greetings of other protocols opaque.
fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        assert_eq!(classify(b"GET / HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(classify(b"M-SEARCH * HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(classify(HTTP2_PREFACE), Some(Protocol::Http2));
        assert_eq!(classify(&[0x16, 3, 1]), Some(Protocol::Tls));
        assert_eq!(classify(b"EHLO\r\n"), Some(Protocol::Opaque));
        assert_eq!(classify(b"\x00\x00\x01"), Some(Protocol::Opaque));
    }

    #[test]
    fn a_beginning_that_could_be_either_waits() {
        assert_eq!(classify(b"P"), None);
        assert_eq!(classify(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(classify(b"GE"), None);
        assert_eq!(classify(&[b'A'; LONGEST_METHOD]), Some(Protocol::Opaque));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_opaque_after_the_timeout() {
        let (_peer, mut stream) = tokio::io::duplex(64);
        let found = detect(&mut stream, Some(Duration::from_secs(3))).await.unwrap();
        assert_eq!(found, Some((Protocol::Opaque, Vec::new())));
    }
}
