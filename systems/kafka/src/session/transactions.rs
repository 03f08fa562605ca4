//! Producer ids and transactions.
//!
//! - upon InitProducerId without a transactional id: any node answers, as a producer asks any; the others are for the node
//!   that leads the coordinator;
//! - upon partitions that are added: all of them, or none. Nodes that verify in a client's name (version 4 and up) need no
//!   permission for the topics: the client's was looked at where it produces;
//! - upon EndTxn: it is answered once the decision stands. Markers follow (`markers`).
//!
//! Deliberately absent: looking at transactions and producers from outside (`transaction_admin`).

use verity_contract::Consistency;

use super::call::Call;
use super::coordination::{
    Errors, answer_refusal, by_partition, command, error_of, hear, may_group, may_transact, named, query, refusal,
    sort, topic_errors,
};
use super::node::{Node, State};
use crate::machine::cluster::{operation, resource};
use crate::machine::coordinator::{
    Answer, Command, CommitTransactionOffsets, MemberName, OffsetRow, Query, Reply, TopicOffsets, TopicPartitions,
    TransactionName,
};
use crate::wire::ErrorCode;
use crate::wire::message::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse, AddPartitionsToTxnResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction, EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse,
    TxnOffsetCommitRequest, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};

/// From these versions on, clients know `PRODUCER_FENCED` (KIP-588).
const INIT_KNOWS_FENCED: i16 = 4;
const KNOWS_FENCED: i16 = 2;
/// From this version on, AddPartitionsToTxn comes from nodes, for several transactions (KIP-890).
const ADD_BATCHED: i16 = 4;
/// From this version on, AddPartitionsToTxn knows `TRANSACTION_ABORTABLE` (KIP-890).
const KNOWS_ABORTABLE: i16 = 5;
/// From this version on, EndTxn raises the epoch (KIP-890).
const END_BUMPS: i16 = 5;
/// From this version on, TxnOffsetCommit makes the group part of the transaction (KIP-890).
const COMMIT_IMPLICIT: i16 = 5;

/// `PRODUCER_FENCED`, as clients of this version know it.
fn fenced(error: ErrorCode, version: i16, since: i16) -> ErrorCode {
    let old = error == ErrorCode::PRODUCER_FENCED && version < since;
    if old { ErrorCode::INVALID_PRODUCER_EPOCH } else { error }
}

/// The producer of a reply.
fn producer_of(reply: Result<Reply, ErrorCode>) -> Result<(i64, i16), ErrorCode> {
    match reply? {
        Reply::Producer { error, producer_id, producer_epoch } if error.is_none() => Ok((producer_id, producer_epoch)),
        Reply::Producer { error, .. } => Err(error),
        other => Err(refusal(&other)),
    }
}

pub(super) async fn init_producer_id(
    node: &Node,
    call: &Call,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    match init(node, call, request).await {
        Ok((producer_id, producer_epoch)) => {
            InitProducerIdResponse { throttle_time_ms: 0, error_code: super::NO_ERROR, producer_id, producer_epoch }
        }
        Err(error) => InitProducerIdResponse {
            throttle_time_ms: 0,
            error_code: fenced(error, call.version, INIT_KNOWS_FENCED).0,
            producer_id: -1,
            producer_epoch: -1,
        },
    }
}

async fn init(node: &Node, call: &Call, request: InitProducerIdRequest) -> Result<(i64, i16), ErrorCode> {
    const WAIT_MS: i32 = 10_000;
    let proposal = |id: Option<String>| Command::InitProducerId {
        transactional_id: id,
        timeout_ms: request.transaction_timeout_ms,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    if let Some(id) = request.transactional_id.clone() {
        if !may_transact(node, call, operation::WRITE, &id) {
            return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        return producer_of(command(node, proposal(Some(id))).await);
    }
    let (may, group) = {
        let state = node.state();
        let may = call.may_cluster(&state, operation::IDEMPOTENT_WRITE)
            || call.may_any(&state, operation::WRITE, resource::TOPIC);
        (may, state.config.coordinator)
    };
    if !may {
        return Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let answer = node.propose(group, proposal(None).encode()).by(node.in_ms(WAIT_MS)).await;
    match answer {
        Some(Ok(bytes)) => producer_of(Reply::decode(&bytes).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)),
        // Clients try again on this; on others they look for a coordinator that they have no use for.
        Some(Err(_)) | None => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
    }
}

pub(super) async fn add_partitions_to_txn(
    node: &Node,
    call: &Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if call.version < ADD_BATCHED {
        let one = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        let results_by_topic_v3_and_below = add_for(node, call, one).await;
        return AddPartitionsToTxnResponse { results_by_topic_v3_and_below, ..Default::default() };
    }
    let may = {
        let state = node.state();
        call.may_cluster(&state, operation::CLUSTER_ACTION)
    };
    if !may {
        let error_code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0;
        return AddPartitionsToTxnResponse { error_code, ..Default::default() };
    }
    let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
    for one in request.transactions {
        let transactional_id = one.transactional_id.clone();
        let topic_results = add_for(node, call, one).await;
        results_by_transaction.push(AddPartitionsToTxnResult { transactional_id, topic_results });
    }
    AddPartitionsToTxnResponse { results_by_transaction, ..Default::default() }
}

/// Adds the partitions of one transaction, or verifies that they are part of it.
async fn add_for(node: &Node, call: &Call, one: AddPartitionsToTxnTransaction) -> Vec<AddPartitionsToTxnTopicResult> {
    let outcome = add(node, call, &one).await;
    let error = |topic: &str, partition: i32| match error_of(&outcome, topic, partition) {
        ErrorCode::TRANSACTION_ABORTABLE if call.version < KNOWS_ABORTABLE => ErrorCode::INVALID_TXN_STATE,
        error => fenced(error, call.version, KNOWS_FENCED),
    };
    let topic = |topic: AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
        results_by_partition: topic
            .partitions
            .iter()
            .map(|partition| AddPartitionsToTxnPartitionResult {
                partition_index: *partition,
                partition_error_code: error(&topic.name, *partition).0,
            })
            .collect(),
        name: topic.name,
    };
    one.topics.into_iter().map(topic).collect()
}

/// Why partitions may not be added, by partition.
fn unfit(node: &Node, call: &Call, topics: &[AddPartitionsToTxnTopic]) -> Errors {
    let state = node.state();
    let mut errors = Errors::new();
    for topic in topics {
        let found = match call.version < ADD_BATCHED {
            true => named(&state, call, operation::WRITE, &topic.name),
            false => state.image.topic(&topic.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let rows = topic.partitions.iter().map(|partition| (*partition, ()));
        sort(found, rows, |partition, error| {
            errors.insert((topic.name.clone(), partition), error);
        });
    }
    errors
}

async fn add(node: &Node, call: &Call, one: &AddPartitionsToTxnTransaction) -> Result<Errors, ErrorCode> {
    if call.version < ADD_BATCHED && !may_transact(node, call, operation::WRITE, &one.transactional_id) {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    let mut errors = unfit(node, call, &one.topics);
    if !errors.is_empty() {
        for topic in &one.topics {
            for partition in &topic.partitions {
                errors.entry((topic.name.clone(), *partition)).or_insert(ErrorCode::OPERATION_NOT_ATTEMPTED);
            }
        }
        return Ok(errors);
    }
    let transaction = TransactionName {
        transactional_id: one.transactional_id.clone(),
        producer_id: one.producer_id,
        producer_epoch: one.producer_epoch,
    };
    let topic = |topic: &AddPartitionsToTxnTopic| TopicPartitions {
        topic: topic.name.clone(),
        partitions: topic.partitions.clone(),
    };
    let topics: Vec<TopicPartitions> = one.topics.iter().map(topic).collect();
    if !one.verify_only {
        return topic_errors(command(node, Command::AddPartitions { transaction, topics }).await);
    }
    match query(node, Query::VerifyPartitions { transaction, topics }, Consistency::Linearizable).await? {
        Answer::Verified { error, topics, .. } if error.is_none() => Ok(by_partition(topics)),
        Answer::Verified { error, .. } => Err(error),
        other => Err(answer_refusal(&other)),
    }
}

pub(super) async fn add_offsets_to_txn(
    node: &Node,
    call: &Call,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let error = add_offsets(node, call, request).await.err().unwrap_or(ErrorCode::NONE);
    AddOffsetsToTxnResponse { throttle_time_ms: 0, error_code: fenced(error, call.version, KNOWS_FENCED).0 }
}

async fn add_offsets(node: &Node, call: &Call, request: AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    if !may_transact(node, call, operation::WRITE, &request.transactional_id) {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let transaction = TransactionName {
        transactional_id: request.transactional_id,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    match command(node, Command::AddOffsets { transaction, group_id: request.group_id }).await? {
        Reply::Error { error } if error.is_none() => Ok(()),
        other => Err(refusal(&other)),
    }
}

pub(super) async fn end_txn(node: &Node, call: &Call, request: EndTxnRequest) -> EndTxnResponse {
    match end(node, call, request).await {
        Ok((producer_id, producer_epoch)) => {
            EndTxnResponse { throttle_time_ms: 0, error_code: super::NO_ERROR, producer_id, producer_epoch }
        }
        Err(error) => EndTxnResponse {
            throttle_time_ms: 0,
            error_code: fenced(error, call.version, KNOWS_FENCED).0,
            producer_id: -1,
            producer_epoch: -1,
        },
    }
}

async fn end(node: &Node, call: &Call, request: EndTxnRequest) -> Result<(i64, i16), ErrorCode> {
    if !may_transact(node, call, operation::WRITE, &request.transactional_id) {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    let transaction = TransactionName {
        transactional_id: request.transactional_id,
        producer_id: request.producer_id,
        producer_epoch: request.producer_epoch,
    };
    let bump_epoch = call.version >= END_BUMPS;
    let end = Command::EndTransaction { transaction, commit: request.committed, bump_epoch };
    producer_of(command(node, end).await)
}

pub(super) async fn txn_offset_commit(
    node: &Node,
    call: &Call,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let outcome = commit_offsets(node, call, &request).await;
    let topic = |topic: TxnOffsetCommitRequestTopic| TxnOffsetCommitResponseTopic {
        partitions: topic
            .partitions
            .iter()
            .map(|row| TxnOffsetCommitResponsePartition {
                partition_index: row.partition_index,
                // Kafka's coordinator of groups knows fenced producers by their epoch, in every version.
                error_code: fenced(error_of(&outcome, &topic.name, row.partition_index), 0, i16::MAX).0,
            })
            .collect(),
        name: topic.name,
    };
    TxnOffsetCommitResponse { throttle_time_ms: 0, topics: request.topics.into_iter().map(topic).collect() }
}

async fn commit_offsets(node: &Node, call: &Call, request: &TxnOffsetCommitRequest) -> Result<Errors, ErrorCode> {
    if !may_transact(node, call, operation::WRITE, &request.transactional_id) {
        return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    }
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    hear(node, &request.group_id, &request.member_id);
    let (topics, mut errors) = committed(&node.state(), call, &request.topics);
    if topics.is_empty() {
        return Ok(errors);
    }
    let commit = CommitTransactionOffsets {
        transaction: TransactionName {
            transactional_id: request.transactional_id.clone(),
            producer_id: request.producer_id,
            producer_epoch: request.producer_epoch,
        },
        group_id: request.group_id.clone(),
        generation: request.generation_id,
        member: MemberName { member_id: request.member_id.clone(), instance_id: request.group_instance_id.clone() },
        implicit: call.version >= COMMIT_IMPLICIT,
        topics,
    };
    let asked: Vec<(String, i32)> = commit
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|row| (topic.topic.clone(), row.partition)))
        .collect();
    let outcome = topic_errors(command(node, Command::CommitTransactionOffsets { request: commit }).await);
    for key in asked {
        let error = error_of(&outcome, &key.0, key.1);
        errors.insert(key, error);
    }
    Ok(errors)
}

/// What of a commit may be proposed, and why the rest may not.
fn committed(state: &State, call: &Call, topics: &[TxnOffsetCommitRequestTopic]) -> (Vec<TopicOffsets>, Errors) {
    let (mut kept, mut errors) = (Vec::new(), Errors::new());
    for topic in topics {
        let found = named(state, call, operation::READ, &topic.name);
        let rows = topic.partitions.iter().map(|row| {
            let row = OffsetRow {
                partition: row.partition_index,
                offset: row.committed_offset,
                leader_epoch: row.committed_leader_epoch,
                metadata: row.committed_metadata.clone().unwrap_or_default(),
            };
            (row.partition, row)
        });
        let partitions = sort(found, rows, |partition, error| {
            errors.insert((topic.name.clone(), partition), error);
        });
        if let Ok(found) = found
            && !partitions.is_empty()
        {
            kept.push(TopicOffsets { topic: topic.name.clone(), topic_id: found.id, partitions });
        }
    }
    (kept, errors)
}
