//! Writes the records that share groups could not work on into their dead-letter topics (KIP-1191).
//!
//! - upon [`ShareEvent::Dead`]: one node writes: the leader of the records' partition if it hosts the dead-letter partition,
//!   or the other way round, or any other that hosts both. It appends a record for each dead one, and tells the coordinator
//!   when they are on stable storage. Events repeat until then, so a partition that is under way is left alone;
//! - upon a dead-letter topic that is not there: whoever leads the coordinator creates it, if the cluster allows that;
//! - upon a group without one, or one that may not be written to: that leader says, after another look, that nothing is to
//!   be written.
//!
//! A record's headers tell where it comes from and why; its key and value come along if the group wants that. The dead of
//! partition `p` go to partition `p` modulo the count of the dead-letter topic's.
//!
//! HAZARD: the append and the report of it are two orders. A node that dies between them leaves a record that is written
//! again by the next: a dead record is in its topic once or more.
//!
//! HAZARD: where no node hosts both partitions, keys and values stay behind.
//!
//! Deliberately absent: remembering. What is not written when the node stops is asked for again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verity_contract::Consistency;
use verity_types::GroupId;

use super::coordination::led;
use super::node::{Node, State};
use super::share_config;
use crate::machine::cluster::{self, NO_LEADER, Partition};
use crate::machine::coordinator::{Cause, Command, DeadRecords, ShareEvent, ShareName};
use crate::machine::partition::{self, Fetched};
use crate::wire::{Batch, BatchBuilder, Codec, DECOMPRESSED_SIZE_MAX};

/// How long a command may take.
const COMMAND_MS: i32 = 10_000;
/// How long before it is believed that nothing can be written.
const DOUBT_MS: i32 = 1_000;
/// So much of the records' log is read at once.
const READ_BYTES: u32 = 1 << 20;
/// No more records are written at once.
const ROUND_COUNT_MAX: i64 = 500;
/// Nor more bytes, but for one record.
const ROUND_BYTES_MAX: usize = 900_000;
/// What headers take beside names.
const HEADERS_BYTES: usize = 512;

/// What a node has under way.
#[derive(Default)]
pub(super) struct Burials {
    under_way: BTreeSet<ShareName>,
}

/// What this node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    /// Another node does it.
    Nothing,
    /// Nothing can be written.
    GiveUp,
    /// The topic is to be created.
    Create(String),
    Write(Grave),
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grave {
    /// The name of the topic that they are from.
    topic: String,
    source: GroupId,
    grave: GroupId,
    epoch: i32,
    size_max: usize,
    copies: bool,
}

/// A partition has moved on, as a share group sees it.
pub(super) fn on_event(node: &Node, event: ShareEvent) {
    match event {
        ShareEvent::Moved { share } => {
            let mut state = node.state();
            let topic = state.image.topic_by_id(share.topic_id);
            let group = topic.and_then(|topic| topic.partition(share.partition)).map(|found| GroupId(found.group));
            group.into_iter().for_each(|group| state.on_moved(group));
        }
        ShareEvent::Dead { share, epoch, records } => {
            let plan = plan(&mut node.state(), &share);
            if plan == Plan::Nothing || !node.state().burials.under_way.insert(share.clone()) {
                return;
            }
            let node = node.clone();
            node.clone().spawn(async move {
                carry_out(&node, &share, epoch, &records, plan).await;
                node.state().burials.under_way.remove(&share);
            });
        }
    }
}

/// Which node writes.
fn writer(state: &State, source: &Partition, grave: &Partition) -> i32 {
    let both = |id: &i32| source.hosts.contains(id) && grave.hosts.contains(id);
    let (from, to) = (state.leader(source).0, state.leader(grave).0);
    let leaders = [from, to].into_iter().find(|id| both(id));
    let others = || source.hosts.iter().copied().filter(|id| both(id) && state.image.is_online(*id)).min();
    leaders.or_else(others).unwrap_or(to)
}

fn plan(state: &mut State, share: &ShareName) -> Plan {
    if !state.image_known {
        return Plan::Nothing;
    }
    let coordinates = state.roles.get(&state.config.coordinator).is_some_and(|role| role.leads);
    let mine = |plan: Plan| if coordinates { plan } else { Plan::Nothing };
    let Some(letters) = share_config::dead_letters(state, &share.group_id) else { return mine(Plan::GiveUp) };
    let Some(from) = state.image.topic_by_id(share.topic_id) else { return mine(Plan::GiveUp) };
    let Some(source) = from.partition(share.partition) else { return mine(Plan::GiveUp) };
    // A group that reads its own dead would never come to an end.
    if from.name == letters.topic || !share_config::is_dead_letter_name(state, &letters.topic) {
        return mine(Plan::GiveUp);
    }
    let Some(to) = state.image.topic(&letters.topic) else {
        let creates = share_config::creates_dead_letters(state);
        return mine(if creates { Plan::Create(letters.topic) } else { Plan::GiveUp });
    };
    if !share_config::takes_dead_letters(state, &letters.topic) {
        return mine(Plan::GiveUp);
    }
    let Some(grave) = to.partition(share.partition % to.partition_count().max(1)) else { return mine(Plan::GiveUp) };
    let (leader, epoch) = state.leader(grave);
    if leader == NO_LEADER || writer(state, source, grave) != state.config.node_id() {
        return Plan::Nothing;
    }
    let hosted = state.roles.contains_key(&GroupId(source.group));
    let (topic, id) = (from.name.clone(), to.id);
    let (source, grave) = (GroupId(source.group), GroupId(grave.group));
    let size_max = state.rules_of(id).map_or(ROUND_BYTES_MAX, |rules| rules.batch_size_max.min(ROUND_BYTES_MAX));
    Plan::Write(Grave { topic, source, grave, epoch, size_max, copies: letters.copies && hosted })
}

async fn carry_out(node: &Node, share: &ShareName, epoch: i32, records: &[DeadRecords], begun: Plan) {
    match begun {
        Plan::Nothing => {}
        Plan::GiveUp => {
            // The metadata may not have come here yet.
            node.sleep(node.in_ms(DOUBT_MS)).await;
            if plan(&mut node.state(), share) == Plan::GiveUp {
                report(node, share, epoch, records.iter().map(|run| (run.first, run.last)).collect()).await;
            }
        }
        Plan::Create(topic) => create(node, topic).await,
        Plan::Write(grave) => {
            let mut written = Vec::new();
            for run in records {
                let mut first = run.first;
                while first <= run.last {
                    match write(node, share, &grave, &DeadRecords { first, ..*run }).await {
                        Some(last) => {
                            written.push((first, last));
                            first = last + 1;
                        }
                        // It is asked for again.
                        None => return report(node, share, epoch, written).await,
                    }
                }
            }
            report(node, share, epoch, written).await;
        }
    }
}

/// Says to the coordinator which dead are done with.
async fn report(node: &Node, share: &ShareName, epoch: i32, ranges: Vec<(i64, i64)>) {
    if !ranges.is_empty() {
        let (group, _) = node.groups();
        let command = Command::Buried { share: share.clone(), epoch, ranges };
        drop(node.propose(group, command.encode()).by(node.in_ms(COMMAND_MS)).await);
    }
}

/// Creates a topic for the dead. They are named again once it is there.
async fn create(node: &Node, name: String) {
    if led(node).is_err() {
        return;
    }
    let (group, id, replication_factor) = {
        let mut state = node.state();
        (state.config.cluster, state.draw(), state.replication_factor(state.config.agreement))
    };
    let configs = [("errors.deadletterqueue.group.enable", "true"), ("message.timestamp.type", "CreateTime")];
    let command = cluster::Command::CreateTopic {
        name,
        id,
        partitions: -1,
        replication_factor,
        assignments: Vec::new(),
        configs: configs.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).to_vec(),
        validate_only: false,
    };
    drop(node.propose(group, command.encode()).by(node.in_ms(COMMAND_MS)).await);
}

/// A record's key and value.
type Content = (Option<Bytes>, Option<Bytes>);

/// The contents of records from one offset on, and the first offset of which nothing is known.
async fn contents(node: &Node, source: GroupId, first: i64) -> Option<(BTreeMap<i64, Content>, i64)> {
    let wanted =
        partition::Wanted { offset: first, max_bytes: READ_BYTES, min_one: true, committed: false, in_place: false };
    let query = partition::Query::Fetch(wanted).encode();
    let answer = node.read(source, query, Consistency::Local).by(node.in_ms(COMMAND_MS)).await;
    let fetched = answer.and_then(Result::ok).and_then(Fetched::decode)?;
    let (mut found, mut upto) = (BTreeMap::new(), first);
    let mut records = fetched.records.read().ok()?;
    while let Ok(Some(batch)) = Batch::take(&mut records) {
        let header = *batch.header();
        upto = header.next_offset();
        let Ok(plain) = batch.decompress(DECOMPRESSED_SIZE_MAX) else { continue };
        for record in batch.records(&plain).flatten() {
            let offset = header.base_offset + i64::from(record.offset_delta);
            let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
            if offset >= first {
                found.insert(offset, (copy(record.key), copy(record.value)));
            }
        }
    }
    // Of what is gone from the log there is nothing to copy.
    if fetched.error.is_none() && upto > first { Some((found, upto)) } else { Some((found, i64::MAX)) }
}

fn message(cause: Cause) -> &'static str {
    match cause {
        Cause::Rejected => "Offset rejected by client.",
        Cause::TooManyDeliveries => "Offset delivery count exceeded the threshold.",
    }
}

/// Writes some of the dead. The last of them; `None` if it could not be done.
async fn write(node: &Node, share: &ShareName, grave: &Grave, dead: &DeadRecords) -> Option<i64> {
    let nothing = (BTreeMap::new(), i64::MAX);
    let (found, upto) = if grave.copies { contents(node, grave.source, dead.first).await? } else { nothing };
    let most = dead.last.min(dead.first.saturating_add(ROUND_COUNT_MAX - 1)).min(upto.saturating_sub(1));
    let now = node.state().wall_ms();
    let (partition, count) = (share.partition.to_string(), dead.count.to_string());
    let mut batch = BatchBuilder::new(Codec::None);
    let mut last = dead.first;
    for offset in dead.first..=most {
        let content = found.get(&offset);
        let (key, value) = content.map_or((None, None), |(key, value)| (key.as_deref(), value.as_deref()));
        let names = HEADERS_BYTES + grave.topic.len() + share.group_id.len();
        let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + names;
        if batch.record_count() > 0 && batch.size() + size > grave.size_max {
            break;
        }
        let at = offset.to_string();
        let headers: [(&str, &str); 6] = [
            ("__dlq.errors.topic", &grave.topic),
            ("__dlq.errors.partition", &partition),
            ("__dlq.errors.offset", &at),
            ("__dlq.errors.group", &share.group_id),
            ("__dlq.errors.delivery.count", &count),
            ("__dlq.errors.message", message(dead.cause)),
        ];
        batch.push(now, key, value, &headers.map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))));
        last = offset;
    }
    let command = partition::Command::Append { epoch: grave.epoch, guard: None, batch: batch.build().freeze() };
    let answer = node.propose(grave.grave, command.encode()).by(node.in_ms(COMMAND_MS)).await;
    let reply = answer.and_then(Result::ok).and_then(partition::Reply::decode)?;
    reply.error.is_none().then_some(last)
}
