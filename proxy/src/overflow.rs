//! Who counts the keys of a rate limit beyond those that are counted one by one.
//!
//! A limit per client must not need memory per client. By default a small sketch of [`weft_policy`]'s own takes what is too much,
//! the same for every bucket; a host that expects more clients than fit there brings another one.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;
use weft_policy::limit::Sketch;

pub use weft_policy::bucket::{Rate, Refused, Remaining};
pub use weft_policy::limit::Overflow;

/// Makes the [`Overflow`] of each bucket of each rate limit. Its default is [`Sketch`].
#[derive(Clone)]
pub struct Overflows(Arc<dyn Fn(Rate, Instant) -> Box<dyn Overflow> + Send + Sync>);

impl Overflows {
    pub fn new(make: impl Fn(Rate, Instant) -> Box<dyn Overflow> + Send + Sync + 'static) -> Overflows {
        Overflows(Arc::new(make))
    }

    /// The one of a bucket of that rate, full from `now` on.
    pub fn make(&self, rate: Rate, now: Instant) -> Box<dyn Overflow> {
        (self.0)(rate, now)
    }
}

impl Default for Overflows {
    fn default() -> Overflows {
        Overflows::new(|rate, now| Box::new(Sketch::new(rate, now)))
    }
}

impl fmt::Debug for Overflows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overflows").finish_non_exhaustive()
    }
}
