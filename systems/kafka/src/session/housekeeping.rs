//! What a node does for the cluster, asked by nobody.
//!
//! - upon its start: it reads the metadata, says whose keys it knows, and registers itself until both are in the order;
//! - upon a change of the metadata: its image follows; after a gap it reads them again;
//! - upon leading a partition: it says so to the metadata (`Led`), many at once; it tells the partition its configuration
//!   if that has changed since it was created, and its duty where the partition belongs;
//! - every [`ALIVE_MS`]: it whispers to the metadata's duty that it is there, and to the duties of what it leads.
//!
//! Deliberately absent: clients.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verity_contract::{Consistency, GroupFacts, GroupRole, Members};
use verity_types::{GroupId, NodeId};

use super::node::{Node, State, epoch_of};
use super::{markers, offsets};
use crate::machine::cluster::{self, Change, ClusterImage, Command, Delta, Leadership, NO_LEADER, PARTITIONS};
use crate::machine::partition;
use crate::wire::{ErrorCode, Uuid};

/// What stands for all groups: it moves when this node stands differently to one of them.
const ROLES: GroupId = GroupId(u64::MAX);
/// How often a node says that it is there.
pub(super) const ALIVE_MS: i32 = 2_000;
/// How often, and how many times, the first leader of a partition is told who shall lead it.
const SETTLE_MS: i32 = 100;
const SETTLE_COUNT: usize = 5;
/// How long it waits after something was not done before it tries again.
const RETRY_MS: i32 = 250;
/// How long a command may take.
const COMMAND_MS: i32 = 10_000;

/// The node has started.
pub(super) fn start(node: &Node) {
    let (reader, registrar, reporter) = (node.clone(), node.clone(), node.clone());
    node.spawn(async move { read_image(&reader).await });
    node.spawn(async move { register(&registrar).await });
    node.spawn(async move { report(&reporter).await });
    let witness = node.clone();
    node.spawn(async move { live(&witness).await });
}

/// Reads the metadata until they are here.
async fn read_image(node: &Node) {
    let group = node.state().config.cluster;
    loop {
        let answer = node.read(group, cluster::Query::Snapshot.encode(), Consistency::Local).await;
        if let Some(image) = answer.ok().and_then(|bytes| ClusterImage::from_snapshot(&bytes).ok()) {
            let mut state = node.state();
            // Events that came meanwhile are in it: a local read sees them all.
            if image.version() >= state.image.version() || !state.image_known {
                state.image = image;
            }
            state.image_known = true;
            state.topics_version = state.image.version();
            state.rules.clear();
            state.on_moved(group);
            let led: Vec<GroupId> =
                state.roles.iter().filter(|(_, role)| role.leads).map(|(group, _)| *group).collect();
            drop(state);
            // Until now it could not tell which partitions are meant.
            for group in led {
                configure(node, group);
                say_goal(node, group);
            }
            return markers::ask(node);
        }
        node.sleep(node.in_ms(RETRY_MS)).await;
    }
}

async fn register(node: &Node) {
    loop {
        let (group, keys, command) = {
            let state = node.state();
            let config = &state.config;
            let keys = Command::Keys { id: config.node_id(), keys: config.told_keys() };
            let command = Command::Register {
                id: config.node_id(),
                rack: config.rack.clone(),
                host: config.host.clone(),
                port: config.port,
                tls_port: config.tls_port,
            };
            (config.cluster, keys, command)
        };
        // Who has registered has said its keys: both stand in the order as they are proposed.
        let answers = [keys, command].map(|command| node.propose(group, command.encode()));
        let mut done = true;
        for answer in answers {
            let answer = answer.by(node.in_ms(COMMAND_MS)).await.and_then(Result::ok);
            let reply = answer.and_then(|bytes| cluster::Reply::decode(&bytes).ok());
            done &= reply.is_some_and(|reply| reply.error == ErrorCode::NONE);
        }
        if done {
            return;
        }
        node.sleep(node.in_ms(RETRY_MS)).await;
    }
}

/// What this node leads and the metadata do not say so yet.
fn unsaid(state: &State) -> Vec<Leadership> {
    let own = state.config.node_id();
    let led = state.roles.iter().filter(|(group, role)| role.leads && group.0 >= PARTITIONS);
    let news = led.filter_map(|(group, role)| {
        let (_, _, partition) = state.image.partition_of(group.0)?;
        let epoch = epoch_of(role);
        let old = partition.epoch < epoch || partition.epoch == epoch && partition.leader == NO_LEADER;
        (old && partition.hosts.contains(&own)).then_some(Leadership { group: group.0, leader: own, epoch })
    });
    news.collect()
}

/// Says what this node leads, as long as there is something to say.
async fn report(node: &Node) {
    let group = node.state().config.cluster;
    loop {
        let mut watch = node.watch([ROLES, group]);
        let reports = unsaid(&node.state());
        if reports.is_empty() {
            watch.moved(node.in_ms(ALIVE_MS)).await;
            continue;
        }
        let said = reports.clone();
        let command = Command::Led { reports }.encode();
        let done = node.propose(group, command).by(node.in_ms(COMMAND_MS)).await;
        // What the metadata do not take is not said as fast as it can be.
        if !matches!(done, Some(Ok(_))) || unsaid(&node.state()) == said {
            node.sleep(node.in_ms(RETRY_MS)).await;
        }
    }
}

/// Says that it is there, and where partitions belong that it leads.
async fn live(node: &Node) {
    loop {
        let (group, id) = {
            let state = node.state();
            (state.config.cluster, state.config.node_id())
        };
        node.whisper(group, cluster::alive(id));
        let led: Vec<GroupId> = {
            let state = node.state();
            state.roles.iter().filter(|(_, role)| role.leads).map(|(group, _)| *group).collect()
        };
        led.into_iter().for_each(|group| say_goal(node, group));
        node.sleep(node.in_ms(ALIVE_MS)).await;
    }
}

/// Tells the duty of a partition that this node leads who shall hold it, and who shall lead it. Once the group has settled
/// there, the metadata hear of it.
fn say_goal(node: &Node, group: GroupId) {
    let (goal, leader) = {
        let state = node.state();
        let Some((_, _, partition)) = state.image.partition_of(group.0) else { return };
        let own = state.config.node_id();
        let preferred = partition.preferred();
        let hand_over = preferred != own && state.image.is_online(preferred);
        let goal = partition.is_moving().then(|| (partition.version, partition.goal().to_vec()));
        (goal, if hand_over { u64::try_from(preferred).ok() } else { None })
    };
    if let Some((version, replicas)) = goal {
        let node = node.clone();
        node.clone().spawn(async move { bring_to(&node, group, version, replicas).await });
    } else if leader.is_some() {
        node.whisper(group, partition::Goal::of_leader(leader).encode());
    }
}

/// Takes a partition that moves one step further.
async fn bring_to(node: &Node, group: GroupId, version: u64, replicas: Vec<i32>) {
    let members: BTreeSet<u64> = replicas.iter().filter_map(|id| u64::try_from(*id).ok()).collect();
    let goal_members = Members::of_voters(members.iter().copied().map(NodeId));
    let arrived = facts_of(node, group).await.is_some_and(|facts| facts.settled && facts.members == goal_members);
    if !has_settled(node, group, version).await {
        node.whisper(group, partition::Goal { version, members, arrived, leader: None }.encode());
        if !arrived {
            return;
        }
        node.sleep(node.in_ms(SETTLE_MS)).await;
        if !has_settled(node, group, version).await {
            return;
        }
    }
    // As of now: the group came to its goal before that.
    let Some(applied) = facts_of(node, group).await.map(|facts| facts.applied.0) else { return };
    let command = Command::Reassigned { group: group.0, version, replicas, applied };
    let cluster = node.state().config.cluster;
    drop(node.propose(cluster, command.encode()).by(node.in_ms(COMMAND_MS)).await);
}

async fn facts_of(node: &Node, group: GroupId) -> Option<GroupFacts> {
    GroupFacts::decode(node.inspect(group).await.ok()?).ok()
}

/// True if the group of a partition has come to this version of its goal.
async fn has_settled(node: &Node, group: GroupId, version: u64) -> bool {
    let answer = node.read(group, partition::Query::Settled.encode(), Consistency::Local).await;
    let found = answer.ok().and_then(partition::Found::decode);
    found.is_some_and(|found| u64::try_from(found.offset).is_ok_and(|settled| settled >= version))
}

/// Takes in an event of the metadata.
pub(super) fn on_changed(node: &Node, bytes: &Bytes) {
    let mut state = node.state();
    if !state.image_known {
        return;
    }
    let change = Change::decode(bytes);
    let deltas = change.as_ref().map(|change| change.deltas.as_slice()).unwrap_or_default();
    let configs = deltas.iter().any(|delta| matches!(delta, Delta::Config { .. }));
    let fewer = deltas.iter().any(|delta| matches!(delta, Delta::TopicGone { .. } | Delta::Partition { .. }));
    let topics = fewer || deltas.iter().any(|delta| matches!(delta, Delta::Topic { .. }));
    let gone = gone(&state, deltas);
    let before = if configs { configured(&state) } else { BTreeMap::new() };
    let taken = change.as_ref().is_ok_and(|change| state.image.on_change(change).is_ok());
    if !taken {
        state.image_known = false;
        drop(state);
        let reader = node.clone();
        return node.spawn(async move { read_image(&reader).await });
    }
    if configs || fewer {
        state.rules.clear();
    }
    if fewer {
        forget_groups(&mut state);
    }
    if topics {
        state.topics_version = state.image.version();
    }
    let after = if configs { configured(&state) } else { BTreeMap::new() };
    drop(state);
    if !gone.is_empty() {
        offsets::on_topics_deleted(node, gone);
    }
    let changed = after.into_iter().filter(|(group, version)| before.get(group) != Some(version));
    changed.for_each(|(group, _)| configure(node, group));
}

/// The topics that go by these changes.
fn gone(state: &State, deltas: &[Delta]) -> Vec<(String, Uuid)> {
    let gone = deltas.iter().filter_map(|delta| match delta {
        Delta::TopicGone { id } => state.image.topic_by_id(*id),
        _ => None,
    });
    gone.map(|topic| (topic.name.clone(), topic.id)).collect()
}

/// Forgets groups that this node hosts no more.
fn forget_groups(state: &mut State) {
    let own = state.config.node_id();
    let hosted = |group: &GroupId| state.image.partition_of(group.0).is_some_and(|(_, _, of)| of.hosts.contains(&own));
    let left: Vec<GroupId> =
        state.roles.keys().filter(|group| group.0 >= PARTITIONS && !hosted(group)).copied().collect();
    for group in left {
        state.roles.remove(&group);
        state.on_moved(group);
    }
}

/// The version of the configuration of each partition that this node leads.
fn configured(state: &State) -> BTreeMap<GroupId, u64> {
    let led = state.roles.iter().filter(|(group, role)| role.leads && group.0 >= PARTITIONS).map(|(group, _)| *group);
    let version = |group: GroupId| {
        let (topic, _, _) = state.image.partition_of(group.0)?;
        Some((group, state.image.partition_config(topic).version))
    };
    led.filter_map(version).collect()
}

/// Tells a partition its configuration.
fn configure(node: &Node, group: GroupId) {
    let command = {
        let state = node.state();
        let Some((topic, index, _)) = state.image.partition_of(group.0) else { return };
        let config = state.image.partition_config(topic);
        if config.version <= topic.blueprint(index).config.version {
            return;
        }
        partition::Command::Configure(config).encode()
    };
    // The order keeps it, or its next leader says it again.
    drop(node.propose(group, command));
}

/// This node stands differently to a group.
pub(super) fn on_role(node: &Node, group: GroupId, role: GroupRole) {
    node.state().on_moved(ROLES);
    if group.0 >= PARTITIONS && role.leads {
        configure(node, group);
        say_goal(node, group);
        markers::ask(node);
        settle(node, group);
    }
}

/// A partition's first leader may be any replica. If it is not the preferred one, it hands over before clients count on it:
/// as soon as its duty listens and the other replica has started, which takes moments.
fn settle(node: &Node, group: GroupId) {
    let is_first =
        node.state().image.partition_of(group.0).is_none_or(|(_, _, partition)| partition.leader == NO_LEADER);
    if !is_first {
        return;
    }
    let teller = node.clone();
    node.spawn(async move {
        for _ in 0..SETTLE_COUNT {
            teller.sleep(teller.in_ms(SETTLE_MS)).await;
            if teller.state().role(group.0).is_none_or(|role| !role.leads) {
                return;
            }
            say_goal(&teller, group);
        }
    });
}

/// The state of a group was replaced.
pub(super) fn on_restored(node: &Node, group: GroupId) {
    let (coordinator, cluster) = node.groups();
    if group == cluster {
        let reader = node.clone();
        node.spawn(async move { read_image(&reader).await });
    } else if group == coordinator {
        node.state().tickets.on_restored();
        markers::ask(node);
    }
}
