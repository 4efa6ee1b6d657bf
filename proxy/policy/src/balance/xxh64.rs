//! xxHash64, the hash of Envoy's ring, Maglev table and hash policies: with another one, two proxies would send the same key to
//! different hosts.

use std::fmt::{self, Write};
use std::hash::Hasher;
use twox_hash::XxHash64;

pub(super) fn of_bytes(bytes: &[u8], seed: u64) -> u64 {
    XxHash64::oneshot(seed, bytes)
}

/// Of a text that need not be put together first.
pub(super) fn of_text(text: fmt::Arguments<'_>, seed: u64) -> u64 {
    let mut sink = Sink(XxHash64::with_seed(seed));
    sink.write_fmt(text).expect("the sink takes everything");
    sink.0.finish()
}

struct Sink(XxHash64);

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxhash64() {
        // the reference implementation's values of nothing and of "abc"
        assert_eq!(of_bytes(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(of_bytes(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        assert_eq!(of_text(format_args!("{}{}", 'a', "bc"), 0), of_bytes(b"abc", 0));
        assert_ne!(of_text(format_args!("abc"), 1), of_bytes(b"abc", 0));
    }
}
