//! Where to begin to read: offsets by time, and where the epochs of leaders ended.
//!
//! Everything is asked of the partition's leader, as of every write acknowledged before: a consumer that asks for the end
//! after it was told of a write must see it.
//!
//! Deliberately absent: offsets that groups have committed (`offsets`).

use verity_contract::Consistency;
use verity_types::Mono;

use super::call::Call;
use super::node::{Answer, Node, partition_error};
use super::partitions::{self, Elsewhere};
use crate::machine::cluster::operation;
use crate::machine::partition::{Found, Query};
use crate::wire::message::{
    EpochEndOffset, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use crate::wire::{ErrorCode, Uuid};

const COMMITTED: i8 = 1;
/// How long a partition may take, in milliseconds. What clients say since version 10 is how long they wait for offsets of
/// what is kept elsewhere (KIP-1075), and 0 if they want none of it.
const WAIT_MS: i32 = 30_000;

/// The first version that knows a timestamp which stands for something else (KIP-734, KIP-405, KIP-1005, KIP-1023).
fn since(timestamp: i64) -> i16 {
    match timestamp {
        -3 => 7,
        -4 => 8,
        -5 => 9,
        -6 => 11,
        _ => 0,
    }
}

/// A question to a partition under way, or why there is none.
enum Asked {
    Refused(ErrorCode),
    Asked(Answer),
}

fn ask(node: &Node, call: &Call, name: &str, index: i32, known_epoch: i32, query: Query) -> Asked {
    let place = {
        let state = node.state();
        if !call.may_topic(&state, operation::DESCRIBE, name) {
            return Asked::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        }
        let topic = partitions::topic(&state, name, Uuid::ZERO).map_err(Elsewhere::from);
        topic.and_then(|topic| partitions::led(&state, topic, index, known_epoch))
    };
    match place {
        Err(Elsewhere { error, .. }) => Asked::Refused(error),
        Ok(place) => Asked::Asked(node.read(place.group, query.encode(), Consistency::Linearizable)),
    }
}

async fn found(asked: Asked, until: Mono) -> Found {
    match asked {
        Asked::Refused(error) => Found::none(error),
        Asked::Asked(answer) => match answer.by(until).await {
            Some(Ok(bytes)) => Found::decode(bytes).unwrap_or(Found::none(ErrorCode::UNKNOWN_SERVER_ERROR)),
            other => Found::none(partition_error(other.and_then(Result::err))),
        },
    }
}

pub(super) async fn list_offsets(node: &Node, call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == COMMITTED;
    let until = node.in_ms(WAIT_MS);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let asked = topic.partitions.iter().map(|partition| {
            let (index, timestamp) = (partition.partition_index, partition.timestamp);
            if call.version < since(timestamp) {
                return (index, Asked::Refused(ErrorCode::UNSUPPORTED_VERSION));
            }
            let query = Query::Offset { timestamp, committed };
            (index, ask(node, call, &topic.name, index, partition.current_leader_epoch, query))
        });
        let asked: Vec<(i32, Asked)> = asked.collect();
        topics.push((topic.name, asked));
    }
    let mut response = ListOffsetsResponse::default();
    for (name, asked) in topics {
        let mut partitions = Vec::with_capacity(asked.len());
        for (partition_index, asked) in asked {
            let Found { error, offset, timestamp, epoch } = found(asked, until).await;
            partitions.push(ListOffsetsPartitionResponse {
                partition_index,
                error_code: error.0,
                timestamp,
                offset,
                leader_epoch: epoch,
            });
        }
        response.topics.push(ListOffsetsTopicResponse { name, partitions });
    }
    response
}

pub(super) async fn offset_for_leader_epoch(
    node: &Node,
    call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let until = node.in_ms(WAIT_MS);
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let asked: Vec<(i32, Asked)> = topic
            .partitions
            .iter()
            .map(|wanted| {
                let query = Query::Epoch(wanted.leader_epoch);
                let known = wanted.current_leader_epoch;
                (wanted.partition, ask(node, call, &topic.topic, wanted.partition, known, query))
            })
            .collect();
        let mut partitions = Vec::with_capacity(asked.len());
        for (partition, asked) in asked {
            let Found { error, offset, epoch, .. } = found(asked, until).await;
            partitions.push(EpochEndOffset { error_code: error.0, partition, leader_epoch: epoch, end_offset: offset });
        }
        response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    response
}
