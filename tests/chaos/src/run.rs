//! A run: phases of load and faults, each in a folder of its own, and a last look at everything.
//!
//! - a phase begins on a whole cluster: its folder is made, clients start;
//! - faults come, in an order that the seed draws: a leader's kill, a stop with a cut, a kill with a cut or of all;
//! - the phase ends whole again: every fault is healed, clients close their sessions, and every node is asked, behind
//!   a `sync`, for everything in the folder;
//! - behind the last phase every node is asked for every folder once more.
//!
//! Why phases: a search for an order is dear in the number of operations of unknown outcome, and each fault leaves some.
//! A phase is a history by itself, since nobody touches its folder before or after; it has few of them.
//!
//! Deliberately absent: verdicts; see [`crate::judge`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;

use crate::cluster::{Cluster, LabDisk, NODES, System};
use crate::history::{Counts, Tape, last_read};
use crate::load::{Client, layout};
use crate::nemesis::{Faults, Nemesis};
use crate::operation::Operation;
use crate::session::Session;

/// How many clients are at work at once.
const CLIENTS: usize = 8;
/// The load runs so long between two faults.
pub(crate) const CALM: Duration = Duration::from_millis(600);
/// In one of so many phases all nodes are killed at once, rather than one.
const BLACKOUT_EVERY: usize = 4;
/// A last read that fails is tried again so often.
const READS_MAX: usize = 20;

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Draws everything that is drawn.
    pub seed: u64,
    /// How many phases there are.
    pub phases: usize,
    /// The server.
    pub binary: PathBuf,
    /// Where the nodes keep what they have.
    pub folder: PathBuf,
    /// What their disk is.
    pub disk: LabDisk,
    /// `raft` or `paxos`.
    pub agreement: String,
    /// Whom the nodes serve.
    pub system: System,
}

/// What a phase came to.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    /// Its folder in the tree.
    pub folder: String,
    /// What everybody saw.
    pub lines: Vec<String>,
    /// Persistent sequential nodes that were acknowledged, and that nobody removes.
    pub kept: Vec<String>,
    /// What each node answered at the end.
    pub finals: Vec<Vec<String>>,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Phase by phase.
    pub phases: Vec<Phase>,
    /// What became of the operations.
    pub counts: Counts,
    /// What was done to the cluster.
    pub faults: Faults,
}

/// Runs it.
///
/// # Errors
/// When the cluster does not come back, a process ends by itself, or a client cannot be served at all.
pub fn run(options: &Options) -> Result<Outcome> {
    let mut rng = Rng::with_seed(options.seed);
    let cluster = Cluster::start(options, &mut rng)?;
    let mut nemesis = Nemesis::new(&cluster, rng.fork());
    let mut outcome = Outcome::default();
    for number in 0..options.phases {
        let (phase, counts) = phase(options, &cluster, &mut nemesis, number, &mut rng)
            .with_context(|| format!("phase {number} of {}", options.phases))?;
        outcome.counts.add(counts);
        outcome.phases.push(phase);
    }
    for phase in &mut outcome.phases {
        phase.finals = (0..NODES).map(|node| look(&cluster, node, &phase.folder)).collect::<Result<_>>()?;
    }
    outcome.faults = nemesis.faults;
    Ok(outcome)
}

fn phase(
    options: &Options,
    cluster: &Cluster,
    nemesis: &mut Nemesis<'_>,
    number: usize,
    rng: &mut Rng,
) -> Result<(Phase, Counts)> {
    let folder = format!("/p{number}");
    let start = Instant::now();
    let mut tapes = vec![set_up(cluster, &folder, start)?];
    let stop = AtomicBool::new(false);
    let (broken, clients) = scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let client = Client::new(cluster, &folder, client, start, rng.fork());
                let stop = &stop;
                scope.spawn(move || client.run(stop))
            })
            .collect();
        let mut tape = Tape::new(start, "nemesis", true);
        let broken = break_things(options, nemesis, number, &folder, &mut tape, rng).and_then(|()| cluster.repair());
        stop.store(true, Ordering::Relaxed);
        let clients: Vec<Tape> =
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect();
        (broken.map(|()| tape), clients)
    });
    tapes.push(broken?);
    tapes.extend(clients);
    let mut phase = Phase { folder, ..Phase::default() };
    let mut counts = Counts::default();
    for mut tape in tapes {
        counts.add(tape.counts);
        phase.lines.append(&mut tape.lines);
        phase.kept.append(&mut tape.kept);
    }
    for node in 0..NODES {
        phase.lines.extend(look(cluster, node, &phase.folder)?);
    }
    Ok((phase, counts))
}

fn set_up(cluster: &Cluster, folder: &str, start: Instant) -> Result<Tape> {
    let mut tape = Tape::new(start, "first", true);
    let mut session = Session::fresh(cluster.clients(0), true)?;
    for operation in layout(folder) {
        let answer = tape.call(&mut session, &operation)?;
        ensure!(answer.reply.err == 0, "a fresh folder refuses {operation:?}: {}", answer.line);
    }
    tape.call(&mut session, &Operation::Close)?;
    Ok(tape)
}

fn break_things(
    options: &Options,
    nemesis: &mut Nemesis<'_>,
    number: usize,
    folder: &str,
    tape: &mut Tape,
    rng: &mut Rng,
) -> Result<()> {
    sleep(CALM);
    if options.disk == LabDisk::Forgetful {
        nemesis.kill_all()?;
        sleep(CALM);
        return Ok(());
    }
    let mut order = [0, 1, 2];
    rng.shuffle(&mut order);
    for fault in order {
        match fault {
            0 => nemesis.kill_leader(folder, tape)?,
            1 => nemesis.stop_and_cut()?,
            _ if number % BLACKOUT_EVERY == BLACKOUT_EVERY - 1 => nemesis.kill_all()?,
            _ => nemesis.kill_and_cut()?,
        }
        sleep(CALM);
    }
    Ok(())
}

/// Everything that a node has in a folder, behind a `sync`, as lines of a history.
fn look(cluster: &Cluster, node: usize, folder: &str) -> Result<Vec<String>> {
    let mut last = None;
    for _ in 0..READS_MAX {
        match try_look(cluster, node, folder) {
            Ok(lines) => return Ok(lines),
            Err(error) => last = Some(error),
        }
        sleep(CALM);
    }
    Err(last.expect("it was tried")).with_context(|| format!("node {} cannot be read", node + 1))
}

fn try_look(cluster: &Cluster, node: usize, folder: &str) -> Result<Vec<String>> {
    let mut session = Session::fresh(cluster.clients(node), false)?;
    let mut ask = |operation: &Operation| {
        let (op, body) = operation.encode();
        session.call(op, &body)
    };
    ensure!(ask(&Operation::Sync)?.err == 0, "a sync of a whole cluster was refused");
    let mut lines = Vec::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let get = Operation::Get { path: path.clone() };
        lines.push(last_read(&get, &ask(&get)?)?);
        let children = Operation::Children { path: path.clone() };
        let reply = ask(&children)?;
        lines.push(last_read(&children, &reply)?);
        let answered = children.answered(&reply)?;
        let names = answered["value"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
        paths.extend(names.map(|name| format!("{path}/{name}")));
    }
    ask(&Operation::Close)?;
    Ok(lines)
}
