//! Topics on the way: created because somebody asked for them, waited for until they are led, and what they ask of
//! batches.
//!
//! Deliberately absent: the administration of topics (`admin`).

use std::collections::{BTreeMap, BTreeSet};

use verity_contract::Failure;
use verity_types::GroupId;

use super::call::Call;
use super::metadata::groups_of;
use super::node::{Answer, Node, State};
use crate::machine::cluster::{Agreement, Command, NO_LEADER, Reply, Topic, is_internal, operation, validate_name};
use crate::wire::{ErrorCode, Rules, TimestampType, Uuid};

impl State {
    /// How many replicas a topic gets whose creator did not say: as many as it would have if every node that the cluster
    /// began with were there. Until they are, it is refused, since fewer would stay fewer.
    pub(super) fn replication_factor(&self, agreement: Agreement) -> i16 {
        let nodes = self.image.node_count().max(self.config.founders);
        self.image.replication_factor_among(nodes).max(agreement.replicas_min(nodes))
    }

    /// What a topic's partitions come to one order by.
    pub(super) fn agreement_of(&self, topic: &str) -> Agreement {
        let own = self.image.topic(topic).and_then(|topic| topic.agreement);
        own.unwrap_or(self.config.agreement)
    }

    /// What a topic asks of batches now.
    pub(super) fn rules_of(&mut self, id: Uuid) -> Option<Rules> {
        let rules = match self.rules.get(&id) {
            Some(rules) => *rules,
            None => {
                let rules = self.read_rules(self.image.topic_by_id(id)?);
                self.rules.insert(id, rules);
                rules
            }
        };
        Some(Rules { now_ms: self.wall_ms(), ..rules })
    }

    fn read_rules(&self, topic: &Topic) -> Rules {
        let text = |name: &str| self.image.topic_config(&topic.name, name).trim();
        let number = |name: &str, otherwise: i64| self.image.topic_number(&topic.name, name, otherwise);
        let usual = Rules::default();
        Rules {
            batch_size_max: text("max.message.bytes").parse().unwrap_or(usual.batch_size_max),
            compacted: text("cleanup.policy").split(',').any(|policy| policy.trim() == "compact"),
            timestamp_type: match text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            before_max_ms: number("message.timestamp.before.max.ms", usual.before_max_ms),
            after_max_ms: number("message.timestamp.after.max.ms", usual.after_max_ms),
            ..usual
        }
    }
}

/// What the metadata's machine said, or what to tell the client if it said nothing.
pub(super) fn outcome(result: Option<Result<bytes::Bytes, Failure>>) -> Result<Reply, ErrorCode> {
    match result {
        Some(Ok(bytes)) => Reply::decode(&bytes).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR),
        Some(Err(Failure::NoSuchGroup)) => Err(ErrorCode::NOT_CONTROLLER),
        Some(Err(Failure::Unavailable | Failure::Overloaded)) | None => Err(ErrorCode::REQUEST_TIMED_OUT),
    }
}

/// Creates topics that somebody asked for and that are not there, if that is allowed. The outcome of each.
pub(super) async fn auto_create(
    node: &Node,
    call: &Call,
    missing: BTreeSet<String>,
    may_create: bool,
) -> BTreeMap<String, ErrorCode> {
    const WAIT_MS: i32 = 10_000;
    let mut outcomes = BTreeMap::new();
    if !missing.is_empty() && may_create {
        await_nodes(node).await;
    }
    let mut asked: Vec<(String, Answer)> = Vec::new();
    for name in missing {
        let (group, id, replication_factor) = {
            let mut state = node.state();
            let enabled = state.image.broker_value("auto.create.topics.enable").trim().eq_ignore_ascii_case("true");
            let refused = if validate_name(&name).is_err() {
                Some(ErrorCode::INVALID_TOPIC_EXCEPTION)
            } else if !may_create || !enabled || is_internal(&name) {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            } else if !call.may_cluster(&state, operation::CREATE) && !call.may_topic(&state, operation::CREATE, &name)
            {
                Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
            } else {
                None
            };
            if let Some(error) = refused {
                outcomes.insert(name, error);
                continue;
            }
            (state.config.cluster, state.draw(), state.replication_factor(state.config.agreement))
        };
        let command = Command::CreateTopic {
            name: name.clone(),
            id,
            partitions: -1,
            replication_factor,
            assignments: Vec::new(),
            configs: Vec::new(),
            validate_only: false,
        };
        asked.push((name, node.propose(group, command.encode())));
    }
    let until = node.in_ms(WAIT_MS);
    for (name, answer) in asked {
        let error = match outcome(answer.by(until).await) {
            // Somebody else was faster.
            Ok(reply) if reply.error == ErrorCode::TOPIC_ALREADY_EXISTS => ErrorCode::NONE,
            Ok(reply) if reply.error == ErrorCode::INVALID_REPLICATION_FACTOR => ErrorCode::LEADER_NOT_AVAILABLE,
            Ok(reply) => reply.error,
            Err(_) => ErrorCode::LEADER_NOT_AVAILABLE,
        };
        outcomes.insert(name, error);
    }
    outcomes
}

/// Waits until as many nodes have registered as the cluster began with, or for a moment: a topic that is created while the
/// others start would have fewer replicas than it should, for ever.
pub(super) async fn await_nodes(node: &Node) {
    const WAIT_MS: i32 = 3_000;
    let until = node.in_ms(WAIT_MS);
    loop {
        let (mut watch, missing) = {
            let (_, cluster) = node.groups();
            let watch = node.watch([cluster]);
            let state = node.state();
            (watch, state.image.node_count() < state.config.founders)
        };
        if !missing || !watch.moved(until).await {
            return;
        }
    }
}

/// Waits until every partition of these topics is led, or for so many milliseconds.
pub(super) async fn await_leaders<'a>(node: &Node, names: impl Iterator<Item = &'a str>, wait_ms: i32) {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return;
    }
    let until = node.in_ms(wait_ms);
    loop {
        let mut watch = {
            let groups: Vec<GroupId> = {
                let state = node.state();
                let topics = names.iter().filter_map(|name| state.image.topic(name));
                let leaderless = topics.filter(|topic| {
                    let led = |partition| state.leader(partition).0 != NO_LEADER;
                    !topic.partitions.iter().all(led)
                });
                leaderless.flat_map(groups_of).chain([state.config.cluster]).collect()
            };
            if groups.len() == 1 {
                return;
            }
            node.watch(groups)
        };
        if !watch.moved(until).await {
            return;
        }
    }
}
