//! Who is in the cluster, which topics there are, who leads their partitions, and where coordinators are.
//!
//! Everything is read from the node's image of the metadata. What is asked of a topic that is not there may create it, as
//! `auto.create.topics.enable` says; the answer then waits until its partitions have leaders, or for a moment at most.
//!
//! Deliberately absent: the choice of a coordinator. One group coordinates all consumer groups and transactions; who leads
//! it is their coordinator.

use std::collections::BTreeSet;

use verity_types::GroupId;

use super::call::{Call, NO_OPERATIONS};
use super::node::{Node, State};
use super::topics;
use crate::machine::cluster::{CLUSTER_NAME, NO_LEADER, Partition, Topic, operation, resource};
use crate::wire::message::{
    Coordinator, DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponseCursor,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, FindCoordinatorRequest,
    FindCoordinatorResponse, MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic, NodeEndpoint,
};
use crate::wire::{ErrorCode, Uuid};

/// How long a request for metadata waits for the leaders of topics that it created.
const LEADERS_WAIT_MS: i32 = 1_000;
/// What is told of an epoch that is not known.
const NO_EPOCH: i32 = -1;
/// How long a client that looks for its coordinator waits for one to be elected.
const COORDINATOR_WAIT_MS: i32 = 1_000;
/// `max.request.partition.size.limit` (KIP-966).
const PARTITION_LIMIT: i32 = 2_000;
/// Brokers, in DescribeCluster (KIP-919).
const BROKERS: i8 = 1;

/// Where clients that came by this door find a node.
pub(super) fn endpoint(state: &State, call: &Call, id: i32) -> Option<NodeEndpoint> {
    let node = state.image.node(id)?;
    let tls = state.config.doors.get(&call.door).is_some_and(|listener| listener.tls);
    let port = i32::from(if tls { node.tls_port } else { node.port });
    (port != 0).then(|| NodeEndpoint { node_id: id, host: node.host.clone(), port, rack: node.rack.clone() })
}

/// What stands for the controller: whoever leads the metadata, or any node that is there.
pub(super) fn controller(state: &State) -> i32 {
    let leader = state.role(state.config.cluster.0).and_then(|role| role.leader);
    let leader = leader.and_then(|node| i32::try_from(node.0).ok()).filter(|id| state.image.is_online(*id));
    leader.or_else(|| state.image.nodes().find(|node| !node.fenced).map(|node| node.id)).unwrap_or(-1)
}

fn online(state: &State, call: &Call) -> Vec<NodeEndpoint> {
    state.image.nodes().filter(|node| !node.fenced).filter_map(|node| endpoint(state, call, node.id)).collect()
}

/// Who leads a partition as clients are told: its leader and epoch, and an error if there is none.
///
/// As in Kafka, a partition has a leader from its creation on: until its first one was heard of, whoever shall be. That one
/// sends clients on if somebody else came first. Clients that keep what they were told forget a leader that does not lead,
/// and may keep for good that there is none.
fn leader_for_clients(state: &State, partition: &Partition) -> (i32, i32, ErrorCode) {
    let (leader, epoch) = match state.leader(partition) {
        (NO_LEADER, _) if partition.leader == NO_LEADER => (partition.preferred(), NO_EPOCH),
        led => led,
    };
    if leader == NO_LEADER || !state.image.is_online(leader) {
        return (NO_LEADER, epoch, ErrorCode::LEADER_NOT_AVAILABLE);
    }
    (leader, epoch, ErrorCode::NONE)
}

fn describe_partition(state: &State, index: i32, partition: &Partition) -> MetadataResponsePartition {
    let (leader_id, leader_epoch, error) = leader_for_clients(state, partition);
    MetadataResponsePartition {
        error_code: error.0,
        partition_index: index,
        leader_id,
        leader_epoch,
        replica_nodes: partition.listed(),
        isr_nodes: state.image.in_sync(partition),
        offline_replicas: state.image.offline(partition),
    }
}

fn describe_topic(state: &State, call: &Call, topic: &Topic, operations: bool) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: super::NO_ERROR,
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: (0..)
            .zip(&topic.partitions)
            .map(|(index, partition)| describe_partition(state, index, partition))
            .collect(),
        topic_authorized_operations: if operations {
            call.operations(state, resource::TOPIC, &topic.name)
        } else {
            NO_OPERATIONS
        },
    }
}

fn refused(name: Option<String>, topic_id: Uuid, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: error.0, name, topic_id, ..Default::default() }
}

pub(super) async fn metadata(node: &Node, call: &Call, request: MetadataRequest) -> MetadataResponse {
    let operations = request.include_topic_authorized_operations;
    // Version 0 has no null: an empty list asks for all topics there.
    let wanted = request.topics.filter(|topics| call.version > 0 || !topics.is_empty());
    let mut answers = Vec::new();
    match wanted {
        None => {
            let state = node.state();
            let seen = state.image.topics().filter(|topic| call.may_topic(&state, operation::DESCRIBE, &topic.name));
            answers.extend(seen.map(|topic| describe_topic(&state, call, topic, operations)));
        }
        Some(mut topics) => {
            let mut seen = BTreeSet::new();
            topics.retain(|topic| seen.insert((topic.name.clone(), topic.topic_id)));
            let may_create = call.version < 4 || request.allow_auto_topic_creation;
            let missing: BTreeSet<String> = {
                let state = node.state();
                let named =
                    topics.iter().filter(|topic| topic.topic_id.is_zero()).filter_map(|topic| topic.name.clone());
                named.filter(|name| state.image.topic(name).is_none()).collect()
            };
            let errors = topics::auto_create(node, call, missing, may_create).await;
            let named = topics.iter().filter_map(|topic| topic.name.as_deref());
            topics::await_leaders(node, named.filter(|name| errors.contains_key(*name)), LEADERS_WAIT_MS).await;
            let state = node.state();
            for wanted in topics {
                let (name, id) = (wanted.name, wanted.topic_id);
                let found = match &name {
                    Some(name) if id.is_zero() => state.image.topic(name),
                    _ => state.image.topic_by_id(id),
                };
                let shown = found.map(|topic| topic.name.as_str()).or(name.as_deref()).unwrap_or_default();
                if !call.may_topic(&state, operation::DESCRIBE, shown) {
                    let (name, error) = match id.is_zero() {
                        true => (name, ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                        false => (None, ErrorCode::UNKNOWN_TOPIC_ID),
                    };
                    answers.push(refused(name, id, error));
                    continue;
                }
                let error = name.as_ref().and_then(|name| errors.get(name)).copied().filter(|error| !error.is_none());
                answers.push(match (found, error) {
                    (Some(topic), _) => describe_topic(&state, call, topic, operations),
                    (None, Some(error)) => refused(name, id, error),
                    (None, None) if id.is_zero() => refused(name, id, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    (None, None) => refused(None, id, ErrorCode::UNKNOWN_TOPIC_ID),
                });
            }
        }
    }
    let state = node.state();
    let brokers = online(&state, call).into_iter();
    MetadataResponse {
        throttle_time_ms: 0,
        brokers: brokers
            .map(|NodeEndpoint { node_id, host, port, rack }| MetadataResponseBroker { node_id, host, port, rack })
            .collect(),
        cluster_id: Some(state.config.cluster_id.clone()),
        controller_id: controller(&state),
        topics: answers,
        cluster_authorized_operations: cluster_operations(&state, call, request.include_cluster_authorized_operations),
        error_code: super::NO_ERROR,
    }
}

fn cluster_operations(state: &State, call: &Call, wanted: bool) -> i32 {
    match wanted {
        false => NO_OPERATIONS,
        true if call.may_cluster(state, operation::DESCRIBE) => call.operations(state, resource::CLUSTER, CLUSTER_NAME),
        true => 0,
    }
}

pub(super) fn describe_cluster(node: &Node, call: &Call, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let state = node.state();
    if request.endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE.0,
            error_message: Some("The request was sent to an endpoint of the wrong type.".to_owned()),
            endpoint_type: BROKERS,
            ..Default::default()
        };
    }
    let shown = state.image.nodes().filter(|node| !node.fenced || request.include_fenced_brokers);
    let brokers = shown.filter_map(|known| {
        let NodeEndpoint { node_id: broker_id, host, port, rack } = endpoint(&state, call, known.id)?;
        Some(DescribeClusterBroker { broker_id, host, port, rack, is_fenced: known.fenced })
    });
    DescribeClusterResponse {
        throttle_time_ms: 0,
        error_code: super::NO_ERROR,
        error_message: None,
        endpoint_type: BROKERS,
        cluster_id: state.config.cluster_id.clone(),
        controller_id: controller(&state),
        brokers: brokers.collect(),
        cluster_authorized_operations: cluster_operations(&state, call, request.include_cluster_authorized_operations),
    }
}

pub(super) fn describe_topic_partitions(
    node: &Node,
    call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let state = node.state();
    let mut names: BTreeSet<String> = request.topics.into_iter().map(|topic| topic.name).collect();
    if names.is_empty() {
        names = state.image.topics().map(|topic| topic.name.clone()).collect();
    }
    let (first, mut index) = match request.cursor {
        Some(cursor) => (cursor.topic_name, usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => (String::new(), 0),
    };
    let limit = request.response_partition_limit.clamp(1, PARTITION_LIMIT);
    let mut room = usize::try_from(limit).unwrap_or(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= first) {
        let from = if name == first { std::mem::take(&mut index) } else { 0 };
        if !call.may_topic(&state, operation::DESCRIBE, &name) {
            continue;
        }
        let Some(topic) = state.image.topic(&name) else {
            let error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
            let name = Some(name);
            response.topics.push(DescribeTopicPartitionsResponseTopic { error_code, name, ..Default::default() });
            continue;
        };
        let count = topic.partitions.len();
        if room == 0 {
            response.next_cursor = Some(DescribeTopicPartitionsResponseCursor { topic_name: name, partition_index: 0 });
            break;
        }
        let to = count.min(from.saturating_add(room));
        let described = (from..to).filter_map(|at| {
            let index = i32::try_from(at).ok()?;
            let partition = topic.partition(index)?;
            let MetadataResponsePartition { error_code, leader_id, leader_epoch, isr_nodes, .. } =
                describe_partition(&state, index, partition);
            Some(DescribeTopicPartitionsResponsePartition {
                error_code,
                partition_index: index,
                leader_id,
                leader_epoch,
                replica_nodes: partition.listed(),
                isr_nodes,
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: state.image.offline(partition),
            })
        });
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: super::NO_ERROR,
            name: Some(name.clone()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions: described.collect(),
            topic_authorized_operations: call.operations(&state, resource::TOPIC, &name),
        });
        room -= to.saturating_sub(from);
        if to < count {
            let partition_index = i32::try_from(to).unwrap_or(i32::MAX);
            response.next_cursor = Some(DescribeTopicPartitionsResponseCursor { topic_name: name, partition_index });
            break;
        }
    }
    response
}

/// Kinds of keys that FindCoordinator knows.
mod key {
    pub(super) const GROUP: i8 = 0;
    pub(super) const TRANSACTION: i8 = 1;
    pub(super) const SHARE: i8 = 2;
}

/// Who leads the coordinator's group, once somebody does.
async fn coordinator(node: &Node, call: &Call) -> Option<NodeEndpoint> {
    let (group, cluster) = node.groups();
    let until = node.in_ms(COORDINATOR_WAIT_MS);
    let mut watch = node.watch([group, cluster]);
    loop {
        {
            let state = node.state();
            let leader = state.roles.get(&group).and_then(|role| role.leader);
            let leader = leader.and_then(|node| i32::try_from(node.0).ok());
            if let Some(found) = leader.and_then(|id| endpoint(&state, call, id)) {
                return Some(found);
            }
        }
        if !watch.moved(until).await {
            return None;
        }
    }
}

pub(super) async fn find_coordinator(
    node: &Node,
    call: &Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    const BATCHED: i16 = 4;
    let keys = if call.version < BATCHED { vec![request.key] } else { request.coordinator_keys };
    let place = coordinator(node, call).await;
    let find = |key: String| {
        let refuse = |error: ErrorCode| {
            let error_message = error.name().map(str::to_owned);
            let key = key.clone();
            Coordinator { key, node_id: -1, host: String::new(), port: -1, error_code: error.0, error_message }
        };
        let kind = match request.key_type {
            key::GROUP | key::SHARE => resource::GROUP,
            key::TRANSACTION => resource::TRANSACTIONAL_ID,
            _ => return refuse(ErrorCode::INVALID_REQUEST),
        };
        // A share coordinator's key is a group, a topic and a partition.
        let name = if request.key_type == key::SHARE { key.split(':').next().unwrap_or_default() } else { &key };
        if !call.may(&node.state(), operation::DESCRIBE, kind, name) {
            return refuse(match kind {
                resource::GROUP => ErrorCode::GROUP_AUTHORIZATION_FAILED,
                _ => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            });
        }
        match &place {
            None => refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            Some(NodeEndpoint { node_id, host, port, .. }) => Coordinator {
                key: key.clone(),
                node_id: *node_id,
                host: host.clone(),
                port: *port,
                error_code: super::NO_ERROR,
                error_message: None,
            },
        }
    };
    let mut coordinators: Vec<Coordinator> = keys.into_iter().map(find).collect();
    if call.version >= BATCHED {
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let Some(Coordinator { node_id, host, port, error_code, error_message, .. }) = coordinators.pop() else {
        return FindCoordinatorResponse::default();
    };
    FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..Default::default() }
}

/// The groups of a topic's partitions.
pub(super) fn groups_of(topic: &Topic) -> impl Iterator<Item = GroupId> + '_ {
    topic.partitions.iter().map(|partition| GroupId(partition.group))
}
