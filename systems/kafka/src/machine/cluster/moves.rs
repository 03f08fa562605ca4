//! Who leads partitions, and how they move from node to node.
//!
//! - upon `Led`: a leader of a later epoch is the leader. Reports come in no particular order, so older ones are
//!   dropped;
//! - upon `Reassign`: old and new nodes host the partition's group from here on. Who leads the group makes it consist
//!   of the new ones, by the agreement's own change of members, and says so;
//! - upon `Reassigned`: the old nodes let the group go. Nothing else takes a node out: a group never loses a voter that
//!   still counts. It says which version of the goal the group has come to, in its own order; from then on the group heeds
//!   no goal before that one, whoever still knows of it;
//!   What the group had applied by then is remembered as its floor, for nodes that come back to it with nothing;
//! - upon `Reassign` to nowhere: the partition stays where it was. Nodes that were to come still leave the same way.
//!
//! The order of replicas says who should lead. Elections themselves are the groups' own.
//!
//! Deliberately absent: data. It follows by the agreement's snapshots.

use std::collections::BTreeSet;

use verity_types::{GroupId, NodeId};

use super::agreement::{self, Agreement};
use super::change::Delta;
use super::command::{Leadership, Refusal};
use super::image::{ClusterImage, NO_LEADER, Partition, Topic};
use super::plan::{Plan, Planned};
use super::topics::validate_assignment;
use crate::wire::{ErrorCode, Uuid};

/// Kafka's number of an election that hands over to the preferred leader.
pub const ELECT_PREFERRED: i8 = 0;
/// Kafka's number of an election that takes any leader.
pub const ELECT_UNCLEAN: i8 = 1;

/// A leader that is to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The group.
    pub group: GroupId,
    /// Who leads it, as far as is known; nobody if [`NO_LEADER`].
    pub from: i32,
    /// Who is to lead it.
    pub to: NodeId,
}

/// A partition that moves, as Kafka lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving<'a> {
    /// The topic.
    pub topic: &'a Topic,
    /// The partition.
    pub partition: i32,
    /// Those that shall hold it, then those that shall not any more.
    pub replicas: Vec<i32>,
    /// Those to come.
    pub adding: Vec<i32>,
    /// Those to go.
    pub removing: Vec<i32>,
}

fn refuse<T>(error: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(error, message))
}

pub(super) fn led(image: &ClusterImage, reports: &[Leadership]) -> Plan {
    let mut plan = Plan::default();
    let mut said: BTreeSet<u64> = BTreeSet::new();
    // The latest of several reports about one group counts.
    let mut sorted: Vec<&Leadership> = reports.iter().collect();
    sorted.sort_by_key(|report| (report.group, std::cmp::Reverse(report.epoch)));
    for report in sorted {
        let Some((_, _, partition)) = image.partition_of(report.group) else { continue };
        let later = report.epoch > partition.epoch
            || report.epoch == partition.epoch && partition.leader == NO_LEADER && report.leader != NO_LEADER;
        if later && partition.hosts.contains(&report.leader) && said.insert(report.group) {
            plan.deltas.push(Delta::Led { group: report.group, leader: report.leader, epoch: report.epoch });
        }
    }
    plan
}

pub(super) fn reassign(
    image: &ClusterImage,
    name: &str,
    index: i32,
    replicas: Option<Vec<i32>>,
    allow_replication_factor_change: bool,
) -> Planned {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let no_topic = || Refusal::new(unknown, format!("Unable to find a topic named {name}."));
    let topic = image.topic(name).ok_or_else(no_topic)?;
    let no_partition = || Refusal::new(unknown, format!("Unable to find partition {name}:{index}."));
    let partition = topic.partition(index).ok_or_else(no_partition)?;
    let Some(target) = replicas else { return cancel(topic.id, index, partition) };
    if topic.agreement.is_some_and(Agreement::is_fixed) {
        return Err(agreement::stays());
    }
    validate_assignment(image, &target, None)?;
    if !allow_replication_factor_change && target.len() != partition.replicas.len() {
        let (before, after) = (partition.replicas.len(), target.len());
        let message = format!("The replication factor is changed from {before} to {after}");
        return refuse(ErrorCode::INVALID_REPLICATION_FACTOR, message);
    }
    if !target.iter().any(|id| image.is_online(*id)) {
        let message = format!("None of the replicas that {name}:{index} would move to is there.");
        return refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    }
    if target == partition.goal() {
        return Ok(Plan::default());
    }
    let mut moved = Partition { version: partition.version + 1, ..partition.clone() };
    let same = |a: &[i32], b: &[i32]| a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>();
    if same(&target, &partition.replicas) {
        // Only the order is another, or it goes back to where it was.
        (moved.replicas, moved.target) = (target, None);
    } else {
        moved.hosts.extend(target.iter().copied());
        moved.target = Some(target);
    }
    let mut plan = Plan::default();
    if moved.hosts != partition.hosts {
        plan.spawn.push(partition.group);
    }
    plan.deltas.push(Delta::Partition { topic: topic.id, index, partition: moved });
    Ok(plan)
}

fn cancel(topic: Uuid, index: i32, partition: &Partition) -> Planned {
    if partition.target.is_none() {
        return refuse(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress.");
    }
    let stays = Partition { target: None, version: partition.version + 1, ..partition.clone() };
    Ok(Plan::of([Delta::Partition { topic, index, partition: stays }]))
}

pub(super) fn reassigned(image: &ClusterImage, group: u64, version: u64, replicas: &[i32], applied: u64) -> Planned {
    let Some((topic, index, partition)) = image.partition_of(group) else {
        return Err(super::topics::unknown_topic());
    };
    let goal: BTreeSet<i32> = partition.goal().iter().copied().collect();
    if version != partition.version || goal != replicas.iter().copied().collect() {
        return refuse(ErrorCode::INVALID_REQUEST, "The partition is on its way to other nodes than these.");
    }
    if !partition.is_moving() {
        return Ok(Plan::default());
    }
    let mut settled = partition.clone();
    settled.replicas = partition.goal().to_vec();
    settled.target = None;
    settled.floor = settled.floor.max(applied);
    settled.founders.retain(|id| goal.contains(id));
    settled.hosts = goal;
    if !settled.hosts.contains(&settled.leader) {
        settled.leader = NO_LEADER;
    }
    let mut plan = Plan::of([Delta::Partition { topic: topic.id, index, partition: settled }]);
    if partition.hosts.len() != partition.goal().len() {
        plan.spawn.push(group);
    }
    Ok(plan)
}

impl ClusterImage {
    /// What is to be done for an election that a client wants (`ElectLeaders`). The session has the leader hand over.
    ///
    /// # Errors
    /// What Kafka answers for the partition: nothing to do, nobody there to lead, or no such partition.
    pub fn election(&self, topic: &str, index: i32, election: i8) -> Result<Handover, Refusal> {
        let unknown = |message: String| refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
        if !matches!(election, ELECT_PREFERRED | ELECT_UNCLEAN) {
            return refuse(ErrorCode::INVALID_REQUEST, format!("Unknown election type {election}"));
        }
        let Some(found) = self.topic(topic) else { return unknown(format!("No such topic as {topic}")) };
        let Some(partition) = found.partition(index) else {
            return unknown(format!("No such partition as {topic}-{index}"));
        };
        let led = self.is_online(partition.leader);
        let preferred = partition.preferred();
        let done = if election == ELECT_PREFERRED { led && partition.leader == preferred } else { led };
        if done {
            let message = "Leader election not needed for topic partition.";
            return refuse(ErrorCode::ELECTION_NOT_NEEDED, message);
        }
        // No leader is unclean here: who lacks committed batches cannot win. Then the group needs a majority, and
        // nothing else.
        if election == ELECT_UNCLEAN {
            let message = "Eligible topic partition leaders are not available.";
            return refuse(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE, message);
        }
        match u64::try_from(preferred) {
            Ok(to) if self.is_online(preferred) => {
                Ok(Handover { group: GroupId(partition.group), from: partition.leader, to: NodeId(to) })
            }
            _ => refuse(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available."),
        }
    }

    /// The partitions that move, of one topic or of all.
    pub fn moving<'a>(&'a self, topic: Option<&'a str>) -> impl Iterator<Item = Moving<'a>> {
        let topics = self.topics().filter(move |found| topic.is_none_or(|name| found.name == name));
        topics.flat_map(|topic| {
            let partitions = (0..).zip(&topic.partitions).filter(|(_, partition)| partition.target.is_some());
            partitions.map(move |(index, partition)| Moving {
                topic,
                partition: index,
                replicas: partition.listed(),
                adding: partition.adding(),
                removing: partition.removing(),
            })
        })
    }
}
