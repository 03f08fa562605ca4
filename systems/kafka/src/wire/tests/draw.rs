//! Random values for tests, from a seed.

use bytes::Bytes;

/// Draws values; the same seed draws the same.
pub struct Draw(u64);

impl Draw {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number, often a small one.
    pub fn number(&mut self) -> i64 {
        match self.below(4) {
            0 => self.below(3) as i64 - 1,
            1 => self.below(1000) as i64,
            _ => self.next() as i64,
        }
    }

    /// A short text, sometimes empty, sometimes long.
    pub fn text(&mut self) -> String {
        const LETTERS: [char; 8] = ['a', 'z', '0', '-', '_', '.', 'ä', '€'];
        let size = if self.below(20) == 0 { 200 } else { self.below(10) };
        (0..size).map(|_| LETTERS[self.below(8) as usize]).collect()
    }

    /// Some bytes.
    pub fn bytes(&mut self) -> Bytes {
        let size = if self.below(10) == 0 { 3000 } else { self.below(20) };
        (0..size).map(|_| self.next() as u8).collect()
    }
}
