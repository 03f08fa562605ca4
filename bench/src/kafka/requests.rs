//! What a produce request costs a server: single batches of 16 KiB, to as many partitions as there are, round and round.
//!
//! A window of requests stays under way, so that the server always has work. The figure is the server's CPU time a request.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::client::{Connection, produce, produced, ready};
use super::wire::{batch, now_ms};
use crate::process;

/// How many requests are under way.
const WINDOW: i32 = 16;
/// The size of a request's batch, at most.
const BATCH_SIZE: usize = 16 << 10;
/// The size of a message, and what a record adds to it.
const MESSAGE_SIZE: usize = 100;
const RECORD_OVERHEAD: usize = 9;
const BATCH_OVERHEAD: usize = 61;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Requests acknowledged in a second.
    pub rate: f64,
    /// The server's CPU time a request, in microseconds.
    pub cpu_us: f64,
}

/// Sends so many requests, and as many again as there are partitions before them, which are not counted.
///
/// # Errors
/// When one is not acknowledged.
#[expect(clippy::disallowed_methods, reason = "a load client measures time")]
pub fn run(server: SocketAddr, topic: &str, partitions: i32, count: i32, pids: &[u32]) -> Result<Cost> {
    ensure!(partitions > 0 && count > 0, "a load needs a partition and a request");
    ready(server, topic, partitions, 1)?;
    let record_count = (BATCH_SIZE - BATCH_OVERHEAD) / (MESSAGE_SIZE + RECORD_OVERHEAD);
    let batch = batch(std::iter::repeat_n([b'x'; MESSAGE_SIZE], record_count), now_ms());
    let mut request = produce(topic, 0, 0, &batch).finish();
    // The partition stands in front of the batch and its length.
    let partition_at = request.len() - batch.len() - 8;
    let mut connection = Connection::open(server, Duration::from_secs(1))?;
    let mut drive = |from: i32, to: i32| -> Result<()> {
        let mut sent = from;
        for received in from..to {
            while sent < to && sent < received + WINDOW {
                patch(&mut request, partition_at, sent, partitions);
                connection.send(&request)?;
                sent += 1;
            }
            let (correlation, answer) = connection.receive()?;
            ensure!(correlation == received, "answer {correlation} came in the place of {received}");
            produced(answer)?;
        }
        Ok(())
    };
    drive(0, partitions)?;
    let (before, start) = (process::cpu_us(pids)?, Instant::now());
    drive(partitions, partitions + count)?;
    let (cpu_us, elapsed) = (process::cpu_us(pids)?.saturating_sub(before), start.elapsed());
    Ok(Cost { rate: f64::from(count) / elapsed.as_secs_f64(), cpu_us: cpu_us as f64 / f64::from(count) })
}

fn patch(request: &mut [u8], partition_at: usize, number: i32, partitions: i32) {
    // The correlation id stands behind the length, the request's number and its version.
    request[8..12].copy_from_slice(&number.to_be_bytes());
    request[partition_at..partition_at + 4].copy_from_slice(&(number % partitions).to_be_bytes());
}
