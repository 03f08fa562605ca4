//! librdkafka's `rdkafka_performance`: built from its archive, run, and its summary read.
//!
//! It runs with librdkafka's defaults: 5 ms of linger, batches of up to 10,000 messages or a megabyte, no idempotence.
//!
//! HAZARD: its summary counts up to half a second until it knows the leaders, and up to a second after the last message was
//! acknowledged. The rate is therefore taken from its table, between two rows while it is still producing.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::shell::{command, run, target};

/// The librdkafka that is built.
pub(super) const VERSION: &str = "2.12.1";
/// The archive it comes in.
const ARCHIVE: &str = "rdkafka-sys-4.10.0+2.12.1";

/// Not every server keeps to the size that a fetch allows.
const RESPONSE_MAX: &str = "receive.message.max.bytes=2000000000";

/// How long it may produce, in seconds; a server that stops answering must not hold the run up for good.
const PRODUCE_MAX_S: &str = "60";
/// How long it may consume.
pub(super) const CONSUME_MAX_S: &str = "20";

/// How often it prints a row.
const INTERVAL_MS: &str = "20";

/// The program.
pub(super) struct Tool(PathBuf);

impl Tool {
    /// The one given, or one that is built with optimisation, apart from what tests build of the same archive.
    pub(super) fn ready(given: Option<&PathBuf>) -> Result<Tool> {
        if let Some(path) = given {
            return Ok(Tool(path.canonicalize().with_context(|| format!("{} is not there", path.display()))?));
        }
        let folder = std::path::absolute(target().join("xtask/rdkafka_performance"))?;
        let sources = folder.join(ARCHIVE);
        let program = sources.join("examples/rdkafka_performance");
        if !program.exists() {
            install::apt(&["gcc", "g++", "make", "pkg-config", "zlib1g-dev"])?;
            let archive = install::archive("librdkafka", ARCHIVE)?.join("librdkafka");
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)?;
            run(Command::new("cp").arg("-r").arg(archive).arg(&sources))?;
            build(&sources)?;
        }
        Ok(Tool(program))
    }

    /// Produces so many messages of this size; says how many a second were acknowledged, if they were enough to tell.
    pub(super) fn produce(
        &self,
        server: SocketAddr,
        topic: &str,
        size: u64,
        acks: &str,
        count: u64,
    ) -> Result<Option<f64>> {
        let (server, size, count_word) = (server.to_string(), size.to_string(), count.to_string());
        let acks = if acks == "all" { "-1" } else { acks };
        let words =
            ["-P", "-t", topic, "-b", &server, "-s", &size, "-c", &count_word, "-a", acks, "-u", "-i", INTERVAL_MS];
        let said = self.run(PRODUCE_MAX_S, &words)?;
        let rows = rows(&said);
        let last = *rows.last().with_context(|| format!("no table of what was produced:\n{said}"))?;
        ensure!(last.delivered == count, "{} of {count} messages were acknowledged:\n{said}", last.delivered);
        Ok(steady(&rows, count))
    }

    /// Consumes so many messages from the beginning; says how many a second came.
    pub(super) fn consume(&self, server: SocketAddr, topic: &str, partitions: i32, count: u64) -> Result<f64> {
        let (server, count_word) = (server.to_string(), count.to_string());
        let numbers: Vec<String> = (0..partitions).map(|partition| partition.to_string()).collect();
        let mut words =
            vec!["-C", "-t", topic, "-b", &server, "-o", "beginning", "-c", &count_word, "-X", RESPONSE_MAX];
        words.extend(numbers.iter().flat_map(|number| ["-p", number]));
        let said = self.run(CONSUME_MAX_S, &words)?;
        let found = consumed(&said).with_context(|| format!("no summary of what was consumed:\n{said}"))?;
        ensure!(found.0 >= count, "{} of {count} messages came", found.0);
        Ok(found.1)
    }

    fn run(&self, seconds: &str, words: &[&str]) -> Result<String> {
        let output = command("timeout", &[seconds]).arg(&self.0).args(words).output().context("cannot run the tool")?;
        // Its status is no verdict: it fails when anything else than a message, such as a log line, waits at the end.
        Ok([output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
    }
}

fn build(sources: &Path) -> Result<()> {
    let without = ["--disable-gssapi", "--disable-curl", "--disable-lz4-ext", "--disable-ssl", "--disable-zstd"];
    let jobs = format!("-j{}", std::thread::available_parallelism()?);
    let quiet = |step: &mut Command| run(step.current_dir(sources).stdout(Stdio::null()).stderr(Stdio::null()));
    quiet(command("bash", &["./configure"]).args(without))?;
    quiet(&mut command("make", &[&jobs, "libs"]))?;
    quiet(&mut command("make", &[&jobs, "-C", "examples", "rdkafka_performance"]))
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    elapsed_ms: f64,
    /// Handed to the library so far.
    sent: u64,
    /// Acknowledged so far.
    delivered: u64,
}

fn rows(said: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (elapsed_ms, sent) = (cells.next()?.parse().ok()?, cells.next()?.parse().ok()?);
        Some(Row { elapsed_ms, sent, delivered: cells.nth(2)?.parse().ok()? })
    };
    said.lines().filter_map(row).collect()
}

/// Messages acknowledged in a second, from when a tenth of them are until the last row that has more to send; none when
/// they were too few for that.
fn steady(rows: &[Row], count: u64) -> Option<f64> {
    let first = rows.iter().find(|row| row.delivered >= count / 10)?;
    let last = rows.iter().rfind(|row| row.sent < count)?;
    let (delivered, elapsed_ms) = (last.delivered.checked_sub(first.delivered)?, last.elapsed_ms - first.elapsed_ms);
    (delivered >= count / 4 && elapsed_ms > 0.0).then(|| delivered as f64 / elapsed_ms * 1e3)
}

/// How many messages were consumed, and how many a second.
fn consumed(said: &str) -> Option<(u64, f64)> {
    let line = said.lines().rfind(|line| line.contains(" consumed in "))?;
    let count = line.split_once(" messages ")?.0.rsplit(' ').next()?.parse().ok()?;
    Some((count, rate(line)?))
}

fn rate(line: &str) -> Option<f64> {
    line.split_once(" msgs/s")?.0.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_summaries_are_read() {
        let said = "|    elapsed |       msgs |      bytes |        rtt |         dr |     dr_m/s |\n\
                    |        500 |          9 |        900 |          0 |          0 |          0 |\n\
                    |        600 |         40 |        900 |          0 |         20 |          0 |\n\
                    |        700 |         90 |        900 |          0 |         80 |          0 |\n\
                    |       1700 |        100 |        900 |          0 |        100 |          0 |\n";
        let found = rows(said);
        assert_eq!(found.last().map(|row| row.delivered), Some(100));
        assert_eq!(steady(&found, 100), Some(600.0));
        assert_eq!(steady(&found[3..], 100), None);
        let said = "% 200 messages (200 bytes) consumed in 7ms: 300 msgs/s (9.1 MB/s)\n% Average application fetch latency: 0us\n";
        assert_eq!(consumed(said), Some((200, 300.0)));
        assert_eq!(consumed("% nothing"), None);
    }
}
