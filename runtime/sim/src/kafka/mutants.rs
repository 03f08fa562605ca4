//! Bugs that others have had, planted in Kafka's machines.
//!
//! Each changes what a machine is told or asked, on every replica alike, so that no comparison of replicas gives it away.

mod logs;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::{Command as Ordered, Effects, ReadOutcome, StateMachine};
use verity_kafka::machine::coordinator::{
    Answer, Command as Coordination, CommitOffsets, FetchTopic, MemberName, OffsetRow, Query as Question,
    TopicPartitions,
};
use verity_kafka::machine::partition::{Command, Query, Wanted};
use verity_kafka::wire::{BatchHeader, ErrorCode, Uuid};

use super::TOPICS;
use super::sharer::say::{ACCEPT, RELEASE};
use super::wire::CHECKED;
use crate::bug::{Bug, Buggy};
use crate::mutant::Mutant;

/// Where a fetch's answer says how many transactions were aborted: behind the error, three offsets and a span.
const ABORTED_AT: usize = 2 + 4 * 8;

/// A partition, with its bug if the mutant is one of a partition's.
pub(super) fn partition(machine: Box<dyn StateMachine>, mutant: Option<Mutant>) -> Box<dyn StateMachine> {
    match mutant {
        Some(
            mutant @ (Mutant::AppendIgnoresGuard
            | Mutant::MarkerHitsNextTransaction
            | Mutant::FetchIgnoresLastStable
            | Mutant::FetchOmitsAborted
            | Mutant::ProducerForgotten),
        ) => Box::new(Buggy { machine, bug: OfPartition(mutant) }),
        Some(Mutant::CompactionDropsLatest) => Box::new(Buggy { machine, bug: logs::DropsLatest::default() }),
        Some(Mutant::LogStartGoesBack) => Box::new(Buggy { machine, bug: logs::ForgetsStart::default() }),
        _ => machine,
    }
}

/// The coordinator, with its bug if the mutant is one of the coordinator's.
pub(super) fn coordinator(machine: Box<dyn StateMachine>, mutant: Option<Mutant>) -> Box<dyn StateMachine> {
    match mutant {
        Some(
            mutant @ (Mutant::MarkersTakenForWritten
            | Mutant::CommitIgnoresGeneration
            | Mutant::CommitForgotten
            | Mutant::AssignmentShared
            | Mutant::RevocationNotAwaited
            | Mutant::AcceptedRecordAgain
            | Mutant::RecordAcquiredTwice
            | Mutant::RecordArchivedUnseen
            | Mutant::DeliveryLimitIgnored),
        ) => Box::new(Buggy { machine, bug: OfCoordinator(mutant) }),
        _ => machine,
    }
}

struct OfPartition(Mutant);

/// A batch under another header.
fn seal(header: BatchHeader, batch: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(batch);
    header.write(&mut bytes);
    let checksum = crc32c::crc32c(&bytes[CHECKED..]);
    bytes[CHECKED - 4..CHECKED].copy_from_slice(&checksum.to_be_bytes());
    bytes.freeze()
}

impl OfPartition {
    /// What the partition hears instead.
    fn command(&self, ordered: &Ordered) -> Option<Bytes> {
        let mut command = Command::decode(ordered.bytes.clone())?;
        match (self.0, &mut command) {
            (Mutant::AppendIgnoresGuard, Command::Append { guard, .. }) => *guard = None,
            (Mutant::MarkerHitsNextTransaction, Command::Marker { decision, .. }) => *decision = ordered.index.0,
            (Mutant::ProducerForgotten, Command::Append { batch, .. }) => {
                let header = BatchHeader::parse(batch).ok().filter(|header| !header.attributes.is_transactional())?;
                let header = BatchHeader { producer_id: -1, producer_epoch: -1, base_sequence: -1, ..header };
                *batch = seal(header, batch);
            }
            _ => return None,
        }
        Some(command.encode())
    }
}

impl Bug for OfPartition {
    fn apply(&mut self, machine: &mut dyn StateMachine, batch: &[Ordered], effects: &mut Effects) {
        let changed = |ordered: &Ordered| {
            let bytes = self.command(ordered).unwrap_or_else(|| ordered.bytes.clone());
            Ordered { bytes, ..ordered.clone() }
        };
        machine.apply(&batch.iter().map(changed).collect::<Vec<_>>(), effects);
    }

    fn read(&mut self, machine: &mut dyn StateMachine, query: &[u8]) -> ReadOutcome {
        let (Some(Query::Fetch(wanted)), mutant) = (Query::decode(query), self.0) else {
            return machine.read(query);
        };
        if mutant == Mutant::FetchIgnoresLastStable {
            return machine.read(&Query::Fetch(Wanted { committed: false, ..wanted }).encode());
        }
        match machine.read(query) {
            ReadOutcome::Ready(bytes) if mutant == Mutant::FetchOmitsAborted => ReadOutcome::Ready(omit_aborted(bytes)),
            ReadOutcome::InFile(bytes, range) if mutant == Mutant::FetchOmitsAborted => {
                ReadOutcome::InFile(omit_aborted(bytes), range)
            }
            other => other,
        }
    }
}

/// A fetch's answer without its aborted transactions.
fn omit_aborted(mut answer: Bytes) -> Bytes {
    if answer.len() < ABORTED_AT + 4 {
        return answer;
    }
    let mut out = BytesMut::from(&answer.split_to(ABORTED_AT)[..]);
    let count = answer.get_u32() as usize;
    answer.advance(count * 16);
    out.put_u32(0);
    out.put_slice(&answer);
    out.freeze()
}

struct OfCoordinator(Mutant);

fn ask(machine: &mut dyn StateMachine, question: &Question) -> Option<Answer> {
    match machine.read(&question.encode()) {
        ReadOutcome::Ready(bytes) => Answer::decode(&bytes).ok(),
        _ => None,
    }
}

/// A member that belongs to the group, and its generation.
fn somebody(machine: &mut dyn StateMachine, group_id: &str, from: i32) -> Option<(MemberName, i32)> {
    let question = Question::DescribeGroups { group_ids: vec![group_id.to_owned()] };
    let Some(Answer::Groups { groups }) = ask(machine, &question) else { return None };
    let member = groups.into_iter().flat_map(|group| group.members).next()?;
    let member = MemberName { member_id: member.member_id, instance_id: None };
    (from..from + 100).find_map(|generation| {
        let question = Question::Heartbeat { group_id: group_id.to_owned(), generation, member: member.clone() };
        let belongs = matches!(ask(machine, &question), Some(Answer::Heartbeat { error: ErrorCode::NONE }));
        belongs.then(|| (member.clone(), generation))
    })
}

/// What is committed of partition 0 of a topic.
fn committed(machine: &mut dyn StateMachine, group_id: &str, topic: &str) -> Option<OffsetRow> {
    let topics = Some(vec![FetchTopic { topic: topic.to_owned(), topic_id: Uuid::ZERO, partitions: vec![0] }]);
    let (group_id, member_id) = (group_id.to_owned(), String::new());
    let question = Question::FetchOffsets { group_id, member_id, member_epoch: -1, topics, stable: false };
    let Some(Answer::Offsets { topics, .. }) = ask(machine, &question) else { return None };
    let held = topics.into_iter().flat_map(|topic| topic.partitions).next().filter(|held| held.offset >= 0)?;
    Some(OffsetRow { partition: 0, offset: held.offset, leader_epoch: held.leader_epoch, metadata: held.metadata })
}

impl OfCoordinator {
    /// What the coordinator hears instead.
    fn command(&self, machine: &mut dyn StateMachine, ordered: &Ordered) -> Option<Bytes> {
        let changed = match (self.0, Coordination::decode(&ordered.bytes).ok()?) {
            (Mutant::MarkersTakenForWritten, Coordination::MarkersWritten { transaction, number, .. }) => {
                let all = |topic| TopicPartitions { topic: format!("t{topic}"), partitions: vec![0] };
                Coordination::MarkersWritten { transaction, number, topics: (0..TOPICS).map(all).collect() }
            }
            (Mutant::CommitIgnoresGeneration, Coordination::CommitOffsets { request }) => {
                let (member, generation) = somebody(machine, &request.group_id, request.generation)?;
                Coordination::CommitOffsets { request: CommitOffsets { member, generation, ..request } }
            }
            (Mutant::CommitForgotten, Coordination::CommitOffsets { mut request })
                if ordered.index.0.is_multiple_of(8) =>
            {
                let topic = request.topics.first_mut()?;
                topic.partitions = vec![committed(machine, &request.group_id, &topic.topic)?];
                Coordination::CommitOffsets { request }
            }
            (Mutant::AssignmentShared, Coordination::Sync { mut request }) => {
                let first = request.assignments.first()?.1.clone();
                request.assignments.iter_mut().for_each(|(_, assignment)| assignment.clone_from(&first));
                Coordination::Sync { request }
            }
            (Mutant::RevocationNotAwaited, Coordination::ConsumerHeartbeat { mut request }) => {
                request.owned = request.owned.map(|_| Vec::new());
                Coordination::ConsumerHeartbeat { request }
            }
            (_, command) => self.of_shares(command, ordered.index.0)?,
        };
        Some(changed.encode())
    }

    fn of_shares(&self, mut command: Coordination, index: u64) -> Option<Coordination> {
        match (self.0, &mut command) {
            (Mutant::AcceptedRecordAgain, Coordination::AcknowledgeShare { batches, .. }) => {
                let types = batches.iter_mut().flat_map(|batch| &mut batch.types);
                types.filter(|kind| **kind == ACCEPT).for_each(|kind| *kind = RELEASE);
            }
            (Mutant::RecordAcquiredTwice, Coordination::AcquireShare { request }) => request.settings.lock_ms = 0,
            (Mutant::RecordArchivedUnseen, Coordination::AcquireShare { request }) if index.is_multiple_of(8) => {
                request.batches.first_mut()?.readable = false;
            }
            (Mutant::DeliveryLimitIgnored, Coordination::AcquireShare { request }) => {
                request.settings.delivery_count_max = u16::MAX;
            }
            (Mutant::DeliveryLimitIgnored, Coordination::AcknowledgeShare { settings, .. }) => {
                settings.delivery_count_max = u16::MAX;
            }
            _ => return None,
        }
        Some(command)
    }
}

impl Bug for OfCoordinator {
    fn apply(&mut self, machine: &mut dyn StateMachine, batch: &[Ordered], effects: &mut Effects) {
        // One by one, since what it hears depends on what came before.
        for ordered in batch {
            let bytes = self.command(machine, ordered).unwrap_or_else(|| ordered.bytes.clone());
            machine.apply(&[Ordered { bytes, ..ordered.clone() }], effects);
        }
    }
}
