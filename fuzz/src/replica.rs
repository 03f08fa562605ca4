//! A whole node, against peers that say anything: frames, engine, log, tree and sessions as they ship.
//!
//! ```text
//! deed = 0..=4 from blob   a write of a peer, modulo 4      | 5 from  a connection to it ends, or begins
//!      | 6 count           time passes, in steps of 25 ms   | 7       the disk does its work; it does after each deed
//!                                                              but for the script's first byte's bit 0
//! ```
//! The frames' decoder is asked first: what decodes says the same once it is encoded again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use verity_clock::{Interval, Now};
use verity_contract::Members;
use verity_raft::Raft;
use verity_replica::{
    Batch, Frame, GroupConfig, GroupSpec, Input, LogWork, Opened, Opening, Output, SnapshotWork, decode_frames,
    encode_frame, open,
};
use verity_storage::{ClusterId, Disk, MemoryDisk};
use verity_types::{GroupId, Mono, Nanos, NodeId};
use verity_zookeeper::machine::{Tree, TreeConfig};
use verity_zookeeper::session::{Config, DutyConfig, ZooKeeper, ZooKeeperDuty};

use crate::{Lines, Script};

const CLUSTER: ClusterId = ClusterId([7; 16]);
const GROUP: GroupId = GroupId(1);
/// Deeds of one script.
const DEEDS_MAX: usize = 200;

/// The decoder of frames and of entries.
///
/// # Panics
/// If something that must hold does not.
pub fn frames(data: &[u8]) {
    if let Ok(frames) = decode_frames(Bytes::copy_from_slice(data)) {
        let mut again = BytesMut::new();
        frames.iter().for_each(|frame| encode_frame(frame, &mut again));
        assert_eq!(decode_frames(again.freeze()).as_ref(), Ok(&frames), "frames survive their encoding");
        for frame in frames {
            match frame {
                Frame::Agreement { bytes, .. } => {
                    let (raft, paxos) =
                        (verity_raft::decode(bytes.clone()).is_ok(), verity_paxos::decode(bytes).is_ok());
                    assert!(!raft || !paxos || data.len() > 1, "a byte is no message");
                }
                Frame::Whisper { .. } => crate::canary("a whisper"),
                _ => {}
            }
        }
    }
    if let Some(batch) = Batch::decode(Bytes::copy_from_slice(data)) {
        assert_eq!(Batch::decode(batch.encode()), Some(batch), "an entry survives its encoding");
    }
}

/// A node and its peers.
///
/// # Panics
/// If something that must hold does not.
pub fn node(data: &[u8]) {
    let mut script = Script(data);
    let mut node = Node::start(1);
    node.is_slow = script.byte() & 1 == 1;
    for _ in 0..DEEDS_MAX {
        if script.is_empty() {
            break;
        }
        node.deed(&mut script);
        if !node.is_slow {
            node.work();
        }
    }
    node.work();
    node.opened.replica.invariants();
    if node.opened.replica.status().iter().any(|group| group.agreement.term.0 > 20) {
        crate::canary("a term that no seed reaches");
    }
}

/// What node 1 hears while a group of three begins, as scripts.
///
/// # Panics
/// If no leader is elected.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut nodes: Vec<Node> = (1..=3).map(Node::start).collect();
    let mut script = Lines::new(0);
    let mut seeds = Vec::new();
    for turn in 0..160 {
        let flying: Vec<(u64, NodeId, Bytes)> =
            nodes.iter_mut().flat_map(|node| std::mem::take(&mut node.sent)).collect();
        for (from, to, bytes) in flying {
            if to == NodeId(1) {
                let from = u8::try_from(from).expect("three nodes");
                script = script.raw(&[0, from]).blob(&bytes);
            }
            let node = &mut nodes[usize::try_from(to.0 - 1).expect("three nodes")];
            node.peer(NodeId(from), bytes);
            node.work();
        }
        if turn % 2 == 0 {
            nodes.iter_mut().for_each(|node| {
                node.pass();
                node.work();
            });
            script = script.raw(&[6, 0]);
        }
        if turn % 40 == 39 {
            seeds.push(script.0.clone());
        }
    }
    assert!(nodes[0].opened.replica.status()[0].agreement.leader.is_some(), "no leader");
    seeds
}

struct Node {
    id: u64,
    opened: Opened,
    now: Now,
    is_slow: bool,
    log: Vec<LogWork>,
    snapshots: VecDeque<SnapshotWork>,
    sent: Vec<(u64, NodeId, Bytes)>,
}

impl Node {
    fn start(id: u64) -> Self {
        let now = Now { mono: Mono(1_000_000_000), wall: Interval::around(1_700_000_000_000_000_000, 0) };
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let group = GroupSpec {
            id: GROUP,
            members: Members::of_voters([1, 2, 3].map(NodeId)),
            config: GroupConfig::default(),
            engine: Box::new(|boot, now| {
                let raft = Raft::start(boot, verity_raft::Config::default(), now);
                raft.map(|raft| Box::new(raft) as _).map_err(|error| error.to_string())
            }),
            machine: Box::new(Tree::with_index_seed(TreeConfig::default(), 1)),
            duty: Some(Box::new(ZooKeeperDuty::new(DutyConfig::default()))),
        };
        let opening = Opening { cluster: CLUSTER, node: NodeId(id), seed: 7, log_bytes: 1 << 20 };
        let mut opened = open(&disk, opening, now, vec![group], None).expect("a new folder opens");
        let config = Config::new(NodeId(id), opened.identity.incarnation, GROUP, [7; 32]);
        opened.replica.add_service(Box::new(ZooKeeper::new(config)));
        let mut node =
            Self { id, opened, now, is_slow: false, log: Vec::new(), snapshots: VecDeque::new(), sent: Vec::new() };
        (1..=3).filter(|peer| *peer != id).for_each(|peer| node.input(Input::PeerUp(NodeId(peer))));
        node
    }

    fn deed(&mut self, script: &mut Script<'_>) {
        match script.byte() % 8 {
            0..=4 => {
                let from = NodeId(u64::from(script.byte() % 4));
                self.peer(from, Bytes::copy_from_slice(script.blob()));
            }
            5 => {
                let from = script.byte();
                let peer = NodeId(u64::from(from % 4));
                self.input(if from & 0x80 == 0 { Input::PeerDown(peer) } else { Input::PeerUp(peer) });
            }
            6 => (0..=script.byte() % 64).for_each(|_| self.pass()),
            _ => self.work(),
        }
        self.sent.clear();
    }

    fn peer(&mut self, from: NodeId, bytes: Bytes) {
        if let Ok(frames) = decode_frames(bytes) {
            self.input(Input::Peer { from, frames });
        }
    }

    fn pass(&mut self) {
        self.now.mono = self.now.mono + Nanos::from_millis(25);
        self.now.wall = Interval::around(self.now.wall.earliest + 25_000_000, 0);
        if self.opened.replica.next_wake() <= self.now.mono {
            self.input(Input::Tick);
        }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.opened.replica.on(self.now, input, &mut out);
        self.opened.replica.flush(self.now, &mut out);
        while self.opened.replica.has_backlog() {
            self.opened.replica.flush(self.now, &mut out);
        }
        self.opened.replica.invariants();
        for output in out {
            match output {
                Output::Log(work) => self.log.push(work),
                Output::Snapshot(work) => self.snapshots.push_back(work),
                Output::Send { to, bytes, .. } => self.sent.push((self.id, to, bytes)),
                // No client is connected, nobody watches, and a node that stops is one that serves nothing false.
                _ => {}
            }
        }
    }

    /// The disk does everything that waits for it.
    fn work(&mut self) {
        while !(self.log.is_empty() && self.snapshots.is_empty()) {
            if !self.log.is_empty() {
                let work = std::mem::take(&mut self.log);
                self.opened.log.append(work).expect("memory takes it");
                let synced = self.opened.log.sync().expect("memory takes it");
                self.input(synced);
            }
            if let Some(work) = self.snapshots.pop_front()
                && let Some(input) = self.opened.snapshots.carry_out(work).input
            {
                self.input(input);
            }
        }
    }
}
