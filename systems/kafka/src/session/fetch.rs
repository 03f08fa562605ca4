//! Batches from partitions to consumers.
//!
//! - upon a fetch: its partitions are read one after the other, until its bytes are spent;
//! - upon too little: it waits until one of its partitions grows, or its time is over;
//! - upon an offset that lies behind what this node has: the node asks the group how far it is before it says that the
//!   offset does not exist. A new leader may know of less than it has;
//! - upon a consumer in the rack of a follower: the leader sends it there (KIP-392). A follower answers with what it has
//!   applied, which is committed.
//!
//! Deliberately absent: replication. Groups do that, and nobody fetches as a replica.

use verity_contract::Consistency;
use verity_types::{GroupId, Mono};

use super::call::Call;
use super::fetch_sessions::{Fetching, Name};
use super::node::{Node, State, ended, partition_error};
use super::partitions::{self, Elsewhere};
use super::quotas;
use crate::machine::cluster::{CONSUMER_BYTE_RATE, operation};
use crate::machine::partition::{Fetched, Query, Wanted};
use crate::wire::message::{
    AbortedTransaction, FetchPartition, FetchPartitionData, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch,
};
use crate::wire::{Blob, ErrorCode};

/// `fetch.max.bytes`: no answer is larger, but for one batch.
const BYTES_MAX: i32 = 57_671_680;
/// A fetch waits at most this long, in milliseconds, whatever it says.
const WAIT_MS_MAX: i32 = 600_000;
/// Consumers that may be sent to followers.
const KNOWS_RACKS: i16 = 11;
const COMMITTED: i8 = 1;

/// What a fetch wants of all its partitions.
struct Wants<'a> {
    call: &'a Call,
    committed: bool,
    rack: &'a str,
    max_bytes: i32,
}

/// Where one partition is read.
enum Target {
    Refused(FetchPartitionData),
    Read(GroupId),
}

fn refusal(index: i32, error: ErrorCode) -> FetchPartitionData {
    FetchPartitionData {
        partition_index: index,
        error_code: error.0,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Some(Blob::default()),
        ..Default::default()
    }
}

/// The follower that a consumer in this rack is to read from, if it is another node than this one.
fn nearer(state: &State, group: GroupId, rack: &str) -> Option<i32> {
    if rack.is_empty() {
        return None;
    }
    let own = state.config.node_id();
    let in_rack = |id: &i32| state.image.node(*id).is_some_and(|node| node.rack.as_deref() == Some(rack));
    if in_rack(&own) {
        return None;
    }
    let (_, _, partition) = state.image.partition_of(group.0)?;
    // Those that are still to come have nothing to show yet.
    let here = |id: &i32| partition.replicas.contains(id) && state.image.is_online(*id);
    partition.replicas.iter().copied().filter(here).find(in_rack)
}

fn target(node: &Node, wants: &Wants<'_>, name: &Name, wanted: &FetchPartition) -> Target {
    let state = node.state();
    let index = wanted.partition;
    let topic = match partitions::topic(&state, &name.name, name.id) {
        Ok(topic) => topic,
        Err(error) => return Target::Refused(refusal(index, error)),
    };
    if !wants.call.may_topic(&state, operation::READ, &topic.name) {
        return Target::Refused(refusal(index, ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    }
    let find = if wants.call.version >= KNOWS_RACKS { partitions::place } else { partitions::led };
    let place = match find(&state, topic, index, wanted.current_leader_epoch) {
        Ok(place) => place,
        Err(Elsewhere { error, leader }) => {
            return Target::Refused(FetchPartitionData { current_leader: leader, ..refusal(index, error) });
        }
    };
    if place.leads
        && let Some(replica) = nearer(&state, place.group, wants.rack)
    {
        let preferred_read_replica = replica;
        return Target::Refused(FetchPartitionData { preferred_read_replica, ..refusal(index, ErrorCode::NONE) });
    }
    Target::Read(place.group)
}

fn data(index: i32, fetched: Fetched) -> FetchPartitionData {
    let aborted = fetched.aborted.into_iter();
    FetchPartitionData {
        partition_index: index,
        error_code: fetched.error.0,
        high_watermark: fetched.high_watermark,
        last_stable_offset: fetched.last_stable,
        log_start_offset: fetched.log_start,
        aborted_transactions: Some(
            aborted.map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset }).collect(),
        ),
        records: Some(fetched.records),
        ..Default::default()
    }
}

/// Reads one partition; answers as well how many offsets the batches span.
async fn read(
    node: &Node,
    wants: &Wants<'_>,
    group: GroupId,
    wanted: &FetchPartition,
    left: i32,
    min_one: bool,
) -> (FetchPartitionData, u64) {
    let max_bytes = u32::try_from(wanted.partition_max_bytes.min(left)).unwrap_or(0);
    let (offset, committed) = (wanted.fetch_offset, wants.committed);
    let query = Query::Fetch(Wanted { offset, max_bytes, min_one, committed, in_place: true }).encode();
    let ask = async |consistency| {
        let answer = node.read(group, query.clone(), consistency).placed().await;
        answer.map(|(bytes, range)| Fetched::of(bytes, range))
    };
    let mut result = ask(Consistency::Local).await;
    if let Ok(Some(Fetched { error: ErrorCode::OFFSET_OUT_OF_RANGE, high_watermark, .. })) = &result
        && wanted.fetch_offset > *high_watermark
    {
        result = ask(Consistency::Linearizable).await;
    }
    match result {
        Ok(Some(fetched)) => {
            let span = fetched.span;
            (data(wanted.partition, fetched), span)
        }
        Ok(None) => (refusal(wanted.partition, ErrorCode::UNKNOWN_SERVER_ERROR), 0),
        Err(failure) => (refusal(wanted.partition, partition_error(Some(failure))), 0),
    }
}

/// What all partitions have.
#[derive(Default)]
struct Look {
    answers: Vec<(Name, FetchPartitionData)>,
    bytes: i32,
    /// How many offsets that is.
    span: u64,
    /// There is a reason not to wait for more.
    told: bool,
}

async fn look(node: &Node, wants: &Wants<'_>, partitions: &[(Name, FetchPartition)]) -> Look {
    let mut look = Look { answers: Vec::with_capacity(partitions.len()), ..Look::default() };
    for (name, wanted) in partitions {
        let answer = match target(node, wants, name, wanted) {
            Target::Refused(answer) => {
                look.told = true;
                answer
            }
            Target::Read(group) => {
                let left = wants.max_bytes.saturating_sub(look.bytes).max(0);
                let (answer, span) = read(node, wants, group, wanted, left, look.bytes == 0).await;
                look.told |= answer.error_code != super::NO_ERROR;
                look.span += span;
                let size = answer.records.as_ref().map_or(0, Blob::len);
                look.bytes = look.bytes.saturating_add(i32::try_from(size).unwrap_or(i32::MAX));
                answer
            }
        };
        look.answers.push((name.clone(), answer));
    }
    look
}

fn groups(state: &State, partitions: &[(Name, FetchPartition)]) -> Vec<GroupId> {
    let group = |(name, wanted): &(Name, FetchPartition)| {
        let topic = partitions::topic(state, &name.name, name.id).ok()?;
        topic.partition(wanted.partition).map(|partition| GroupId(partition.group))
    };
    partitions.iter().filter_map(group).collect()
}

async fn gather(node: &Node, wants: &Wants<'_>, fetching: &Fetching, min_bytes: i32, until: Mono) -> Look {
    let groups = groups(&node.state(), &fetching.partitions);
    let mut watch = node.watch(groups.into_iter().chain([ended(wants.call.conn)]));
    loop {
        let look = look(node, wants, &fetching.partitions).await;
        if look.told || look.bytes >= min_bytes.min(wants.max_bytes) || node.now() >= until {
            return look;
        }
        // What is too little is read again, and not kept meanwhile.
        drop(look);
        watch.moved(until).await;
        if !node.state().connections.contains_key(&wants.call.conn) {
            return Look::default();
        }
    }
}

pub(super) async fn fetch(node: &Node, call: &Call, request: FetchRequest) -> FetchResponse {
    let fetching = match node.state().fetch_sessions.begin(call.version, &request) {
        Ok(fetching) => fetching,
        Err(error) => return FetchResponse { error_code: error.0, ..Default::default() },
    };
    let until = node.in_ms(request.max_wait_ms.clamp(0, WAIT_MS_MAX));
    let wants = Wants {
        call,
        committed: request.isolation_level == COMMITTED,
        rack: &request.rack_id,
        max_bytes: request.max_bytes.clamp(0, BYTES_MAX),
    };
    let Look { mut answers, span, .. } = gather(node, &wants, &fetching, request.min_bytes, until).await;
    let state = &mut *node.state();
    state.fetch_sessions.finish(&fetching, &mut answers);
    let bytes: usize = answers.iter().filter_map(|(_, data)| data.records.as_ref()).map(Blob::len).sum();
    let throttle_time_ms = quotas::charge(state, call, CONSUMER_BYTE_RATE, bytes as f64);
    if let Some(meter) = state.config.meter.as_ref().filter(|_| bytes > 0) {
        meter.sent(span, bytes as u64);
    }
    let leaders: Vec<LeaderIdAndEpoch> = answers.iter().map(|(_, data)| data.current_leader.clone()).collect();
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (Name { name, id }, data) in answers {
        match responses.last_mut() {
            Some(topic) if topic.topic == name && topic.topic_id == id => topic.partitions.push(data),
            _ => responses.push(FetchableTopicResponse { topic: name, topic_id: id, partitions: vec![data] }),
        }
    }
    FetchResponse {
        throttle_time_ms,
        error_code: super::NO_ERROR,
        session_id: fetching.session,
        responses,
        node_endpoints: partitions::endpoints(state, call, leaders.iter()),
    }
}
