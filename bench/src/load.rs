//! A load: some connections, each with a window of requests under way, for a time or a count.
//!
//! - Upon start: every session is open, every znode that is read or set exists, every server has caught up.
//! - Upon n replies: n new requests leave in one write, so the window stays full.
//! - Upon the end of the time or count: nothing new is sent, and the window drains inside the measured time.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::session::Session;
use crate::wire::Operation;

/// How many znodes gets and sets go round.
const KEY_COUNT: u64 = 1_000;
/// The most requests that a connection may have under way.
pub const WINDOW_MAX: usize = 10_000;

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After this long.
    Time(Duration),
    /// After this many operations on each connection.
    Count(u64),
}

/// What is asked of the servers.
#[derive(Clone, Debug)]
pub struct Load {
    /// Connection `i` goes to server `i` modulo their count.
    pub servers: Vec<SocketAddr>,
    /// Create, set or get.
    pub operation: Operation,
    /// How many connections, one thread each.
    pub connections: usize,
    /// How many requests each keeps under way.
    pub window: usize,
    /// When it ends.
    pub limit: Limit,
    /// A path under which all znodes of this load lie; creates need one that no load has used.
    pub root: String,
    /// The servers' processes, whose CPU time is counted.
    pub pids: Vec<u32>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operations acknowledged.
    pub count: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// The median latency, in microseconds.
    pub p50_us: f64,
    /// The 99th percentile of latency, in microseconds.
    pub p99_us: f64,
    /// What the servers' processes used, in microseconds.
    pub cpu_us: u64,
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// When a session fails, or any reply is not what was asked for.
    #[expect(clippy::disallowed_methods, reason = "a load client measures time")]
    pub fn run(&self) -> Result<Outcome> {
        ensure!(!self.servers.is_empty() && self.connections > 0, "a load needs a server and a connection");
        ensure!((1..=WINDOW_MAX).contains(&self.window), "a window lies between 1 and {WINDOW_MAX}");
        let sessions = self.prepare()?;
        let barrier = Barrier::new(self.connections + 1);
        thread::scope(|scope| {
            let barrier = &barrier;
            let drive = |(number, session)| {
                scope.spawn(move || {
                    barrier.wait();
                    self.drive(number, session)
                })
            };
            let threads: Vec<_> = sessions.into_iter().enumerate().map(drive).collect();
            let cpu_us_before = process::cpu_us(&self.pids)?;
            let start = Instant::now();
            barrier.wait();
            let ended: Vec<_> =
                threads.into_iter().map(|thread| thread.join().expect("a driver does not panic")).collect();
            let elapsed = start.elapsed();
            let cpu_us = process::cpu_us(&self.pids)?.saturating_sub(cpu_us_before);
            let mut latencies = Vec::new();
            for end in ended {
                let (session, mut of_one) = end?;
                latencies.append(&mut of_one);
                session.close()?;
            }
            latencies.sort_unstable();
            ensure!(!latencies.is_empty(), "not one operation ended in time");
            let at = |share: f64| {
                let position = (latencies.len() as f64 * share) as usize;
                f64::from(latencies[position.min(latencies.len() - 1)]) / 1e3
            };
            Ok(Outcome { count: latencies.len() as u64, elapsed, p50_us: at(0.5), p99_us: at(0.99), cpu_us })
        })
    }

    fn prepare(&self) -> Result<Vec<Session>> {
        let mut sessions = Vec::new();
        for number in 0..self.connections {
            sessions.push(Session::open(self.servers[number % self.servers.len()])?);
        }
        let first = &mut sessions[0];
        first.call(Operation::Create, &self.root)?;
        if self.operation == Operation::Create {
            for number in 0..self.connections {
                first.call(Operation::Create, &format!("{}/c{number}", self.root))?;
            }
        } else if first.call(Operation::Create, &self.path(0, 0))? {
            (1..KEY_COUNT).for_each(|key| first.queue(Operation::Create, &self.path(0, key)));
            first.flush()?;
            let mut created = 1;
            while created < KEY_COUNT {
                created += first.receive(Operation::Create)? as u64;
            }
        }
        for session in &mut sessions {
            session.call(Operation::Sync, "/")?;
        }
        Ok(sessions)
    }

    /// The path of the operation with this number on this connection.
    #[must_use]
    pub fn path(&self, connection: usize, number: u64) -> String {
        match self.operation {
            Operation::Create => format!("{}/c{connection}/n{number}", self.root),
            _ => format!("{}/k{}", self.root, number % KEY_COUNT),
        }
    }

    /// One connection's part; latencies in nanoseconds.
    #[expect(clippy::disallowed_methods, reason = "a load client measures time")]
    fn drive(&self, connection: usize, mut session: Session) -> Result<(Session, Vec<u32>)> {
        let start = Instant::now();
        let mut sent_at = vec![start; self.window];
        let window = self.window as u64;
        let mut latencies: Vec<u32> = Vec::with_capacity(1 << 16);
        let mut sent: u64 = 0;
        let mut now = start;
        loop {
            let seen = latencies.len() as u64;
            let goal = match self.limit {
                Limit::Time(time) if now.duration_since(start) < time => seen + window,
                Limit::Time(_) => sent,
                Limit::Count(count) => count.min(seen + window),
            };
            while sent < goal {
                session.queue(self.operation, &self.path(connection, sent));
                sent_at[(sent % window) as usize] = now;
                sent += 1;
            }
            if sent == seen {
                return Ok((session, latencies));
            }
            session.flush()?;
            let count = session.receive(self.operation).with_context(|| format!("connection {connection}"))?;
            now = Instant::now();
            for number in seen..seen + count as u64 {
                let nanoseconds = now.duration_since(sent_at[(number % window) as usize]).as_nanos();
                latencies.push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
            }
        }
    }
}
