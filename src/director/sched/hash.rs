//! What the hashing schedulers share: addresses as numbers, and the kernel's multiplicative hash.

use std::net::IpAddr;

/// An address as one number in host order; IPv6 by exclusive or of its four words.
pub(super) fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let word = |b: &[u8]| b.iter().fold(0, |w, &b| w << 8 | u32::from(b));
            v6.octets().chunks(4).map(word).fold(0, |a, b| a ^ b)
        }
    }
}

/// The upper `bits` bits of the product with the golden ratio (include/linux/hash.h).
pub(super) const fn hash_32(value: u32, bits: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - bits)
}
