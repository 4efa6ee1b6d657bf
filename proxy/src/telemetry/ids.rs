//! Identifiers that nobody else has: request ids, trace ids, span ids.
//!
//! Every request gets some, so they come from a small generator of their worker (xoshiro256++,
//! Blackman and Vigna) that the operating system seeded: 256 bits of state, so that two workers or
//! two proxies never walk the same way. They are names, not secrets.

use http::HeaderValue;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A worker's source of identifiers.
#[derive(Clone, Debug)]
pub struct Random([u64; 4]);

impl Random {
    /// Seeded by the operating system.
    pub fn from_os() -> Random {
        let mut seed = [0; 32];
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.secure_random.fill(&mut seed).expect("the operating system gives random bytes");
        Random::from_seed(seed)
    }

    /// The same ids again for the same seed.
    pub fn from_seed(seed: [u8; 32]) -> Random {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks_exact gives eight bytes"));
        }
        // All zero is the one state that the generator never leaves.
        state[0] |= u64::from(state == [0; 4]);
        Random(state)
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A version 4 UUID as text, for `x-request-id`.
    #[inline]
    pub fn request_id(&mut self) -> HeaderValue {
        let text = self.uuid();
        HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes are a header value")
    }

    /// A version 4 UUID as text (RFC 9562 section 5.4).
    #[inline]
    pub fn uuid(&mut self) -> [u8; 36] {
        let high = self.bits() & 0xffff_ffff_ffff_0fff | 0x4000;
        let low = self.bits() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
        let digits = [hex(high), hex(low)];
        let digits: &[u8] = digits.as_flattened();
        let mut text = [b'-'; 36];
        text[..8].copy_from_slice(&digits[..8]);
        text[9..13].copy_from_slice(&digits[8..12]);
        text[14..18].copy_from_slice(&digits[12..16]);
        text[19..23].copy_from_slice(&digits[16..20]);
        text[24..].copy_from_slice(&digits[20..]);
        text
    }
}

/// Sixteen lower-case hexadecimal digits.
#[inline]
pub(crate) fn hex(bits: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    digits
}
