//! The hash of flow keys: SipHash-1-3 (Aumasson and Bernstein, 2012) over whole words.
//!
//! A key is two words or five, never a stream of bytes: without a buffer for what does not fill a word a hash takes two
//! thirds of a streaming hasher's instructions, and every packet takes one. Equal to `siphasher`, which is its oracle.

use siphasher::sip::SipHasher13;

/// SipHash-1-3 under one secret.
#[derive(Debug)]
pub(in crate::director) struct FlowHasher {
    /// The state before the first word.
    start: [u64; 4],
    /// For what is not made of words.
    streaming: SipHasher13,
}

impl FlowHasher {
    pub(in crate::director) fn new((k0, k1): (u64, u64)) -> Self {
        // "somepseudorandomlygeneratedbytes", as the paper has it.
        let start = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { start, streaming: SipHasher13::new_with_keys(k0, k1) }
    }

    /// The hash of these words, as of their bytes in little-endian order.
    #[inline(always)]
    pub(in crate::director) fn of_words<const N: usize>(&self, words: [u64; N]) -> u64 {
        // What ends a message: its length in the highest byte, and no bytes that are left over.
        let end = ((8 * N as u64) & 0xff) << 56;
        let mut state = self.start;
        for word in words {
            state = compressed(state, word);
        }
        state = compressed(state, end);
        state[2] ^= 0xff;
        let [a, b, c, d] = round(round(round(state)));
        a ^ b ^ c ^ d
    }

    /// A hasher of anything.
    pub(super) fn streaming(&self) -> SipHasher13 {
        self.streaming
    }
}

#[inline(always)]
fn compressed([a, b, c, d]: [u64; 4], word: u64) -> [u64; 4] {
    let [a, b, c, d] = round([a, b, c, d ^ word]);
    [a ^ word, b, c, d]
}

#[inline(always)]
fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32).wrapping_add(d);
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    d = d.rotate_left(21) ^ a;
    [a, b, c.rotate_left(32), d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::Hasher;

    fn oracle(hasher: &FlowHasher, words: &[u64]) -> u64 {
        let mut streaming = hasher.streaming();
        streaming.write(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
        streaming.finish()
    }

    proptest! {
        #[test]
        fn it_is_siphash(secret: (u64, u64), words: [u64; 5]) {
            let hasher = FlowHasher::new(secret);
            let [a, b, ..] = words;
            prop_assert_eq!(hasher.of_words(words), oracle(&hasher, &words));
            prop_assert_eq!(hasher.of_words([a, b]), oracle(&hasher, &[a, b]));
        }
    }
}
