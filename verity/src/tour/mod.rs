//! `verity tour`: a system's best-known recipe, played on a real cluster, its events printed as they happen.

use std::time::{Duration, Instant};

pub(crate) mod bft;
pub(crate) mod bitcoin;
pub(crate) mod kafka;
pub(crate) mod zookeeper;

/// Prints events with the time since the tour began.
struct Stage {
    start: Instant,
    json: bool,
    /// How wide names are.
    names: usize,
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a tour tells how long things took")]
    Instant::now()
}

impl Stage {
    fn open(json: bool, names: usize) -> Self {
        Self { start: now(), json, names }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn say(&self, who: &str, what: &str) {
        self.say_at(now(), who, what);
    }

    /// Tells what happened at a moment that has passed.
    fn say_at(&self, at: Instant, who: &str, what: &str) {
        let (ms, names) = (at.saturating_duration_since(self.start).as_millis(), self.names);
        if self.json {
            println!("{}", serde_json::json!({ "ms": ms, "who": who, "what": what }));
        } else {
            println!("{ms:>6} ms  {who:<names$}  {what}");
        }
    }
}
