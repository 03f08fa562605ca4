//! `verity kafka produce`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::sync::mpsc::error::TryRecvError;
use verity_kafka::wire::Codec;

use super::lines::{self, Lines};
use super::progress::{Progress, bytes};
use super::{counted, pair};
use crate::kafka::{Acks, Client, Outgoing, Producer, Settings, now_ms};

/// The largest record that a load consists of.
const SIZE_MAX: u32 = 16 << 20;
/// What a load's values are made of; it compresses about as well as text.
const FILLER: &[u8] = b"the quick brown fox jumps over the lazy dog 0123456789 ";

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity kafka produce orders                              type records, one a line\n  \
    verity kafka produce orders --file orders.txt --key-separator :\n  \
    verity kafka produce orders --count 1000000 --size 100   a load, and how fast it went"
)]
pub(super) struct Produce {
    /// Where to.
    topic: String,
    /// What stands before it in a line is the record's key.
    #[arg(long, short = 'k', value_name = "TEXT")]
    key_separator: Option<String>,
    /// Read lines of this file instead of standard input.
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "count")]
    file: Option<PathBuf>,
    /// Write a load of so many records.
    #[arg(long, short = 'c', value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How many bytes each record of a load has.
    #[arg(long, value_name = "BYTES", default_value_t = 100, requires = "count",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SIZE_MAX)))]
    size: u32,
    /// Give the load's records so many different keys; without it they have none.
    #[arg(long, value_name = "KEYS", requires = "count", value_parser = clap::value_parser!(u64).range(1..))]
    keys: Option<u64>,
    /// How sure a write is to be.
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// How batches are compressed.
    #[arg(long, short = 'z', value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// Write to this partition; without it keys decide, and records without one go round.
    #[arg(long, short = 'p', value_name = "PARTITION", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// A header of each record; may be given again.
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Self::None => Codec::None,
            Self::Gzip => Codec::Gzip,
            Self::Snappy => Codec::Snappy,
            Self::Lz4 => Codec::Lz4,
            Self::Zstd => Codec::Zstd,
        }
    }
}

impl Produce {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<()> {
        if self.key_separator.as_deref() == Some("") {
            bail!("--key-separator is empty; what stands between a key and its value?");
        }
        let settings = Settings { acks: self.acks, codec: self.compression.codec(), partition: self.partition };
        let mut producer = Producer::start(client, &self.topic, settings).await?;
        let mut progress = Progress::start(self.count);
        let size = match self.count {
            Some(count) => self.load(count, &mut producer, &mut progress).await,
            None => self.lines(&mut producer, &mut progress).await,
        };
        progress.end();
        let size = size.with_context(|| format!("{} were written", counted(producer.done().0, "record")))?;
        let (records, sent) = producer.done();
        let seconds = progress.seconds();
        if json {
            println!(
                "{}",
                json!({
                    "topic": self.topic,
                    "records": records,
                    "bytes": size,
                    "bytes_sent": sent,
                    "seconds": seconds,
                    "last_offsets": producer.ends(),
                })
            );
        } else {
            let (rate, speed) = (progress.rate(records), bytes(progress.rate(size)));
            let written = format!("{} ({}) written to {}", counted(records, "record"), bytes(size), self.topic);
            match self.count {
                Some(_) => println!("{written} in {seconds:.2} s: {rate} records/s, {speed}/s"),
                None => println!("{written}"),
            }
        }
        Ok(())
    }

    fn headers(&self) -> Vec<(Bytes, Option<Bytes>)> {
        let header = |(name, value): &(String, String)| {
            (Bytes::copy_from_slice(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes())))
        };
        self.headers.iter().map(header).collect()
    }

    /// Writes a load; how many bytes its keys and values have.
    async fn load(&self, count: u64, producer: &mut Producer, progress: &mut Progress) -> Result<u64> {
        let width = usize::try_from(self.size)?;
        let filler = Bytes::from(FILLER.iter().copied().cycle().take(width + FILLER.len()).collect::<Vec<u8>>());
        let mut record = Outgoing { headers: self.headers(), ..Outgoing::default() };
        let mut size = 0;
        for at in 0..count {
            let skip = usize::try_from(at % FILLER.len() as u64)?;
            record.value = Some(filler.slice(skip..skip + width));
            record.key = self.keys.map(|keys| Bytes::from(format!("key-{}", at % keys)));
            record.timestamp = now_ms();
            size += u64::from(self.size) + record.key.as_ref().map_or(0, |key| key.len() as u64);
            producer.push(&record).await?;
            let (done, _) = producer.done();
            progress.tell(done, done * u64::from(self.size));
        }
        producer.flush().await?;
        Ok(size)
    }

    /// Writes lines as they come; how many bytes they have.
    async fn lines(&self, producer: &mut Producer, progress: &mut Progress) -> Result<u64> {
        use std::io::IsTerminal as _;
        if self.file.is_none() && std::io::stdin().is_terminal() {
            eprintln!("type records, one a line; Ctrl-D ends");
        }
        let mut lines: Lines = lines::read(self.file.as_deref())?;
        let mut record = Outgoing { headers: self.headers(), ..Outgoing::default() };
        let (mut size, mut number) = (0, 0u64);
        loop {
            let line = match lines.try_recv() {
                Ok(line) => Some(line),
                Err(TryRecvError::Disconnected) => None,
                // Nothing comes for the moment: what was said is written.
                Err(TryRecvError::Empty) => {
                    producer.flush().await?;
                    lines.recv().await
                }
            };
            let Some(line) = line else { break };
            number += 1;
            let line = Bytes::from(line.context("cannot read on")?);
            size += line.len() as u64;
            (record.key, record.value) = self.split(line).with_context(|| format!("line {number}"))?;
            record.timestamp = now_ms();
            producer.push(&record).await?;
            let (done, sent) = producer.done();
            progress.tell(done, sent);
        }
        producer.flush().await?;
        Ok(size)
    }

    fn split(&self, line: Bytes) -> Result<(Option<Bytes>, Option<Bytes>)> {
        let Some(separator) = self.key_separator.as_deref().map(str::as_bytes) else { return Ok((None, Some(line))) };
        let at = line.windows(separator.len()).position(|window| window == separator);
        let Some(at) = at else {
            bail!("there is no {:?} between a key and a value", String::from_utf8_lossy(separator));
        };
        Ok((Some(line.slice(..at)), Some(line.slice(at + separator.len()..))))
    }
}
