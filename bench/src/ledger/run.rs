//! Loads: all nodes are started, warmed, and measured.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::{Builder, Runtime};
use verity_node::{NodeClient, NodeStatus};
use verity_types::NodeId;

use super::Plan;
use super::cluster::{Cluster, GROUP, free_ports};
use super::gateway::{Gate, Tally};
use super::member::Member;
use crate::process;

/// The ledger takes its first request within this, or does not stand.
const START_MAX: Duration = Duration::from_secs(20);
/// What is not measured: connections are made, buffers grow, windows fill.
const WARM: Duration = Duration::from_millis(800);
/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(2);
/// How long after a primary was killed a silence may still be its doing.
const AFTER_KILL: Duration = Duration::from_millis(2_500);
/// How long a node that comes back has, to catch up before the next one is killed.
const REST: Duration = Duration::from_millis(1_500);

#[expect(clippy::disallowed_methods, reason = "a benchmark waits for a ledger to stand, and measures it for a while")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// A ledger under load, and the flooding member beside it, if there is one.
struct Bench {
    cluster: Cluster,
    gate: Arc<Gate>,
    flooder: Option<Member>,
    runtime: Runtime,
}

impl Bench {
    fn start(plan: &Plan) -> Result<Self> {
        let (ports, gate) = (free_ports(plan.nodes)?, Arc::new(Gate::new()));
        let mut cluster = Cluster::new(plan, ports.clone(), Arc::clone(&gate));
        for id in (1..=plan.nodes).map(NodeId).filter(|id| Some(*id) != plan.flood) {
            cluster.start(id)?;
        }
        let flooder = plan.flood.map(|id| Member::start(plan, id, &ports)).transpose()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut bench = Self { cluster, gate, flooder, runtime };
        bench.gate.open();
        let begun = now();
        while bench.gate.count() == 0 {
            bench.check()?;
            ensure!(begun.elapsed() < START_MAX, "the ledger takes nothing");
            sleep(LOOK);
        }
        sleep(WARM);
        Ok(bench)
    }

    /// A node that has stopped says why.
    fn check(&mut self) -> Result<()> {
        let stopped = self.cluster.nodes.values().find(|node| node.has_stopped()).map(|node| node.id);
        let Some(node) = stopped.and_then(|id| self.cluster.nodes.remove(&id)) else { return Ok(()) };
        let id = node.id;
        node.crash().with_context(|| format!("node {id}"))?;
        bail!("node {id} has stopped")
    }

    fn client(&self, id: NodeId) -> Option<NodeClient> {
        self.cluster.nodes.get(&id).map(|node| node.client())
    }

    fn statuses(&self) -> Result<Vec<NodeStatus>> {
        let clients: Vec<NodeClient> = self.cluster.nodes.values().map(|node| node.client()).collect();
        clients.iter().map(|client| Ok(self.runtime.block_on(client.status())?)).collect()
    }

    /// Who leads, as most nodes see it.
    fn primary(&self) -> Result<NodeId> {
        let leaders: Vec<NodeId> = self
            .statuses()?
            .iter()
            .flat_map(|status| &status.groups)
            .filter(|group| group.group == GROUP)
            .filter_map(|group| group.role.leader)
            .collect();
        let often = |one: &NodeId| leaders.iter().filter(|other| *other == one).count();
        leaders.iter().copied().max_by_key(|one| often(one)).context("nobody leads")
    }

    fn stop(mut self) -> Result<()> {
        self.gate.close();
        if let Some(flooder) = self.flooder.take() {
            flooder.stop()?;
        }
        while let Some((id, node)) = self.cluster.nodes.pop_first() {
            node.crash().with_context(|| format!("node {id}"))?;
        }
        Ok(())
    }
}

/// What nodes have counted: bytes given to their logs, syncs, views, and how far they are.
struct Counts {
    log_bytes: u64,
    syncs: u64,
    term: u64,
    entries: u64,
}

fn counts(bench: &Bench) -> Result<Counts> {
    let statuses = bench.statuses()?;
    let groups = || statuses.iter().flat_map(|status| &status.groups).filter(|group| group.group == GROUP);
    Ok(Counts {
        log_bytes: statuses.iter().map(|status| status.figures.log_bytes).sum(),
        syncs: statuses.iter().map(|status| status.figures.log_syncs.count()).sum(),
        term: groups().map(|group| group.role.term.0).max().unwrap_or(0),
        entries: groups().map(|group| group.applied.0).max().unwrap_or(0),
    })
}

/// One load, measured.
///
/// # Errors
/// When the ledger does not stand, or a node stops.
pub(super) fn load(plan: &Plan) -> Result<String> {
    let mut bench = Bench::start(plan)?;
    let pids = [std::process::id()];
    let flooder: Vec<u32> = bench.flooder.iter().map(Member::pid).collect();
    let before = counts(&bench)?;
    let (cpu_us, flood_us) = (process::cpu_us(&pids)?, process::cpu_us(&flooder)?);
    drop(bench.gate.take());
    let begun = now();
    sleep(plan.time);
    let (tally, elapsed) = (bench.gate.take(), begun.elapsed().as_secs_f64());
    let cpu_us = process::cpu_us(&pids)?.saturating_sub(cpu_us) as f64;
    let flood_us = process::cpu_us(&flooder)?.saturating_sub(flood_us) as f64;
    bench.check()?;
    let after = counts(&bench)?;
    bench.stop()?;
    let Tally { mut latencies_us, refused, failed } = tally;
    ensure!(!latencies_us.is_empty(), "not one request was taken in time");
    latencies_us.sort_unstable();
    let count = latencies_us.len() as f64;
    let mut line = format!("ops={:.1} count={count} refused={refused} failed={failed}", count / elapsed);
    for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99)] {
        let at = ((count * share) as usize).min(latencies_us.len() - 1);
        write!(line, " {name}={}", latencies_us[at])?;
    }
    let entries = after.entries.saturating_sub(before.entries).max(1) as f64;
    write!(
        line,
        " cpu_us_per_op={:.2} cores={:.2} flood_cores={:.2} batch={:.2} syncs_per_s={:.0} log_bytes_per_op={:.0} views={}",
        cpu_us / count,
        cpu_us / 1e6 / elapsed,
        flood_us / 1e6 / elapsed,
        count / entries,
        after.syncs.saturating_sub(before.syncs) as f64 / elapsed,
        after.log_bytes.saturating_sub(before.log_bytes) as f64 / count,
        after.term.saturating_sub(before.term),
    )?;
    Ok(line)
}

/// The primary is killed under load, again and again; each time it comes back.
///
/// # Errors
/// When the ledger does not stand, a node stops, or requests complete no more.
pub(super) fn failover(plan: &Plan) -> Result<String> {
    let mut bench = Bench::start(plan)?;
    let mut silences = Vec::new();
    for _ in 0..plan.kills {
        let primary = bench.primary()?;
        let node = bench.cluster.nodes.remove(&primary).context("the primary is of this process")?;
        drop(bench.gate.take());
        bench.gate.listen();
        node.crash()?;
        sleep(AFTER_KILL);
        // One that lasts until now is none that has ended.
        let begun = now();
        let seen = bench.gate.count();
        while bench.gate.count() == seen {
            bench.check()?;
            ensure!(begun.elapsed() < START_MAX, "nothing completes behind the end of node {primary}");
            sleep(LOOK);
        }
        silences.push(bench.gate.silence_ms());
        bench.cluster.start(primary)?;
        sleep(REST);
        ensure!(bench.client(primary).is_some(), "it was just started");
    }
    bench.stop()?;
    let shown: Vec<String> = silences.iter().enumerate().map(|(at, ms)| format!("kill_{at}_ms={ms:.1}")).collect();
    Ok(shown.join(" "))
}
