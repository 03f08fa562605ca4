//! One replica, alone with what a test tells it.

use verity_contract::{Agreement, Boot, Input, Members, Output, PersistId, Record};
use verity_types::{Incarnation, Mono, Nanos, NodeId};

use crate::keys::Keys;
use crate::message::{Message, encode};
use crate::{Config, Pbft};

pub(super) fn keys(id: u64) -> Keys {
    Keys::seals(NodeId(id), (1..=7).map(NodeId))
}

pub(super) fn config() -> Config {
    Config { checkpoint_every: 8, window: 16, gather: Nanos(2_500), ..Config::default() }
}

/// One of four replicas, alone with what a test tells it.
pub(super) struct One {
    pub(super) pbft: Pbft,
    pub(super) now: Mono,
    pub(super) written: Vec<(PersistId, Vec<Record>)>,
}

impl One {
    pub(super) fn start(id: u64, records: Vec<Record>) -> Self {
        let members = Members::of_voters((1..=4).map(NodeId));
        let boot = Boot { id: NodeId(id), members, records, incarnation: Incarnation(1), ..Boot::default() };
        let pbft = Pbft::start(boot, config(), keys(id), Mono(1)).expect("a replica starts");
        Self { pbft, now: Mono(1), written: Vec::new() }
    }

    /// Hands it an input; what it writes is kept aside.
    pub(super) fn input(&mut self, input: Input) -> Vec<Output> {
        self.now.0 += 1_000;
        let mut out = Vec::new();
        self.pbft.on(self.now, input, &mut out);
        self.pbft.invariants();
        for output in &out {
            if let Output::Persist { id, records } = output {
                self.written.push((*id, records.clone()));
            }
        }
        out
    }

    pub(super) fn hear(&mut self, from: u64, epoch: u64, message: &Message) -> Vec<Output> {
        self.input(Input::Message { from: NodeId(from), bytes: encode(epoch, message) })
    }

    /// The disk is done with all of it.
    pub(super) fn sync(&mut self) -> Vec<Output> {
        let last = self.written.last().expect("something was written").0;
        self.input(Input::Persisted(last))
    }

    /// It crashes after everything that it wrote is stable.
    pub(super) fn restart(self) -> Self {
        let records = self.written.into_iter().flat_map(|(_, records)| records).collect();
        Self::start(self.pbft.id.0, records)
    }
}
