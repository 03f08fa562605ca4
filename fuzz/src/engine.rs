//! One engine of a group of three, against peers that say anything.
//!
//! The group's beginning is played once per process: an election and a few proposals. Each run then starts one engine and
//! repeats to it what it went through, so that a script begins in the middle of a group's life: at the leader, at a
//! follower, or at a node that is new.
//!
//! ```text
//! first  = who, modulo 4: 1, 2, 3, or 4, a node that nobody has told anything; bit 7: persists come back when told to
//! deed   = 0..=6 from blob         bytes from a peer, modulo 5; 0 is nobody
//!        | 7 count                 time passes in ticks
//!        | 8 blob                  a proposal
//!        | 9                       a barrier
//!        | 10 voters learners      other members, as bits
//!        | 11 to | 12 to | 13 to   a transfer; a lost connection; a snapshot that was sent
//!        | 14 back                 a snapshot of what is applied, less `back` entries
//!        | 15                      what was put out to persist is persisted
//!        | 16                      a crash, and a start from what was persisted
//! ```
//!
//! Nothing panics; the engine's invariants hold after every step, and it starts again from its own records. That peers who
//! lie are survived in any other way is not promised: messages are authenticated, and their senders follow the protocol.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_contract::{
    Agreement, BarrierId, Boot, Change, CommittedKind, Input, Members, Output, PersistId, Record, SnapshotMeta,
};
use verity_types::{Incarnation, LogIndex, Mono, NodeId, Term};

use crate::{Lines, Script};

/// Deeds of one script.
const DEEDS_MAX: usize = 400;
/// How a message is delivered; the kinds below it do the same.
const DELIVER: u8 = 6;

/// Starts an engine.
pub type Start<A> = fn(Boot, Mono) -> Result<A, String>;

/// A message that was sent while a group began.
#[derive(Clone, Debug)]
pub struct Sent {
    /// By this node.
    pub from: u64,
    /// To this node.
    pub to: u64,
    /// The engine's bytes.
    pub bytes: Bytes,
    /// How many inputs the receiver had before it.
    pub before: usize,
}

/// How a group of three began.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// What each node went through.
    inputs: [Vec<(Mono, Input)>; 3],
    /// Every message, in order.
    pub sent: Vec<Sent>,
}

fn boot(id: u64, start: u64) -> Boot {
    let members = Members::of_voters([1, 2, 3].map(NodeId));
    Boot { id: NodeId(id), members, incarnation: Incarnation(start), seed: id * 7_919, ..Boot::default() }
}

impl Beginning {
    /// Plays it.
    ///
    /// # Panics
    /// If no leader is elected.
    pub fn play<A: Agreement>(start: Start<A>) -> Self {
        let mut beginning = Self::default();
        let mut nodes: Vec<Node<A>> = (1..=3).map(|id| Node::new(start, id, false)).collect();
        let at = |beginning: &mut Self, nodes: &mut Vec<Node<A>>, moment: Mono, node: usize, input: Input| {
            nodes[node].now = moment;
            nodes[node].heard = Some(Vec::new());
            nodes[node].input(input);
            beginning.inputs[node].extend(nodes[node].heard.take().into_iter().flatten());
        };
        let mut now = Mono(1_000_000_000);
        for turn in 0..400 {
            let leader = (0..3).find(|node| nodes[*node].engine.status().leads);
            if turn % 4 == 0
                && let Some(leader) = leader
            {
                let bytes = Bytes::from(format!("value {turn}"));
                at(&mut beginning, &mut nodes, now, leader, Input::Propose(bytes));
            }
            if leader.is_none_or(|leader| nodes[leader].applied.0 > 6) {
                if leader.is_some() {
                    return beginning;
                }
                now = now + nodes[0].engine.tick_interval();
                (0..3).for_each(|node| at(&mut beginning, &mut nodes, now, node, Input::Tick));
            }
            let flying: Vec<(u64, NodeId, Bytes)> =
                nodes.iter_mut().flat_map(|node| std::mem::take(&mut node.sent)).collect();
            for (from, to, bytes) in flying {
                let receiver = usize::try_from(to.0 - 1).expect("three nodes");
                let before = beginning.inputs[receiver].len();
                beginning.sent.push(Sent { from, to: to.0, bytes: bytes.clone(), before });
                now.0 += 1_000;
                at(&mut beginning, &mut nodes, now, receiver, Input::Message { from: NodeId(from), bytes });
            }
        }
        panic!("no leader");
    }

    /// For each node a script that tells a new one all that it was told, one that repeats the last of it, and one that
    /// repeats a message of each kind.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for to in 1..=3u8 {
            let told: Vec<&Sent> = self.sent.iter().filter(|sent| sent.to == u64::from(to)).collect();
            let deliver = |lines: Lines, sent: &&Sent| {
                let from = u8::try_from(sent.from).expect("three nodes");
                lines.raw(&[DELIVER, from]).blob(&sent.bytes)
            };
            seeds.push(told.iter().fold(Lines::new(3), deliver).0);
            seeds.push(told.iter().rev().take(6).rev().fold(Lines::new(to - 1).raw(&[7, 2]), deliver).0);
            // Behind the version stands the kind, in both encodings.
            let kinds: BTreeMap<u8, &Sent> = told.iter().rev().map(|sent| (sent.bytes[1], *sent)).collect();
            seeds.push(kinds.values().fold(Lines::new(to - 1), deliver).0);
        }
        seeds.push(Lines::new(0).raw(&[8]).blob(b"proposal").raw(&[9, 14, 1, 16, 7, 40]).0);
        seeds.push(Lines::new(0x80).raw(&[8]).blob(b"proposal").raw(&[15, 10, 0b1011, 0b0100, 15, 11, 2, 12, 3]).0);
        seeds
    }
}

/// Runs a script against an engine. `elections` says how many elections led to a term; the canary is a large number.
///
/// # Panics
/// If something that must hold does not.
pub fn run<A: Agreement>(start: Start<A>, beginning: &Beginning, elections: fn(Term) -> u64, data: &[u8]) {
    let mut script = Script(data);
    let first = script.byte();
    let id = u64::from(first % 4) + 1;
    let mut node = Node::new(start, id, false);
    if let Some(inputs) = usize::try_from(id - 1).ok().and_then(|at| beginning.inputs.get(at)) {
        for (moment, input) in inputs {
            node.now = *moment;
            node.input(input.clone());
        }
    }
    node.is_slow = first & 0x80 != 0;
    for _ in 0..DEEDS_MAX {
        if script.is_empty() {
            break;
        }
        node.deed(&mut script);
    }
    if elections(node.engine.status().term) > 6 {
        crate::canary("a term that no seed reaches");
    }
    node.restart();
}

/// One engine, its disk, and what it wants of others.
struct Node<A> {
    id: u64,
    start: Start<A>,
    engine: A,
    now: Mono,
    /// How often it was started.
    starts: u64,
    /// Persists wait for the script.
    is_slow: bool,
    waiting: Vec<(PersistId, Vec<Record>)>,
    records: Vec<Record>,
    snapshot: Option<SnapshotMeta>,
    applied: LogIndex,
    /// The terms and members of what was applied since the last snapshot.
    settled: Vec<SnapshotMeta>,
    sent: Vec<(u64, NodeId, Bytes)>,
    barriers: u64,
    /// What came in, if somebody wants to know.
    heard: Option<Vec<(Mono, Input)>>,
}

impl<A: Agreement> Node<A> {
    fn new(start: Start<A>, id: u64, is_slow: bool) -> Self {
        let now = Mono(1_000_000_000);
        let engine = start(boot(id, 1), now).expect("a new node starts");
        Self {
            id,
            start,
            engine,
            now,
            starts: 1,
            is_slow,
            waiting: Vec::new(),
            records: Vec::new(),
            snapshot: None,
            applied: LogIndex(0),
            settled: Vec::new(),
            sent: Vec::new(),
            barriers: 0,
            heard: None,
        }
    }

    fn input(&mut self, input: Input) {
        if let Some(heard) = &mut self.heard {
            // What the node says to itself follows by itself.
            heard.push((self.now, input.clone()));
        }
        self.step(|engine, now, out| engine.on(now, input, out));
    }

    fn step(&mut self, step: impl FnOnce(&mut A, Mono, &mut Vec<Output>)) {
        let mut out = Vec::new();
        step(&mut self.engine, self.now, &mut out);
        let mut answers = self.carry_out(out);
        while !answers.is_empty() {
            let mut out = Vec::new();
            for input in answers {
                self.engine.on(self.now, input, &mut out);
            }
            answers = self.carry_out(out);
        }
        self.engine.invariants();
    }

    /// Does what the engine wants; what is to be told to it comes back.
    fn carry_out(&mut self, out: Vec<Output>) -> Vec<Input> {
        let mut answers = Vec::new();
        for output in out {
            match output {
                Output::Persist { id, records } if self.is_slow => self.waiting.push((id, records)),
                Output::Persist { id, records } => {
                    self.records.extend(records);
                    answers.push(Input::Persisted(id));
                }
                Output::Commit(batch) => {
                    for entry in batch {
                        assert_eq!(entry.index, self.applied.next(), "commits have no gaps");
                        self.applied = entry.index;
                        let before = self.settled.last().or(self.snapshot.as_ref());
                        let members = match entry.kind {
                            CommittedKind::Members(members) => members,
                            _ => before.map_or_else(|| boot(self.id, 0).members, |meta| meta.members.clone()),
                        };
                        self.settled.push(SnapshotMeta {
                            index: entry.index,
                            term: entry.term,
                            members,
                            ..SnapshotMeta::default()
                        });
                    }
                    answers.push(Input::Applied(self.applied));
                }
                Output::InstallSnapshot(meta) => {
                    assert!(meta.index > self.applied, "a snapshot leads on");
                    self.applied = meta.index;
                    self.settled.clear();
                    self.snapshot = Some(meta);
                    answers.push(Input::Applied(self.applied));
                }
                Output::Send { to, bytes, .. } => self.sent.push((self.id, to, bytes)),
                Output::OfferSnapshot { to, message, .. } => self.sent.push((self.id, to, message)),
                Output::Judge { .. }
                | Output::Revert { .. }
                | Output::Final(_)
                | Output::StateRefused { .. }
                | Output::Evidence(_)
                | Output::Checkpoint { .. } => {
                    panic!("not of an engine that trusts its members: {output:?}")
                }
                Output::ReadReady { index, .. } => assert!(index.0 > 0, "a read waits for something"),
                Output::ReadFailed(_) | Output::Role { .. } | Output::Refused(_) | Output::WantSnapshot => {}
            }
        }
        answers
    }

    fn deed(&mut self, script: &mut Script<'_>) {
        self.sent.clear();
        let peer = |script: &mut Script<'_>| NodeId(u64::from(script.byte() % 5));
        match script.byte() % 17 {
            0..=DELIVER => {
                let from = peer(script);
                self.input(Input::Message { from, bytes: Bytes::copy_from_slice(script.blob()) });
            }
            7 => {
                for _ in 0..=script.byte() % 64 {
                    self.now = self.now + self.engine.tick_interval();
                    self.input(Input::Tick);
                }
            }
            8 => self.input(Input::Propose(Bytes::copy_from_slice(script.blob()))),
            9 => {
                self.barriers += 1;
                let id = BarrierId(self.barriers);
                self.step(|engine, now, out| {
                    if let Some(barrier) = engine.barrier() {
                        barrier.on_barrier(now, id, out);
                    }
                });
            }
            10 => {
                let set = |bits: u8| (0..5).filter(|bit| bits >> bit & 1 == 1).map(NodeId).collect();
                let (voters, learners) = (set(script.byte()), set(script.byte()));
                let change = Change { voters, learners, context: Bytes::from_static(b"context") };
                self.step(|engine, now, out| {
                    let reconfigure = engine.reconfigure();
                    // A refusal is an answer as good as any.
                    let _refused = reconfigure.map(|group| group.on_reconfigure(now, change, out));
                });
            }
            11 => {
                let to = peer(script);
                self.step(|engine, now, out| {
                    if let Some(transfer) = engine.transfer() {
                        transfer.on_transfer(now, to, out);
                    }
                });
            }
            12 => {
                let peer = peer(script);
                self.input(Input::Unreachable(peer));
            }
            13 => {
                let (to, delivered) = (peer(script), script.byte() & 1 == 1);
                self.input(Input::SnapshotSent { to, delivered });
            }
            14 => self.save_snapshot(script.byte()),
            15 => self.persist(),
            _ => self.restart(),
        }
    }

    fn save_snapshot(&mut self, back: u8) {
        let Some(at) = self.settled.len().checked_sub(1 + usize::from(back)) else { return };
        let meta = self.settled[at].clone();
        self.settled.drain(..=at);
        self.snapshot = Some(meta.clone());
        let compact_to = meta.index;
        self.input(Input::SnapshotSaved { meta, compact_to });
    }

    fn persist(&mut self) {
        let Some((id, _)) = self.waiting.last() else { return };
        let id = *id;
        self.records.extend(std::mem::take(&mut self.waiting).into_iter().flat_map(|(_, records)| records));
        self.input(Input::Persisted(id));
    }

    /// The power goes; the node comes back with what was persisted.
    fn restart(&mut self) {
        self.waiting.clear();
        self.sent.clear();
        let kept = self.snapshot.clone();
        self.applied = kept.as_ref().map_or(LogIndex(0), |meta| meta.index);
        self.settled.clear();
        self.starts += 1;
        let boot = Boot { snapshot: kept, records: self.records.clone(), ..boot(self.id, self.starts) };
        self.engine = (self.start)(boot, self.now).expect("an engine reads its own records");
        self.engine.invariants();
    }
}
