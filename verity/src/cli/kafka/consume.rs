//! `verity kafka consume`.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::sync::watch;

use super::counted;
use super::format::{Format, object};
use super::progress::{Progress, bytes, now};
use crate::cli::end_signals;
use crate::kafka::{Client, Incoming, Member, Reader};

/// How often a member commits how far it is.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
const START: i64 = -2;

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity kafka consume orders --from-beginning               everything, and what comes\n  \
    verity kafka consume orders --from-beginning --exit-at-end what there is\n  \
    verity kafka consume orders --group billing                as a member: partitions are shared\n  \
    verity kafka consume orders --format '%p/%o %k: %s\\n'\n  \
    verity --json kafka consume orders --offset -10 --count 10"
)]
pub(super) struct Consume {
    /// What to read.
    topic: String,
    /// Begin with the first record; with a group, where it has committed nothing.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Begin here in each partition; negative: so many before its end.
    #[arg(long, short = 'o', value_name = "OFFSET", allow_negative_numbers = true, conflicts_with = "group")]
    offset: Option<i64>,
    /// Read this partition alone.
    #[arg(long, short = 'p', value_name = "PARTITION", conflicts_with = "group")]
    partition: Option<i32>,
    /// Read as a member of this group, which keeps how far it is.
    #[arg(long, short = 'g', value_name = "GROUP")]
    group: Option<String>,
    /// End after so many records.
    #[arg(long, short = 'c', value_name = "RECORDS")]
    count: Option<u64>,
    /// End where the topic ended when the command began.
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// How each record is shown: %s value, %k key, %t topic, %p partition, %o offset, %T time, %h headers.
    #[arg(long, value_name = "FORMAT", default_value = "%s\\n", value_parser = Format::parse)]
    format: Format,
    /// Whether records of transactions that are open or were aborted are read.
    #[arg(long, value_enum, default_value_t = Isolation::ReadUncommitted)]
    isolation: Isolation,
    /// Show no records, only how many there were and how fast they came.
    #[arg(long, short = 'q')]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

/// Where records go, and how many went there.
struct Shown {
    json: bool,
    quiet: bool,
    format: Format,
    topic: String,
    to: BufWriter<std::io::Stdout>,
    records: u64,
    size: u64,
}

impl Shown {
    fn show(&mut self, record: &Incoming) -> std::io::Result<()> {
        self.records += 1;
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.size += length(&record.key) + length(&record.value);
        match (self.quiet, self.json) {
            (true, _) => Ok(()),
            (false, true) => writeln!(self.to, "{}", object(&self.topic, record)),
            (false, false) => self.format.write(&self.topic, record, &mut self.to),
        }
    }
}

/// True once somebody has pressed Ctrl-C.
fn ended() -> Result<watch::Receiver<bool>> {
    let (say, hear) = watch::channel(false);
    let mut signals = end_signals()?;
    #[expect(clippy::disallowed_methods, reason = "the binary's own thread, which waits for a signal")]
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Nobody waits for it, then.
            let _ = say.send(true);
        }
    });
    Ok(hear)
}

impl Consume {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<()> {
        let topic = client.topic(&self.topic).await?;
        let mut indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
        if let Some(wanted) = self.partition {
            indexes.retain(|index| *index == wanted);
            if indexes.is_empty() {
                bail!("topic {} has partitions 0 to {}, not {wanted}", self.topic, topic.partitions.len() - 1);
            }
        }
        let partitions: Vec<(String, i32)> = indexes.iter().map(|index| (self.topic.clone(), *index)).collect();
        let committed = self.isolation == Isolation::ReadCommitted;
        let ends = by_index(client.ends(&partitions, committed).await?);
        let starts = by_index(client.offsets_at(&partitions, START).await?);
        let begin = |index: i32| {
            let (start, end) = (starts.get(&index).copied().unwrap_or(0), ends.get(&index).copied().unwrap_or(0));
            match self.offset {
                Some(offset) if offset < 0 => end.saturating_add(offset).max(start),
                Some(offset) => offset,
                None if self.from_beginning => start,
                None => end,
            }
        };
        let mut member = self.group.as_ref().map(|group| Member::new(client, group, &self.topic));
        let mut reader = Reader::new(client, &self.topic, committed, BTreeMap::new());
        let mut shown = Shown {
            json,
            quiet: self.quiet,
            format: self.format.clone(),
            topic: self.topic.clone(),
            to: BufWriter::new(std::io::stdout()),
            records: 0,
            size: 0,
        };
        let mut progress = Progress::start(self.count);
        let result = match &mut member {
            None => {
                reader.assign(indexes.iter().map(|index| (*index, begin(*index))).collect());
                self.read(&mut reader, None, &begin, &ends, &mut shown, &mut progress).await
            }
            Some(member) => self.read(&mut reader, Some(member), &begin, &ends, &mut shown, &mut progress).await,
        };
        if let Some(mut member) = member {
            if result.is_ok() {
                member.commit(reader.positions()).await?;
            }
            member.leave().await;
        }
        progress.end();
        // Who reads what is shown may have had enough; that is no mistake.
        match result {
            Err(error) if !is_broken_pipe(&error) => return Err(error),
            _ => {}
        }
        self.sum_up(&shown, &progress);
        Ok(())
    }

    fn sum_up(&self, shown: &Shown, progress: &Progress) {
        if !self.quiet {
            return;
        }
        let (records, size, seconds) = (shown.records, shown.size, progress.seconds());
        if shown.json {
            println!("{}", json!({ "topic": self.topic, "records": records, "bytes": size, "seconds": seconds }));
        } else {
            println!(
                "{} ({}) read from {} in {seconds:.2} s: {} records/s, {}/s",
                counted(records, "record"),
                bytes(size),
                self.topic,
                progress.rate(records),
                bytes(progress.rate(size))
            );
        }
    }

    async fn read(
        &self,
        reader: &mut Reader,
        mut member: Option<&mut Member>,
        begin: &impl Fn(i32) -> i64,
        ends: &BTreeMap<i32, i64>,
        shown: &mut Shown,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut ended = ended()?;
        let (mut joined, mut committed): (bool, Instant) = (member.is_none(), now());
        while !self.is_done(reader, joined, ends, shown.records) {
            if let Some(member) = member.as_deref_mut() {
                if !joined {
                    let mine = tokio::select! {
                        mine = member.join() => mine?,
                        _ = ended.changed() => return Ok(()),
                    };
                    let from = mine.into_iter().map(|(index, at)| (index, at.unwrap_or_else(|| begin(index))));
                    reader.assign(from.collect());
                }
                joined = member.beat().await?;
                if joined && committed.elapsed() >= COMMIT_EVERY {
                    committed = now();
                    joined = member.commit(reader.positions()).await?;
                }
                if !joined {
                    // Others come or go: how far it is counts still, if the coordinator takes it.
                    member.commit(reader.positions()).await?;
                    continue;
                }
            }
            let records = tokio::select! {
                records = reader.poll() => records?,
                _ = ended.changed() => return Ok(()),
            };
            for (partition, first, last) in reader.take_gone() {
                eprintln!("partition {partition}: offsets {first} to {last} were deleted before they were read");
            }
            for record in records {
                let too_many = self.count.is_some_and(|count| shown.records >= count);
                let behind = self.exit_at_end && ends.get(&record.partition).is_some_and(|end| record.offset >= *end);
                if too_many || behind {
                    reader.go_back(record.partition, record.offset);
                    continue;
                }
                shown.show(&record)?;
            }
            shown.to.flush()?;
            if self.quiet {
                progress.tell(shown.records, shown.size);
            }
        }
        Ok(())
    }

    fn is_done(&self, reader: &Reader, joined: bool, ends: &BTreeMap<i32, i64>, records: u64) -> bool {
        if self.count.is_some_and(|count| records >= count) {
            return true;
        }
        let positions = reader.positions();
        let at_end = |(index, position): (&i32, &i64)| ends.get(index).is_some_and(|end| position >= end);
        self.exit_at_end && joined && !positions.is_empty() && positions.iter().all(at_end)
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn by_index(offsets: BTreeMap<(String, i32), i64>) -> BTreeMap<i32, i64> {
    offsets.into_iter().map(|((_, index), offset)| (index, offset)).collect()
}
