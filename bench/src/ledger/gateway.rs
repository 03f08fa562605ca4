//! A gateway: a service that keeps requests under way at its node and measures how long their replies take.
//!
//! - upon the order to run: the window is filled; upon a reply that says that the request was taken: it counts, and the next
//!   leaves;
//! - upon a pace: requests leave when they are due, and their latency counts from then, so that one that waits for its turn
//!   is not taken for a fast one;
//! - upon a refusal or a failure: it is counted apart, and its place in the window is taken again a moment later.
//!
//! Deliberately absent: connections. What a client's connection costs is its protocol's affair.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use verity_clock::Now;
use verity_contract::{Service, SessionInput, SessionOutput};
use verity_ledger::machine::{Command, Reply};
use verity_types::{GroupId, Mono, Nanos, NodeId, Token};

/// How often a gateway looks what is due.
const WAKE: Nanos = Nanos::from_millis(1);
/// Keys that a gateway's requests write in turn, fewer where they are large: the state stays small.
const KEYS_MAX: u64 = 1_000;
/// The bytes that these keys hold together, about.
const STATE_BYTES: u64 = 4 << 20;

/// What a gateway is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) group: GroupId,
    /// Bytes of a request.
    pub(super) size: usize,
    /// Requests under way at most.
    pub(super) window: usize,
    /// Requests a second; none: as many as the window lets.
    pub(super) rate: Option<f64>,
}

/// What became of requests since the last [`Gate::take`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of each that was taken, in microseconds.
    pub(super) latencies_us: Vec<u32>,
    /// Requests that the ledger did not take: its pool was full, or the like.
    pub(super) refused: u64,
    /// Requests whose fate is not known.
    pub(super) failed: u64,
}

/// The handle on all gateways.
#[derive(Debug)]
pub(super) struct Gate {
    runs: AtomicBool,
    tally: Mutex<Tally>,
    /// When the last request completed, and the longest silence before one since [`Gate::listen`]; nanoseconds since `begun`.
    completed_at: AtomicU64,
    silence: AtomicU64,
    begun: Instant,
}

impl Gate {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(super) fn new() -> Self {
        Self {
            runs: AtomicBool::new(false),
            tally: Mutex::default(),
            completed_at: AtomicU64::new(0),
            silence: AtomicU64::new(0),
            begun: Instant::now(),
        }
    }

    pub(super) fn open(&self) {
        self.runs.store(true, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.runs.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of requests since the last time.
    pub(super) fn take(&self) -> Tally {
        std::mem::take(&mut self.lock())
    }

    /// How many were taken since the last [`Gate::take`].
    pub(super) fn count(&self) -> usize {
        self.lock().latencies_us.len()
    }

    /// From now on the longest silence is looked for.
    pub(super) fn listen(&self) {
        self.silence.store(0, Ordering::Relaxed);
    }

    /// The longest time without a completed request since then, in milliseconds.
    pub(super) fn silence_ms(&self) -> f64 {
        self.silence.load(Ordering::Relaxed) as f64 / 1e6
    }

    fn note(&self, latency: Nanos) {
        self.lock().latencies_us.push(u32::try_from(latency.0 / 1_000).unwrap_or(u32::MAX));
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let last = self.completed_at.swap(now, Ordering::Relaxed);
        self.silence.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
    }
}

/// The gateway of one node.
pub(super) struct Gateway {
    node: NodeId,
    load: Load,
    gate: Arc<Gate>,
    /// When each request that waits for its reply left, or was due.
    waiting: BTreeMap<Token, Mono>,
    asked: u64,
    /// When the next request of a steady pace is due.
    due: Option<Mono>,
    filler: Vec<u8>,
}

impl Gateway {
    pub(super) fn new(node: NodeId, load: Load, gate: Arc<Gate>) -> Self {
        let filler = vec![b'.'; load.size];
        Self { node, load, gate, waiting: BTreeMap::new(), asked: 0, due: None, filler }
    }

    /// A transaction that no other is equal to, for one of a few keys.
    fn transaction(&self) -> Bytes {
        let keys = (STATE_BYTES / self.load.size as u64).clamp(1, KEYS_MAX);
        let text = format!("{}.{}={}", self.node, self.asked % keys, self.asked);
        let mut tx = BytesMut::with_capacity(self.load.size);
        tx.put_slice(text.as_bytes());
        tx.put_slice(&self.filler[text.len().min(self.load.size)..]);
        tx.freeze()
    }

    fn ask(&mut self, since: Mono, out: &mut Vec<SessionOutput>) {
        self.asked += 1;
        let (token, command) = (Token(self.asked), Command::Tx(self.transaction()).encode());
        self.waiting.insert(token, since);
        out.push(SessionOutput::Propose { token, group: self.load.group, command });
    }

    fn fill(&mut self, now: Mono, out: &mut Vec<SessionOutput>) {
        if !self.gate.runs.load(Ordering::Relaxed) {
            self.due = None;
            return;
        }
        let Some(rate) = self.load.rate else {
            while self.waiting.len() < self.load.window {
                self.ask(now, out);
            }
            return;
        };
        let step = Nanos((1e9 / rate) as u64);
        let mut due = self.due.unwrap_or(now);
        while due <= now && self.waiting.len() < self.load.window {
            self.ask(due, out);
            due = due + step;
        }
        self.due = Some(due);
    }
}

impl Service for Gateway {
    fn on(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        match input {
            SessionInput::Wake => {
                self.fill(now.mono, out);
                out.push(SessionOutput::Wake(now.mono + WAKE));
            }
            SessionInput::Completed { token, result } => {
                let Some(since) = self.waiting.remove(&token) else { return };
                match result.map(|reply| Reply::decode(&reply)) {
                    Ok(Ok(Reply::Checked(check))) if check.code == 0 => {
                        self.gate.note(now.mono.since(since));
                        if self.load.rate.is_none() {
                            self.fill(now.mono, out);
                        }
                    }
                    Ok(_) => self.gate.lock().refused += 1,
                    Err(_) => self.gate.lock().failed += 1,
                }
            }
            _ => {}
        }
    }

    fn invariants(&self) {
        assert!(self.waiting.len() <= self.load.window, "no more is under way than may be");
    }
}
