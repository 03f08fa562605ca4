//! Members of classic groups: joins, syncs, heartbeats, leaves.
//!
//! - upon a join or a sync: it becomes a command; if the rebalance goes on, its answer comes as an event, or is asked for
//!   where the event may have been missed;
//! - upon a heartbeat: this node's state answers. What would throw the member out is asked again, linearizably;
//! - upon whatever a member sends: the coordinator's duty hears that it lives.
//!
//! Deliberately absent: consumer groups (`consumer_groups`), and those that look at groups from outside (`group_admin`).

use bytes::Bytes;
use verity_contract::Consistency;

use super::call::Call;
use super::coordination::{command, hear, may_group, query, refusal};
use super::node::Node;
use super::tickets::{Asking, Outcome};
use crate::machine::cluster::operation;
use crate::machine::coordinator::{
    Answer, Command, GroupEvent, Join, JoinResult, Left, MemberName, Protocol, Query, Reply, Sync, SyncResult,
};
use crate::wire::message::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
    LeaveGroupRequest, LeaveGroupResponse, MemberResponse, SyncGroupRequest, SyncGroupResponse,
};
use crate::wire::{ErrorCode, Uuid};

/// Whoever waits asks so often what became of it, whatever events say.
const RECHECK_MS: i32 = 30_000;
/// From this version on, a dynamic member of a classic group first gets its id (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// From this version on, leaders of classic groups understand that they need not assign (KIP-814).
const SKIPS_ASSIGNMENT: i16 = 9;
/// From this version on, a sync names the protocol that was chosen (KIP-559).
const SYNC_NAMES_PROTOCOL: i16 = 5;
/// From this version on, several members leave at once (KIP-345).
const LEAVE_BATCHED: i16 = 3;

/// A name that nobody else has: what a member calls itself, and a random id.
fn member_id(name: &str, id: Uuid) -> String {
    let hex = |range: std::ops::Range<usize>| id.0[range].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{name}-{}-{}-{}-{}-{}", hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16))
}

/// What a join or a sync waits for.
struct Wanted<'a> {
    group_id: &'a str,
    member_id: &'a str,
    sync: bool,
}

/// Waits for the rebalance, as [`Answer::Joined`] or [`Answer::Synced`].
async fn wait(node: &Node, call: &Call, asking: Asking, ticket: u64, wanted: Wanted<'_>) -> Result<Answer, ErrorCode> {
    let mut waiting = asking.wait(call.conn, ticket);
    loop {
        match waiting.outcome(node.in_ms(RECHECK_MS)).await {
            Outcome::Done(GroupEvent::JoinDone { result, .. }) => return Ok(Answer::Joined { result }),
            Outcome::Done(GroupEvent::SyncDone { result, .. }) => return Ok(Answer::Synced { result }),
            // Nobody reads the answer.
            Outcome::Gone => return Err(ErrorCode::NETWORK_EXCEPTION),
            Outcome::Doubtful => {}
        }
        let question = Query::Waiting {
            group_id: wanted.group_id.to_owned(),
            member_id: wanted.member_id.to_owned(),
            ticket,
            sync: wanted.sync,
        };
        match query(node, question, Consistency::Linearizable).await? {
            Answer::StillWaiting => {}
            answer => return Ok(answer),
        }
    }
}

pub(super) async fn join_group(node: &Node, call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let own = request.member_id.clone();
    let result = join(node, call, request).await.unwrap_or_else(|error| JoinResult::error(error, &own));
    let member = |member: crate::machine::coordinator::JoinMember| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        metadata: member.metadata,
    };
    JoinGroupResponse {
        throttle_time_ms: 0,
        error_code: result.error.0,
        generation_id: result.generation,
        protocol_type: result.protocol_type,
        protocol_name: result.protocol,
        leader: result.leader,
        skip_assignment: result.skip_assignment,
        member_id: result.member_id,
        members: result.members.into_iter().map(member).collect(),
    }
}

async fn join(node: &Node, call: &Call, request: JoinGroupRequest) -> Result<JoinResult, ErrorCode> {
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    hear(node, &request.group_id, &request.member_id);
    let drawn = node.state().draw();
    let new_member_id = member_id(request.group_instance_id.as_deref().unwrap_or(&call.client_id), drawn);
    let group_id = request.group_id.clone();
    let own = if request.member_id.is_empty() { new_member_id.clone() } else { request.member_id.clone() };
    let request = Join {
        group_id: request.group_id,
        member_id: request.member_id,
        new_member_id,
        instance_id: request.group_instance_id,
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.host),
        protocol_type: request.protocol_type,
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| Protocol { name: protocol.name, metadata: protocol.metadata })
            .collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        member_id_required: call.version >= MEMBER_ID_REQUIRED,
        skip_assignment: call.version >= SKIPS_ASSIGNMENT,
    };
    let asking = Asking::begin(node);
    match command(node, Command::Join { request }).await? {
        Reply::Join { result } => Ok(result),
        Reply::Wait { ticket } => {
            let wanted = Wanted { group_id: &group_id, member_id: &own, sync: false };
            match wait(node, call, asking, ticket, wanted).await? {
                Answer::Joined { result } => Ok(result),
                _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            }
        }
        other => Err(refusal(&other)),
    }
}

pub(super) async fn sync_group(node: &Node, call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let result = sync(node, call, request).await.unwrap_or_else(SyncResult::error);
    SyncGroupResponse {
        throttle_time_ms: 0,
        error_code: result.error.0,
        protocol_type: result.protocol_type,
        protocol_name: result.protocol,
        assignment: result.assignment,
    }
}

async fn sync(node: &Node, call: &Call, request: SyncGroupRequest) -> Result<SyncResult, ErrorCode> {
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= SYNC_NAMES_PROTOCOL && !named {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    hear(node, &request.group_id, &request.member_id);
    let (group_id, own) = (request.group_id.clone(), request.member_id.clone());
    let assignments: Vec<(String, Bytes)> =
        request.assignments.into_iter().map(|one| (one.member_id, one.assignment)).collect();
    let request = Sync {
        group_id: request.group_id,
        generation: request.generation_id,
        member: MemberName { member_id: request.member_id, instance_id: request.group_instance_id },
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments,
    };
    let asking = Asking::begin(node);
    match command(node, Command::Sync { request }).await? {
        Reply::Sync { result } => Ok(result),
        Reply::Wait { ticket } => {
            let wanted = Wanted { group_id: &group_id, member_id: &own, sync: true };
            match wait(node, call, asking, ticket, wanted).await? {
                Answer::Synced { result } => Ok(result),
                _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            }
        }
        other => Err(refusal(&other)),
    }
}

pub(super) async fn heartbeat(node: &Node, call: &Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let error = beat(node, call, request).await.unwrap_or_else(|error| error);
    HeartbeatResponse { throttle_time_ms: 0, error_code: error.0 }
}

async fn beat(node: &Node, call: &Call, request: HeartbeatRequest) -> Result<ErrorCode, ErrorCode> {
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    hear(node, &request.group_id, &request.member_id);
    let question = Query::Heartbeat {
        group_id: request.group_id,
        generation: request.generation_id,
        member: MemberName { member_id: request.member_id, instance_id: request.group_instance_id },
    };
    for consistency in [Consistency::Local, Consistency::Linearizable] {
        match query(node, question.clone(), consistency).await? {
            Answer::Heartbeat { error }
                if error.is_none()
                    || error == ErrorCode::REBALANCE_IN_PROGRESS
                    || consistency == Consistency::Linearizable =>
            {
                return Ok(error);
            }
            _ => {}
        }
    }
    Err(ErrorCode::UNKNOWN_SERVER_ERROR)
}

pub(super) async fn leave_group(node: &Node, call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    match leave(node, call, request).await {
        Err(error) => LeaveGroupResponse { error_code: error.0, ..Default::default() },
        Ok(left) if call.version < LEAVE_BATCHED => {
            let error = left.first().map_or(ErrorCode::NONE, |member| member.error);
            LeaveGroupResponse { error_code: error.0, ..Default::default() }
        }
        Ok(left) => {
            let member = |left: Left| MemberResponse {
                member_id: left.member_id,
                group_instance_id: left.instance_id,
                error_code: left.error.0,
            };
            LeaveGroupResponse { members: left.into_iter().map(member).collect(), ..Default::default() }
        }
    }
}

async fn leave(node: &Node, call: &Call, request: LeaveGroupRequest) -> Result<Vec<Left>, ErrorCode> {
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let members: Vec<MemberName> = if call.version < LEAVE_BATCHED {
        vec![MemberName { member_id: request.member_id, instance_id: None }]
    } else {
        let name = |member: crate::wire::message::MemberIdentity| MemberName {
            member_id: member.member_id,
            instance_id: member.group_instance_id,
        };
        request.members.into_iter().map(name).collect()
    };
    match command(node, Command::Leave { group_id: request.group_id, members }).await? {
        Reply::Leave { members } => Ok(members),
        other => Err(refusal(&other)),
    }
}
