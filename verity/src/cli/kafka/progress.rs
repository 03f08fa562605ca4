//! How far long work is, on standard error: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const TERMINAL_EVERY: Duration = Duration::from_millis(250);
const ELSEWHERE_EVERY: Duration = Duration::from_secs(5);

/// Work under way.
pub(super) struct Progress {
    start: Instant,
    last: Instant,
    terminal: bool,
    /// How much there is to do, if that is known.
    total: Option<u64>,
    shown: bool,
}

/// A moment in work.
pub(super) fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a command tells how long things took")]
    Instant::now()
}

/// `1.5 MB`; in powers of ten, as rates of networks are told.
pub(super) fn bytes(count: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / unit as f64),
        None => format!("{count} B"),
    }
}

impl Progress {
    pub(super) fn start(total: Option<u64>) -> Self {
        let now = now();
        Self { start: now, last: now, terminal: std::io::stderr().is_terminal(), total, shown: false }
    }

    /// Seconds since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// So many a second.
    pub(super) fn rate(&self, count: u64) -> u64 {
        (count as f64 / self.seconds().max(0.001)) as u64
    }

    /// Tells how far it is, if it is time.
    pub(super) fn tell(&mut self, records: u64, size: u64) {
        let every = if self.terminal { TERMINAL_EVERY } else { ELSEWHERE_EVERY };
        if self.last.elapsed() < every {
            return;
        }
        self.last = now();
        let done = match self.total {
            Some(total) => format!("{records} of {total} records, {} %", 100 * records / total.max(1)),
            None => format!("{records} records"),
        };
        let line = format!("{done}, {} records/s, {}/s", self.rate(records), bytes(self.rate(size)));
        let mut to = std::io::stderr().lock();
        // Nobody reads it, then.
        let _ = if self.terminal { write!(to, "\r{line:<79}") } else { writeln!(to, "{line}") };
        let _ = to.flush();
        self.shown = true;
    }

    /// Takes the line away.
    pub(super) fn end(&mut self) {
        if self.terminal && std::mem::take(&mut self.shown) {
            eprint!("\r{:<79}\r", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!([bytes(999), bytes(1_500_000), bytes(2_000_000_000)], ["999 B", "1.5 MB", "2.0 GB"]);
    }
}
