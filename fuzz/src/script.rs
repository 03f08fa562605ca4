//! Bytes as a list of deeds.
//!
//! ```text
//! script = first:u8 deed*        deed = kind:u8 arguments
//! blob   = length:u16 bytes      cut at the end of the script
//! ```
//! Any bytes are a script: what is not there reads as zeros. A byte more or less therefore changes little behind it, which
//! is what a fuzzer needs.

/// Reads a script.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Eight bytes.
    pub fn long(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number that is small, near the end of all numbers, or anything.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=0xbf => u64::from(small),
            large @ 0xc0..=0xdf => u64::MAX - u64::from(large - 0xc0),
            _ => self.long(),
        }
    }

    /// Bytes with their length in front.
    pub fn blob(&mut self) -> &'a [u8] {
        let length = usize::from(self.short()).min(self.0.len());
        let (blob, rest) = self.0.split_at(length);
        self.0 = rest;
        blob
    }

    /// True at its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes a script; for seeds.
#[derive(Clone, Debug, Default)]
pub struct Lines(pub Vec<u8>);

impl Lines {
    /// A script that begins with this byte.
    #[must_use]
    pub fn new(first: u8) -> Self {
        Self(vec![first])
    }

    /// Appends bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends bytes with their length.
    ///
    /// # Panics
    /// If there are more than a length can say: seeds are small.
    #[must_use]
    pub fn blob(mut self, bytes: &[u8]) -> Self {
        self.0.extend(u16::try_from(bytes.len()).expect("seeds are small").to_be_bytes());
        self.raw(bytes)
    }
}
