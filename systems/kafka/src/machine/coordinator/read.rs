//! Answers to queries.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::classic::{ClassicMember, ClassicState};
use super::consumer::{Assignment, Consumer, ConsumerMember};
use super::group::{Group, Kind};
use super::machine::Coordinator;
use super::offsets::{Offset, Offsets};
use super::query::{
    Answer, ClassicMemberRow, ClassicRow, ConsumerMemberRow, ConsumerRow, FetchTopic, FetchedTopic, GroupRow,
    NamedPartitions, Query, ROWS_MAX, SurveyRow, TransactionRow,
};
use super::reply::{JoinResult, SyncResult};
use super::share::{ASSIGNOR, ShareMember};
use super::transaction::{NO_PRODUCER, Transaction, TransactionState};
use crate::wire::{ErrorCode, Uuid};

/// What a group that does not exist is.
const DEAD: &str = "Dead";

impl Coordinator {
    pub(super) fn answer(&self, query: &[u8]) -> Answer {
        let Ok(query) = Query::decode(query) else { return Answer::Error { error: ErrorCode::INVALID_REQUEST } };
        match query {
            Query::Heartbeat { group_id, generation, member } => {
                Answer::Heartbeat { error: self.heartbeat_error(&group_id, generation, &member) }
            }
            Query::ConsumerHeartbeat { request } => {
                let empty = Consumer::new();
                let group = match self.groups.get(&request.group_id).map(|group| &group.kind) {
                    Some(Kind::Consumer { group }) => group,
                    _ => &empty,
                };
                match group.unchanged(&self.config(), &request) {
                    Some(reply) => Answer::Unchanged { reply },
                    None => {
                        let (topics, regex) = group.interests(&request);
                        Answer::NeedsCommand { topics, regex }
                    }
                }
            }
            Query::FetchOffsets { group_id, member_id, member_epoch, topics, stable } => {
                self.fetch(&group_id, &member_id, member_epoch, topics.as_deref(), stable)
            }
            Query::DescribeGroups { group_ids } => {
                Answer::Groups { groups: group_ids.into_iter().map(|id| self.describe(id)).collect() }
            }
            Query::DescribeConsumerGroups { group_ids } => {
                Answer::ConsumerGroups { groups: group_ids.into_iter().map(|id| self.describe_consumer(id)).collect() }
            }
            Query::ListGroups { states, kinds } => self.list(&states, &kinds),
            Query::DescribeTransactions { transactional_ids } => {
                let rows = transactional_ids
                    .into_iter()
                    .map(|id| transaction_row(self.transactions.get(&id).map(|one| &**one), id));
                Answer::Transactions { rows: rows.collect(), unknown_states: Vec::new() }
            }
            Query::ListTransactions { states, producer_ids, duration_ms, now } => {
                self.list_transactions(states, &producer_ids, duration_ms, now)
            }
            Query::VerifyPartitions { transaction, topics } => {
                let known = self.transactions.get(&transaction.transactional_id);
                match known
                    .ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
                    .and_then(|one| one.check(&transaction).map(|()| one))
                {
                    Ok(one) => {
                        let number = if one.is_open() { one.number } else { 0 };
                        Answer::Verified { error: ErrorCode::NONE, topics: one.verify(&topics), number }
                    }
                    Err(error) => Answer::Verified { error, topics: Vec::new(), number: 0 },
                }
            }
            Query::Waiting { group_id, member_id, ticket, sync } => self.waiting(&group_id, &member_id, ticket, sync),
            Query::Members { after, count_max } => Answer::Members { rows: self.members(after, count_max) },
            Query::Expirable { group_id, member_id, now } => {
                Answer::Expirable { after_ms: self.expires_after(&group_id, &member_id, now) }
            }
            Query::Status => Answer::Status {
                config: self.config,
                epoch: self.epoch,
                next: self.timers.first(),
                groups: self.groups.len() as u64,
                transactions: self.transactions.len() as u64,
                open: self.transactions.values().filter(|one| one.is_open()).count() as u64,
            },
            Query::ShareHeartbeat { request } => {
                let group = match self.groups.get(&request.group_id).map(|group| &group.kind) {
                    Some(Kind::Share { group }) => Some(group),
                    _ => None,
                };
                match group.and_then(|group| group.unchanged(&request)) {
                    Some(reply) => Answer::Unchanged { reply },
                    None => {
                        let topics = group.map_or_else(
                            || request.subscribed_names.clone().unwrap_or_default(),
                            |group| group.interests(&request),
                        );
                        Answer::NeedsCommand { topics, regex: None }
                    }
                }
            }
            Query::DescribeShareGroups { group_ids } => {
                Answer::ConsumerGroups { groups: group_ids.into_iter().map(|id| self.describe_share(id)).collect() }
            }
            Query::ShareWindow { share } => self.share_window(&share),
            Query::ShareOffsets { group_id } => self.share_offsets(&group_id),
            Query::PendingMarkers => {
                let ending = self.transactions.iter().filter(|(_, one)| one.is_ending());
                Answer::Markers { events: ending.map(|(id, one)| one.markers(id, self.epoch)).collect() }
            }
            Query::Survey { after, offsets_max } => Answer::Surveyed { groups: self.survey(&after, offsets_max) },
        }
    }

    fn fetch(
        &self,
        group_id: &str,
        member_id: &str,
        member_epoch: i32,
        topics: Option<&[FetchTopic]>,
        stable: bool,
    ) -> Answer {
        let group = self.groups.get(group_id);
        if let Some(Kind::Consumer { group }) = group.map(|group| &group.kind)
            && let Err(error) = group.check_fetch(member_id, member_epoch)
        {
            return Answer::Offsets { error, topics: Vec::new() };
        }
        let none = Offsets::default();
        let offsets = group.map_or(&none, |group| &group.offsets);
        let topics: Vec<FetchedTopic> = match topics {
            Some(topics) => offsets.fetch(topics, stable),
            None => offsets.fetch_all(stable),
        };
        Answer::Offsets { error: ErrorCode::NONE, topics }
    }

    fn describe(&self, group_id: String) -> ClassicRow {
        let Some(Kind::Classic { group }) = self.groups.get(&group_id).map(|group| &group.kind) else {
            return ClassicRow {
                error: ErrorCode::GROUP_ID_NOT_FOUND,
                group_id,
                state: DEAD.into(),
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            };
        };
        let protocol = group.protocol.clone().filter(|_| group.state == ClassicState::Stable).unwrap_or_default();
        let row = |(id, member): (&String, &ClassicMember)| ClassicMemberRow {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(&protocol).cloned().unwrap_or_default(),
            assignment: if group.state == ClassicState::Stable {
                member.assignment.clone()
            } else {
                Default::default()
            },
        };
        ClassicRow {
            error: ErrorCode::NONE,
            group_id,
            state: group.state.name().into(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: group.members.iter().map(row).collect(),
            protocol,
        }
    }

    fn describe_consumer(&self, group_id: String) -> ConsumerRow {
        let Some(Kind::Consumer { group }) = self.groups.get(&group_id).map(|group| &group.kind) else {
            return no_row(group_id);
        };
        let names: BTreeMap<Uuid, &str> = group.topics.iter().map(|(name, topic)| (topic.id, name.as_str())).collect();
        ConsumerRow {
            error: ErrorCode::NONE,
            group_id,
            state: group.state().into(),
            epoch: group.epoch,
            assignment_epoch: group.target_epoch,
            assignor: group.assignor().name().into(),
            members: group.members.iter().map(|(id, member)| consumer_row(group, &names, id, member)).collect(),
        }
    }

    fn describe_share(&self, group_id: String) -> ConsumerRow {
        let Some(Kind::Share { group }) = self.groups.get(&group_id).map(|group| &group.kind) else {
            return no_row(group_id);
        };
        let names: BTreeMap<Uuid, &str> = group.topics.iter().map(|(name, topic)| (topic.id, name.as_str())).collect();
        let row = |(id, member): (&String, &ShareMember)| ConsumerMemberRow {
            member_id: id.clone(),
            instance_id: None,
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed_names: member.names.iter().cloned().collect(),
            subscribed_regex: None,
            assignment: named(&names, &member.assigned),
            target: Vec::new(),
        };
        ConsumerRow {
            error: ErrorCode::NONE,
            group_id,
            state: group.state().into(),
            epoch: group.epoch,
            assignment_epoch: group.target_epoch,
            assignor: ASSIGNOR.into(),
            members: group.members.iter().map(row).collect(),
        }
    }

    fn list(&self, states: &[String], kinds: &[String]) -> Answer {
        let row = |(id, group): (&String, &std::sync::Arc<Group>)| {
            let (protocol_type, state, kind) = match &group.kind {
                Kind::Classic { group } => {
                    (group.protocol_type.clone().unwrap_or_default(), group.state.name(), "classic")
                }
                Kind::Consumer { group } => ("consumer".to_owned(), group.state(), "consumer"),
                Kind::Share { group } => ("share".to_owned(), group.state(), "share"),
            };
            GroupRow { group_id: id.clone(), protocol_type, state: state.to_owned(), kind: kind.to_owned() }
        };
        let among =
            |list: &[String], own: &str| list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(own));
        let rows = self.groups.iter().map(row).filter(|row| among(states, &row.state) && among(kinds, &row.kind));
        Answer::GroupList { groups: rows.collect() }
    }

    fn survey(&self, after: &str, offsets_max: u32) -> Vec<SurveyRow> {
        let (mut rows, mut count) = (Vec::new(), 0usize);
        for (id, group) in self.groups.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)) {
            let (state, members) = match &group.kind {
                Kind::Classic { group } => (group.state.name(), group.members.len()),
                Kind::Consumer { group } => (group.state(), group.members.len()),
                Kind::Share { group } => (group.state(), group.members.len()),
            };
            let of = |rows: &BTreeMap<i32, Offset>| rows.iter().map(|(index, row)| (*index, row.offset)).collect();
            rows.push(SurveyRow {
                group_id: id.clone(),
                state: state.to_owned(),
                members: u32::try_from(members).unwrap_or(u32::MAX),
                offsets: group.offsets.committed.iter().map(|(topic, rows)| (topic.clone(), of(rows))).collect(),
            });
            // A group without offsets counts too, so that an answer is bounded.
            count += group.offsets.count().max(1);
            if count >= usize::try_from(offsets_max).unwrap_or(usize::MAX) {
                break;
            }
        }
        rows
    }

    fn list_transactions(&self, states: Vec<String>, producers: &[i64], duration_ms: i64, now: u64) -> Answer {
        let known = |name: &str| TransactionState::ALL.iter().any(|state| state.name() == name);
        let wanted = |one: &Transaction| {
            let long =
                u64::try_from(duration_ms).map_or(true, |ms| one.started.is_some_and(|at| now.saturating_sub(at) > ms));
            let state = states.is_empty() || states.iter().any(|name| name == one.state.name());
            state && long && (producers.is_empty() || producers.contains(&one.producer_id))
        };
        let rows = self.transactions.iter().filter(|(_, one)| wanted(one));
        let rows = rows.map(|(id, one)| transaction_row(Some(one), id.clone())).collect();
        Answer::Transactions { rows, unknown_states: states.into_iter().filter(|name| !known(name)).collect() }
    }

    fn waiting(&self, group_id: &str, member_id: &str, ticket: u64, sync: bool) -> Answer {
        let gone = |error| match sync {
            true => Answer::Synced { result: SyncResult::error(error) },
            false => Answer::Joined { result: JoinResult::error(error, "") },
        };
        let Some(Kind::Classic { group }) = self.groups.get(group_id).map(|group| &group.kind) else {
            return gone(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let Some(member) = group.members.get(member_id) else { return gone(ErrorCode::UNKNOWN_MEMBER_ID) };
        if member.join == Some(ticket) || member.sync == Some(ticket) {
            return Answer::StillWaiting;
        }
        match group.state {
            ClassicState::CompletingRebalance | ClassicState::Stable if !sync => {
                let members = if group.is_leader(member_id) { group.roster() } else { Vec::new() };
                Answer::Joined { result: JoinResult { members, ..group.joined(member_id) } }
            }
            ClassicState::Stable => Answer::Synced {
                result: SyncResult {
                    error: ErrorCode::NONE,
                    protocol_type: group.protocol_type.clone(),
                    protocol: group.protocol.clone(),
                    assignment: member.assignment.clone(),
                },
            },
            _ => gone(ErrorCode::REBALANCE_IN_PROGRESS),
        }
    }

    fn members(&self, after: (String, String), count_max: u32) -> Vec<(String, (String, u32))> {
        let timeout = self.config().consumer_session_timeout_ms;
        let from = self.groups.range::<str, _>((Bound::Included(after.0.as_str()), Bound::Unbounded));
        let rows = |(id, group): (&String, &std::sync::Arc<Group>)| {
            let rows: Vec<(String, u32)> = match &group.kind {
                Kind::Classic { group } => {
                    group.members.iter().map(|(id, member)| (id.clone(), member.session_timeout_ms)).collect()
                }
                Kind::Consumer { group } => group.members.keys().map(|id| (id.clone(), timeout)).collect(),
                Kind::Share { group } => {
                    group.members.keys().map(|id| (id.clone(), group.session_timeout_ms)).collect()
                }
            };
            let id = id.clone();
            rows.into_iter().map(move |row| (id.clone(), row))
        };
        let count = usize::try_from(count_max.min(ROWS_MAX)).unwrap_or(0);
        let behind = |row: &(String, (String, u32))| (&row.0, &row.1.0) > (&after.0, &after.1);
        from.flat_map(rows).filter(behind).take(count).collect()
    }

    fn expires_after(&self, group_id: &str, member_id: &str, now: u64) -> Option<u64> {
        match &self.groups.get(group_id)?.kind {
            Kind::Classic { group } => group.expires_after(member_id, now),
            Kind::Consumer { group } => group.expires_after(member_id, now, self.config().consumer_session_timeout_ms),
            Kind::Share { group } => group.expires_after(member_id, now),
        }
    }

    /// Bytes of memory, roughly.
    pub(super) fn memory(&self) -> u64 {
        let members = |group: &Group| match &group.kind {
            Kind::Classic { group } => group.members.len(),
            Kind::Consumer { group } => group.members.len(),
            Kind::Share { group } => group.members.len(),
        };
        let size = |group: &Group| 256 + 128 * group.offsets.count() + 1_024 * members(group);
        let groups: usize = self.groups.values().map(|group| size(group)).sum();
        let shares: usize = self.shares.values().map(|share| 256 + 128 * share.runs.len()).sum();
        (groups + shares + 320 * self.transactions.len()) as u64
    }
}

/// A group that does not exist.
fn no_row(group_id: String) -> ConsumerRow {
    ConsumerRow {
        error: ErrorCode::GROUP_ID_NOT_FOUND,
        group_id,
        state: DEAD.into(),
        epoch: 0,
        assignment_epoch: 0,
        assignor: String::new(),
        members: Vec::new(),
    }
}

/// An assignment by names. A topic that is gone has no name any more; nobody can be told of it.
fn named(names: &BTreeMap<Uuid, &str>, assignment: &Assignment) -> Vec<NamedPartitions> {
    let row = |(topic, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        let name = *names.get(topic)?;
        let partitions = partitions.iter().copied().collect();
        Some(NamedPartitions { topic_id: *topic, topic: name.to_owned(), partitions })
    };
    assignment.iter().filter_map(row).collect()
}

fn consumer_row(
    group: &Consumer,
    names: &BTreeMap<Uuid, &str>,
    id: &str,
    member: &ConsumerMember,
) -> ConsumerMemberRow {
    ConsumerMemberRow {
        member_id: id.to_owned(),
        instance_id: member.instance_id.clone(),
        rack_id: member.rack_id.clone(),
        member_epoch: member.epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_names: member.names.iter().cloned().collect(),
        subscribed_regex: member.regex.clone(),
        assignment: named(names, &member.assigned),
        target: group.target.get(id).map(|target| named(names, target)).unwrap_or_default(),
    }
}

fn transaction_row(one: Option<&Transaction>, transactional_id: String) -> TransactionRow {
    match one {
        Some(one) => TransactionRow {
            error: ErrorCode::NONE,
            transactional_id,
            state: one.state.name().into(),
            timeout_ms: one.timeout_ms,
            started: one.started.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX)),
            producer_id: one.producer_id,
            producer_epoch: one.epoch,
            topics: one.topics(),
        },
        None => TransactionRow {
            error: ErrorCode::TRANSACTIONAL_ID_NOT_FOUND,
            transactional_id,
            state: DEAD.into(),
            timeout_ms: 0,
            started: -1,
            producer_id: NO_PRODUCER,
            producer_epoch: -1,
            topics: Vec::new(),
        },
    }
}
