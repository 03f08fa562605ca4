//! What members of share groups say of records (KIP-932): ShareAcknowledge, and what a fetch says beside.
//!
//! - upon acknowledgements: they are placed in the coordinator's order, each partition's by itself, and answered when they
//!   are on stable storage of a majority;
//! - upon the end of a session or of its connection: what was acquired through it is given back.
//!
//! Acknowledgements are taken by whatever node they are sent to: records are settled where they are kept, not where they
//! were read. So a leader that dies takes no acknowledgement with it.
//!
//! Deliberately absent: what an acknowledgement does. The coordinator's machine decides.

use verity_types::ConnId;

use super::call::Call;
use super::coordination::may_group;
use super::node::{Node, State, partition_error};
use super::share_config;
use super::share_sessions::{FINAL_EPOCH, Place, Reader};
use crate::machine::cluster::operation;
use crate::machine::coordinator::{Acknowledgement, Command, Reply, ShareName, ShareSession};
use crate::wire::ErrorCode;
use crate::wire::message::{
    AcknowledgementBatch, LeaderIdAndEpoch, ShareAcknowledgePartitionData, ShareAcknowledgeRequest,
    ShareAcknowledgeResponse, ShareAcknowledgeTopicResponse,
};

/// How long the coordinator may take to answer.
pub(super) const ANSWER_MS: i32 = 30_000;
/// A lock that is to last for longer (KIP-1222).
const RENEW: i8 = 4;

/// What a request says of one partition.
pub(super) struct Part {
    pub(super) place: Place,
    pub(super) batches: Vec<AcknowledgementBatch>,
}

/// May they, and does it make sense? The group and its member.
pub(super) fn admit(
    node: &Node,
    call: &Call,
    group: Option<String>,
    member: Option<String>,
) -> Result<Reader, ErrorCode> {
    if !share_config::enabled(&node.state()) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let (group, member) = (group.unwrap_or_default(), member.unwrap_or_default());
    if group.is_empty() || member.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    if !may_group(node, call, operation::READ, &group) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    Ok((group, member))
}

/// Renewals come in requests that say so, and those bring nothing but acknowledgements.
pub(super) fn renewals_fit(parts: &[Part], is_renew: bool) -> bool {
    let mut types = parts.iter().flat_map(|part| &part.batches).flat_map(|batch| &batch.acknowledge_types);
    is_renew || !types.any(|kind| *kind == RENEW)
}

/// What stands in the way of settling records of a partition.
fn settle_refusal(state: &State, call: &Call, place: Place) -> Option<ErrorCode> {
    let Some(topic) = state.image.topic_by_id(place.0) else { return Some(ErrorCode::UNKNOWN_TOPIC_ID) };
    if !call.may_topic(state, operation::READ, &topic.name) {
        return Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    topic.partition(place.1).is_none().then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

pub(super) fn name(reader: &Reader, (topic_id, partition): Place) -> ShareName {
    ShareName { group_id: reader.0.clone(), topic_id, partition }
}

/// Places a command in the coordinator's order, whoever leads it.
pub(super) async fn order(node: &Node, command: Command) -> Result<Reply, ErrorCode> {
    let (group, _) = node.groups();
    match node.propose(group, command.encode()).by(node.in_ms(ANSWER_MS)).await {
        Some(Ok(bytes)) => Reply::decode(&bytes).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR),
        other => Err(partition_error(other.and_then(Result::err))),
    }
}

/// Settles records, as is said in a session. What came of each partition, in the order of the request.
pub(super) async fn settle(
    node: &Node,
    call: &Call,
    (reader, number): (&Reader, u64),
    parts: Vec<Part>,
) -> Vec<(Place, ErrorCode)> {
    let settings = share_config::settings(&node.state(), &reader.0);
    let (group, _) = node.groups();
    let mut asked = Vec::with_capacity(parts.len());
    for Part { place, batches } in parts {
        if let Some(error) = settle_refusal(&node.state(), call, place) {
            asked.push((place, Err(error)));
            continue;
        }
        let batch = |batch: AcknowledgementBatch| Acknowledgement {
            first: batch.first_offset,
            last: batch.last_offset,
            types: batch.acknowledge_types,
        };
        if batches.iter().any(|batch| batch.acknowledge_types.contains(&RENEW)) {
            // From now on it is this session that has them.
            node.state().share_sessions.hold(reader, number, place);
        }
        let session = session(&node.state(), number);
        let command = Command::AcknowledgeShare {
            share: name(reader, place),
            member_id: reader.1.clone(),
            session,
            batches: batches.into_iter().map(batch).collect(),
            settings: settings.clone(),
        };
        asked.push((place, Ok(node.propose(group, command.encode()))));
    }
    let until = node.in_ms(ANSWER_MS);
    let mut settled = Vec::with_capacity(asked.len());
    for (place, answer) in asked {
        let error = match answer {
            Err(error) => error,
            Ok(answer) => match answer.by(until).await {
                Some(Ok(bytes)) => match Reply::decode(&bytes) {
                    Ok(Reply::Error { error }) => error,
                    _ => ErrorCode::UNKNOWN_SERVER_ERROR,
                },
                other => partition_error(other.and_then(Result::err)),
            },
        };
        settled.push((place, error));
    }
    settled
}

/// A session of this node, as the coordinator knows it.
pub(super) fn session(state: &State, number: u64) -> ShareSession {
    ShareSession { node: state.config.node.0, incarnation: state.config.incarnation.0, number }
}

/// Gives back what a member has acquired through a session of this node.
pub(super) async fn give_back(node: &Node, (group_id, member_id): Reader, (number, partitions): (u64, Vec<Place>)) {
    if !partitions.is_empty() {
        let session = session(&node.state(), number);
        // If it is lost, the locks end by themselves.
        drop(order(node, Command::ReleaseShares { group_id, member_id, session, partitions }).await);
    }
}

/// A connection is gone.
pub(super) fn on_closed(node: &Node, conn: ConnId) {
    let ended: Vec<(Reader, (u64, Vec<Place>))> = {
        let sessions = &mut node.state().share_sessions;
        let readers = sessions.of(conn);
        let end = |reader: Reader| {
            let number = sessions.number(&reader);
            let held = sessions.end(&reader, number);
            (reader, (number, held))
        };
        readers.into_iter().map(end).collect()
    };
    for (reader, held) in ended {
        let node = node.clone();
        node.clone().spawn(async move { give_back(&node, reader, held).await });
    }
}

pub(super) async fn share_acknowledge(
    node: &Node,
    call: &Call,
    request: ShareAcknowledgeRequest,
) -> ShareAcknowledgeResponse {
    let refused = |error: ErrorCode| ShareAcknowledgeResponse {
        error_code: error.0,
        error_message: error.name().map(str::to_owned),
        ..Default::default()
    };
    let reader = match admit(node, call, request.group_id, request.member_id) {
        Ok(reader) => reader,
        Err(error) => return refused(error),
    };
    let topics = request.topics.into_iter();
    let parts: Vec<Part> = topics
        .flat_map(|topic| {
            let part = move |part: crate::wire::message::AcknowledgePartition| Part {
                place: (topic.topic_id, part.partition_index),
                batches: part.acknowledgement_batches,
            };
            topic.partitions.into_iter().map(part)
        })
        .collect();
    if !renewals_fit(&parts, request.is_renew_ack) {
        return refused(ErrorCode::INVALID_REQUEST);
    }
    let epoch = request.share_session_epoch;
    let known = node.state().share_sessions.acknowledge(&reader, epoch);
    if let Err(error) = known {
        return refused(error);
    }
    let number = node.state().share_sessions.number(&reader);
    let settled = settle(node, call, (&reader, number), parts).await;
    if epoch == FINAL_EPOCH {
        let held = node.state().share_sessions.end(&reader, number);
        give_back(node, reader.clone(), (number, held)).await;
    }
    let state = node.state();
    let mut responses: Vec<ShareAcknowledgeTopicResponse> = Vec::new();
    for ((topic_id, partition_index), error) in settled {
        let error_message = (!error.is_none()).then(|| error.name().map(str::to_owned)).flatten();
        let current_leader = LeaderIdAndEpoch::default();
        let data =
            ShareAcknowledgePartitionData { partition_index, error_code: error.0, error_message, current_leader };
        match responses.last_mut() {
            Some(topic) if topic.topic_id == topic_id => topic.partitions.push(data),
            _ => responses.push(ShareAcknowledgeTopicResponse { topic_id, partitions: vec![data] }),
        }
    }
    ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: lock_ms(&state, &reader.0),
        responses,
        ..Default::default()
    }
}

pub(super) fn lock_ms(state: &State, group: &str) -> i32 {
    i32::try_from(share_config::settings(state, group).lock_ms).unwrap_or(i32::MAX)
}
