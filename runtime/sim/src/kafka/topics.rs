//! How a world's topics are made: on the cluster's agreement, or some of them on another one, as the seed draws it.
//!
//! - nothing is said: topics come into being when somebody asks for them;
//! - an agreement of topics' own is: the first client makes each of them, before anybody else speaks of it.
//!
//! Deliberately absent: what topics are like that lose records (`keeper`).

use bytes::{Buf, BufMut, Bytes};
use fastrand::Rng;
use verity_kafka::machine::cluster::{AGREEMENT, Agreement};

use super::wire::{self, put_string, request, take_string};
use super::{KafkaClients, PLACES, REPLICAS, TOPICS, code, topic_name};
use crate::zookeeper::EngineFn;

const TOPIC_ALREADY_EXISTS: i16 = 36;

/// What the topics of a world are on.
#[derive(Clone, Copy)]
pub(super) struct Topics {
    own: Option<(Agreement, EngineFn)>,
    on_own: [bool; PLACES],
    made: [bool; TOPICS],
}

impl Default for Topics {
    fn default() -> Self {
        Self { own: None, on_own: [false; PLACES], made: [true; TOPICS] }
    }
}

impl Topics {
    pub(super) fn with_own(agreement: Agreement, engine: EngineFn) -> Self {
        Self { own: Some((agreement, engine)), made: [false; TOPICS], ..Self::default() }
    }

    /// Draws which topics are on the other agreement. A world without any would be like one that was asked for nothing.
    pub(super) fn draw(&mut self, rng: &mut Rng) {
        if self.own.is_some() {
            self.on_own = std::array::from_fn(|_| rng.bool());
            self.on_own[rng.usize(0..TOPICS)] = true;
        }
    }

    /// The first that is to be made.
    pub(super) fn unmade(&self) -> Option<usize> {
        self.made.iter().position(|made| !made)
    }

    /// Takes the answer to a topic's creation.
    pub(super) fn on_made(&mut self, topic: usize, error: i16) {
        self.made[topic] |= is_there(error);
    }

    /// The engine of a group on this agreement.
    pub(super) fn engine(&self, agreement: Option<Agreement>, cluster: EngineFn) -> EngineFn {
        self.own.filter(|(own, _)| Some(*own) == agreement).map_or(cluster, |(_, engine)| engine)
    }

    fn agreement(&self, topic: usize) -> Option<Agreement> {
        self.own.map(|(agreement, _)| agreement).filter(|_| self.on_own[topic])
    }
}

/// A topic is there after such an answer.
pub(super) fn is_there(error: i16) -> bool {
    error == code::NONE || error == TOPIC_ALREADY_EXISTS
}

/// What came of a topic's creation.
pub(super) fn take_created(body: &mut Bytes) -> i16 {
    body.advance(8);
    take_string(body);
    body.get_i16()
}

impl KafkaClients {
    /// The same in which some topics are on another agreement than the cluster.
    #[must_use]
    pub fn with_own_agreement(mut self, agreement: Agreement, engine: EngineFn) -> Self {
        self.topics = Topics::with_own(agreement, engine);
        self
    }

    /// Makes a topic of one partition with these settings, on the agreement that it is to have.
    pub(super) fn create(&self, topic: usize, mut settings: Vec<(&'static str, String)>, correlation: i32) -> Bytes {
        let own = self.topics.agreement(topic);
        settings.extend(own.map(|agreement| (AGREEMENT, agreement.name().to_owned())));
        let least = own.map_or(1, |agreement| agreement.replicas_min(usize::MAX));
        let usual = i16::try_from(REPLICAS).expect("they are few").max(least);
        let replicas = usual.min(i16::try_from(self.nodes).unwrap_or(i16::MAX));
        request(wire::CREATE_TOPICS, correlation, |out| {
            out.put_i32(1);
            put_string(out, &topic_name(topic));
            out.put_i32(1);
            out.put_i16(replicas);
            out.put_i32(0);
            out.put_i32(i32::try_from(settings.len()).expect("they are few"));
            for (name, value) in settings {
                put_string(out, name);
                put_string(out, &value);
            }
            out.put_i32(5_000);
            out.put_u8(0);
        })
    }
}
