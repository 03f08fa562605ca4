//! Writes the markers that end transactions.
//!
//! - upon [`TransactionEvent::WriteMarkers`]: this node writes the markers of the partitions that it leads, waits for them,
//!   and tells the coordinator. Events repeat until all markers are written, so a partition that is under way for the same
//!   transaction is left alone;
//! - upon its start, a restored coordinator, a partition that it leads from now on: it asks which markers are missing;
//! - upon a partition that is not there: the node that leads the coordinator makes sure of it, and says that it needs none.
//!
//! HAZARD: a partition must not be taken for gone because this node has not heard of it yet, or its open transaction would
//! never end. So that is looked up in the metadata as of now, not in the image.
//!
//! Deliberately absent: remembering. What is not written when the node stops is asked for again.

use std::collections::{BTreeMap, BTreeSet};

use verity_contract::Consistency;
use verity_types::GroupId;

use super::coordination::led;
use super::node::{Answer, Node, epoch_of};
use crate::machine::cluster::{self, ClusterImage};
use crate::machine::coordinator::{self, Command, TopicPartitions, TransactionEvent, TransactionName};
use crate::machine::partition;
use crate::wire::ErrorCode;

/// How long a marker may take, and the report of it.
const MARKER_MS: i32 = 10_000;

/// What a node has under way.
#[derive(Default)]
pub(super) struct Markers {
    /// The transaction's number, and the partition's group.
    under_way: BTreeSet<(u64, u64)>,
    /// Transactions of which it is found out whether their partitions are there.
    looking: BTreeSet<u64>,
    /// It asks what is missing.
    asking: bool,
    /// It is to ask once more when that is answered.
    again: bool,
}

/// A partition that needs a marker, and that this node leads.
struct Wanted {
    topic: String,
    index: i32,
    group: u64,
    epoch: i32,
}

/// The end of a transaction.
#[derive(Clone)]
struct End {
    transaction: TransactionName,
    number: u64,
    coordinator_epoch: i32,
    commit: bool,
}

/// A transaction has moved on.
pub(super) fn on_event(node: &Node, event: TransactionEvent) {
    let TransactionEvent::WriteMarkers { transaction, number, coordinator_epoch, commit, topics } = event else {
        return;
    };
    let end = End { transaction, number, coordinator_epoch, commit };
    let mut wanted = Vec::new();
    let mut missing: Vec<(String, i32)> = Vec::new();
    {
        let mut state = node.state();
        let state = &mut *state;
        if !state.image_known {
            // It will ask once it knows.
            return;
        }
        for topic in &topics {
            for index in &topic.partitions {
                let Some(found) = state.image.partition(&topic.topic, *index) else {
                    missing.push((topic.topic.clone(), *index));
                    continue;
                };
                let group = found.group;
                let role = state.roles.get(&GroupId(group)).filter(|role| role.leads);
                if let Some(role) = role
                    && state.markers.under_way.insert((number, group))
                {
                    wanted.push(Wanted { topic: topic.topic.clone(), index: *index, group, epoch: epoch_of(role) });
                }
            }
        }
    }
    if !wanted.is_empty() {
        let (node, end) = (node.clone(), end.clone());
        node.clone().spawn(async move { write(&node, &end, wanted).await });
    }
    if !missing.is_empty() && led(node).is_ok() && node.state().markers.looking.insert(number) {
        let node = node.clone();
        node.clone().spawn(async move { look(&node, &end, missing).await });
    }
}

/// Writes markers, then says so.
async fn write(node: &Node, end: &End, wanted: Vec<Wanted>) {
    let marker = |epoch: i32| partition::Command::Marker {
        epoch,
        producer_id: end.transaction.producer_id,
        producer_epoch: end.transaction.producer_epoch,
        coordinator_epoch: end.coordinator_epoch,
        decision: end.number,
        commit: end.commit,
    };
    let asked: Vec<(Wanted, Answer)> = wanted
        .into_iter()
        .map(|one| {
            let answer = node.propose(GroupId(one.group), marker(one.epoch).encode());
            (one, answer)
        })
        .collect();
    let until = node.in_ms(MARKER_MS);
    let (mut written, mut groups) = (Vec::new(), Vec::new());
    for (one, answer) in asked {
        groups.push((end.number, one.group));
        let reply = answer.by(until).await.and_then(Result::ok).and_then(partition::Reply::decode);
        if reply.is_some_and(|reply| has_ended(reply.error)) {
            written.push((one.topic, one.index));
        }
    }
    report(node, end, written).await;
    let mut state = node.state();
    for key in &groups {
        state.markers.under_way.remove(key);
    }
}

/// True if a partition that answers so needs no marker any more: it has it, or a later life of the producer has been there.
fn has_ended(error: ErrorCode) -> bool {
    error.is_none() || error == ErrorCode::INVALID_PRODUCER_EPOCH
}

/// Looks up whether partitions are gone, and says so if they are.
async fn look(node: &Node, end: &End, missing: Vec<(String, i32)>) {
    let cluster = node.state().config.cluster;
    let question = cluster::Query::Snapshot.encode();
    let answer = node.read(cluster, question, Consistency::Linearizable).by(node.in_ms(MARKER_MS)).await;
    let image = answer.and_then(Result::ok).and_then(|bytes| ClusterImage::from_snapshot(&bytes).ok());
    if let Some(image) = image {
        let gone = missing.into_iter().filter(|(topic, index)| image.partition(topic, *index).is_none());
        report(node, end, gone.collect()).await;
    }
    node.state().markers.looking.remove(&end.number);
}

/// Says to the coordinator which partitions need no marker any more.
async fn report(node: &Node, end: &End, done: Vec<(String, i32)>) {
    if done.is_empty() {
        return;
    }
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    done.into_iter().for_each(|(topic, index)| topics.entry(topic).or_default().push(index));
    let topics = topics.into_iter().map(|(topic, partitions)| TopicPartitions { topic, partitions }).collect();
    let command = Command::MarkersWritten { transaction: end.transaction.clone(), number: end.number, topics };
    let (group, _) = node.groups();
    // If it is lost, the markers are asked for again, and are there already.
    drop(node.propose(group, command.encode()).by(node.in_ms(MARKER_MS)).await);
}

/// Asks which markers are missing.
pub(super) fn ask(node: &Node) {
    {
        let markers = &mut node.state().markers;
        if std::mem::replace(&mut markers.asking, true) {
            markers.again = true;
            return;
        }
    }
    let node = node.clone();
    node.clone().spawn(async move { ask_until_told(&node).await });
}

async fn ask_until_told(node: &Node) {
    let (group, _) = node.groups();
    loop {
        let question = coordinator::Query::PendingMarkers.encode();
        let answer = node.read(group, question, Consistency::Local).by(node.in_ms(MARKER_MS)).await;
        let answer = answer.and_then(Result::ok).and_then(|bytes| coordinator::Answer::decode(&bytes).ok());
        if let Some(coordinator::Answer::Markers { events }) = answer {
            events.into_iter().for_each(|event| on_event(node, event));
        }
        let markers = &mut node.state().markers;
        if !std::mem::take(&mut markers.again) {
            markers.asking = false;
            return;
        }
    }
}
