//! From a producer to a consumer: messages that are due at a steady rate, whatever the server does.
//!
//! - Upon each millisecond: the messages that have become due in it leave as one batch, to the next partition in turn.
//! - Upon a batch at the consumer: each message has taken as long as it was due before. What waits in the producer because
//!   the server is slow waits in the figure as well.
//! - Upon the first second: nothing counts; the server is cold.
//!
//! Deliberately absent: a client library, whose own waiting would be the larger part of the figure.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::client::{Connection, produce, produced, ready};
use super::wire::{FETCH, Frame, batch, now_ms, values};
use crate::process;

const MESSAGE_SIZE: usize = 100;
/// How long the first messages do not count.
const COLD: Duration = Duration::from_secs(1);
/// How long the consumer waits for what is missing at the end.
const LATE_MAX: Duration = Duration::from_secs(15);
const FETCH_WAIT_MS: i32 = 250;
const FETCH_BYTES_MAX: i32 = 16 << 20;
const PARTITION_BYTES_MAX: i32 = 1 << 20;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Any server of the cluster.
    pub server: SocketAddr,
    /// A topic that is not there yet.
    pub topic: String,
    /// How many partitions it gets.
    pub partitions: i32,
    /// How many replicas each.
    pub replicas: i16,
    /// Messages a second: a thousand or a multiple.
    pub rate: u64,
    /// For how long.
    pub time: Duration,
    /// The servers' processes.
    pub pids: Vec<u32>,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// The share of messages that came before the wait for them ended.
    pub received: f64,
    /// Latencies in microseconds: the median, and what one in a hundred and one in a thousand exceed.
    pub p50_us: f64,
    /// See above.
    pub p99_us: f64,
    /// See above.
    pub p999_us: f64,
    /// The servers' CPU time a message, in microseconds.
    pub cpu_us: f64,
}

/// What its threads share.
struct Run<'a> {
    pace: &'a Pace,
    start: Instant,
    expected: u64,
    received: AtomicU64,
    /// The load has ended or failed.
    over: AtomicBool,
}

impl Pace {
    /// Runs it.
    ///
    /// # Errors
    /// When a connection fails, or a batch is not kept.
    #[expect(clippy::disallowed_methods, reason = "a load client measures time")]
    pub fn run(&self) -> Result<Paced> {
        ensure!(self.rate >= 1000 && self.rate.is_multiple_of(1000), "a rate is a multiple of 1000");
        ensure!(self.time > COLD, "it takes longer than the second that does not count");
        let leaders = ready(self.server, &self.topic, self.partitions, self.replicas)?;
        let mut led: BTreeMap<SocketAddr, Vec<i32>> = BTreeMap::new();
        for (&leader, partition) in leaders.iter().zip(0..) {
            led.entry(leader).or_default().push(partition);
        }
        let expected = self.time.as_millis() as u64 * self.rate / 1000;
        let (received, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let cpu_us_before = process::cpu_us(&self.pids)?;
        let run = Run { pace: self, start: Instant::now() + Duration::from_millis(100), expected, received, over };
        let latencies = thread::scope(|scope| {
            let (run, leaders) = (&run, &leaders);
            let mut consumers = Vec::new();
            for (&leader, partitions) in &led {
                consumers.push(scope.spawn(move || run.guard(run.consume(leader, partitions))));
            }
            let produced = run.guard(run.produce(scope, leaders));
            let mut latencies = Vec::new();
            for consumer in consumers {
                latencies.append(&mut consumer.join().expect("a consumer does not panic")?);
            }
            produced.map(|()| latencies)
        });
        let mut latencies = latencies?;
        let cpu_us = process::cpu_us(&self.pids)?.saturating_sub(cpu_us_before);
        ensure!(!latencies.is_empty(), "not one message came through");
        latencies.sort_unstable();
        let at = |share: f64| {
            let position = (latencies.len() as f64 * share) as usize;
            latencies[position.min(latencies.len() - 1)] as f64 / 1e3
        };
        let received = run.received.load(Ordering::Relaxed);
        Ok(Paced {
            received: received as f64 / expected as f64,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            cpu_us: cpu_us as f64 / received as f64,
        })
    }
}

impl Run<'_> {
    /// Ends the run for all when one of them has failed.
    fn guard<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.over.store(true, Ordering::Relaxed);
        }
        result
    }

    #[expect(clippy::disallowed_methods, reason = "a load client keeps a pace")]
    fn produce<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>, leaders: &[SocketAddr]) -> Result<()> {
        let mut senders = BTreeMap::new();
        let mut readers = Vec::new();
        let each = self.pace.rate / 1000;
        let batches = self.expected / each;
        for &leader in leaders {
            if senders.contains_key(&leader) {
                continue;
            }
            let mut connection = Connection::open(leader, Duration::from_secs(1))?;
            senders.insert(leader, connection.sender()?);
            let count = (0..batches).filter(|batch| leaders[(*batch as usize) % leaders.len()] == leader).count();
            readers.push(scope.spawn(move || {
                self.guard((0..count).try_for_each(|_| produced(connection.receive()?.1)).context("a produce"))
            }));
        }
        let gap_ns = 1_000_000 / each;
        for number in 0..batches {
            let due = self.start + Duration::from_millis(number + 1);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let messages = (0..each).map(|message| {
                let mut value = [b'x'; MESSAGE_SIZE];
                value[..8].copy_from_slice(&(number * 1_000_000 + message * gap_ns).to_be_bytes());
                value
            });
            let partition = (number as usize) % leaders.len();
            let request = produce(&self.pace.topic, partition as i32, number as i32, &batch(messages, now_ms()));
            let sender = senders.get_mut(&leaders[partition]).expect("each leader has a connection");
            sender.write_all(&request.finish())?;
        }
        for reader in readers {
            reader.join().expect("a reader does not panic")?;
        }
        Ok(())
    }

    /// Everything that one leader has; latencies in nanoseconds.
    #[expect(clippy::disallowed_methods, reason = "a load client measures time")]
    fn consume(&self, leader: SocketAddr, partitions: &[i32]) -> Result<Vec<u64>> {
        let mut connection = Connection::open(leader, Duration::from_secs(1))?;
        let mut offsets: BTreeMap<i32, i64> = partitions.iter().map(|&partition| (partition, 0)).collect();
        let mut latencies = Vec::new();
        let deadline = self.start + self.pace.time + LATE_MAX;
        while self.received.load(Ordering::Relaxed) < self.expected
            && !self.over.load(Ordering::Relaxed)
            && Instant::now() < deadline
        {
            let mut request = Frame::request(FETCH, 0).i32(-1).i32(FETCH_WAIT_MS).i32(1).i32(FETCH_BYTES_MAX).i8(0);
            request = request.i32(1).string(&self.pace.topic).i32(offsets.len() as i32);
            for (&partition, &offset) in &offsets {
                request = request.i32(partition).i64(offset).i32(PARTITION_BYTES_MAX);
            }
            let mut answer = connection.call(request)?;
            let now = Instant::now().saturating_duration_since(self.start).as_nanos() as u64;
            answer.i32()?;
            for _ in 0..answer.i32()? {
                answer.string()?;
                for _ in 0..answer.i32()? {
                    let (partition, error) = (answer.i32()?, answer.i16()?);
                    ensure!(error == 0, "partition {partition} is not read: error {error}");
                    answer.take(16)?;
                    let aborted = usize::try_from(answer.i32()?).unwrap_or(0);
                    answer.take(aborted * 16)?;
                    let mut count = 0;
                    let next = values(answer.bytes()?, |value| {
                        let due = u64::from_be_bytes(value.get(..8).context("not of this load")?.try_into()?);
                        if due >= COLD.as_nanos() as u64 {
                            latencies.push(now.saturating_sub(due));
                        }
                        count += 1;
                        Ok(())
                    })?;
                    self.received.fetch_add(count, Ordering::Relaxed);
                    if let (Some(next), Some(offset)) = (next, offsets.get_mut(&partition)) {
                        *offset = next;
                    }
                }
            }
        }
        Ok(latencies)
    }
}
