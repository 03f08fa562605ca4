//! Those who write to the log and those who read from it.
//!
//! A user is the key of every event, so all events of a user are in one partition, in one order. Each writer numbers its
//! events, so that a reader sees whether one is missing, twice, or out of order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::sleep;
use verity_kafka::wire::Codec;

use super::board::Board;
use super::{PARTITIONS, Scene, TOPIC};
use crate::kafka::{Acks, Client, Incoming, Offsets, Outgoing, Producer, Reader, Settings, now_ms};
use crate::tour::now;

/// The groups, in the order in which they are shown.
pub(super) const CONSUMERS: [&str; 3] = ["analytics", "billing", "search"];
const USERS: u64 = 25;
/// A consumer takes events this often.
const TAKE_EVERY: Duration = Duration::from_millis(100);

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A user has ordered something.
    Order,
    /// A user has another name from here on.
    Rename,
}

/// Writes events.
pub(super) struct Writer {
    pub(super) name: &'static str,
    kind: Kind,
    /// How many events it writes at once, how often it does, and how many times.
    at_once: u64,
    every: Duration,
    times: u64,
}

/// Reads events, and makes something of them.
pub(super) struct Consumer {
    pub(super) name: &'static str,
    /// How many events it takes at once; it takes a moment for them.
    pace: usize,
    seen: BTreeSet<(String, u64)>,
    /// The last number of each writer about each user.
    last: BTreeMap<(String, String), u64>,
    /// What it knows, by user or kind.
    known: BTreeMap<String, Value>,
}

impl Writer {
    pub(super) fn new(name: &'static str, kind: Kind) -> Self {
        let (at_once, every, times) = match kind {
            Kind::Order => (15, Duration::from_millis(150), 40),
            Kind::Rename => (10, Duration::from_millis(200), 30),
        };
        Self { name, kind, at_once, every, times }
    }

    pub(super) fn about(&self) -> &'static str {
        match self.kind {
            Kind::Order => "writes orders; it does not know who reads them",
            Kind::Rename => "writes what changes about users",
        }
    }

    fn total(&self) -> u64 {
        self.at_once * self.times
    }

    fn event(&self, number: u64) -> Outgoing {
        let user = format!("user-{}", number * 7 % USERS);
        let value = match self.kind {
            Kind::Order => json!({ "service": self.name, "n": number, "amount": number % 90 + 10 }),
            Kind::Rename => json!({ "service": self.name, "n": number, "name": format!("name-{number}") }),
        };
        let (key, value) = (Some(Bytes::from(user)), Some(Bytes::from(value.to_string())));
        Outgoing { key, value, timestamp: now_ms(), ..Outgoing::default() }
    }

    /// Writes everything; how long the longest write took.
    pub(super) async fn run(&self, client: &Client, scene: &Scene) -> Result<Duration> {
        let settings = Settings { acks: Acks::All, codec: Codec::Lz4, partition: None };
        let mut producer = Producer::start(client, TOPIC, settings).await?;
        let mut longest = Duration::ZERO;
        for time in 0..self.times {
            for number in time * self.at_once..(time + 1) * self.at_once {
                producer.push(&self.event(number)).await?;
            }
            let begun = now();
            producer.flush().await?;
            longest = longest.max(begun.elapsed());
            scene.note(self.name, producer.done().0);
            sleep(self.every).await;
        }
        ensure!(producer.done().0 == self.total(), "{} was acknowledged fewer events than it wrote", self.name);
        Ok(longest)
    }
}

impl Scene {
    fn note(&self, name: &'static str, count: u64) {
        let mut written = self.written.borrow_mut();
        match written.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = count,
            None => written.push((name, count)),
        }
    }
}

/// One of each.
pub(super) fn consumers() -> [Consumer; 3] {
    let [analytics, billing, search] = CONSUMERS;
    [Consumer::new(analytics, 100), Consumer::new(billing, 12), Consumer::new(search, 7)]
}

impl Consumer {
    fn new(name: &'static str, pace: usize) -> Self {
        Self { name, pace, seen: BTreeSet::new(), last: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// The same one, before it has read anything.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.name, usize::MAX)
    }

    pub(super) fn about(&self) -> &'static str {
        match self.name {
            "analytics" => "counts events, and is fast",
            "billing" => "adds up what users owe, and takes its time",
            _ => "keeps users' names, and is slow",
        }
    }

    fn reader(client: &Client) -> Reader {
        Reader::new(client, TOPIC, true, (0..PARTITIONS).map(|index| (index, 0)).collect())
    }

    /// Reads at its own pace until all is read that is written.
    pub(super) async fn run(&mut self, client: &Client, scene: &Scene, board: &Board) -> Result<()> {
        let mut reader = Self::reader(client);
        let (mut waiting, mut offsets) = (VecDeque::new(), Offsets::new());
        loop {
            if waiting.is_empty() {
                waiting.extend(reader.poll().await?);
                ensure!(reader.take_gone().is_empty(), "{} has missed events that are not there any more", self.name);
            }
            for record in waiting.drain(..self.pace.min(waiting.len())) {
                self.take(&record)?;
                offsets.insert((TOPIC.to_owned(), record.partition), record.offset + 1);
            }
            if !offsets.is_empty() {
                client.commit(self.name, ("", -1), &offsets).await?;
            }
            if *scene.complete.borrow() && self.seen.len() as u64 >= scene.total() {
                board.say(self.name, &format!("has read everything: {}", self.result()));
                return Ok(());
            }
            sleep(TAKE_EVERY).await;
        }
    }

    /// Reads so many events from the beginning, as fast as it can.
    pub(super) async fn read_all(&mut self, client: &Client, total: u64) -> Result<()> {
        let mut reader = Self::reader(client);
        while (self.seen.len() as u64) < total {
            for record in reader.poll().await? {
                self.take(&record)?;
            }
        }
        Ok(())
    }

    /// Makes something of an event.
    fn take(&mut self, record: &Incoming) -> Result<()> {
        let user = String::from_utf8(record.key.as_deref().unwrap_or_default().to_vec())?;
        let event: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        let service = event["service"].as_str().context("an event says who wrote it")?.to_owned();
        let number = event["n"].as_u64().context("an event has a number")?;
        ensure!(self.seen.insert((service.clone(), number)), "{} has seen {service} {number} twice", self.name);
        let before = self.last.insert((service.clone(), user.clone()), number);
        ensure!(before < Some(number), "{} has seen {service} {number} too late", self.name);
        let owed = event["amount"].as_u64();
        match (self.name, owed) {
            ("analytics", _) => self.add(&service, 1),
            ("billing", Some(amount)) => self.add(&user, amount),
            ("search", None) => {
                self.known.insert(user, event["name"].clone());
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, name: &str, more: u64) {
        let before = self.known.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.known.insert(name.to_owned(), Value::from(before + more));
    }

    /// What it knows, in few words, and a digest of all of it.
    pub(super) fn result(&self) -> String {
        let text = json!(self.known).to_string();
        let digest = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        let sum: u64 = self.known.values().filter_map(Value::as_u64).sum();
        let words = match self.name {
            "analytics" => format!("{sum} events"),
            "billing" => format!("{} users who owe {sum}", self.known.len()),
            _ => format!("{} names", self.known.len()),
        };
        format!("{words}, digest {:08x}", digest >> 32)
    }

    /// Has it seen each event of these writers?
    pub(super) fn check(&self, writers: &[Writer]) -> Result<()> {
        for writer in writers {
            let of = |number| (writer.name.to_owned(), number);
            let missing = (0..writer.total()).find(|number| !self.seen.contains(&of(*number)));
            ensure!(missing.is_none(), "{} has not seen {} {missing:?}", self.name, writer.name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(writer: &Writer, number: u64) -> Incoming {
        let event = writer.event(number);
        let (partition, offset, timestamp) = (0, 0, 0);
        Incoming { partition, offset, timestamp, key: event.key, value: event.value, headers: Vec::new() }
    }

    #[test]
    fn what_is_twice_late_or_missing_is_seen() {
        let writers = [Writer::new("order-service", Kind::Order)];
        let read = |numbers: &[u64]| {
            let mut billing = Consumer::new("billing", 1);
            numbers.iter().try_for_each(|number| billing.take(&record(&writers[0], *number)))?;
            billing.check(&writers)
        };
        let all: Vec<u64> = (0..writers[0].total()).collect();
        assert!(read(&all).is_ok());
        assert!(read(&[0, 0]).is_err(), "twice");
        assert!(read(&[USERS, 0]).is_err(), "late: it is about the same user");
        assert!(read(&all[1..]).is_err(), "missing");
    }
}
