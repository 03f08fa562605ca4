//! Replicas that lie on purpose: for simulation, and for a lab in which people look what holds.
//!
//! A [`Liar`] is an honest replica whose words somebody else writes: every message that it wants to send goes through one of
//! the files here, which may keep it, change it, sign it anew with the liar's own key, or say something else. What it writes
//! down and executes stays its own affair. A liar has its own key and nobody else's.
//!
//! Deliberately absent: anything that breaks the link's own authentication. A liar is somebody, and its links say who.

mod byzzfuzz;
mod colluder;
mod delayer;
mod equivocator;
mod faulty_client;
mod flooder;
mod forger;
mod garbage;
mod lying_clock;
mod replayer;
mod runaway;
mod selective;
mod silent;
mod slow_primary;
mod storm;
mod twin;
mod usurper;

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_contract::{Agreement, AgreementStatus, Barrier, Input, Output, Witness};
use verity_types::{Digest, LogIndex, Mono, Nanos, NodeId, WallMs};

use crate::engine::Pbft;
use crate::keys::{Keys, Sig};
use crate::message::{Message, Scope, ViewChange, encode, parse};
pub use twin::Twin;

/// Messages that a liar keeps back, at most.
const HELD_MAX: usize = 4_096;

/// What a liar does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lie {
    /// Says nothing.
    Silent,
    /// Says one thing to some and another to the others.
    Equivocate,
    /// Says again what it or others said before.
    Replay,
    /// Says what others never said, or shows proofs that are none.
    Forge,
    /// Says everything late, in another order.
    Delay,
    /// Says what is no message, or a broken one.
    Garbage,
    /// Asks for view after view.
    Storm,
    /// Speaks to some of the others alone.
    Select,
    /// As a primary, assigns as late as it can without being replaced.
    SlowPrimary,
    /// Has a clock that is wrong.
    LyingClock,
    /// As a client, asks different replicas for different things, without signatures, or out of order.
    FaultyClient,
    /// Changes a field of a message now and then and signs it (Winter et al., "Randomized Testing of Byzantine Fault Tolerant
    /// Algorithms", OOPSLA 2023).
    ByzzFuzz,
    /// Assigns and votes far above the high watermark.
    RunAway,
    /// Endorses other members, different ones to different people.
    Usurp,
    /// One of the first f + 1 voters, all of which collude: safety breaks. Not among [`Lie::ALL`], which f may tell.
    Collude,
    /// As a client, sends far more than anybody takes. Not among [`Lie::ALL`]: what it costs is time, which `bench/` measures.
    Flood,
}

impl Lie {
    /// All that f replicas may tell, by the names that commands and reports use.
    pub const ALL: [(&'static str, Self); 14] = [
        ("silent", Self::Silent),
        ("equivocate", Self::Equivocate),
        ("replay", Self::Replay),
        ("forge", Self::Forge),
        ("delay", Self::Delay),
        ("garbage", Self::Garbage),
        ("storm", Self::Storm),
        ("select", Self::Select),
        ("slow-primary", Self::SlowPrimary),
        ("lying-clock", Self::LyingClock),
        ("faulty-client", Self::FaultyClient),
        ("byzzfuzz", Self::ByzzFuzz),
        ("runaway", Self::RunAway),
        ("usurp", Self::Usurp),
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, lie)| *lie)
    }
}

/// Chance: everything that a liar draws follows from its seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound.max(1)
    }

    pub(crate) fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn digest(&mut self) -> Digest {
        let mut digest = Digest::default();
        digest.0.iter_mut().for_each(|byte| *byte = self.bits().to_le_bytes()[0]);
        digest
    }
}

/// Where a liar writes what it says.
pub(crate) struct Desk {
    pub(crate) id: NodeId,
    pub(crate) keys: Keys,
    pub(crate) scope: Scope,
    pub(crate) voters: Vec<NodeId>,
    pub(crate) window: u64,
    pub(crate) checkpoint_every: u64,
    pub(crate) first_primary: u64,
    pub(crate) view: u64,
    pub(crate) now: Mono,
    pub(crate) chance: Chance,
    /// Digests that were said instead of others, by view, sequence number and whom they were said to.
    pub(crate) instead: BTreeMap<(u64, u64, NodeId), Digest>,
    /// Frames of this and other replicas, to be said again.
    pub(crate) old: Vec<Bytes>,
    held: BTreeMap<(Mono, u64), (NodeId, Bytes)>,
    said: u64,
    /// Counts what an usurper endorsed.
    pub(crate) endorsed: u64,
    out: Vec<(NodeId, Bytes)>,
}

impl Desk {
    /// Says a message.
    pub(crate) fn say(&mut self, to: NodeId, message: &Message) {
        let bytes = encode(self.scope.epoch, message);
        self.say_bytes(to, bytes);
    }

    pub(crate) fn say_bytes(&mut self, to: NodeId, bytes: Bytes) {
        self.out.push((to, bytes));
    }

    /// Says bytes later.
    pub(crate) fn say_after(&mut self, wait: Nanos, to: NodeId, bytes: Bytes) {
        self.said += 1;
        if self.held.len() < HELD_MAX {
            self.held.insert((self.now + wait, self.said), (to, bytes));
        }
    }

    /// True for the half of the others that is told the truth.
    pub(crate) fn favours(&self, node: NodeId) -> bool {
        self.voters
            .iter()
            .filter(|voter| **voter != self.id)
            .position(|voter| *voter == node)
            .is_none_or(|at| at % 2 == 0)
    }

    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.voters.iter().copied().filter(|voter| *voter != self.id).collect()
    }

    /// Signs a message that is this replica's own to sign.
    pub(crate) fn sign(&self, message: &mut Message) {
        let scope = &self.scope;
        match message {
            Message::PrePrepare { view, n, batch, sig } => {
                *sig = self.keys.sign(scope.pre_prepare(*view, *n, scope.batch(batch)));
            }
            Message::Prepare { view, n, digest, sig, .. } => *sig = self.keys.sign(scope.prepare(*view, *n, *digest)),
            Message::Commit { view, n, digest, sig } => *sig = self.keys.sign(scope.commit(*view, *n, *digest)),
            Message::Checkpoint { n, digest, sig } => *sig = self.keys.sign(scope.checkpoint(*n, *digest)),
            Message::ViewChange(change) => change.sig = self.keys.sign(scope.view_change(change)),
            Message::NewView(new) => new.sig = self.keys.sign(scope.new_view(new)),
            Message::Request(request) => request.sig = self.keys.sign(scope.request(request)),
            _ => {}
        }
    }

    /// A wish for a view with nothing to show for it.
    pub(crate) fn bare_change(&self, view: u64) -> Message {
        let unsigned = ViewChange {
            replica: self.id,
            view,
            stable: crate::message::Stable::default(),
            prepared: Vec::new(),
            sig: Sig([0; 64]),
        };
        let mut message = Message::ViewChange(unsigned);
        self.sign(&mut message);
        message
    }
}

/// An honest replica whose words somebody else writes.
pub struct Liar {
    inner: Pbft,
    pub(crate) lie: Lie,
    desk: Desk,
}

impl Liar {
    /// Makes a liar of a replica.
    #[must_use]
    pub fn new(inner: Pbft, lie: Lie, seed: u64) -> Self {
        let desk = Desk {
            id: inner.id,
            keys: inner.keys.clone(),
            scope: inner.scope.clone(),
            voters: inner.voters.clone(),
            window: inner.config.window,
            checkpoint_every: inner.config.checkpoint_every,
            first_primary: inner.config.first_primary,
            view: inner.view,
            now: inner.now,
            chance: Chance(seed),
            instead: BTreeMap::new(),
            old: Vec::new(),
            held: BTreeMap::new(),
            said: 0,
            endorsed: 0,
            out: Vec::new(),
        };
        Self { inner, lie, desk }
    }

    fn twist(&mut self, to: NodeId, bytes: Bytes) {
        let desk = &mut self.desk;
        let Ok((_, message)) = parse(bytes.clone()) else { return };
        match self.lie {
            Lie::Silent => silent::on_send(),
            Lie::Equivocate => equivocator::on_send(desk, to, message),
            Lie::Replay => replayer::on_send(desk, to, bytes),
            Lie::Forge => forger::on_send(desk, to, message),
            Lie::Delay => delayer::on_send(desk, to, bytes),
            Lie::Garbage => garbage::on_send(desk, to, &bytes),
            Lie::Storm => desk.say_bytes(to, bytes),
            Lie::Select => selective::on_send(desk, to, bytes),
            Lie::SlowPrimary => slow_primary::on_send(desk, to, &message, bytes),
            Lie::LyingClock | Lie::Flood | Lie::Usurp => desk.say_bytes(to, bytes),
            Lie::FaultyClient => faulty_client::on_send(desk, to, message, bytes),
            Lie::ByzzFuzz => byzzfuzz::on_send(desk, to, message),
            Lie::Collude => colluder::on_send(desk, to, message),
            Lie::RunAway => runaway::on_send(desk, to, message),
        }
    }

    fn pass(&mut self, outputs: Vec<Output>, out: &mut Vec<Output>) {
        self.desk.view = self.inner.view;
        if self.desk.scope.epoch != self.inner.scope.epoch {
            self.desk.scope = self.inner.scope.clone();
            self.desk.voters.clone_from(&self.inner.voters);
        }
        for output in outputs {
            match output {
                Output::Send { to, bytes, .. } => self.twist(to, bytes),
                other => out.push(other),
            }
        }
        while let Some((at, _)) = self.desk.held.first_key_value().map(|(at, _)| *at)
            && at <= self.desk.now
        {
            let (_, (to, bytes)) = self.desk.held.pop_first().expect("seen above");
            self.desk.out.push((to, bytes));
        }
        let said = self.desk.out.drain(..);
        out.extend(said.map(|(to, bytes)| Output::Send { to, bytes, after: None, urgent: false }));
    }
}

impl Agreement for Liar {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        self.desk.now = now;
        match &input {
            Input::Tick if self.lie == Lie::Storm => storm::on_tick(&mut self.desk),
            Input::Tick if self.lie == Lie::FaultyClient => faulty_client::on_tick(&mut self.desk),
            Input::Tick if self.lie == Lie::Usurp => usurper::on_tick(&mut self.desk),
            Input::Tick if self.lie == Lie::Flood => flooder::on_tick(&mut self.desk),
            Input::Message { bytes, .. } if self.lie == Lie::Replay => replayer::on_heard(&mut self.desk, bytes),
            Input::Message { bytes, .. } if self.lie == Lie::Collude => colluder::on_heard(&mut self.desk, bytes),
            _ => {}
        }
        let mut outputs = Vec::new();
        self.inner.on(now, input, &mut outputs);
        self.pass(outputs, out);
    }

    fn set_wall(&mut self, now: Mono, wall: WallMs) {
        let wall = if self.lie == Lie::LyingClock { lying_clock::wall(&mut self.desk, wall) } else { wall };
        self.inner.set_wall(now, wall);
    }

    fn snapshot_context(&self, index: LogIndex) -> Option<Bytes> {
        self.inner.snapshot_context(index)
    }

    fn tick_interval(&self) -> Nanos {
        self.inner.tick_interval()
    }

    fn status(&self) -> AgreementStatus {
        self.inner.status()
    }

    /// A liar keeps none.
    fn invariants(&self) {}

    fn witness(&self) -> Option<&dyn Witness> {
        self.inner.witness()
    }

    fn barrier(&mut self) -> Option<&mut dyn Barrier> {
        None
    }
}
