//! The sequence diagram of PBFT, live: five replicas of which one may lie.
//!
//! - one says nothing: request, pre-prepare, prepare, commit and reply go on among the other four, which are a quorum;
//! - then the primary lies: it assigns one sequence number to two batches. The others find out by their first words to each
//!   other, replace it, and keep what it signed.
//!
//! What is promised is checked while it is shown; a promise that does not hold ends the tour with an error.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use verity_pbft::liar::Lie;
use verity_pbft::{Evidence, Quorum};
use verity_types::NodeId;

use crate::cluster::Cluster;
use crate::compose::{Listener, Sent, TREE};
use crate::tour::zookeeper::Client;
use crate::tour::{Stage, now};

/// The diagram's replicas.
pub(crate) const NODES: u16 = 5;
/// Who says nothing in the first act.
pub(crate) const SILENT: NodeId = NodeId(5);
/// Who leads first, and lies in the second.
pub(crate) const LIAR: NodeId = NodeId(1);
/// Messages that come so long after a reply belong to its request no more.
const AFTER: Duration = Duration::from_millis(60);
/// Longer than replacing a primary takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the replicas say to each other.
pub(crate) struct Ear {
    heard: Receiver<(Instant, Sent)>,
}

/// Something that listens, and somewhere to read what it heard.
pub(crate) fn ear() -> (Listener, Ear) {
    let (tell, heard) = channel();
    let tell = Mutex::new(tell);
    let listener = Listener(Arc::new(move |sent: Sent| {
        if sent.group == TREE {
            // Once the tour has ended nobody listens.
            let _ = tell.lock().expect("nobody panics while telling").send((now(), sent));
        }
    }));
    (listener, Ear { heard })
}

/// One line of the diagram: who said what to whom.
struct Line {
    at: Instant,
    from: NodeId,
    what: String,
    kind: &'static str,
    to: BTreeSet<NodeId>,
}

impl Ear {
    fn forget(&self) {
        while self.heard.try_recv().is_ok() {}
    }

    /// What was said since, in lines.
    fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        while let Ok((at, sent)) = self.heard.recv_timeout(AFTER) {
            let what = sent.said.to_string();
            match lines.iter_mut().find(|line| line.from == sent.from && line.what == what) {
                Some(line) => _ = line.to.insert(sent.to),
                None => lines.push(Line { at, from: sent.from, what, kind: sent.said.kind, to: [sent.to].into() }),
            }
            if lines.len() > 200 {
                break;
            }
        }
        lines
    }
}

fn show(stage: &Stage, lines: &[Line]) {
    for line in lines {
        let to: Vec<String> = line.to.iter().map(ToString::to_string).collect();
        stage.say_at(line.at, &format!("replica {}", line.from), &format!("{:<38} -> {}", line.what, to.join(" ")));
    }
}

/// How many replicas said it.
fn voices(lines: &[Line], kind: &str) -> usize {
    lines.iter().filter(|line| line.kind == kind).map(|line| line.from).collect::<BTreeSet<_>>().len()
}

fn address(cluster: &Cluster, node: NodeId) -> Result<SocketAddr> {
    let endpoints = cluster.endpoints(node)?;
    let found = endpoints.into_iter().find(|(name, _)| *name == "zookeeper");
    found.map(|(_, addr)| addr).context("the cluster serves ZooKeeper")
}

/// The first act: a replica is silent.
pub(crate) fn silent(cluster: &Cluster, ear: &Ear, json: bool) -> Result<()> {
    let stage = Stage::open(json, 9);
    let quorum = Quorum::of(NODES.into());
    stage.say(
        "Act 1",
        &format!(
            "{NODES} replicas, f = {}: one may do whatever it likes. Replica {SILENT} says nothing.",
            quorum.faulty
        ),
    );
    let mut client = Client::connect("client", address(cluster, NodeId(2))?)?;
    client.create("/sky", 0)?;
    ear.lines();
    ear.forget();
    stage.say("client", "set /sky to \"blue\", through replica 2");
    let begin = now();
    client.set("/sky", b"blue")?;
    let took = begin.elapsed();
    let lines = ear.lines();
    show(&stage, &lines);
    let (prepares, commits) = (voices(&lines, "prepare"), voices(&lines, "commit"));
    ensure!(voices(&lines, "pre-prepare") == 1, "one replica assigns sequence numbers");
    ensure!(lines.iter().all(|line| line.from != SILENT), "replica {SILENT} was to be silent");
    ensure!(prepares + 1 >= quorum.size && commits >= quorum.size, "too few votes: {prepares} and {commits}");
    stage.say(
        "client",
        &format!(
            "done after {} ms: a pre-prepare and {prepares} prepares, {commits} commits, and {} equal replies; {} are a quorum",
            took.as_millis(),
            quorum.weak(),
            quorum.size
        ),
    );
    Ok(())
}

/// The second act: the primary says two things.
pub(crate) fn lying(cluster: &Cluster, ear: &Ear, json: bool) -> Result<()> {
    let stage = Stage::open(json, 9);
    stage.say("Act 2", &format!("the same five, all of them speak, and replica {LIAR}, the primary, lies."));
    ear.forget();
    let begin = now();
    let mut client = Client::connect("client", address(cluster, NodeId(2))?)?;
    client.create("/sky", 0)?;
    client.set("/sky", b"red")?;
    let took = begin.elapsed();
    let lines = ear.lines();
    let until = lines.iter().position(|line| line.kind == "new-view").unwrap_or(lines.len());
    show(&stage, &lines[..lines.len().min(until + 24)]);
    stage.say("client", &format!("has a session, /sky, and its \"red\" after {} ms", took.as_millis()));
    let honest: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != LIAR).collect();
    let evidence = find_evidence(cluster, &honest)?;
    ensure!(evidence.culprit == LIAR, "the proof names node {}", evidence.culprit);
    stage.say("evidence", &evidence.to_string());
    for node in honest {
        let mut reader = Client::connect("reader", address(cluster, node)?)?;
        reader.sync("/sky")?;
        ensure!(reader.get("/sky")? == b"red", "replica {node} holds something else");
    }
    stage.say("readers", "ask each honest replica: all four answer \"red\"");
    Ok(())
}

fn find_evidence(cluster: &Cluster, nodes: &[NodeId]) -> Result<Evidence> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let search = async {
            loop {
                for node in nodes {
                    let Some(client) = cluster.client(*node) else { continue };
                    let Ok(status) = client.status().await else { continue };
                    if let Some((_, proof)) = status.evidence.into_iter().next() {
                        return Evidence::decode(proof).context("a node keeps what is no proof");
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.context("nobody has a proof")?
    })
}

/// What each act's cluster is: who lies in it, and how.
pub(crate) const ACTS: [(NodeId, Lie); 2] = [(SILENT, Lie::Silent), (LIAR, Lie::Equivocate)];
