//! What happened in a world, as a running hash and, if asked for, as lines.

use std::fmt::Write as _;

use xxhash_rust::xxh3::Xxh3Default;

/// A trace. Two runs of one seed have the same hash.
#[derive(Clone, Default)]
pub struct Trace {
    hash: Xxh3Default,
    events: u64,
    lines: Option<String>,
}

impl Trace {
    pub(crate) fn new(lines: bool) -> Self {
        Self { lines: lines.then(String::new), ..Self::default() }
    }

    /// Adds an event: when, what, at whom, and the bytes that were in it.
    pub(crate) fn event(&mut self, now: u64, what: &str, whom: u64, bytes: &[u8]) {
        self.events += 1;
        self.hash.update(&now.to_le_bytes());
        self.hash.update(what.as_bytes());
        self.hash.update(&whom.to_le_bytes());
        self.hash.update(bytes);
        if let Some(lines) = &mut self.lines {
            let digest = xxhash_rust::xxh3::xxh3_64(bytes);
            let _ =
                writeln!(lines, "{:>12.6} {what:<12} {whom:<3} {:>6} B {digest:016x}", now as f64 / 1e9, bytes.len());
        }
    }

    /// The hash of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// One line an event, if lines were asked for.
    #[must_use]
    pub fn lines(&self) -> Option<&str> {
        self.lines.as_deref()
    }
}
