//! Members of a consumer group by the classic protocol, and what must hold of what it commits.
//!
//! A member joins; whoever leads assigns each topic to one of them; each reads on from what is committed of its topics,
//! commits how far it came, and tells that it lives. Now and then one leaves. Now and then one has something to commit, is
//! silent until its session is over, and then goes on as if nothing had been: a zombie.
//!
//! - two owners: in one generation a topic belongs to one member;
//! - zombie commit: nothing is committed in a generation once somebody is in a later one before the commit is sent;
//! - lost commit: no fetch shows a commit that was overwritten for certain before it was asked for, nor nothing once a commit
//!   was in place for certain.
//!
//! Each commit carries a mark, so that one knows which of them a fetch shows. One that was sent more than once may arrive
//! more than once, at any time: it is never overwritten for certain. As long as nothing was committed, the group may vanish
//! and begin anew with the first generation; the laws hold from the first commit on.
//!
//! Deliberately absent: the consumer protocol of KIP-848, static members, share groups.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fastrand::Rng;

use super::wire::{self, put_string, request, take_string};
use super::{Ask, KafkaClients, MILLI, TOPICS, code};

/// The group's name.
pub(super) const GROUP: &str = "readers";
/// A member that is silent for so long is gone.
const SESSION_MS: i32 = 1_000;
/// So long the others wait for one that is to join again.
const REBALANCE_MS: i32 = 1_000;
const BEAT: u64 = 200 * MILLI;
/// One of so many steps is to leave; one of so many commits comes after a silence.
const LEAVES: u32 = 200;
const FALLS_SILENT: u32 = 20;

/// What a member asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Join,
    Sync,
    Beat,
    Leave,
    /// What is committed of a topic.
    Offset(usize),
    /// The commit that the member has in hand.
    Commit,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Out,
    Joined,
    In,
}

/// A commit in hand, which keeps its mark while it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InHand {
    mark: u64,
    topic: usize,
    offset: i64,
}

/// A member as it sees itself.
#[derive(Debug, Default)]
pub(super) struct Member {
    id: String,
    generation: i32,
    phase: Phase,
    /// Everybody, if it leads.
    everybody: Vec<String>,
    topics: Vec<usize>,
    /// Of each of its topics, what is committed; `None` until it was fetched.
    committed: [Option<i64>; TOPICS],
    commit: Option<InHand>,
    commits: u64,
    beat_at: u64,
    /// It says nothing until then.
    pub(super) silent_until: u64,
    /// It commits before all else, whatever has happened meanwhile.
    bold: bool,
}

impl Member {
    /// It joins again, as somebody else if nobody knows it any more.
    fn rejoin(&mut self, known: bool) {
        if !known {
            self.id.clear();
        }
        (self.phase, self.bold) = (Phase::Out, false);
        self.topics.clear();
        self.committed = [None; TOPICS];
    }

    /// Which topics a member has, as the leader says it: a bit of each.
    fn assign(&self) -> Vec<(&str, u8)> {
        let count = self.everybody.len().max(1);
        let mask = |at: usize| (0..TOPICS).filter(|topic| topic % count == at).fold(0, |mask, topic| mask | 1 << topic);
        self.everybody.iter().enumerate().map(|(at, id)| (id.as_str(), mask(at))).collect()
    }

    pub(super) fn bytes(&self, call: Call, correlation: i32) -> Bytes {
        let myself = |out: &mut BytesMut| {
            put_string(out, GROUP);
            out.put_i32(self.generation);
            put_string(out, &self.id);
        };
        match call {
            Call::Join => request(wire::JOIN_GROUP, correlation, |out| {
                put_string(out, GROUP);
                out.put_i32(SESSION_MS);
                out.put_i32(REBALANCE_MS);
                put_string(out, &self.id);
                put_string(out, "world");
                out.put_i32(1);
                put_string(out, "by-number");
                out.put_i32(0);
            }),
            Call::Sync => request(wire::SYNC_GROUP, correlation, |out| {
                myself(out);
                let assigned = self.assign();
                out.put_i32(i32::try_from(assigned.len()).expect("they are few"));
                for (id, mask) in assigned {
                    put_string(out, id);
                    out.put_i32(1);
                    out.put_u8(mask);
                }
            }),
            Call::Beat => request(wire::HEARTBEAT, correlation, myself),
            Call::Leave => request(wire::LEAVE_GROUP, correlation, |out| {
                put_string(out, GROUP);
                put_string(out, &self.id);
            }),
            Call::Offset(topic) => request(wire::OFFSET_FETCH, correlation, |out| {
                put_string(out, GROUP);
                out.put_i32(1);
                put_string(out, &format!("t{topic}"));
                out.put_i32(1);
                out.put_i32(0);
            }),
            Call::Commit => request(wire::OFFSET_COMMIT, correlation, |out| {
                let InHand { mark, topic, offset } = self.commit.expect("one is in hand");
                myself(out);
                out.put_i64(-1);
                out.put_i32(1);
                put_string(out, &format!("t{topic}"));
                out.put_i32(1);
                out.put_i32(0);
                out.put_i64(offset);
                put_string(out, &mark.to_string());
            }),
        }
    }
}

impl KafkaClients {
    /// What a member does next; `None` once it has seen in the end what is committed.
    pub(super) fn next_of_member(&mut self, id: usize, rng: &mut Rng) -> Option<Ask> {
        let now = self.now;
        let client = &mut self.clients[id];
        if self.winding_down {
            let topic = client.ended.iter().position(|ended| !ended)?;
            return Some(Ask::Group(Call::Offset(topic)));
        }
        let member = &mut client.member;
        let call = match member.phase {
            Phase::Out => Call::Join,
            Phase::Joined => Call::Sync,
            Phase::In if !member.bold && now >= member.beat_at + BEAT => {
                member.beat_at = now;
                Call::Beat
            }
            Phase::In if rng.u32(0..LEAVES) == 0 => Call::Leave,
            Phase::In if member.topics.is_empty() => Call::Beat,
            Phase::In => {
                client.turn += 1;
                let topic = member.topics[client.turn % member.topics.len()];
                let position = client.positions[topic];
                match member.committed[topic] {
                    None => Call::Offset(topic),
                    Some(committed) if position <= committed => return Some(Ask::Fetch { topic, from: position }),
                    Some(_) if !member.bold && rng.u32(0..FALLS_SILENT) == 0 => {
                        member.bold = true;
                        member.silent_until = now + rng.u64(500..4_000) * MILLI;
                        Call::Beat
                    }
                    Some(_) => {
                        member.bold = false;
                        member.commits += 1;
                        let mark = (id as u64 + 1) << 32 | member.commits;
                        member.commit = Some(InHand { mark, topic, offset: position });
                        Call::Commit
                    }
                }
            }
        };
        Some(Ask::Group(call))
    }

    /// A call of a member leaves.
    pub(super) fn on_group_call(&mut self, id: usize, call: Call) {
        let member = &self.clients[id].member;
        if let (Call::Commit, Some(InHand { mark, topic, offset })) = (call, member.commit) {
            self.groups.on_commit_sent(mark, topic, offset, member.generation, self.now);
        }
    }

    pub(super) fn on_group_answer(&mut self, id: usize, call: Call, mut body: Bytes) {
        let (now, winding_down) = (self.now, self.winding_down);
        let client = &mut self.clients[id];
        let (asked_at, member) = (client.since, &mut client.member);
        body.advance(4);
        let error = match call {
            Call::Join | Call::Sync | Call::Beat | Call::Leave => body.get_i16(),
            Call::Commit => {
                wire::skip_one_topic(&mut body);
                body.get_i16()
            }
            // An error of the whole answer names no topic.
            Call::Offset(_) if body.starts_with(&[0; 4]) => {
                body.advance(4);
                body.get_i16()
            }
            Call::Offset(topic) => {
                wire::skip_one_topic(&mut body);
                let (offset, mark) = (body.get_i64(), take_string(&mut body).parse().ok());
                let error = match (body.get_i16(), body.get_i16()) {
                    (code::NONE, error) | (error, _) => error,
                };
                if error == code::NONE {
                    self.groups.on_offset(topic, offset, mark, asked_at);
                    member.committed[topic] = Some(offset);
                    client.positions[topic] = offset.max(0);
                    client.ended[topic] |= winding_down;
                }
                error
            }
        };
        match (call, error) {
            (Call::Join, code::NONE) => {
                member.generation = body.get_i32();
                take_string(&mut body);
                let leader = take_string(&mut body);
                member.id = take_string(&mut body);
                let count = if leader == member.id { body.get_i32() } else { 0 };
                member.everybody = (0..count).map(|_| take_named(&mut body)).collect();
                member.phase = Phase::Joined;
                self.groups.on_generation(member.generation, now);
            }
            (Call::Sync, code::NONE) => {
                let mask = if body.get_i32() == 1 { body.get_u8() } else { 0 };
                member.topics = (0..TOPICS).filter(|topic| mask >> topic & 1 == 1).collect();
                (member.phase, member.beat_at) = (Phase::In, now);
                for topic in &member.topics {
                    self.groups.on_owner(member.generation, *topic, id);
                }
            }
            (Call::Leave, _) if !code::AGAIN.contains(&error) => member.rejoin(false),
            (Call::Commit, code::NONE) => {
                if let Some(InHand { mark, topic, offset }) = member.commit.take() {
                    self.groups.on_committed(mark, now);
                    member.committed[topic] = Some(offset);
                }
            }
            (_, code::NONE) => {}
            // The coordinator takes up its configuration with its first leader.
            (Call::Join, code::INVALID_SESSION_TIMEOUT) => {}
            (_, code::REBALANCE_IN_PROGRESS) => member.rejoin(true),
            (_, code::ILLEGAL_GENERATION | code::UNKNOWN_MEMBER_ID) => member.rejoin(false),
            (_, error) if code::AGAIN.contains(&error) => {}
            (call, error) => self.groups.wrong.push_back(format!("client {id}: {call:?} was answered error {error}")),
        }
        self.answered += u64::from(error == code::NONE);
        self.settle(id, Ask::Group(call), error);
    }
}

/// A member's id, and behind it what it told the leader.
fn take_named(body: &mut Bytes) -> String {
    let id = take_string(body);
    let length = usize::try_from(body.get_i32()).unwrap_or(0);
    body.advance(length);
    id
}

/// A commit, as its member knows.
#[derive(Clone, Copy, Debug)]
struct Commit {
    topic: usize,
    offset: i64,
    generation: i32,
    /// First, and last.
    sent: (u64, u64),
    acknowledged: Option<u64>,
}

impl Commit {
    /// When it was in place for certain, with nothing of it on its way any more.
    fn over(&self) -> Option<u64> {
        self.acknowledged.filter(|_| self.sent.0 == self.sent.1)
    }
}

/// What was seen of a group.
#[derive(Debug, Default)]
pub(super) struct Groups {
    commits: BTreeMap<u64, Commit>,
    /// Since when somebody is in a generation.
    generations: BTreeMap<i32, u64>,
    owners: BTreeMap<(i32, usize), usize>,
    begun: bool,
    pub(super) wrong: VecDeque<String>,
}

impl Groups {
    fn on_generation(&mut self, generation: i32, now: u64) {
        self.generations.entry(generation).or_insert(now);
    }

    fn on_owner(&mut self, generation: i32, topic: usize, client: usize) {
        let other = *self.owners.entry((generation, topic)).or_insert(client);
        if other != client && self.begun {
            let what =
                format!("two owners: in generation {generation}, t{topic} belongs to clients {other} and {client}");
            self.wrong.push_back(what);
        }
    }

    fn on_commit_sent(&mut self, mark: u64, topic: usize, offset: i64, generation: i32, now: u64) {
        let fresh = Commit { topic, offset, generation, sent: (now, now), acknowledged: None };
        self.commits.entry(mark).or_insert(fresh).sent.1 = now;
    }

    fn on_committed(&mut self, mark: u64, now: u64) {
        let Some(commit) = self.commits.get_mut(&mark) else { return };
        commit.acknowledged = Some(now);
        let Commit { topic, generation, sent, .. } = *commit;
        if !std::mem::replace(&mut self.begun, true) {
            self.generations.retain(|_, since| *since >= sent.0);
            self.owners.clear();
            return;
        }
        if let Some((later, _)) = self.generations.range(generation + 1..).find(|(_, since)| **since < sent.1) {
            let what = format!(
                "zombie commit: t{topic} was committed in generation {generation}, and somebody was in {later}"
            );
            self.wrong.push_back(what);
        }
    }

    /// An offset was fetched, asked for at `asked_at`.
    fn on_offset(&mut self, topic: usize, offset: i64, mark: Option<u64>, asked_at: u64) {
        let shown = mark.and_then(|mark| self.commits.get(&mark)).copied();
        if shown.is_none_or(|commit| (commit.topic, commit.offset) != (topic, offset)) && offset >= 0 {
            return self.wrong.push_back(format!("lost commit: nobody committed {offset} of t{topic} with {mark:?}"));
        }
        // Nothing at all was in place before everything.
        let over = shown.map_or(Some(0), |commit| commit.over());
        let overwrites = |commit: &Commit| {
            let before = commit.acknowledged.is_some_and(|at| at < asked_at);
            commit.topic == topic && before && over.is_some_and(|over| over < commit.sent.0)
        };
        if let Some(commit) = self.commits.values().find(|commit| overwrites(commit)) {
            let later = commit.offset;
            self.wrong.push_back(format!("lost commit: t{topic} is at {offset}, and {later} was committed after that"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Groups {
        let mut groups = Groups::default();
        groups.on_generation(1, 1);
        groups.on_commit_sent(1, 0, 5, 1, 10);
        groups.on_committed(1, 12);
        groups
    }

    #[test]
    fn a_sound_group_is_sound() {
        let mut groups = begun();
        groups.on_offset(0, 5, Some(1), 13);
        groups.on_offset(1, -1, None, 13);
        groups.on_owner(2, 0, 7);
        groups.on_owner(2, 1, 8);
        groups.on_owner(2, 0, 7);
        groups.on_generation(2, 20);
        groups.on_commit_sent(2, 0, 9, 1, 19);
        groups.on_committed(2, 25);
        groups.on_offset(0, 9, Some(2), 26);
        assert_eq!(groups.wrong, [""; 0]);
    }

    #[test]
    fn each_law_can_fail() {
        let mut groups = begun();
        groups.on_owner(2, 0, 7);
        groups.on_owner(2, 0, 8);
        assert!(groups.wrong.pop_front().is_some_and(|what| what.starts_with("two owners")));
        groups.on_generation(2, 20);
        groups.on_commit_sent(2, 0, 9, 1, 21);
        groups.on_committed(2, 25);
        assert!(groups.wrong.pop_front().is_some_and(|what| what.starts_with("zombie commit")));
        groups.on_offset(0, 5, Some(1), 26);
        groups.on_offset(0, -1, None, 26);
        groups.on_offset(0, 7, Some(1), 26);
        groups.on_offset(0, 9, Some(44), 26);
        assert_eq!(groups.wrong.len(), 4);
        assert!(groups.wrong.iter().all(|what| what.starts_with("lost commit")), "{:?}", groups.wrong);
    }

    #[test]
    fn what_is_on_its_way_may_be_seen_or_not() {
        let mut groups = begun();
        groups.on_commit_sent(2, 0, 9, 1, 20);
        groups.on_offset(0, 9, Some(2), 21);
        groups.on_offset(0, 5, Some(1), 21);
        groups.on_commit_sent(2, 0, 9, 1, 30);
        groups.on_committed(2, 31);
        groups.on_commit_sent(3, 0, 11, 1, 40);
        groups.on_committed(3, 41);
        groups.on_offset(0, 9, Some(2), 50);
        assert_eq!(groups.wrong, [""; 0], "the first of the two arrived late");
    }
}
