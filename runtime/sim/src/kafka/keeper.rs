//! Clients of logs that lose records on purpose, and what they do there.
//!
//! - a keyed one writes values and tombstones under few keys to a topic that is compacted, whose segments are tiny, and reads
//!   it from the start now and then;
//! - a trimmer writes to a topic, deletes its beginning, asks where it starts, and reads. In some worlds the topic deletes its
//!   beginning by itself as well.
//!
//! Each topic is made by its clients, with what it is to be like, before anybody speaks of it. In the end, when nobody writes
//! any more, each client reads from the start to the end.
//!
//! Deliberately absent: transactions in compacted topics, retention by time.

mod laws;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fastrand::Rng;

use super::wire::{self, Entry, Fetched, Producer, put_string, request, take_fetched, take_string};
use super::{Ask, Client, END_STANDS, KafkaClients, PLACES, Part, Place, TOPICS, code, topic_name, topics};
use laws::{CompactedLaws, Sweep, TrimmedLaws};

/// The topics, behind those that everybody uses.
pub(super) const COMPACTED: usize = TOPICS;
pub(super) const TRIMMED: usize = TOPICS + 1;
/// How many keys there are. Some are written seldom.
const KEYS: u64 = 24;
const EARLIEST: i64 = -2;
/// What lies below the start of a log is asked for so often, and then it must be gone.
const TRIES_MAX: u32 = 200;

/// What such a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    /// Make the topic.
    Create(usize),
    Put {
        topic: usize,
        entry: Entry,
    },
    Delete {
        to: i64,
    },
    /// Where does the trimmed topic start?
    Start,
    /// From an offset on; `below` if nothing may be there.
    Read {
        topic: usize,
        from: i64,
        below: bool,
    },
}

impl Chore {
    /// Who may answer.
    pub(super) fn place(self) -> Place {
        match self {
            Self::Create(_) => Place::Anywhere,
            Self::Put { topic, .. } | Self::Read { topic, .. } => Place::Leader(topic),
            Self::Delete { .. } | Self::Start => Place::Leader(TRIMMED),
        }
    }
}

/// Such a client as it sees itself.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// It writes no more.
    wrote: bool,
    /// Where it reads on, if it is reading.
    reads: Option<i64>,
    /// What it has to find in the compacted topic.
    sweep: Option<Sweep>,
    /// Where the log starts, as it heard in the end.
    start: Option<i64>,
    /// What lies below is known to be gone.
    tried: bool,
    tries: u32,
    /// What it reads now is read to the end of the world.
    last: bool,
}

/// What holds for both topics of a world.
#[derive(Default)]
pub(super) struct Keepers {
    compacted: CompactedLaws,
    trimmed: TrimmedLaws,
    made: [bool; 2],
    segment_bytes: u32,
    delete_retention_ms: u64,
    retention_bytes: Option<u32>,
    /// The largest offset of the trimmed topic that was acknowledged.
    end: i64,
}

impl Keepers {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut keepers = Self {
            segment_bytes: rng.u32(1_000..6_000),
            delete_retention_ms: [0, 86_400_000][rng.usize(0..2)],
            retention_bytes: (rng.u32(0..3) == 0).then(|| rng.u32(1_000..5_000)),
            ..Self::default()
        };
        keepers.compacted.tombstones_go = keepers.delete_retention_ms == 0;
        if keepers.retention_bytes.is_some() {
            keepers.trimmed.may_delete(i64::MAX);
        }
        keepers
    }

    pub(super) fn is_made(&self, topic: usize) -> bool {
        self.made[topic - TOPICS]
    }

    pub(super) fn judge(&mut self) -> Result<(), String> {
        self.compacted.judge().map_err(|what| format!("compacted topic: {what}"))?;
        self.trimmed.judge().map_err(|what| format!("trimmed topic: {what}"))
    }

    fn settings(&self, topic: usize) -> Vec<(&'static str, String)> {
        let mut all = vec![("internal.segment.bytes", self.segment_bytes.to_string())];
        if topic == COMPACTED {
            all.push(("cleanup.policy", "compact".to_owned()));
            all.push(("min.cleanable.dirty.ratio", "0.01".to_owned()));
            all.push(("delete.retention.ms", self.delete_retention_ms.to_string()));
        }
        if let (TRIMMED, Some(bytes)) = (topic, self.retention_bytes) {
            all.push(("retention.bytes", bytes.to_string()));
        }
        all
    }
}

/// One partition of one topic, in the manner of versions that are not flexible.
fn one(out: &mut BytesMut, topic: usize) {
    out.put_i32(1);
    put_string(out, &topic_name(topic));
    out.put_i32(1);
    out.put_i32(0);
}

impl KafkaClients {
    /// Nobody who writes to this topic does so any more.
    fn is_written(&self, part: Part) -> bool {
        self.winding_down && self.clients.iter().filter(|client| client.part == part).all(|client| client.keeper.wrote)
    }

    /// What a client of a topic does next that loses records.
    pub(super) fn next_of_keeper(&mut self, id: usize, rng: &mut Rng) -> Option<Ask> {
        let part = self.clients[id].part;
        let topic = if part == Part::Keyed { COMPACTED } else { TRIMMED };
        if !self.keepers.is_made(topic) {
            return Some(Ask::Keep(Chore::Create(topic)));
        }
        self.clients[id].keeper.wrote |= self.winding_down;
        if self.is_written(part) {
            return self.last_of_keeper(id, topic);
        }
        if self.winding_down {
            // The others have yet to hear it.
            let meanwhile = Chore::Read { topic, from: 0, below: false };
            return Some(Ask::Keep(if topic == COMPACTED { meanwhile } else { Chore::Start }));
        }
        let client = &mut self.clients[id];
        if client.producer.is_none() {
            return Some(Ask::Init);
        }
        if let Some(from) = client.keeper.reads {
            return Some(Ask::Keep(Chore::Read { topic, from, below: false }));
        }
        let chore = match (part, rng.u32(0..40)) {
            (Part::Keyed, 0..=1) => Chore::Read { topic, from: 0, below: false },
            (Part::Keyed, roll) => {
                let value = (roll > 6).then(|| client.value(id));
                let key = rng.u64(0..KEYS).min(rng.u64(0..KEYS));
                self.keepers.compacted.on_written((key, value));
                Chore::Put { topic, entry: (Some(key), value) }
            }
            (_, 0..=2) => {
                let to = rng.i64(0..=self.keepers.end + 1);
                self.keepers.trimmed.may_delete(to);
                Chore::Delete { to }
            }
            (_, 3..=7) => Chore::Start,
            (_, 8..=9) => Chore::Read { topic, from: rng.i64(0..=self.keepers.end), below: false },
            _ => Chore::Put { topic, entry: (None, Some(client.value(id))) },
        };
        Some(Ask::Keep(chore))
    }

    /// What it does in the end.
    fn last_of_keeper(&mut self, id: usize, topic: usize) -> Option<Ask> {
        let client = &mut self.clients[id];
        if client.ended[0] {
            return None;
        }
        let keeper = &mut client.keeper;
        if !keeper.last {
            (keeper.last, keeper.reads, client.ends[0]) = (true, None, (-1, 0));
        }
        if topic == COMPACTED {
            let from = *keeper.reads.get_or_insert(0);
            return Some(Ask::Keep(Chore::Read { topic, from, below: false }));
        }
        let Some(start) = keeper.start else { return Some(Ask::Keep(Chore::Start)) };
        if start > 0 && !keeper.tried {
            return Some(Ask::Keep(Chore::Read { topic, from: start - 1, below: true }));
        }
        let from = *keeper.reads.get_or_insert(start);
        Some(Ask::Keep(Chore::Read { topic, from, below: false }))
    }

    pub(super) fn chore_bytes(&self, id: usize, chore: Chore, correlation: i32) -> Bytes {
        let client = &self.clients[id];
        match chore {
            Chore::Create(topic) => self.create(topic, self.keepers.settings(topic), correlation),
            Chore::Put { topic, entry } => request(wire::PRODUCE, correlation, |out| {
                out.put_i16(-1);
                out.put_i16(-1);
                out.put_i32(10_000);
                one(out, topic);
                let producer = client.producer.unwrap_or(Producer { id: -1, epoch: -1 });
                let batch = wire::keyed_batch(entry, producer, client.sequences[topic], false);
                out.put_i32(i32::try_from(batch.len()).expect("a batch is short"));
                out.put_slice(&batch);
            }),
            Chore::Delete { to } => request(wire::DELETE_RECORDS, correlation, |out| {
                one(out, TRIMMED);
                out.put_i64(to);
                out.put_i32(10_000);
            }),
            Chore::Start => request(wire::LIST_OFFSETS, correlation, |out| {
                out.put_i32(-1);
                one(out, TRIMMED);
                out.put_i64(EARLIEST);
            }),
            Chore::Read { topic, from, .. } => wire::fetch(&topic_name(topic), from, false, correlation),
        }
    }

    pub(super) fn on_chore_answer(&mut self, id: usize, chore: Chore, mut body: Bytes) {
        let asked = self.clients[id].since;
        let error = match chore {
            Chore::Create(topic) => {
                let error = topics::take_created(&mut body);
                self.keepers.made[topic - TOPICS] |= topics::is_there(error);
                error
            }
            Chore::Put { topic, entry } => {
                body.advance(4);
                take_string(&mut body);
                body.advance(8);
                let (error, offset) = (body.get_i16(), body.get_i64());
                return self.on_put(id, topic, entry, error, offset);
            }
            Chore::Delete { to } => {
                body.advance(4);
                wire::skip_one_topic(&mut body);
                let (start, error) = (body.get_i64(), body.get_i16());
                if error == code::NONE {
                    self.keepers.trimmed.on_deleted(asked, self.now, to, start);
                }
                error
            }
            Chore::Start => {
                body.advance(4);
                take_string(&mut body);
                body.advance(8);
                let error = body.get_i16();
                body.advance(8);
                if error == code::NONE {
                    let (start, last) = (body.get_i64(), self.clients[id].keeper.last);
                    self.keepers.trimmed.on_start(asked, self.now, start, last);
                    self.clients[id].keeper.start = Some(start).filter(|_| last);
                }
                error
            }
            Chore::Read { topic, from, below } => match take_fetched(body) {
                Ok(fetched) => {
                    self.on_kept(id, topic, from, below, &fetched);
                    fetched.error
                }
                Err(what) => return self.laws.wrong.push_back(what),
            },
        };
        self.answered += u64::from(error == code::NONE);
        if error != code::NONE {
            self.clients[id].forget(Ask::Keep(chore));
        }
        self.clients[id].asking = None;
    }

    fn on_put(&mut self, id: usize, topic: usize, (key, value): Entry, error: i16, offset: i64) {
        match error {
            code::NONE | code::DUPLICATE => {
                self.answered += 1;
                self.clients[id].sequences[topic] += 1;
                match (key, value) {
                    (Some(key), value) => self.keepers.compacted.on_acknowledged(offset, (key, value)),
                    (None, value) => {
                        self.keepers.end = self.keepers.end.max(offset + 1);
                        self.keepers.trimmed.on_acknowledged(offset, value.unwrap_or(0));
                    }
                }
            }
            error if code::AGAIN.contains(&error) => {}
            code::OUT_OF_ORDER => {
                self.laws.wrong.push_back(format!("lost write: client {id} is told that something is missing"));
            }
            _ => self.begin_anew(id),
        }
        self.settle(id, Ask::Keep(Chore::Put { topic, entry: (key, value) }), error);
    }

    fn on_kept(&mut self, id: usize, topic: usize, from: i64, below: bool, fetched: &Fetched) {
        let end = fetched.high_watermark;
        let Client { keeper, ends, ended, since, .. } = &mut self.clients[id];
        let (last, out_of_range) = (keeper.last, fetched.error == code::OFFSET_OUT_OF_RANGE);
        if !out_of_range && fetched.error != code::NONE {
            return;
        }
        if below {
            // A new leader may not have applied all of it yet.
            (keeper.tried, keeper.tries) = (out_of_range, keeper.tries + 1);
            if keeper.tries > TRIES_MAX {
                self.keepers.trimmed.on_below(from);
            }
            return;
        }
        if out_of_range {
            keeper.reads = None;
            return match topic {
                COMPACTED => self.keepers.compacted.wrong.push_back(format!("lost write: {from} of {end} is gone")),
                _ => {
                    // Somebody deleted late: what may be read is asked for once more.
                    keeper.start = None;
                    self.keepers.trimmed.on_out_of_range(from, end);
                }
            };
        }
        let to = match topic {
            COMPACTED => {
                if from == 0 {
                    keeper.sweep = Some(self.keepers.compacted.sweep());
                }
                self.keepers.compacted.on_fetched(from, fetched, &mut keeper.sweep)
            }
            _ => self.keepers.trimmed.on_fetched(from, fetched, last),
        };
        if !last {
            keeper.reads = Some(to).filter(|_| keeper.sweep.is_some());
            return;
        }
        keeper.reads = Some(to);
        if ends[0].0 != end {
            ends[0] = (end, *since);
        }
        ended[0] = *since >= ends[0].1 + END_STANDS && to >= end && keeper.sweep.is_none();
    }
}

const _: () = assert!(PLACES == TRIMMED + 1);
