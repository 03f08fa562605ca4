//! Faults, drawn from a seed: which, on whom, for how long.
//!
//! - a kill is SIGKILL, and a start some time later; a stop is SIGSTOP, and SIGCONT some time later; a cut takes away
//!   what one node sends to another, or to all, and is healed some time later;
//! - a stop and a cut come together, and so do a kill and a cut; a leader is killed alone, or all nodes at once;
//! - every other stop, cut and kill hits the leader, if there is one;
//! - upon a kill of the leader: a client that sits elsewhere asks for a write at once, and the time until it is
//!   acknowledged is taken.
//!
//! A fault is counted when it took effect, as [`Cluster`] says; the others are not.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;

use crate::cluster::{Cluster, NODES};
use crate::history::Tape;
use crate::operation::Operation;
use crate::session::Session;

/// A write behind a leader's kill is asked for again so often, at most.
const WRITES_MAX: usize = 20;
/// A cluster whose leader was killed has another one within this, or is said to have none.
const LEADER_WAIT: Duration = Duration::from_secs(20);

/// Faults that took effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// `kill -9`, each process by itself.
    pub kills: u64,
    /// How often all nodes were killed at once.
    pub blackouts: u64,
    /// SIGSTOP.
    pub stops: u64,
    /// One-way partitions.
    pub cuts: u64,
    /// From the kill of a leader to the next write that was asked for behind it and acknowledged.
    pub failovers: Vec<Duration>,
}

/// Whoever brings faults about.
#[derive(Debug)]
pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    rng: Rng,
    /// What has happened so far.
    pub faults: Faults,
}

impl<'a> Nemesis<'a> {
    /// One that has done nothing yet.
    #[must_use]
    pub fn new(cluster: &'a Cluster, rng: Rng) -> Self {
        Self { cluster, rng, faults: Faults::default() }
    }

    fn wait(&mut self, from_ms: u64, to_ms: u64) {
        sleep(Duration::from_millis(self.rng.u64(from_ms..to_ms)));
    }

    /// A node: the leader, every other time.
    fn victim(&mut self) -> usize {
        let leader = if self.rng.bool() { self.cluster.leader() } else { None };
        leader.unwrap_or_else(|| self.rng.usize(..NODES))
    }

    /// Kills a node while another sends less than it should, and starts it again.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn kill_and_cut(&mut self) -> Result<()> {
        let node = self.victim();
        let from = self.cut_another(node);
        self.wait(0, 300);
        self.faults.kills += u64::from(self.cluster.kill(node)?);
        self.wait(100, 900);
        self.cluster.restart(node)?;
        self.wait(0, 500);
        self.heal(from)
    }

    /// Cuts a node other than this one, and says which.
    fn cut_another(&mut self, spared: usize) -> usize {
        let victim = self.victim();
        let from = if victim == spared { (spared + self.rng.usize(1..NODES)) % NODES } else { victim };
        // Every other cut takes away one direction of one link, the others everything that the node sends.
        let to = (from + self.rng.usize(1..NODES)) % NODES;
        let to = self.rng.bool().then_some(to);
        self.faults.cuts += u64::from(self.cluster.cut(from, to));
        from
    }

    /// Kills all nodes at once, and starts them again.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn kill_all(&mut self) -> Result<()> {
        let mut all = true;
        for node in 0..NODES {
            let killed = self.cluster.kill(node)?;
            all &= killed;
            self.faults.kills += u64::from(killed);
        }
        self.faults.blackouts += u64::from(all);
        for node in 0..NODES {
            self.wait(1, 100);
            self.cluster.restart(node)?;
        }
        Ok(())
    }

    /// Stops a node while another sends nothing, and lets both go on.
    ///
    /// # Errors
    /// When a signal cannot be sent.
    pub fn stop_and_cut(&mut self) -> Result<()> {
        let stopped = self.victim();
        let from = self.cut_another(stopped);
        self.wait(0, 300);
        self.faults.stops += u64::from(self.cluster.stop(stopped)?);
        self.wait(300, 2_500);
        if self.rng.bool() {
            self.cluster.go_on(stopped)?;
            self.wait(0, 500);
            self.heal(from)
        } else {
            self.heal(from)?;
            self.wait(0, 500);
            self.cluster.go_on(stopped)
        }
    }

    fn heal(&self, node: usize) -> Result<()> {
        self.cluster.heal(node).with_context(|| format!("node {} cannot be healed", node + 1))
    }

    /// Kills the leader, and takes the time until a client that sits elsewhere has a write acknowledged.
    ///
    /// # Errors
    /// When there is no leader, or no write is ever acknowledged.
    pub fn kill_leader(&mut self, folder: &str, tape: &mut Tape) -> Result<()> {
        let leader = self.await_leader()?;
        let elsewhere = |rng: &mut Rng| (leader + rng.usize(1..NODES)) % NODES;
        let open = |rng: &mut Rng| Session::fresh(self.cluster.clients(elsewhere(rng)), true);
        let mut session = open(&mut self.rng)?;
        let killed_at = Instant::now();
        self.faults.kills += u64::from(self.cluster.kill(leader)?);
        let write = Operation::Create {
            path: format!("{folder}/q/after-"),
            value: format!("after the kill of node {}", leader + 1),
            ephemeral: false,
            sequential: true,
        };
        let mut written = false;
        for _ in 0..WRITES_MAX {
            if let Ok(answer) = tape.call(&mut session, &write)
                && answer.reply.err == 0
            {
                written = true;
                break;
            }
            while let Err(error) = open(&mut self.rng).map(|fresh| session = fresh) {
                anyhow::ensure!(killed_at.elapsed() < LEADER_WAIT, "nobody serves behind a leader's kill: {error:#}");
            }
        }
        anyhow::ensure!(written, "no write was acknowledged behind a leader's kill");
        self.faults.failovers.push(killed_at.elapsed());
        // What becomes of this session is of no account: it owns nothing.
        let _ = tape.call(&mut session, &Operation::Close);
        self.wait(50, 600);
        self.cluster.restart(leader)
    }

    fn await_leader(&self) -> Result<usize> {
        let start = Instant::now();
        loop {
            if let Some(leader) = self.cluster.leader() {
                return Ok(leader);
            }
            anyhow::ensure!(start.elapsed() < LEADER_WAIT, "there is no leader within {LEADER_WAIT:?}");
            sleep(Duration::from_millis(20));
        }
    }
}
