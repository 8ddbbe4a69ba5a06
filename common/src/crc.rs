//! CRC32C of what is put behind each other, from the CRCs of the parts.

/// The polynomial of CRC32C (Castagnoli, RFC 3720), reflected: the coefficient of x^0 is the highest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// x^(2^n) modulo the polynomial.
const POWERS: [u32; 67] = powers();

/// CRC32C of two parts behind each other, of which the second has `second_len` bytes.
///
/// Bytes behind a part multiply its CRC by x^8 each; the power is put together by squares, so that this takes one
/// product of polynomials for each bit that is set in the length. (The method of zlib's `crc32_combine` since 1.2.12.)
#[must_use]
pub fn combine(first: u32, second: u32, second_len: u64) -> u32 {
    let shifted = (0..u64::BITS as usize)
        .filter(|bit| second_len >> bit & 1 == 1)
        .fold(first, |crc, bit| multiply(POWERS[bit + 3], crc));
    shifted ^ second
}

/// The product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(left: u32, mut right: u32) -> u32 {
    let mut product = 0;
    let mut bit = u32::BITS;
    while bit > 0 {
        bit -= 1;
        product ^= right & mask(left >> bit);
        right = (right >> 1) ^ (POLYNOMIAL & mask(right));
    }
    product
}

/// All ones where the lowest bit is set.
const fn mask(word: u32) -> u32 {
    0u32.wrapping_sub(word & 1)
}

const fn powers() -> [u32; 67] {
    let mut powers = [1 << 30; 67];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = multiply(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_give_the_crc_of_the_whole(
            first in prop::collection::vec(any::<u8>(), 0..2_000),
            second in prop::collection::vec(any::<u8>(), 0..2_000),
        ) {
            let whole = [first.as_slice(), second.as_slice()].concat();
            let combined = combine(crc32c::crc32c(&first), crc32c::crc32c(&second), second.len() as u64);
            prop_assert_eq!(combined, crc32c::crc32c(&whole));
        }

        #[test]
        fn long_parts_are_combined_as_the_library_does(first: u32, second: u32, len in 0u64..1 << 62) {
            let library = crc32c::crc32c_combine(first, second, usize::try_from(len).expect("64 bits"));
            prop_assert_eq!(combine(first, second, len), library);
        }
    }
}
