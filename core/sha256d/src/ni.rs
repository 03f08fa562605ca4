//! Four nonces at once by the processor's instructions for SHA-256 (Intel SHA extensions).
//!
//! A round's instruction takes four cycles or more to give its result, and a new one may begin every other. One nonce alone
//! would wait most of the time; four of them fill the gaps, and what does not fit into registers lies in the nearest cache.

use std::ops::Range;

use crate::State;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{candidate, is_there};

/// There are no such instructions.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn is_there() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn candidate(_: &State, _: [u32; 3], _: Range<u64>, _: u32) -> Option<u64> {
    unreachable!("nobody asks where there are no such instructions")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_extract_epi32, _mm_set_epi32,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32,
    };

    use super::{Range, State};
    use crate::{INITIAL, second_block, third_block};

    /// So many nonces go through at once.
    const LANES: usize = 4;

    /// FIPS 180-4 §4.2.2, four to a row.
    const ROUND: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    pub(crate) fn is_there() -> bool {
        std::arch::is_x86_feature_detected!("sha") && std::arch::is_x86_feature_detected!("sse4.1")
    }

    /// The first nonce of a range whose hash has no more than `highest` in its highest four bytes.
    #[expect(unsafe_code, reason = "instructions that not every processor has: 2.5 times the hashes of one at a time")]
    pub(crate) fn candidate(midstate: &State, tail: [u32; 3], nonces: Range<u64>, highest: u32) -> Option<u64> {
        assert!(is_there(), "whoever asks has looked");
        // SAFETY: the processor has the instructions, as was just seen.
        unsafe { search(midstate, tail, nonces, highest) }
    }

    #[target_feature(enable = "sha,sse4.1")]
    fn row(words: [u32; 4]) -> __m128i {
        let [a, b, c, d] = words.map(u32::cast_signed);
        _mm_set_epi32(d, c, b, a)
    }

    /// A state in the order in which the instructions take it: a, b, e, f and c, d, g, h.
    #[target_feature(enable = "sha,sse4.1")]
    fn halves(state: &State) -> (__m128i, __m128i) {
        let [a, b, c, d, e, f, g, h] = *state;
        (row([f, e, b, a]), row([h, g, d, c]))
    }

    /// Compresses a block in each lane.
    #[target_feature(enable = "sha,sse4.1")]
    #[inline]
    fn compress(state: &mut [(__m128i, __m128i); LANES], blocks: &mut [[__m128i; 4]; LANES]) {
        let before = *state;
        for (at, constants) in ROUND.iter().enumerate() {
            let constants = row(*constants);
            for lane in 0..LANES {
                let words = &mut blocks[lane];
                if at >= 4 {
                    let (old, next) = (words[at % 4], words[(at + 1) % 4]);
                    let (third, last) = (words[(at + 2) % 4], words[(at + 3) % 4]);
                    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(old, next), _mm_alignr_epi8::<4>(last, third));
                    words[at % 4] = _mm_sha256msg2_epu32(sum, last);
                }
                let (abef, cdgh) = state[lane];
                let sum = _mm_add_epi32(words[at % 4], constants);
                let after = _mm_sha256rnds2_epu32(cdgh, abef, sum);
                state[lane] = (_mm_sha256rnds2_epu32(abef, after, _mm_shuffle_epi32::<0x0e>(sum)), after);
            }
        }
        for (after, before) in state.iter_mut().zip(before) {
            *after = (_mm_add_epi32(after.0, before.0), _mm_add_epi32(after.1, before.1));
        }
    }

    #[target_feature(enable = "sha,sse4.1")]
    fn block(words: [u32; 16]) -> [__m128i; 4] {
        [0, 4, 8, 12].map(|at| row([words[at], words[at + 1], words[at + 2], words[at + 3]]))
    }

    #[target_feature(enable = "sha,sse4.1")]
    fn search(midstate: &State, tail: [u32; 3], nonces: Range<u64>, highest: u32) -> Option<u64> {
        let (first, second) = (halves(midstate), halves(&INITIAL));
        let (before, padding) = (block(second_block(tail, 0)), block(third_block([0; 8])));
        let mut at = nonces.start;
        while at < nonces.end {
            let mut blocks = [before; LANES];
            for (lane, words) in blocks.iter_mut().enumerate() {
                let nonce = (at as u32).wrapping_add(lane as u32);
                words[0] = row([tail[0], tail[1], tail[2], nonce.swap_bytes()]);
            }
            let mut state = [first; LANES];
            compress(&mut state, &mut blocks);
            for (words, (abef, cdgh)) in blocks.iter_mut().zip(state) {
                // Back into the order of words: a, b, e, f and g, h, c, d make a, b, c, d and e, f, g, h.
                let (abef, ghcd) = (_mm_shuffle_epi32::<0x1b>(abef), _mm_shuffle_epi32::<0xb1>(cdgh));
                let (abcd, efgh) = (_mm_blend_epi16::<0xf0>(abef, ghcd), _mm_alignr_epi8::<8>(ghcd, abef));
                *words = [abcd, efgh, padding[2], padding[3]];
            }
            let mut state = [second; LANES];
            compress(&mut state, &mut blocks);
            for (lane, (_, cdgh)) in state.into_iter().enumerate() {
                // The last word, h, is the lowest of the second half.
                let word = _mm_extract_epi32::<0>(cdgh).cast_unsigned();
                let nonce = at + lane as u64;
                if word.swap_bytes() <= highest && nonce < nonces.end {
                    return Some(nonce);
                }
            }
            at += LANES as u64;
        }
        None
    }
}
