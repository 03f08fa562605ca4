//! One request: who asks, what they may do, and which handler answers.
//!
//! Deliberately absent: what handlers do.

use bytes::Bytes;
use verity_contract::Door;
use verity_types::ConnId;

use super::connection::Connection;
use super::node::{Node, State};
use super::{
    access, admin, configs, consumer_groups, dead_letters, deletion, fetch, group_admin, groups, list_offsets, markers,
    metadata, moves, offsets, produce, sasl, share_acknowledge, share_fetch, share_groups, share_offsets, telemetry,
    transaction_admin, transactions, versions,
};
use crate::machine::cluster::{Access, CLUSTER_NAME, operation, resource};
use crate::machine::coordinator::{DUTY_TOPIC, GroupEvent, ShareEvent, TransactionEvent};
use crate::wire::{Request, RequestHeader, Response};

/// Nobody in particular.
pub(super) const ANONYMOUS: &str = "User:ANONYMOUS";
/// What stands for operations that nobody asked for.
pub(super) const NO_OPERATIONS: i32 = i32::MIN;

/// What is left of a request beside its body.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) conn: ConnId,
    pub(super) version: i16,
    pub(super) client_id: String,
    /// As `User:name`.
    pub(super) principal: String,
    /// The client's address, without the `/` that Kafka writes in front of it in some places.
    pub(super) host: String,
    pub(super) door: Door,
    /// The request's frame, in bytes.
    pub(super) size: usize,
}

/// How a request ends.
pub(super) enum Reply {
    /// With an answer.
    Response(Response),
    /// With an answer, and the end of the connection behind it.
    Last(Response),
    /// Without one: `acks=0`.
    Nothing,
    /// With the end of the connection.
    Close,
}

impl Call {
    pub(super) fn new(connection: &Connection, conn: ConnId, header: &RequestHeader, size: usize) -> Self {
        Self {
            conn,
            size,
            version: header.version,
            client_id: header.client_id.clone().unwrap_or_default(),
            principal: connection.authentication.principal().to_owned(),
            host: connection.peer.addr.ip().to_canonical().to_string(),
            door: connection.peer.door,
        }
    }

    fn access<'a>(&'a self, operation: i8, resource_type: i8, name: &'a str) -> Access<'a> {
        Access { principal: &self.principal, host: &self.host, operation, resource_type, name }
    }

    /// May they do this?
    pub(super) fn may(&self, state: &State, operation: i8, resource_type: i8, name: &str) -> bool {
        let access = self.access(operation, resource_type, name);
        state.image.authorize(&access, &state.config.super_users, state.config.allow_if_no_rule)
    }

    /// May they do this with a topic?
    pub(super) fn may_topic(&self, state: &State, operation: i8, name: &str) -> bool {
        self.may(state, operation, resource::TOPIC, name)
    }

    /// May they do this with the cluster?
    pub(super) fn may_cluster(&self, state: &State, operation: i8) -> bool {
        self.may(state, operation, resource::CLUSTER, CLUSTER_NAME)
    }

    /// May they do this with at least one resource of the kind?
    pub(super) fn may_any(&self, state: &State, operation: i8, resource_type: i8) -> bool {
        let access = self.access(operation, resource_type, "");
        state.image.authorize_any(&access, &state.config.super_users, state.config.allow_if_no_rule)
    }

    /// What they may do, as a set of bits (KIP-430).
    pub(super) fn operations(&self, state: &State, resource_type: i8, name: &str) -> i32 {
        let known: &[i8] = match resource_type {
            resource::TOPIC => &[
                operation::READ,
                operation::WRITE,
                operation::CREATE,
                operation::DELETE,
                operation::ALTER,
                operation::DESCRIBE,
                operation::DESCRIBE_CONFIGS,
                operation::ALTER_CONFIGS,
            ],
            resource::GROUP => &[
                operation::READ,
                operation::DELETE,
                operation::DESCRIBE,
                operation::DESCRIBE_CONFIGS,
                operation::ALTER_CONFIGS,
            ],
            _ => &[
                operation::CREATE,
                operation::ALTER,
                operation::DESCRIBE,
                operation::CLUSTER_ACTION,
                operation::DESCRIBE_CONFIGS,
                operation::ALTER_CONFIGS,
                operation::IDEMPOTENT_WRITE,
                operation::CREATE_TOKENS,
                operation::DESCRIBE_TOKENS,
            ],
        };
        let may = known.iter().filter(|operation| self.may(state, **operation, resource_type, name));
        may.fold(0, |bits, operation| bits | 1 << operation)
    }
}

/// Has the client shown who it is, or does it do so now?
fn may_ask(state: &State, call: &Call, request: &Request) -> bool {
    let Some(connection) = state.connections.get(&call.conn) else { return false };
    let authentication = &connection.authentication;
    match request {
        Request::SaslHandshake(_) | Request::SaslAuthenticate(_) => true,
        _ if authentication.is_expired(state.now.mono) => false,
        Request::ApiVersions(_) => true,
        _ => authentication.is_done(),
    }
}

/// The answer to a request.
pub(super) async fn answer(node: &Node, call: &Call, request: Request) -> Reply {
    if !may_ask(&node.state(), call, &request) {
        return Reply::Close;
    }
    Reply::Response(match request {
        Request::Produce(request) => {
            let answers = request.acks != 0;
            return match produce::produce(node, call, request).await {
                Some(response) if answers => Reply::Response(Response::Produce(response)),
                Some(_) => Reply::Nothing,
                None => Reply::Close,
            };
        }
        Request::Fetch(request) => Response::Fetch(fetch::fetch(node, call, request).await),
        Request::ListOffsets(request) => Response::ListOffsets(list_offsets::list_offsets(node, call, request).await),
        Request::OffsetForLeaderEpoch(request) => {
            Response::OffsetForLeaderEpoch(list_offsets::offset_for_leader_epoch(node, call, request).await)
        }
        Request::ApiVersions(request) => Response::ApiVersions(versions::api_versions(node, call, &request)),
        Request::Metadata(request) => Response::Metadata(metadata::metadata(node, call, request).await),
        Request::DescribeCluster(request) => {
            Response::DescribeCluster(metadata::describe_cluster(node, call, &request))
        }
        Request::DescribeTopicPartitions(request) => {
            Response::DescribeTopicPartitions(metadata::describe_topic_partitions(node, call, request))
        }
        Request::FindCoordinator(request) => {
            Response::FindCoordinator(metadata::find_coordinator(node, call, request).await)
        }
        Request::JoinGroup(request) => Response::JoinGroup(groups::join_group(node, call, request).await),
        Request::SyncGroup(request) => Response::SyncGroup(groups::sync_group(node, call, request).await),
        Request::Heartbeat(request) => Response::Heartbeat(groups::heartbeat(node, call, request).await),
        Request::LeaveGroup(request) => Response::LeaveGroup(groups::leave_group(node, call, request).await),
        Request::ConsumerGroupHeartbeat(request) => {
            Response::ConsumerGroupHeartbeat(consumer_groups::consumer_group_heartbeat(node, call, request).await)
        }
        Request::DescribeGroups(request) => {
            Response::DescribeGroups(group_admin::describe_groups(node, call, request).await)
        }
        Request::ListGroups(request) => Response::ListGroups(group_admin::list_groups(node, call, request).await),
        Request::DeleteGroups(request) => Response::DeleteGroups(group_admin::delete_groups(node, call, request).await),
        Request::ConsumerGroupDescribe(request) => {
            Response::ConsumerGroupDescribe(group_admin::consumer_group_describe(node, call, request).await)
        }
        Request::OffsetDelete(request) => Response::OffsetDelete(group_admin::offset_delete(node, call, request).await),
        Request::OffsetCommit(request) => Response::OffsetCommit(offsets::offset_commit(node, call, request).await),
        Request::OffsetFetch(request) => Response::OffsetFetch(offsets::offset_fetch(node, call, request).await),
        Request::InitProducerId(request) => {
            Response::InitProducerId(transactions::init_producer_id(node, call, request).await)
        }
        Request::AddPartitionsToTxn(request) => {
            Response::AddPartitionsToTxn(transactions::add_partitions_to_txn(node, call, request).await)
        }
        Request::AddOffsetsToTxn(request) => {
            Response::AddOffsetsToTxn(transactions::add_offsets_to_txn(node, call, request).await)
        }
        Request::EndTxn(request) => Response::EndTxn(transactions::end_txn(node, call, request).await),
        Request::TxnOffsetCommit(request) => {
            Response::TxnOffsetCommit(transactions::txn_offset_commit(node, call, request).await)
        }
        Request::DescribeTransactions(request) => {
            Response::DescribeTransactions(transaction_admin::describe_transactions(node, call, request).await)
        }
        Request::ListTransactions(request) => {
            Response::ListTransactions(transaction_admin::list_transactions(node, call, request).await)
        }
        Request::DescribeProducers(request) => {
            Response::DescribeProducers(transaction_admin::describe_producers(node, call, request).await)
        }
        Request::SaslHandshake(request) => {
            let (response, goes_on) = sasl::handshake(node, call, &request);
            return last_unless(goes_on, Response::SaslHandshake(response));
        }
        Request::SaslAuthenticate(request) => {
            let (response, goes_on) = sasl::authenticate(node, call, request).await;
            return last_unless(goes_on, Response::SaslAuthenticate(response));
        }
        other => return share(node, call, other).await,
    })
}

/// The answer to a request about share groups.
async fn share(node: &Node, call: &Call, request: Request) -> Reply {
    Reply::Response(match request {
        Request::ShareGroupHeartbeat(request) => {
            Response::ShareGroupHeartbeat(share_groups::heartbeat(node, call, request).await)
        }
        Request::ShareFetch(request) => Response::ShareFetch(share_fetch::share_fetch(node, call, request).await),
        Request::ShareAcknowledge(request) => {
            Response::ShareAcknowledge(share_acknowledge::share_acknowledge(node, call, request).await)
        }
        Request::ShareGroupDescribe(request) => {
            Response::ShareGroupDescribe(share_groups::describe(node, call, request).await)
        }
        Request::DescribeShareGroupOffsets(request) => {
            Response::DescribeShareGroupOffsets(share_offsets::describe(node, call, request).await)
        }
        Request::AlterShareGroupOffsets(request) => {
            Response::AlterShareGroupOffsets(share_offsets::alter(node, call, request).await)
        }
        Request::DeleteShareGroupOffsets(request) => {
            Response::DeleteShareGroupOffsets(share_offsets::delete(node, call, request).await)
        }
        other => return administer(node, call, other).await,
    })
}

fn last_unless(goes_on: bool, response: Response) -> Reply {
    if goes_on { Reply::Response(response) } else { Reply::Last(response) }
}

/// The answer to a request of an administrator.
async fn administer(node: &Node, call: &Call, request: Request) -> Reply {
    Reply::Response(match request {
        Request::CreateTopics(request) => Response::CreateTopics(admin::create_topics(node, call, request).await),
        Request::DeleteTopics(request) => Response::DeleteTopics(deletion::delete_topics(node, call, request).await),
        Request::CreatePartitions(request) => {
            Response::CreatePartitions(admin::create_partitions(node, call, request).await)
        }
        Request::DeleteRecords(request) => Response::DeleteRecords(admin::delete_records(node, call, request).await),
        Request::UpdateFeatures(request) => Response::UpdateFeatures(admin::update_features(node, call, request).await),
        Request::ElectLeaders(request) => Response::ElectLeaders(moves::elect_leaders(node, call, request).await),
        Request::AlterPartitionReassignments(request) => {
            Response::AlterPartitionReassignments(moves::alter_reassignments(node, call, request).await)
        }
        Request::ListPartitionReassignments(request) => {
            Response::ListPartitionReassignments(moves::list_reassignments(node, call, &request))
        }
        Request::DescribeLogDirs(request) => {
            Response::DescribeLogDirs(moves::describe_log_dirs(node, call, request).await)
        }
        Request::DescribeConfigs(request) => Response::DescribeConfigs(configs::describe_configs(node, call, request)),
        Request::AlterConfigs(request) => Response::AlterConfigs(configs::alter_configs(node, call, request).await),
        Request::IncrementalAlterConfigs(request) => {
            Response::IncrementalAlterConfigs(configs::incremental_alter_configs(node, call, request).await)
        }
        Request::ListConfigResources(request) => {
            Response::ListConfigResources(configs::list_config_resources(node, call, &request))
        }
        other => return administer_clients(node, call, other).await,
    })
}

/// The answer to a request about clients: who may do what, who they are, how much they do.
async fn administer_clients(node: &Node, call: &Call, request: Request) -> Reply {
    Reply::Response(match request {
        Request::DescribeAcls(request) => Response::DescribeAcls(access::describe_acls(node, call, request)),
        Request::CreateAcls(request) => Response::CreateAcls(access::create_acls(node, call, request).await),
        Request::DeleteAcls(request) => Response::DeleteAcls(access::delete_acls(node, call, request).await),
        Request::DescribeUserScramCredentials(request) => {
            Response::DescribeUserScramCredentials(access::describe_scram(node, call, request))
        }
        Request::AlterUserScramCredentials(request) => {
            Response::AlterUserScramCredentials(access::alter_scram(node, call, request).await)
        }
        Request::DescribeClientQuotas(request) => {
            Response::DescribeClientQuotas(access::describe_quotas(node, call, &request))
        }
        Request::AlterClientQuotas(request) => {
            Response::AlterClientQuotas(access::alter_quotas(node, call, request).await)
        }
        Request::GetTelemetrySubscriptions(request) => {
            Response::GetTelemetrySubscriptions(telemetry::subscriptions(node, call, &request))
        }
        Request::PushTelemetry(request) => Response::PushTelemetry(telemetry::push(node, call, &request)),
        _ => return Reply::Close,
    })
}

/// The coordinator put out an event.
pub(super) fn on_coordinator_event(node: &Node, topic: &Bytes, bytes: Bytes) {
    if topic == DUTY_TOPIC {
        return;
    }
    if topic.starts_with(b"g/")
        && let Ok(event) = GroupEvent::decode(&bytes)
    {
        node.state().tickets.on_event(event);
    } else if topic.starts_with(b"t/")
        && let Ok(event) = TransactionEvent::decode(&bytes)
    {
        markers::on_event(node, event);
    } else if topic.starts_with(b"s/")
        && let Ok(event) = ShareEvent::decode(&bytes)
    {
        dead_letters::on_event(node, event);
    }
}
