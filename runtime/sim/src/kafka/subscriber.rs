//! Members of a group by the protocol of KIP-848, and what must hold of what they own.
//!
//! A subscriber says in each heartbeat what it owns and hears what it is to own. It takes that for its own at once, and lets go
//! of the rest when it is done with it. The heartbeat behind that says so: only then may another have it. Who is told that it is no member, or is
//! fenced, lets go of everything and joins as somebody else, and so does who hears nothing for a session. Now and then one
//! leaves, and now and then one is silent for longer than its session.
//!
//! - two owners: nobody is given a partition that another owns who was heard within its session.
//!
//! Deliberately absent: commits (the classic members make them), static members, assignors that a client names.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Buf, BufMut, Bytes};
use fastrand::Rng;

use super::wire::{self, put_compact, request};
use super::{Ask, KafkaClients, MILLI, TOPICS, code};

/// The group's name.
pub(super) const GROUP: &str = "subscribers";
/// A subscriber that is silent for so long is gone.
pub(super) const SESSION_MS: u32 = 2_000;
/// Less than that, by a clock that runs as fast as one may.
const SESSION: u64 = SESSION_MS as u64 * MILLI / 10 * 9;
/// For so long after a heartbeat its sender is a member for certain: also if a coordinator answered it that another has
/// followed, or whose word that the session is over was on its way.
const MEMBER_FOR: u64 = SESSION - 600 * MILLI;
/// Who has something to let go does so by its next heartbeat, or its session is over first.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
const LEAVES: i32 = -1;
/// One of so many heartbeats is the last, and one of so many comes after a silence.
const LEAVES_AT: u32 = 60;
const FALLS_SILENT: u32 = 40;

/// A topic's id: topics have one partition.
type TopicId = [u8; 16];

/// A subscriber as it sees itself.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    life: u64,
    epoch: i32,
    owned: BTreeSet<TopicId>,
    /// What it is to own, and from when on it owns no more than that.
    assigned: BTreeSet<TopicId>,
    until: u64,
    /// How long it takes to be done with what it lets go.
    lingers: u64,
    /// When the last heartbeat left that was answered.
    heard: u64,
}

impl Subscriber {
    /// It owns nothing, and is somebody else.
    fn begin_anew(&mut self) {
        *self = Self { life: self.life + 1, ..Self::default() };
    }

    pub(super) fn bytes(&self, id: usize, leaves: bool, correlation: i32) -> Bytes {
        request(wire::CONSUMER_GROUP_HEARTBEAT, correlation, |out| {
            put_compact(out, GROUP);
            put_compact(out, &format!("subscriber-{id}-{}", self.life));
            out.put_i32(if leaves { LEAVES } else { self.epoch });
            // No instance, no rack.
            out.put_slice(&[0; 2]);
            out.put_i32(REBALANCE_TIMEOUT_MS);
            out.put_u8(u8::try_from(TOPICS + 1).expect("they are few"));
            (0..TOPICS).for_each(|topic| put_compact(out, &format!("t{topic}")));
            // No pattern, no assignor.
            out.put_slice(&[0; 2]);
            out.put_u8(u8::try_from(self.owned.len() + 1).expect("they are few"));
            for topic in &self.owned {
                out.put_slice(topic);
                out.put_u8(2);
                out.put_i32(0);
                out.put_u8(0);
            }
            out.put_u8(0);
        })
    }
}

/// What an answer says besides its error.
#[derive(Debug, PartialEq, Eq)]
struct Beaten {
    error: i16,
    epoch: i32,
    /// What it is to own, if that is said.
    assigned: Option<BTreeSet<TopicId>>,
}

fn take_beaten(body: &mut Bytes) -> Beaten {
    // The header's tagged fields, the throttle time.
    body.advance(5);
    let error = body.get_i16();
    wire::skip_compact(body);
    wire::skip_compact(body);
    let (epoch, _interval) = (body.get_i32(), body.get_i32());
    let assigned = (body.get_i8() >= 0).then(|| {
        let count = body.get_u8().saturating_sub(1);
        let topics = (0..count).map(|_| {
            let mut topic = [0; 16];
            body.copy_to_slice(&mut topic);
            let partitions = usize::from(body.get_u8().saturating_sub(1));
            body.advance(partitions * 4 + 1);
            topic
        });
        topics.collect()
    });
    Beaten { error, epoch, assigned }
}

impl KafkaClients {
    /// What a subscriber does next.
    pub(super) fn next_of_subscriber(&mut self, id: usize, rng: &mut Rng) -> Option<Ask> {
        if self.winding_down {
            return None;
        }
        let now = self.now;
        let client = &mut self.clients[id];
        let member = client.subscriber.epoch > 0;
        if member && rng.u32(0..FALLS_SILENT) == 0 {
            client.member.silent_until = now + rng.u64(500..4_000) * MILLI;
        }
        let leaves = member && rng.u32(0..LEAVES_AT) == 0;
        let subscriber = &mut client.subscriber;
        subscriber.lingers = rng.u64(0..600) * MILLI;
        if leaves {
            // Whoever leaves has let go before it says so.
            subscriber.owned.clear();
        } else if now >= subscriber.until {
            let assigned = &subscriber.assigned;
            subscriber.owned.retain(|topic| assigned.contains(topic));
        }
        Some(Ask::Beat { leaves })
    }

    pub(super) fn on_beat_answer(&mut self, id: usize, leaves: bool, mut body: Bytes) {
        let now = self.now;
        let Beaten { error, epoch, assigned } = take_beaten(&mut body);
        let client = &mut self.clients[id];
        let (sent, subscriber) = (client.since, &mut client.subscriber);
        let since = if subscriber.epoch > 0 { subscriber.heard } else { sent };
        match error {
            // Who was not heard for so long may be gone, whatever the answer says.
            code::NONE if leaves || now >= since + SESSION => subscriber.begin_anew(),
            code::NONE => {
                (subscriber.epoch, subscriber.heard) = (epoch, sent);
                if let Some(assigned) = assigned {
                    self.on_assigned(id, assigned);
                }
            }
            code::UNKNOWN_MEMBER_ID | code::FENCED_MEMBER_EPOCH => subscriber.begin_anew(),
            error if code::AGAIN.contains(&error) => {}
            error => self.groups.wrong.push_back(format!("client {id}: a heartbeat was answered error {error}")),
        }
        self.answered += u64::from(error == code::NONE);
        self.settle(id, Ask::Beat { leaves }, error);
    }

    fn on_assigned(&mut self, id: usize, assigned: BTreeSet<TopicId>) {
        let lives = |other: &Subscriber| self.now < other.heard + MEMBER_FOR;
        let others = self.clients.iter().map(|client| &client.subscriber).enumerate();
        let others = others.filter(|(other, subscriber)| *other != id && lives(subscriber));
        let given: Vec<_> = assigned.difference(&self.clients[id].subscriber.owned).collect();
        let twice: VecDeque<String> = others
            .filter(|(_, subscriber)| given.iter().any(|topic| subscriber.owned.contains(*topic)))
            .map(|(other, _)| format!("two owners: client {id} is given what subscriber {other} owns"))
            .collect();
        self.groups.wrong.extend(twice);
        let subscriber = &mut self.clients[id].subscriber;
        subscriber.owned.extend(&assigned);
        (subscriber.assigned, subscriber.until) = (assigned, self.now + subscriber.lingers);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn clients() -> KafkaClients {
        KafkaClients::new(|_, _, _| Err("no engine is asked for".into()), 3, 4, MILLI)
    }

    #[test]
    fn an_answer_is_read() {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_i32(0);
        body.put_i16(0);
        body.put_u8(0);
        put_compact(&mut body, "me");
        body.put_i32(7);
        body.put_i32(100);
        body.put_i8(1);
        body.put_u8(2);
        body.put_slice(&[9; 16]);
        body.put_u8(2);
        body.put_i32(0);
        body.put_slice(&[0; 3]);
        let beaten = take_beaten(&mut body.freeze());
        assert_eq!(beaten, Beaten { error: 0, epoch: 7, assigned: Some([[9; 16]].into()) });
    }

    #[test]
    fn two_owners_are_seen_unless_one_is_long_silent() {
        let mut clients = clients();
        let [one, other] = [4, 5];
        clients.now = SESSION;
        clients.clients[one].subscriber.heard = SESSION;
        clients.on_assigned(one, [[1; 16], [2; 16]].into());
        clients.on_assigned(other, [[3; 16]].into());
        assert!(clients.groups.wrong.is_empty());
        clients.on_assigned(other, [[2; 16], [3; 16]].into());
        assert!(clients.groups.wrong.pop_front().is_some_and(|what| what.starts_with("two owners")));
        // What it has is not given to it again.
        clients.on_assigned(other, [[2; 16], [3; 16]].into());
        clients.now = 2 * SESSION;
        clients.on_assigned(other, [[1; 16], [2; 16]].into());
        assert!(clients.groups.wrong.is_empty());
    }
}
