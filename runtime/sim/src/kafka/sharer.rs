//! Members of a share group (KIP-932): they are given records one by one, and say of each what became of it.
//!
//! A sharer joins by the coordinator, and fetches from whoever leads a topic. Of what it is given it accepts most, releases and
//! rejects some, and keeps silent about a few until their locks are over. It says so with its next fetch, or by itself. Now and
//! then it dies, and somebody else joins in its place; now and then its connection alone ends; now and then it is slow.
//! In the end all is accepted, until the coordinator says that the group stands where the topics end.
//!
//! How long locks last, how often a record is delivered and whether the group sees what is not committed is drawn for each
//! world. It is configured before anybody does anything else: no node knows a topic and not that.
//!
//! Deliberately absent: renewed locks, dead-letter topics, groups that are moved by hand.

mod laws;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use super::wire::Found;
use super::{Ask, KafkaClients, MILLI, TOPICS, code};
pub(super) use laws::ShareLaws;
use laws::{Given, Place};
use wire::{Part, Said};

/// The group's name.
pub(super) const GROUP: &str = "sharers";
const LEAVES: i32 = -1;
const BEAT: u64 = 1_500 * MILLI;
const SESSION_MS: u64 = 6_000;
const INTERVAL_MS: u64 = 1_000;
/// By so much less than it should a lock may last: civil clocks jump by half a second to either side.
const LOCK_LACKS: u64 = 1_100 * MILLI;
/// No fetch asks for more records than so many, or a few more.
const RECORDS_MAX: i32 = 12;
/// One of so many steps is a death, the end of a connection, a silence, a farewell.
const DIES: u32 = 80;
const UNPLUGS: u32 = 80;
const FALLS_SILENT: u32 = 60;
const LEAVES_AT: u32 = 40;

/// What is said of a record (KIP-932).
pub(super) mod say {
    pub(in super::super) const ACCEPT: i8 = 1;
    pub(in super::super) const RELEASE: i8 = 2;
    pub(super) const REJECT: i8 = 3;
}

/// A topic's id.
type TopicId = [u8; 16];

/// What a sharer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Configure,
    TopicId(usize),
    Beat {
        leaves: bool,
    },
    /// From a topic, beside what is to be said of its records.
    Fetch {
        topic: usize,
        most: i32,
        exact: bool,
    },
    Acknowledge(usize),
    /// How far the group has come.
    Offsets,
}

impl Errand {
    /// Who may answer.
    pub(super) fn place(self) -> super::Place {
        match self {
            Self::Configure | Self::TopicId(_) => super::Place::Anywhere,
            Self::Beat { .. } | Self::Offsets => super::Place::Coordinator,
            Self::Fetch { topic, .. } | Self::Acknowledge(topic) => super::Place::Leader(topic),
        }
    }
}

/// A record that a sharer was given.
#[derive(Clone, Copy, Debug)]
struct Held {
    count: i16,
    until: u64,
    /// What it will say of it, if anything.
    kind: Option<i8>,
}

/// A sharer as it sees itself.
#[derive(Debug, Default)]
pub(super) struct Sharer {
    life: u64,
    epoch: i32,
    beat_at: u64,
    /// The epoch of its next request in the share session that its connection has; 0 to begin one.
    session: i32,
    topic: usize,
    held: BTreeMap<Place, Held>,
    /// What was said of records in the request that is under way.
    said: BTreeMap<Place, Held>,
    /// A fetch is under way.
    fetches: bool,
    /// Records of which it once said something and does not know whether it was heard.
    doubtful: BTreeSet<Place>,
    /// The last fetch brought nothing.
    idle: bool,
    drained: bool,
}

/// What holds for the share group of a world.
#[derive(Default)]
pub(super) struct Shares {
    pub(super) laws: ShareLaws,
    lock_ms: u64,
    pub(super) limit: i16,
    pub(super) committed: bool,
    pub(super) configured: bool,
    ids: [Option<TopicId>; TOPICS],
}

impl Shares {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        Self {
            lock_ms: [1_500, 3_000, 5_000][rng.usize(0..3)],
            limit: rng.i16(2..=6),
            committed: rng.bool(),
            ..Self::default()
        }
    }

    /// Locks last so long for certain, from when they were asked for.
    fn lock(&self) -> u64 {
        self.lock_ms * MILLI - LOCK_LACKS
    }

    fn settings(&self, correlation: i32) -> Bytes {
        let all = [
            ("group.share.record.lock.duration.ms", self.lock_ms.to_string()),
            ("group.share.delivery.count.limit", self.limit.to_string()),
            ("group.share.session.timeout.ms", SESSION_MS.to_string()),
            ("group.share.heartbeat.interval.ms", INTERVAL_MS.to_string()),
        ];
        let level = if self.committed { "read_committed" } else { "read_uncommitted" };
        let own = [("share.auto.offset.reset", "earliest".to_owned()), ("share.isolation.level", level.to_owned())];
        wire::configure(&all, &own, correlation)
    }
}

impl Sharer {
    fn name(&self, id: usize) -> String {
        format!("sharer-{id}-{}", self.life)
    }

    /// It holds nothing, and is somebody else.
    fn begin_anew(&mut self) {
        *self = Self { life: self.life + 1, topic: self.topic, ..Self::default() };
    }

    /// The records of a topic that something is to be said of, neighbours together.
    fn says(&self, topic: usize) -> Vec<Said> {
        let mut all: Vec<Said> = Vec::new();
        for ((_, offset), held) in self.held.range((topic, i64::MIN)..=(topic, i64::MAX)) {
            let Some(kind) = held.kind else { continue };
            match all.last_mut() {
                Some(said) if said.last + 1 == *offset && said.kind == kind => said.last = *offset,
                _ => all.push(Said { first: *offset, last: *offset, kind }),
            }
        }
        all
    }
}

impl KafkaClients {
    /// What a sharer does next.
    pub(super) fn next_of_sharer(&mut self, id: usize, rng: &mut Rng) -> Option<Ask> {
        let (now, winding_down) = (self.now, self.winding_down);
        if self.clients[id].sharer.drained {
            return None;
        }
        if !self.shares.configured {
            return Some(Ask::Share(Errand::Configure));
        }
        if !winding_down {
            self.mishap(id, rng);
        }
        let over: Vec<Place> = {
            let held = &self.clients[id].sharer.held;
            held.iter().filter(|(_, held)| held.kind.is_none() && now >= held.until).map(|(place, _)| *place).collect()
        };
        for place in over {
            self.clients[id].sharer.held.remove(&place);
            self.shares.laws.on_let_go(id, place);
        }
        if self.clients[id].sharer.idle && rng.u32(0..2) == 0 {
            self.clients[id].sharer.topic = rng.usize(0..TOPICS);
        }
        let ends = self.ends();
        let sharer = &mut self.clients[id].sharer;
        let speaks = sharer.held.iter().find(|(_, held)| held.kind.is_some()).map(|((topic, _), _)| *topic);
        let topic = speaks.unwrap_or(sharer.topic);
        let errand = if self.shares.ids[topic].is_none() {
            Errand::TopicId(topic)
        } else if sharer.epoch == 0 || (sharer.held.is_empty() && now >= sharer.beat_at) {
            let leaves = sharer.epoch > 0 && !winding_down && rng.u32(0..LEAVES_AT) == 0;
            Errand::Beat { leaves }
        } else if ends.is_some() && sharer.idle && sharer.held.is_empty() && rng.u32(0..4) == 0 {
            Errand::Offsets
        } else if speaks.is_some() && sharer.session > 0 && rng.bool() {
            Errand::Acknowledge(topic)
        } else {
            Errand::Fetch { topic, most: rng.i32(1..=RECORDS_MAX), exact: rng.bool() }
        };
        Some(Ask::Share(errand))
    }

    /// What befalls a sharer now and then.
    fn mishap(&mut self, id: usize, rng: &mut Rng) {
        let (dies, unplugs) = (rng.u32(0..DIES) == 0, rng.u32(0..UNPLUGS) == 0);
        if dies || unplugs {
            self.unplug(id);
            self.clients[id].node = None;
        }
        if dies {
            self.clients[id].sharer.begin_anew();
        }
        if rng.u32(0..FALLS_SILENT) == 0 {
            self.clients[id].member.silent_until = self.now + rng.u64(200..2 * self.shares.lock_ms) * MILLI;
        }
    }

    /// Where the topics end, once that is known.
    fn ends(&self) -> Option<[i64; TOPICS]> {
        let reader = self.clients.iter().find(|client| client.part == super::Part::Consumer { committed: false });
        let ended = |client: &&super::Client| client.ended.iter().all(|ended| *ended);
        reader.filter(ended).map(|client| client.ends.map(|(end, _)| end))
    }

    pub(super) fn errand_bytes(&self, id: usize, errand: Errand, correlation: i32) -> Bytes {
        let sharer = &self.clients[id].sharer;
        let topic_id = |topic: usize| self.shares.ids[topic].expect("it was asked for before");
        let member = sharer.name(id);
        match errand {
            Errand::Configure => self.shares.settings(correlation),
            Errand::TopicId(topic) => wire::topic_id(topic, correlation),
            Errand::Beat { leaves } => {
                wire::heartbeat(&member, if leaves { LEAVES } else { sharer.epoch }, TOPICS, correlation)
            }
            Errand::Fetch { topic, most, exact } => {
                let said = sharer.says(topic);
                wire::fetch((&member, sharer.session), topic_id(topic), &said, (most, exact), correlation)
            }
            Errand::Acknowledge(topic) => {
                wire::acknowledge((&member, sharer.session), topic_id(topic), &sharer.says(topic), correlation)
            }
            Errand::Offsets => wire::offsets(TOPICS, correlation),
        }
    }

    /// A request is on its way.
    pub(super) fn on_errand(&mut self, id: usize, errand: Errand) {
        let sharer = &mut self.clients[id].sharer;
        sharer.fetches = matches!(errand, Errand::Fetch { .. });
        let (Errand::Fetch { topic, .. } | Errand::Acknowledge(topic)) = errand else { return };
        let said: Vec<Place> = sharer.held.iter().filter(|(_, held)| held.kind.is_some()).map(|(at, _)| *at).collect();
        for place in said.into_iter().filter(|(of, _)| *of == topic) {
            if let Some(held) = sharer.held.remove(&place) {
                sharer.said.insert(place, held);
                self.shares.laws.on_let_go(id, place);
            }
        }
    }

    /// The connection of a client is gone, or will be. What it held by that is given back.
    pub(super) fn unplug(&mut self, id: usize) {
        let client = &mut self.clients[id];
        if client.part != super::Part::Sharer {
            return;
        }
        let sharer = &mut client.sharer;
        sharer.session = 0;
        sharer.held.clear();
        sharer.doubtful.extend(std::mem::take(&mut sharer.said).into_keys());
        if std::mem::take(&mut sharer.fetches) {
            self.shares.laws.on_unseen();
        }
        self.shares.laws.on_unplugged(id);
        match client.asking {
            Some((ask @ Ask::Share(Errand::Fetch { .. }), _)) => client.asking = Some((ask, None)),
            // There is nothing left to speak of.
            Some((Ask::Share(Errand::Acknowledge(_)), _)) => client.asking = None,
            _ => {}
        }
    }

    pub(super) fn on_share_answer(&mut self, id: usize, errand: Errand, mut body: Bytes) {
        let body = &mut body;
        self.clients[id].sharer.fetches = false;
        let error = match errand {
            Errand::Configure => {
                let error = wire::take_configured(body);
                self.shares.configured |= error == code::NONE;
                error
            }
            Errand::TopicId(topic) => {
                let (error, id) = wire::take_topic_id(body);
                if error == code::NONE {
                    self.shares.ids[topic] = Some(id);
                }
                error
            }
            Errand::Beat { leaves } => self.on_share_beat(id, leaves, body),
            Errand::Fetch { topic, .. } => match wire::take_fetched(body) {
                Ok((error, parts)) => self.on_share_fetched(id, topic, error, parts),
                Err(what) => return self.laws.wrong.push_back(what),
            },
            Errand::Acknowledge(topic) => {
                let (error, settled) = wire::take_acknowledged(body);
                if error == code::NONE {
                    self.on_share_heard(id, topic, Some(settled));
                }
                error
            }
            Errand::Offsets => {
                let (error, starts) = wire::take_offsets(body);
                let ends = self.ends();
                let past = |ends: [i64; TOPICS]| {
                    starts.len() == TOPICS && starts.iter().zip(ends).all(|(start, end)| *start >= end)
                };
                self.clients[id].sharer.drained = error == code::NONE && ends.is_some_and(past);
                error
            }
        };
        self.answered += u64::from(error == code::NONE);
        if error != code::NONE {
            self.clients[id].forget(Ask::Share(errand));
        }
        self.clients[id].asking = None;
        match error {
            code::NONE => {}
            code::SHARE_SESSION_NOT_FOUND | code::INVALID_SHARE_SESSION_EPOCH => self.unplug(id),
            code::UNKNOWN_MEMBER_ID | code::FENCED_MEMBER_EPOCH | code::GROUP_ID_NOT_FOUND => {
                self.unplug(id);
                self.clients[id].sharer.begin_anew();
            }
            error if code::AGAIN.contains(&error) => {}
            error => self.shares.laws.wrong.push_back(format!("client {id}: {errand:?} was answered error {error}")),
        }
    }

    fn on_share_beat(&mut self, id: usize, leaves: bool, body: &mut Bytes) -> i16 {
        let (error, epoch) = wire::take_beaten(body);
        let sharer = &mut self.clients[id].sharer;
        if error == code::NONE {
            (sharer.epoch, sharer.beat_at) = (epoch, self.now + BEAT);
            if leaves {
                self.unplug(id);
                self.clients[id].sharer.begin_anew();
            }
        }
        error
    }

    /// An answer has come in a session. It tells what became of what was said, if anything was.
    fn on_share_heard(&mut self, id: usize, topic: usize, settled: Option<i16>) {
        let now = self.now;
        let client = &mut self.clients[id];
        client.sharer.session += 1;
        let said = std::mem::take(&mut client.sharer.said);
        self.shares.laws.on_heard(id, client.since);
        if said.is_empty() {
            return;
        }
        match settled {
            Some(code::NONE) => {
                for (place, held) in said {
                    match held.kind {
                        Some(say::RELEASE) => self.shares.laws.on_released(place, held.count, now),
                        _ => self.shares.laws.on_settled(place, now),
                    }
                }
            }
            Some(code::INVALID_RECORD_STATE) => {
                let whole = said.values().all(|held| now < held.until);
                let doubtful = said.keys().any(|place| client.sharer.doubtful.contains(place));
                if whole && !doubtful {
                    let first = said.into_keys().next().expect("something was said");
                    self.shares.laws.on_refused(id, first);
                }
            }
            Some(error @ code::INVALID_REQUEST) => {
                self.shares
                    .laws
                    .wrong
                    .push_back(format!("client {id}: {said:?} of t{topic} was answered error {error}"));
            }
            _ => client.sharer.doubtful.extend(said.into_keys()),
        }
    }

    fn on_share_fetched(&mut self, id: usize, topic: usize, error: i16, parts: Vec<Part>) -> i16 {
        if error != code::NONE {
            return error;
        }
        let is_of = |part: &&Part| Some(part.topic) == self.shares.ids[topic];
        let settled = parts.iter().find(is_of).map(|part| part.settled);
        self.on_share_heard(id, topic, settled);
        self.clients[id].sharer.idle = parts.iter().all(|part| part.acquired.is_empty());
        for part in parts {
            let Some(topic) = self.shares.ids.iter().position(|known| *known == Some(part.topic)) else {
                self.shares.laws.wrong.push_back(format!("client {id} is given records of an unknown topic"));
                continue;
            };
            if part.error != code::NONE {
                self.clients[id].leaders[topic] = None;
            }
            self.on_share_given(id, topic, &part);
        }
        code::NONE
    }

    fn on_share_given(&mut self, id: usize, topic: usize, part: &Part) {
        let lock = self.shares.lock();
        let (asked, now, winding_down) = (self.clients[id].since, self.now, self.winding_down);
        for run in &part.acquired {
            for offset in run.first..=run.last {
                let found = part.batches.iter().find(|batch| batch.offset == offset).map(|batch| batch.found);
                let Some(Found::Value(value)) = found else {
                    let what = format!("client {id} is given {offset} of t{topic} and no record");
                    return self.shares.laws.wrong.push_back(what);
                };
                self.laws.on_shared(topic, offset, value, self.shares.committed);
                let place = (topic, offset);
                let given = Given { asked, told: now, until: asked + lock };
                let sharer = &mut self.clients[id].sharer;
                let kind = if winding_down { Some(say::ACCEPT) } else { kind_of(value, run.count) };
                sharer.held.insert(place, Held { count: run.count, until: given.until, kind });
                // An older word of its own may end what it holds of it at any time.
                let doubtful = sharer.doubtful.contains(&place);
                let given = if doubtful { Given { until: 0, ..given } } else { given };
                self.shares.laws.on_given(id, place, (run.count, self.shares.limit), given);
            }
        }
    }
}

/// What is said of a record that was delivered so often: by chance, as far as its value goes.
fn kind_of(value: u64, count: i16) -> Option<i8> {
    let mixed = (value ^ count.unsigned_abs() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    match mixed % 20 {
        0..=2 => None,
        3..=5 => Some(say::RELEASE),
        6 => Some(say::REJECT),
        _ => Some(say::ACCEPT),
    }
}
