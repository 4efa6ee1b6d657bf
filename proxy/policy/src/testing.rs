//! What the tests of several modules share.

use std::time::Instant;

/// Where virtual time begins.
#[allow(clippy::disallowed_methods, reason = "a test needs one instant to count from; it reads the clock no more")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}
