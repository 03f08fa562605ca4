//! Batches from producers into partitions.
//!
//! - upon a batch: it is judged once ([`validate`]), and becomes one command of its partition. All batches of a request are
//!   in their orders before the first is waited for;
//! - upon acks=1 as upon acks=-1: the answer waits until the batch is committed and applied, since an offset that was told
//!   never changes. What is committed is on stable storage of a majority;
//! - upon acks=0: nothing is answered; an error ends the connection, so that the producer learns of it;
//! - upon a batch of a transaction: where the partition has no open transaction of that producer, the coordinator is asked
//!   whether the partition belongs to one (KIP-890), or is told (version 12 and above). The partition then takes the batch
//!   only if no marker came in between.
//!
//! Deliberately absent: batching of batches. Commands of one turn share an entry, and entries of one round a sync.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use verity_contract::Consistency;
use verity_types::{GroupId, Mono};

use super::call::Call;
use super::node::{Answer, Node, coordinator_error, partition_error};
use super::partitions::{self, Elsewhere};
use super::quotas;
use crate::machine::cluster::{PRODUCER_BYTE_RATE, operation, resource};
use crate::machine::coordinator::{self, TopicPartitions, TransactionName};
use crate::machine::partition::{Command, Found, Query, Reply};
use crate::wire::message::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use crate::wire::{BatchHeader, ErrorCode, Rejected, Rules, stamp, validate};

/// The first version whose producers leave it to the node to add partitions to transactions (KIP-890, transactions v2).
const ADDS_PARTITIONS: i16 = 12;
/// zstd is a codec from here on (KIP-110).
const WITH_ZSTD: i16 = 7;
/// A request waits at most this long, in milliseconds, whatever it says.
const TIMEOUT_MS_MAX: i32 = 300_000;

/// One partition's part of a request.
struct Part {
    topic: usize,
    index: i32,
    state: PartState,
}

enum PartState {
    Refused(PartitionProduceResponse),
    /// It may be appended.
    Judged(Judged),
    /// It is on its way, with so many records in so many bytes.
    Asked(Answer, (u64, u64)),
}

struct Judged {
    group: GroupId,
    epoch: i32,
    name: String,
    header: BatchHeader,
    guard: Option<i64>,
    batch: Bytes,
}

fn refusal(index: i32, error: ErrorCode, message: Option<String>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: error.0,
        base_offset: -1,
        log_start_offset: -1,
        error_message: message.or_else(|| error.name().map(str::to_owned)),
        ..Default::default()
    }
}

fn rejected(index: i32, rejected: Rejected) -> PartitionProduceResponse {
    let errors = rejected.records.into_iter();
    PartitionProduceResponse {
        record_errors: errors
            .map(|(batch_index, message)| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: Some(message),
            })
            .collect(),
        ..refusal(index, rejected.code, Some(rejected.message))
    }
}

/// Looks at one partition's batch.
fn judge(node: &Node, call: &Call, topic: &TopicProduceData, index: i32, records: Option<Bytes>) -> PartState {
    let mut state = node.state();
    let found = match partitions::topic(&state, &topic.name, topic.topic_id) {
        Ok(found) => found,
        Err(error) => return PartState::Refused(refusal(index, error, None)),
    };
    if !call.may_topic(&state, operation::WRITE, &found.name) {
        return PartState::Refused(refusal(index, ErrorCode::TOPIC_AUTHORIZATION_FAILED, None));
    }
    let (name, id, place) = match partitions::led(&state, found, index, -1) {
        Ok(place) => (found.name.clone(), found.id, place),
        Err(Elsewhere { error, leader }) => {
            return PartState::Refused(PartitionProduceResponse {
                current_leader: leader,
                ..refusal(index, error, None)
            });
        }
    };
    let Some(rules) = state.rules_of(id) else {
        return PartState::Refused(refusal(index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
    };
    drop(state);
    let records = records.unwrap_or_default();
    match validate(&records, &Rules { zstd: call.version >= WITH_ZSTD, ..rules }) {
        Err(why) => PartState::Refused(rejected(index, why)),
        Ok(accepted) => {
            let batch = match accepted.stamp {
                None => records,
                Some((kind, max_timestamp)) => {
                    let mut bytes = BytesMut::from(&records[..]);
                    stamp(&mut bytes, kind, max_timestamp);
                    bytes.freeze()
                }
            };
            let (group, epoch, header) = (place.group, place.epoch, accepted.header);
            PartState::Judged(Judged { group, epoch, name, header, guard: None, batch })
        }
    }
}

/// Asks partitions whether the producer's transaction is open there, and the coordinator about the others.
async fn verify(node: &Node, call: &Call, transactional_id: &str, parts: &mut [Part], until: Mono) {
    let (mut asked, mut producer) = (Vec::new(), None);
    for (at, part) in parts.iter_mut().enumerate() {
        let PartState::Judged(judged) = &part.state else { continue };
        if !judged.header.attributes.is_transactional() {
            let reason = "a batch outside of the request's transaction".to_owned();
            part.state = PartState::Refused(refusal(part.index, ErrorCode::INVALID_TXN_STATE, Some(reason)));
            continue;
        }
        let own = (judged.header.producer_id, judged.header.producer_epoch);
        if *producer.get_or_insert(own) != own {
            let reason = "batches of several producers".to_owned();
            part.state = PartState::Refused(refusal(part.index, ErrorCode::INVALID_PRODUCER_ID_MAPPING, Some(reason)));
            continue;
        }
        let query = Query::Guard(judged.header.producer_id).encode();
        asked.push((at, node.read(judged.group, query, Consistency::Linearizable)));
    }
    let mut unknown: Vec<usize> = Vec::new();
    for (at, answer) in asked {
        let result = answer.by(until).await;
        let part = &mut parts[at];
        let PartState::Judged(judged) = &mut part.state else { continue };
        match result {
            Some(Ok(bytes)) => {
                let Found { offset, timestamp: open, epoch, .. } =
                    Found::decode(bytes).unwrap_or(Found::none(ErrorCode::UNKNOWN_SERVER_ERROR));
                judged.guard = Some(offset);
                // What is open in another epoch is another transaction.
                if open < 0 || epoch != i32::from(judged.header.producer_epoch) {
                    unknown.push(at);
                }
            }
            other => {
                let error = partition_error(other.and_then(Result::err));
                part.state = PartState::Refused(refusal(part.index, error, None));
            }
        }
    }
    ask_coordinator(node, call, transactional_id, parts, &unknown, until).await;
}

/// A request that names no transaction brings no batch of one: nobody could say whether it may.
fn refuse_transactional(parts: &mut [Part]) {
    for part in parts {
        if matches!(&part.state, PartState::Judged(judged) if judged.header.attributes.is_transactional()) {
            let error = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
            part.state = PartState::Refused(refusal(part.index, error, None));
        }
    }
}

async fn ask_coordinator(
    node: &Node,
    call: &Call,
    transactional_id: &str,
    parts: &mut [Part],
    unknown: &[usize],
    until: Mono,
) {
    let mut named: Vec<TopicPartitions> = Vec::new();
    let mut producer = None;
    for part in unknown.iter().map(|at| &parts[*at]) {
        let PartState::Judged(judged) = &part.state else { continue };
        producer.get_or_insert((judged.header.producer_id, judged.header.producer_epoch));
        match named.iter_mut().find(|topic| topic.topic == judged.name) {
            Some(topic) => topic.partitions.push(part.index),
            None => named.push(TopicPartitions { topic: judged.name.clone(), partitions: vec![part.index] }),
        }
    }
    let Some((producer_id, producer_epoch)) = producer else { return };
    let (group, _) = node.groups();
    let transaction = TransactionName { transactional_id: transactional_id.to_owned(), producer_id, producer_epoch };
    let adds = call.version >= ADDS_PARTITIONS;
    let answer = if adds {
        let command = coordinator::Command::AddPartitions { transaction, topics: named };
        node.propose(group, command.encode())
    } else {
        let query = coordinator::Query::VerifyPartitions { transaction, topics: named };
        node.read(group, query.encode(), Consistency::Linearizable)
    };
    let errors = match answer.by(until).await {
        Some(Ok(bytes)) if adds => match coordinator::Reply::decode(&bytes) {
            Ok(coordinator::Reply::Topics { error, topics, .. }) => Ok((error, topics)),
            Ok(coordinator::Reply::Error { error }) => Err(error),
            _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        },
        Some(Ok(bytes)) => match coordinator::Answer::decode(&bytes) {
            Ok(coordinator::Answer::Verified { error, topics, .. }) => Ok((error, topics)),
            _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        },
        other => Err(coordinator_error(other.and_then(Result::err))),
    };
    for at in unknown {
        let part = &mut parts[*at];
        let PartState::Judged(judged) = &part.state else { continue };
        let error = match &errors {
            Err(error) => *error,
            Ok((error, _)) if !error.is_none() => *error,
            Ok((_, topics)) => {
                let of_topic = topics.iter().filter(|topic| topic.topic == judged.name);
                let of_partition = of_topic.flat_map(|topic| &topic.partitions).find(|(index, _)| *index == part.index);
                of_partition.map_or(ErrorCode::INVALID_TXN_STATE, |(_, error)| *error)
            }
        };
        if !error.is_none() {
            part.state = PartState::Refused(refusal(part.index, for_producers(error), None));
        }
    }
}

/// What a producer is told of an error of the coordinator's: it knows the partition's leader alone, and tries again there.
fn for_producers(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::CONCURRENT_TRANSACTIONS => ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        other => other,
    }
}

fn taken(index: i32, reply: &Reply) -> PartitionProduceResponse {
    if !reply.error.is_none() {
        let refused = refusal(index, for_producers(reply.error), None);
        return PartitionProduceResponse { log_start_offset: reply.log_start, ..refused };
    }
    PartitionProduceResponse {
        index,
        error_code: super::NO_ERROR,
        base_offset: reply.offset,
        log_append_time_ms: reply.append_time,
        log_start_offset: reply.log_start,
        ..Default::default()
    }
}

/// Tells the meter of a batch that was taken. A duplicate counts again, as Kafka counts it.
fn count(node: &Node, (records, bytes): (u64, u64)) {
    if let Some(meter) = &node.state().config.meter {
        meter.received(records, bytes);
    }
}

/// The answer, or the word that there is none; `None` ends the connection.
pub(super) async fn produce(node: &Node, call: &Call, request: ProduceRequest) -> Option<ProduceResponse> {
    let ProduceRequest { transactional_id, acks, timeout_ms, topic_data } = request;
    // What a producer says of time is about the replicas that it waits for (`acks=all`); others it would make send twice.
    let until = node.in_ms(if acks == -1 { timeout_ms.clamp(0, TIMEOUT_MS_MAX) } else { TIMEOUT_MS_MAX });
    let refused = refused_as_a_whole(node, call, transactional_id.as_deref(), acks);
    let mut names = Vec::with_capacity(topic_data.len());
    let (mut parts, mut seen, mut bytes) = (Vec::new(), BTreeSet::new(), 0usize);
    for (topic, mut data) in topic_data.into_iter().enumerate() {
        for partition in std::mem::take(&mut data.partition_data) {
            let index = partition.index;
            bytes += partition.records.as_ref().map_or(0, Bytes::len);
            let twice = !seen.insert((data.name.clone(), data.topic_id, index));
            let state = match refused.or(twice.then_some(ErrorCode::INVALID_REQUEST)) {
                Some(error) => PartState::Refused(refusal(index, error, None)),
                None => judge(node, call, &data, index, partition.records),
            };
            parts.push(Part { topic, index, state });
        }
        names.push(data);
    }
    match &transactional_id {
        Some(id) => verify(node, call, id, &mut parts, until).await,
        None => refuse_transactional(&mut parts),
    }
    for part in &mut parts {
        if let PartState::Judged(Judged { group, epoch, guard, batch, header, .. }) = &part.state {
            let command = Command::Append { epoch: *epoch, guard: *guard, batch: batch.clone() };
            let size = (u64::try_from(header.record_count).unwrap_or(0), batch.len() as u64);
            part.state = PartState::Asked(node.propose(*group, command.pieces(call.size)), size);
        }
    }
    let throttle_time_ms = quotas::charge(&mut node.state(), call, PRODUCER_BYTE_RATE, bytes as f64);
    let mut responses: Vec<TopicProduceResponse> = names
        .into_iter()
        .map(|topic| TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: Vec::new(),
        })
        .collect();
    for Part { topic, index, state } in parts {
        let response = match state {
            PartState::Refused(response) => response,
            PartState::Judged(_) => unreachable!("what was judged was asked"),
            PartState::Asked(answer, size) => match answer.by(until).await {
                Some(Ok(bytes)) => match Reply::decode(bytes) {
                    Some(reply) => {
                        if reply.error.is_none() {
                            count(node, size);
                        }
                        taken(index, &reply)
                    }
                    None => refusal(index, ErrorCode::UNKNOWN_SERVER_ERROR, None),
                },
                other => refusal(index, partition_error(other.and_then(Result::err)), None),
            },
        };
        responses[topic].partition_responses.push(response);
    }
    let all = responses.iter().flat_map(|topic| &topic.partition_responses);
    if acks == 0 {
        return all.into_iter().all(|partition| partition.error_code == super::NO_ERROR).then(ProduceResponse::default);
    }
    let node_endpoints = partitions::endpoints(&node.state(), call, all.map(|partition| &partition.current_leader));
    Some(ProduceResponse { responses, throttle_time_ms, node_endpoints })
}

/// Why no partition of a request can take anything.
fn refused_as_a_whole(node: &Node, call: &Call, transactional_id: Option<&str>, acks: i16) -> Option<ErrorCode> {
    if !matches!(acks, -1..=1) {
        return Some(ErrorCode::INVALID_REQUIRED_ACKS);
    }
    let id = transactional_id?;
    let may = call.may(&node.state(), operation::WRITE, resource::TRANSACTIONAL_ID, id);
    (!may).then_some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
}
