//! Partitions change their leaders and their nodes, and nodes say what lies on them.
//!
//! - upon ElectLeaders: whoever leads a partition is told to hand over, and told again while it does not;
//! - upon AlterPartitionReassignments: the metadata say where a partition belongs; whoever leads it does the rest
//!   (`housekeeping`);
//! - upon ListPartitionReassignments: what moves, as this node's image has it;
//! - upon DescribeLogDirs: each partition that is here is asked for its size.
//!
//! Deliberately absent: other folders of a node than the one.

use std::collections::{BTreeMap, BTreeSet};

use verity_contract::Consistency;
use verity_types::{GroupId, NodeId};

use super::call::Call;
use super::commands::{self, Verdict};
use super::node::{Node, State};
use crate::machine::cluster::{Command, ELECT_PREFERRED, Handover, operation, stays};
use crate::machine::partition;
use crate::wire::ErrorCode;
use crate::wire::message::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, DescribeLogDirsPartition,
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
    ElectLeadersPartitionResult, ElectLeadersRequest, ElectLeadersResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
    ReassignablePartitionResponse, ReassignableTopicResponse, ReplicaElectionResult,
};

// ---- ElectLeaders

/// How often a leader is told to hand over.
const REMIND_MS: i32 = 1_000;

/// A partition, and what came of its election.
type Election = (String, i32, Verdict);

/// Which partitions are meant.
fn candidates(state: &State, request: &ElectLeadersRequest) -> BTreeSet<(String, i32)> {
    match &request.topic_partitions {
        Some(topics) => {
            let each =
                topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic.clone(), *index)));
            each.collect()
        }
        None => {
            let each = state
                .image
                .topics()
                .flat_map(|topic| (0..topic.partition_count()).map(|index| (topic.name.clone(), index)));
            each.collect()
        }
    }
}

/// Has leaders hand over, and waits until they did.
async fn hand_over(node: &Node, mut open: Vec<(String, i32, Handover)>, timeout_ms: i32) -> Vec<Election> {
    let until = node.in_ms(timeout_ms);
    let mut elections = Vec::new();
    loop {
        let mut watch = node.watch(open.iter().map(|(_, _, handover)| handover.group));
        {
            let state = node.state();
            open.retain(|(topic, index, handover)| {
                let partition = state.image.partition_of(handover.group.0);
                let leader = partition.map(|(_, _, partition)| state.leader(partition).0);
                let error = match leader {
                    None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    Some(leader) if u64::try_from(leader) == Ok(handover.to.0) => ErrorCode::NONE,
                    Some(_) => return true,
                };
                elections.push((topic.clone(), *index, Verdict::of(error)));
                false
            });
        }
        let now = node.now();
        if open.is_empty() || now >= until {
            break;
        }
        for (_, _, Handover { group, to: NodeId(leader), .. }) in &open {
            node.whisper(*group, partition::Goal::of_leader(Some(*leader)).encode());
        }
        watch.moved(until.min(node.in_ms(REMIND_MS))).await;
    }
    let late = open.into_iter().map(|(topic, index, _)| (topic, index, Verdict::of(ErrorCode::REQUEST_TIMED_OUT)));
    elections.extend(late);
    elections
}

pub(super) async fn elect_leaders(node: &Node, call: &Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let election = if call.version == 0 { ELECT_PREFERRED } else { request.election_type };
    let all = request.topic_partitions.is_none();
    let mut elections: Vec<Election> = Vec::new();
    let mut open = Vec::new();
    let may = {
        let state = node.state();
        let may = call.may_cluster(&state, operation::ALTER);
        for (topic, index) in candidates(&state, &request) {
            if !may {
                // Nobody who may not elect learns which partitions there are.
                if !all {
                    elections.push((topic, index, Verdict::of(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)));
                }
                continue;
            }
            match state.image.election(&topic, index, election) {
                // The one that leads keeps to it for as long as it does so well.
                Ok(_) if state.agreement_of(&topic).is_fixed() => {
                    elections.push((topic, index, Verdict::of(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE)));
                }
                Ok(handover) => open.push((topic, index, handover)),
                Err(refusal) if all && refusal.error == ErrorCode::ELECTION_NOT_NEEDED => {}
                Err(refusal) => elections.push((topic, index, refusal.into())),
            }
        }
        may
    };
    if !open.is_empty() {
        elections.extend(hand_over(node, open, commands::bounded(request.timeout_ms)).await);
    }
    elections.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for (topic, partition_id, verdict) in elections {
        if results.last().is_none_or(|last| last.topic != topic) {
            results.push(ReplicaElectionResult { topic, partition_result: Vec::new() });
        }
        let result =
            ElectLeadersPartitionResult { partition_id, error_code: verdict.error.0, error_message: verdict.message };
        results.last_mut().expect("it was just put there").partition_result.push(result);
    }
    let error = if may { ErrorCode::NONE } else { ErrorCode::CLUSTER_AUTHORIZATION_FAILED };
    ElectLeadersResponse { throttle_time_ms: 0, error_code: error.0, replica_election_results: results }
}

// ---- reassignments

pub(super) async fn alter_reassignments(
    node: &Node,
    call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let (may, fixed) = {
        let state = node.state();
        let fixed = request.topics.iter().filter(|topic| state.agreement_of(&topic.name).is_fixed());
        let fixed: BTreeSet<String> = fixed.map(|topic| topic.name.clone()).collect();
        (call.may_cluster(&state, operation::ALTER), fixed)
    };
    let denied = || Verdict::of(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let each = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|wanted| (&topic.name, wanted)));
    let plan = each.map(|(topic, wanted)| match may {
        false => Err(denied()),
        true if fixed.contains(topic) && wanted.replicas.is_some() => Err(stays().into()),
        true => Ok(Command::Reassign {
            topic: topic.clone(),
            partition: wanted.partition_index,
            replicas: wanted.replicas.clone(),
            allow_replication_factor_change,
        }),
    });
    let planned = plan.collect();
    let mut verdicts = commands::decide_some(node, planned, commands::bounded(request.timeout_ms)).await.into_iter();
    let responses = request.topics.into_iter().map(|topic| {
        let answer = |partition_index: i32| {
            let verdict = verdicts.next().expect("every partition has a verdict");
            let (error_code, error_message) = (verdict.error.0, verdict.message);
            ReassignablePartitionResponse { partition_index, error_code, error_message }
        };
        let partitions = topic.partitions.iter().map(|wanted| wanted.partition_index).map(answer).collect();
        ReassignableTopicResponse { name: topic.name, partitions }
    });
    let responses = responses.collect();
    let refusal = (!may).then(denied);
    AlterPartitionReassignmentsResponse {
        throttle_time_ms: 0,
        allow_replication_factor_change,
        error_code: refusal.as_ref().map_or(super::NO_ERROR, |verdict| verdict.error.0),
        error_message: refusal.and_then(|verdict| verdict.message),
        responses,
    }
}

pub(super) fn list_reassignments(
    node: &Node,
    call: &Call,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let state = node.state();
    if !call.may_cluster(&state, operation::DESCRIBE) {
        let verdict = Verdict::of(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        return ListPartitionReassignmentsResponse {
            error_code: verdict.error.0,
            error_message: verdict.message,
            ..Default::default()
        };
    }
    let wanted: Option<BTreeSet<(&str, i32)>> = request.topics.as_ref().map(|topics| {
        let each =
            topics.iter().flat_map(|topic| topic.partition_indexes.iter().map(|index| (topic.name.as_str(), *index)));
        each.collect()
    });
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for moving in state.image.moving(None) {
        let name = moving.topic.name.as_str();
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&(name, moving.partition))) {
            continue;
        }
        if topics.last().is_none_or(|last| last.name != name) {
            topics.push(OngoingTopicReassignment { name: name.to_owned(), partitions: Vec::new() });
        }
        let partition = OngoingPartitionReassignment {
            partition_index: moving.partition,
            replicas: moving.replicas,
            adding_replicas: moving.adding,
            removing_replicas: moving.removing,
        };
        topics.last_mut().expect("it was just put there").partitions.push(partition);
    }
    ListPartitionReassignmentsResponse { topics, ..Default::default() }
}

// ---- DescribeLogDirs

/// So many partitions are asked for their sizes at once.
const AT_ONCE: usize = 256;

/// Partitions that are here, of those that are asked about.
fn hosted(state: &State, request: &DescribeLogDirsRequest) -> Vec<(String, i32, GroupId)> {
    let here = |topic: &str, index: i32| {
        let group = state.image.partition(topic, index)?.group;
        state.role(group)?;
        Some((topic.to_owned(), index, GroupId(group)))
    };
    let Some(topics) = &request.topics else {
        let groups = state.roles.keys().filter_map(|group| state.image.partition_of(group.0));
        let mut all: Vec<_> = groups.filter_map(|(topic, index, _)| here(&topic.name, index)).collect();
        all.sort();
        return all;
    };
    let asked = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic.as_str(), *index)));
    let distinct: BTreeSet<(&str, i32)> = asked.collect();
    distinct.into_iter().filter_map(|(topic, index)| here(topic, index)).collect()
}

pub(super) async fn describe_log_dirs(
    node: &Node,
    call: &Call,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let (may, log_dir, hosted) = {
        let state = node.state();
        let may = call.may_cluster(&state, operation::DESCRIBE);
        (may, state.config.log_dir.clone(), if may { hosted(&state, &request) } else { Vec::new() })
    };
    if !may {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0;
        return DescribeLogDirsResponse { error_code, ..Default::default() };
    }
    let until = node.in_ms(commands::TIMEOUT_MS);
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for together in hosted.chunks(AT_ONCE) {
        let query = partition::Query::Describe.encode();
        let ask = |group: GroupId| node.read(group, query.clone(), Consistency::Local);
        let asked: Vec<_> = together.iter().map(|(_, _, group)| ask(*group)).collect();
        for ((topic, partition_index, _), answer) in together.iter().zip(asked) {
            let described = answer.by(until).await.and_then(Result::ok).and_then(partition::Described::decode);
            // What has no answer has just left.
            let Some(described) = described else { continue };
            topics.entry(topic.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: *partition_index,
                partition_size: i64::try_from(described.size).unwrap_or(i64::MAX),
                offset_lag: 0,
                is_future_key: false,
            });
        }
    }
    let topics = topics.into_iter().map(|(name, partitions)| DescribeLogDirsTopic { name, partitions }).collect();
    let result = DescribeLogDirsResult { error_code: super::NO_ERROR, log_dir, topics, ..Default::default() };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}
