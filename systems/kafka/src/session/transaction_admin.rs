//! Transactions and producers as their administrators see them.
//!
//! Whoever leads the coordinator knows all transactions; the others know of none, and say so to who asks for a list, as
//! administrators ask every node for its part of it. Producers are known to who leads their partition.
//!
//! Deliberately absent: aborting a transaction by hand, which clients do by `WriteTxnMarkers`, a request between nodes.

use std::collections::BTreeMap;

use verity_contract::Consistency;
use verity_types::GroupId;

use super::call::Call;
use super::consumer_groups::pattern;
use super::coordination::{answer_refusal, led, may_transact, named, query};
use super::node::{Node, partition_error};
use crate::machine::cluster::{operation, resource};
use crate::machine::coordinator::{Answer, Query, TransactionRow};
use crate::machine::partition::{self, Described, ProducerRow};
use crate::wire::ErrorCode;
use crate::wire::message::{
    DescribeProducersPartitionResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeProducersTopicResponse, DescribeTransactionsRequest, DescribeTransactionsResponse,
    DescribeTransactionsState, DescribeTransactionsTopicData, ListTransactionsRequest, ListTransactionsResponse,
    ListTransactionsState, ProducerState,
};

/// How long a partition may take to answer.
const ANSWER_MS: i32 = 10_000;

pub(super) async fn describe_transactions(
    node: &Node,
    call: &Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let ids = request.transactional_ids;
    let permitted: Vec<String> =
        ids.iter().filter(|id| may_transact(node, call, operation::DESCRIBE, id)).cloned().collect();
    let rows = match permitted.is_empty() {
        true => Ok(BTreeMap::new()),
        false => rows(node, permitted).await,
    };
    let state = node.state();
    let describe = |id: String| {
        let row = match &rows {
            _ if !call.may(&state, operation::DESCRIBE, resource::TRANSACTIONAL_ID, &id) => {
                Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
            }
            _ if id.is_empty() => Err(ErrorCode::INVALID_REQUEST),
            Ok(rows) => rows.get(&id).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => Err(*error),
        };
        let found = row.and_then(|row| if row.error.is_none() { Ok(row) } else { Err(row.error) });
        let row = match found {
            Ok(row) => row,
            Err(error) => {
                let error_code = error.0;
                return DescribeTransactionsState { error_code, transactional_id: id, ..Default::default() };
            }
        };
        // What they may not see is left out.
        let seen = row.topics.iter().filter(|topic| call.may_topic(&state, operation::DESCRIBE, &topic.topic));
        DescribeTransactionsState {
            error_code: super::NO_ERROR,
            transactional_id: id,
            transaction_state: row.state.clone(),
            transaction_timeout_ms: i32::try_from(row.timeout_ms).unwrap_or(i32::MAX),
            transaction_start_time_ms: row.started,
            producer_id: row.producer_id,
            producer_epoch: row.producer_epoch,
            topics: seen
                .map(|topic| DescribeTransactionsTopicData {
                    topic: topic.topic.clone(),
                    partitions: topic.partitions.clone(),
                })
                .collect(),
        }
    };
    DescribeTransactionsResponse { throttle_time_ms: 0, transaction_states: ids.into_iter().map(describe).collect() }
}

async fn rows(node: &Node, ids: Vec<String>) -> Result<BTreeMap<String, TransactionRow>, ErrorCode> {
    let question = Query::DescribeTransactions { transactional_ids: ids };
    match query(node, question, Consistency::Linearizable).await? {
        Answer::Transactions { rows, .. } => {
            Ok(rows.into_iter().map(|row| (row.transactional_id.clone(), row)).collect())
        }
        other => Err(answer_refusal(&other)),
    }
}

pub(super) async fn list_transactions(
    node: &Node,
    call: &Call,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let refused = |error: ErrorCode| ListTransactionsResponse { error_code: error.0, ..Default::default() };
    let wanted = match request.transactional_id_pattern.as_deref() {
        None | Some("") => None,
        Some(text) => match pattern(text) {
            Ok(regex) => Some(regex),
            Err(_) => return refused(ErrorCode::INVALID_REGULAR_EXPRESSION),
        },
    };
    if led(node).is_err() {
        return ListTransactionsResponse::default();
    }
    let now = u64::try_from(node.state().wall_ms()).unwrap_or(0);
    let question = Query::ListTransactions {
        states: request.state_filters,
        producer_ids: request.producer_id_filters,
        duration_ms: request.duration_filter,
        now,
    };
    let (rows, unknown_states) = match query(node, question, Consistency::Linearizable).await {
        Ok(Answer::Transactions { rows, unknown_states }) => (rows, unknown_states),
        Ok(other) => return refused(answer_refusal(&other)),
        Err(error) => return refused(error),
    };
    let state = node.state();
    let shown = rows.into_iter().filter(|row| {
        let id = row.transactional_id.as_str();
        wanted.as_ref().is_none_or(|regex| regex.is_match(id))
            && call.may(&state, operation::DESCRIBE, resource::TRANSACTIONAL_ID, id)
    });
    ListTransactionsResponse {
        throttle_time_ms: 0,
        error_code: super::NO_ERROR,
        unknown_state_filters: unknown_states,
        transaction_states: shown
            .map(|row| ListTransactionsState {
                transactional_id: row.transactional_id,
                producer_id: row.producer_id,
                transaction_state: row.state,
            })
            .collect(),
    }
}

pub(super) async fn describe_producers(
    node: &Node,
    call: &Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            partitions.push(match producers(node, call, &topic.name, index).await {
                Ok(rows) => DescribeProducersPartitionResponse {
                    partition_index: index,
                    active_producers: rows.into_iter().map(producer).collect(),
                    ..Default::default()
                },
                Err(error) => DescribeProducersPartitionResponse {
                    partition_index: index,
                    error_code: error.0,
                    error_message: error.name().map(str::to_owned),
                    ..Default::default()
                },
            });
        }
        topics.push(DescribeProducersTopicResponse { name: topic.name, partitions });
    }
    DescribeProducersResponse { throttle_time_ms: 0, topics }
}

fn producer(row: ProducerRow) -> ProducerState {
    ProducerState {
        producer_id: row.producer_id,
        producer_epoch: i32::from(row.epoch),
        last_sequence: row.last_sequence,
        last_timestamp: row.heard,
        coordinator_epoch: row.coordinator_epoch,
        current_txn_start_offset: row.open,
    }
}

async fn producers(node: &Node, call: &Call, topic: &str, index: i32) -> Result<Vec<ProducerRow>, ErrorCode> {
    let group = {
        let state = node.state();
        let found = named(&state, call, operation::READ, topic)?.partition(index);
        let group = found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.group;
        if !state.role(group).is_some_and(|role| role.leads) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        GroupId(group)
    };
    let question = partition::Query::Describe.encode();
    let answer = node.read(group, question, Consistency::Linearizable).by(node.in_ms(ANSWER_MS)).await;
    match answer {
        Some(Ok(bytes)) => Described::decode(bytes).map(|found| found.producers).ok_or(ErrorCode::UNKNOWN_SERVER_ERROR),
        Some(Err(failure)) => Err(partition_error(Some(failure))),
        None => Err(partition_error(None)),
    }
}
