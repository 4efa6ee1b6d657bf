//! Health by TCP: that it connects, or what it answers.
//!
//! An answer may hold other bytes before, between and behind the expected ones (Envoy). One that lacks them is waited for to the
//! timeout: the rest may still come.

use super::probe::{Answered, Broken, Finding};
use crate::transport::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_policy::health_check::CheckResult;

/// Read at once.
const CHUNK_BYTES: usize = 4096;

pub(super) async fn ask(stream: &mut Transport, send: &[u8], receive: &[Vec<u8>]) -> Result<Answered, Broken> {
    stream.write_all(send).await?;
    stream.flush().await?;
    let mut expected = Expected::new(receive);
    if expected.is_met() {
        let finding = Finding::new(CheckResult::Success, "it accepts connections");
        // That it accepts another one is all that the next check can learn.
        return Ok(Answered { finding, is_reusable: false });
    }
    let mut chunk = [0; CHUNK_BYTES];
    while !expected.is_met() {
        match stream.read(&mut chunk).await? {
            0 => return Err(Broken("it closed the connection before the expected answer".into())),
            length => expected.came(&chunk[..length]),
        }
    }
    let finding = Finding::new(CheckResult::Success, "it answers as expected");
    Ok(Answered { finding, is_reusable: true })
}

/// Parts of an answer that have yet to come, in this order.
struct Expected<'p> {
    left: &'p [Vec<u8>],
    /// The end of what came, in which the next part may have begun.
    ahead: Vec<u8>,
}

impl<'p> Expected<'p> {
    fn new(parts: &'p [Vec<u8>]) -> Expected<'p> {
        let mut expected = Expected { left: parts, ahead: Vec::new() };
        expected.came(&[]); // nothing is all that an empty part asks for
        expected
    }

    fn is_met(&self) -> bool {
        self.left.is_empty()
    }

    fn came(&mut self, bytes: &[u8]) {
        self.ahead.extend_from_slice(bytes);
        while let [next, left @ ..] = self.left {
            let found = if next.is_empty() { Some(0) } else { self.ahead.windows(next.len()).position(|w| w == next) };
            let Some(at) = found else {
                let useless = self.ahead.len().saturating_sub(next.len() - 1);
                self.ahead.drain(..useless);
                return;
            };
            self.ahead.drain(..at + next.len());
            self.left = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meets(parts: &[&str], chunks: &[&[u8]]) -> bool {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        let mut expected = Expected::new(&parts);
        chunks.iter().for_each(|chunk| expected.came(chunk));
        expected.is_met()
    }

    #[test]
    fn the_parts_must_come_in_order_and_may_have_others_between() {
        assert!(meets(&["+PONG", "ok"], &[b"hello +PONG and ok\r\n"]));
        assert!(!meets(&["+PONG", "ok"], &[b"ok +PONG"]));
        assert!(!meets(&["aa", "aa"], &[b"aaa"]), "no byte counts twice");
        assert!(meets(&[], &[]));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_an_answer_is_cut(
            answer in "[ab]{0,30}", parts in proptest::collection::vec("[ab]{0,3}", 0..4), cut in 1..5_usize
        ) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let mut rest = Some(answer.as_str());
            for part in &parts {
                rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, behind)| behind);
            }
            let chunks: Vec<&[u8]> = answer.as_bytes().chunks(cut).collect();
            prop_assert_eq!(meets(&parts, &chunks), rest.is_some());
        }
    }
}
