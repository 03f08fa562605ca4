//! The Bitcoin nodes of a cluster: one beside each of its nodes, on threads of its own, since judging a block takes as long as
//! it takes.
//!
//! - upon a start: it dials those of the nodes before it, so that two nodes have one connection, and every pair has one;
//! - upon a start anew: those behind it dial it at once, and not when they next look;
//! - upon a heal or the end: miners and attackers stop.
//!
//! Deliberately absent: what is done to them (`attack`, `miners`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use verity_bitcoin::session::zmq::Topic;
use verity_node::NodeClient;
use verity_storage::{Disk, RamDisk};
use verity_types::NodeId;

use super::member::{Keeps, Member};
use super::miners::Miners;
use super::rpc::Node as Calls;
use crate::settings::Bitcoin as Settings;

/// What is on beside Core's defaults: a wallet can pay from the first block on, any transaction can be asked for, and light
/// clients find filters.
const DEFAULTS: [&str; 4] = ["-txindex=1", "-blockfilterindex=1", "-peerblockfilters=1", "-fallbackfee=0.0002"];

/// Where one of them is.
#[derive(Clone, Debug)]
pub(crate) struct ChainSeat {
    /// The network's folder; `None` keeps everything in memory.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) rpc_port: u16,
    pub(crate) p2p: SocketAddr,
    /// 0 for none.
    pub(crate) zmq_port: u16,
}

/// All of them that this process has.
pub(crate) struct Chains {
    settings: Settings,
    seats: BTreeMap<NodeId, ChainSeat>,
    /// Where the peers of all nodes are met, those of other processes too.
    neighbours: BTreeMap<NodeId, SocketAddr>,
    /// What is in memory outlives a crash.
    disks: BTreeMap<NodeId, Arc<dyn Disk>>,
    /// The password of those without a folder.
    password: String,
    running: Mutex<BTreeMap<NodeId, Member>>,
    /// Who eclipses which node.
    attackers: Mutex<BTreeMap<NodeId, Member>>,
    miners: Mutex<Option<Miners>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("nobody panics while holding it")
}

impl Chains {
    /// None of them runs yet.
    pub(crate) fn new(
        settings: Settings,
        seats: BTreeMap<NodeId, ChainSeat>,
        neighbours: BTreeMap<NodeId, SocketAddr>,
        password: String,
    ) -> Self {
        let ram = |id: &NodeId| (*id, Arc::new(RamDisk::new()) as Arc<dyn Disk>);
        let disks = seats.iter().filter(|(_, seat)| seat.folder.is_none()).map(|(id, _)| ram(id)).collect();
        let (running, attackers, miners) = Default::default();
        Self { settings, seats, neighbours, disks, password, running, attackers, miners }
    }

    fn flags(&self, id: NodeId, seat: &ChainSeat) -> Vec<String> {
        let mut flags: Vec<String> = DEFAULTS.iter().map(ToString::to_string).collect();
        flags.extend(self.settings.options.iter().map(|option| format!("-{}", option.trim().trim_start_matches('-'))));
        flags.push(format!("-rpcport={}", seat.rpc_port));
        match seat.p2p.port() {
            0 => flags.push("-listen=0".to_owned()),
            _ => flags.push(format!("-bind={}", seat.p2p)),
        }
        if seat.zmq_port != 0 {
            let publish = |topic: Topic| format!("-zmqpub{}=tcp://127.0.0.1:{}", topic.name(), seat.zmq_port);
            flags.extend(Topic::ALL.map(publish));
        }
        flags.extend(self.neighbours.range(..id).map(|(_, addr)| format!("-addnode={addr}")));
        flags
    }

    /// Starts one that is not running.
    pub(crate) fn start_node(&self, id: NodeId) -> Result<()> {
        let Some(seat) = self.seats.get(&id) else { bail!("there is no node {id}") };
        let mut running = lock(&self.running);
        if running.get(&id).is_some_and(|member| !member.handle.has_stopped()) {
            return Ok(());
        }
        running.remove(&id);
        let keeps = match (&seat.folder, self.disks.get(&id)) {
            (Some(folder), _) => Keeps::Folder(folder.clone()),
            (None, disk) => Keeps::Memory(Arc::clone(disk.context("it has memory")?), self.password.clone()),
        };
        let neighbours = self.neighbours.iter().filter(|(other, _)| **other != id).map(|(other, at)| (*at, *other));
        let member = Member::beside(id, keeps, &self.flags(id, seat), seat.p2p, neighbours.collect())?;
        for (_, other) in running.range(id..) {
            // One that does not answer dials when it next looks.
            let _ = other.calls.call("addnode", &json!([seat.p2p.to_string(), "onetry"]));
        }
        running.insert(id, member);
        Ok(())
    }

    /// Ends one as if its process had died.
    pub(crate) fn crash_node(&self, id: NodeId) {
        let member = lock(&self.running).remove(&id);
        // Outside of the lock: its end takes a moment.
        drop(member);
    }

    /// Stops all of them, writing what was accepted.
    pub(crate) fn stop(&self) -> Result<()> {
        self.heal();
        let members = std::mem::take(&mut *lock(&self.running));
        for (id, member) in members {
            member.handle.stop().with_context(|| format!("the Bitcoin node of node {id}"))?;
        }
        Ok(())
    }

    /// Nobody mines or attacks any more.
    pub(crate) fn heal(&self) {
        let miners = lock(&self.miners).take();
        let attackers = std::mem::take(&mut *lock(&self.attackers));
        drop((miners, attackers));
    }

    /// All nodes, those of other processes too.
    pub(crate) fn known(&self) -> Vec<NodeId> {
        self.neighbours.keys().copied().collect()
    }

    /// Something to ask a running one with, as a node.
    pub(crate) fn client(&self, id: NodeId) -> Option<NodeClient> {
        let running = lock(&self.running);
        running.get(&id).filter(|member| !member.handle.has_stopped()).map(|member| member.handle.client())
    }

    /// Where one that runs listens.
    pub(crate) fn doors(&self, id: NodeId) -> Vec<SocketAddr> {
        lock(&self.running).get(&id).map(|member| member.handle.doors.clone()).unwrap_or_default()
    }

    /// Those that run and do not stand still: their ids, how they are called, and where their peers come in.
    pub(crate) fn all(&self) -> Vec<(NodeId, Calls, SocketAddr)> {
        let running = lock(&self.running);
        let answers = |member: &Member| !member.handle.has_stopped() && member.handle.client().paused().is_none();
        let alive = running.iter().filter(|(_, member)| answers(member));
        alive.map(|(id, member)| (*id, member.calls.clone(), member.p2p)).collect()
    }

    /// The first that has stopped on its own, and why.
    pub(crate) fn take_failure(&self) -> Option<(NodeId, String)> {
        let mut running = lock(&self.running);
        let id = running.iter().find(|(_, member)| member.handle.has_stopped()).map(|(id, _)| *id)?;
        let why = running.remove(&id)?.handle.stop().err();
        Some((id, why.map_or_else(|| "it was told to stop".to_owned(), |error| error.to_string())))
    }

    /// The node hears an attacker alone.
    pub(crate) fn is_eclipsed(&self, id: NodeId) -> bool {
        lock(&self.attackers).contains_key(&id)
    }

    /// Keeps an attacker until the heal, in place of the one that the node had.
    pub(crate) fn keep_attacker(&self, victim: NodeId, attacker: Member) {
        let before = lock(&self.attackers).insert(victim, attacker);
        drop(before);
    }

    /// Miners in place of those that there were.
    pub(crate) fn set_miners(&self, miners: Option<Miners>) {
        let before = std::mem::replace(&mut *lock(&self.miners), miners);
        drop(before);
    }
}
