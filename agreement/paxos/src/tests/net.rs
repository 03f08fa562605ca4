//! A handful of engines whose messages wait until a test lets them go. Disks are instant.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verity_contract::{Agreement, Boot, Committed, Input, Members, Output, Record};
use verity_types::{Mono, NodeId};

use crate::message::{Frame, encode};
use crate::{Config, Paxos};

pub(super) struct Net {
    pub(super) nodes: BTreeMap<u64, Paxos>,
    pub(super) records: BTreeMap<u64, Vec<Record>>,
    pub(super) committed: BTreeMap<u64, Vec<Committed>>,
    pub(super) answers: Vec<String>,
    pub(super) flying: Vec<(u64, u64, Bytes)>,
    pub(super) cut: BTreeSet<(u64, u64)>,
    pub(super) now: Mono,
    config: Config,
    voters: u64,
}

impl Net {
    pub(super) fn new(voters: u64, nodes: u64, config: Config) -> Self {
        let mut net = Self {
            nodes: BTreeMap::new(),
            records: BTreeMap::new(),
            committed: BTreeMap::new(),
            answers: Vec::new(),
            flying: Vec::new(),
            cut: BTreeSet::new(),
            now: Mono(1_000_000_000),
            config,
            voters,
        };
        (1..=nodes).for_each(|id| net.restart(id));
        net
    }

    pub(super) fn restart(&mut self, id: u64) {
        let boot = Boot {
            id: NodeId(id),
            members: Members::of_voters((1..=self.voters).map(NodeId)),
            snapshot: None,
            records: self.records.get(&id).cloned().unwrap_or_default(),
            seed: id * 7_919,
        };
        self.committed.insert(id, Vec::new());
        self.nodes.insert(id, Paxos::start(boot, self.config.clone(), self.now).unwrap());
    }

    pub(super) fn input(&mut self, id: u64, input: Input) {
        let now = self.now;
        self.with(id, |paxos, out| paxos.on(now, input, out));
    }

    /// Gives `frame` to `to` as if `from` sent it; true if it was dropped as invalid.
    pub(super) fn is_dropped(&mut self, from: u64, to: u64, frame: &Frame) -> bool {
        let before = self.nodes[&to].dropped().0;
        self.input(to, Input::Message { from: NodeId(from), bytes: encode(frame) });
        self.nodes[&to].dropped().0 > before
    }

    pub(super) fn with(&mut self, id: u64, step: impl FnOnce(&mut Paxos, &mut Vec<Output>)) {
        let mut out = Vec::new();
        let Some(paxos) = self.nodes.get_mut(&id) else { return };
        step(paxos, &mut out);
        paxos.invariants();
        let mut persisted = None;
        for output in out {
            match output {
                Output::Persist { id: persist, records } => {
                    self.records.entry(id).or_default().extend(records);
                    persisted = Some(persist);
                }
                Output::Send { to, bytes, .. } => self.flying.push((id, to.0, bytes)),
                Output::Commit(batch) => self.committed.get_mut(&id).unwrap().extend(batch),
                Output::ReadReady { id: name, index } => {
                    self.answers.push(format!("node {id}: barrier {} reads at {index}", name.0));
                }
                Output::ReadFailed(name) => self.answers.push(format!("node {id}: barrier {} fails", name.0)),
                Output::Refused(_) => self.answers.push(format!("node {id}: proposal refused")),
                _ => {}
            }
        }
        if let Some(persist) = persisted {
            self.input(id, Input::Persisted(persist));
        }
    }

    /// Delivers what is on its way now, and not what follows from it.
    pub(super) fn step(&mut self) {
        for (from, to, bytes) in std::mem::take(&mut self.flying) {
            if !self.cut.contains(&(from, to)) {
                self.now.0 += 1_000;
                self.input(to, Input::Message { from: NodeId(from), bytes });
            }
        }
    }

    /// Delivers everything on its way, and what follows from it.
    pub(super) fn deliver(&mut self) {
        for _ in 0..1_000 {
            if self.flying.is_empty() {
                return;
            }
            self.step();
        }
        panic!("the messages never end");
    }

    /// Lets `ticks` ticks pass on these nodes, delivering as they come.
    pub(super) fn tick(&mut self, ids: &[u64], ticks: u64) {
        for _ in 0..ticks {
            self.now = self.now + self.config.tick;
            for id in ids {
                self.input(*id, Input::Tick);
            }
            self.deliver();
        }
    }

    /// Begins phase 1 at `id`, whatever it knows of a leader.
    pub(super) fn campaign(&mut self, id: u64) {
        self.with(id, |paxos, out| {
            paxos.campaign();
            paxos.settle(out);
        });
    }
}
