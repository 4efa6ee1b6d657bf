//! Failures on purpose: which requests are delayed or aborted.
//!
//! A fault must look as if it came from the backend and must never become an outage by itself, so the requests that are
//! under one at once can be bounded; the others pass untouched.

use crate::{CompileError, Dice};
use std::time::Duration;
use weft_model::fault::{self, Abort, AbortWith, Delay};

/// The greatest gRPC status code there is, `UNAUTHENTICATED`.
const LAST_GRPC_STATUS: u8 = 16;

/// A compiled [`fault::Fault`].
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    delay: Option<Delay>,
    abort: Option<Abort>,
    max_active: Option<u32>,
}

/// What is done to one request: first the delay, then the abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Above zero. Response flag `DI`.
    pub delay: Option<Duration>,
    /// Response flag `FI`.
    pub abort: Option<AbortWith>,
}

impl Injected {
    /// Such a request is *active* until it ends; others do not count.
    pub fn is_any(&self) -> bool {
        self.delay.is_some() || self.abort.is_some()
    }
}

impl Fault {
    /// Fails on a status that cannot be answered with.
    pub fn compile(fault: &fault::Fault) -> Result<Fault, CompileError> {
        let what = match fault.abort.map(|abort| abort.with) {
            Some(AbortWith::Http(status)) if !(200..=599).contains(&status) => {
                format!("HTTP status {status} is not within 200 to 599")
            }
            Some(AbortWith::Grpc(status)) if status > LAST_GRPC_STATUS => {
                format!("gRPC status {status} is not within 0 to {LAST_GRPC_STATUS}")
            }
            _ => return Ok(Fault { delay: fault.delay, abort: fault.abort, max_active: fault.max_active }),
        };
        Err(CompileError::new(what).within("fault abort"))
    }

    /// `active` requests of this fault are under it right now. Delay and abort are thrown for apart.
    pub fn decide(&self, dice: &mut Dice, active: u32) -> Injected {
        if self.max_active.is_some_and(|max_active| active >= max_active) {
            return Injected::default();
        }
        let delay = self.delay.filter(|delay| !delay.duration.is_zero() && dice.within(delay.share));
        let abort = self.abort.filter(|abort| dice.within(abort.share));
        Injected { delay: delay.map(|delay| delay.duration), abort: abort.map(|abort| abort.with) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::tests::assert_shares;
    use weft_model::route::Share;

    fn fault(delay_share: Share, abort_share: Share, max_active: Option<u32>) -> Fault {
        let model = fault::Fault {
            delay: Some(Delay { duration: Duration::from_secs(2), share: delay_share }),
            abort: Some(Abort { with: AbortWith::Http(503), share: abort_share }),
            max_active,
        };
        Fault::compile(&model).unwrap()
    }

    #[test]
    fn delays_and_aborts_keep_their_shares_apart() {
        let seed = 11;
        let mut dice = Dice::new(seed);
        let half_and_tenth = fault(Share::ratio(1, 2).unwrap(), Share::ratio(1, 10).unwrap(), None);
        let mut counts = [0; 4];
        for _ in 0..50_000 {
            let injected = half_and_tenth.decide(&mut dice, 1_000_000);
            counts[usize::from(injected.delay.is_some()) + 2 * usize::from(injected.abort.is_some())] += 1;
        }
        assert_shares(seed, &[9, 9, 1, 1], &counts);
    }

    #[test]
    fn no_more_than_max_active_are_under_a_fault() {
        let mut dice = Dice::new(1);
        let both = fault(Share::ALL, Share::ALL, Some(2));
        let expected = Injected { delay: Some(Duration::from_secs(2)), abort: Some(AbortWith::Http(503)) };
        assert_eq!(both.decide(&mut dice, 1), expected);
        assert!(!both.decide(&mut dice, 2).is_any());
        assert!(!fault(Share::ALL, Share::ALL, Some(0)).decide(&mut dice, 0).is_any());
    }

    #[test]
    fn nothing_is_injected_where_nothing_is_asked_for() {
        let mut dice = Dice::new(1);
        assert!(!fault(Share::NONE, Share::NONE, None).decide(&mut dice, 0).is_any());
        let delay = Some(Delay { duration: Duration::ZERO, share: Share::ALL });
        let zero = Fault::compile(&fault::Fault { delay, ..fault::Fault::default() }).unwrap();
        assert_eq!(zero.decide(&mut dice, 0), Injected::default());
    }

    #[test]
    fn a_status_that_is_none_is_refused() {
        let error = |with| {
            let abort = Some(Abort { with, share: Share::ALL });
            Fault::compile(&fault::Fault { abort, ..fault::Fault::default() }).unwrap_err().to_string()
        };
        assert_eq!(error(AbortWith::Http(199)), "fault abort: HTTP status 199 is not within 200 to 599");
        assert_eq!(error(AbortWith::Grpc(17)), "fault abort: gRPC status 17 is not within 0 to 16");
    }
}
