//! What administrators ask and change about groups, and what members commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use verity_kafka::client::decode_assignment;
use verity_kafka::wire::message::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest, OffsetFetchRequestGroup,
};
use verity_kafka::wire::{Ask, ErrorCode};

use super::admin::{CHANGE_WAIT, Offsets};
use super::client::Client;
use super::failure::Failure;

/// A group's kind, where the broker tells one.
const CONSUMER: &str = "consumer";

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Listed {
    pub(crate) group: String,
    pub(crate) state: String,
    /// `classic`, `consumer`, ...; empty from brokers that do not tell.
    pub(crate) kind: String,
    pub(crate) protocol: String,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct MemberRow {
    pub(crate) member: String,
    pub(crate) client: String,
    pub(crate) host: String,
    /// Partitions by topic.
    pub(crate) assigned: BTreeMap<String, BTreeSet<i32>>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct GroupDescription {
    pub(crate) group: String,
    pub(crate) state: String,
    pub(crate) kind: String,
    pub(crate) assignor: String,
    pub(crate) members: Vec<MemberRow>,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct GroupOffset {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) committed: i64,
    pub(crate) end: i64,
    pub(crate) lag: i64,
}

impl Client {
    /// Every group that some broker coordinates.
    pub(crate) async fn groups(&self) -> Result<Vec<Listed>, Failure> {
        self.patiently(async || {
            let mut all = BTreeSet::new();
            for address in self.brokers() {
                let answer = match self.ask_at(&address, ListGroupsRequest::default(), Duration::ZERO).await {
                    // Its groups have another coordinator by now, or will have.
                    Err(Failure::Passing(_)) => continue,
                    answer => answer?,
                };
                // A broker that coordinates nothing may say so.
                if answer.error_code == ErrorCode::NOT_COORDINATOR.0 {
                    continue;
                }
                Failure::check(answer.error_code, "the list of groups")?;
                all.extend(answer.groups.into_iter().map(|group| Listed {
                    group: group.group_id,
                    state: group.group_state,
                    kind: group.group_type,
                    protocol: group.protocol_type,
                }));
            }
            Ok(all.into_iter().collect())
        })
        .await
    }

    /// Asks a group's coordinator.
    pub(super) async fn ask_coordinator<A: Ask>(
        &self,
        group: &str,
        request: A,
        wait: Duration,
    ) -> Result<A::Answer, Failure> {
        let address = self.coordinator(group).await?;
        self.ask_at(&address, request, wait).await
    }

    /// One group.
    pub(crate) async fn describe_group(&self, group: &str) -> Result<GroupDescription, Failure> {
        self.patiently(async || match self.describe_consumer_group(group).await {
            // Of the other kind, or a broker that knows no other kind, or nothing.
            Ok(None) | Err(Failure::Lasting(_)) => self.describe_classic_group(group).await,
            Ok(Some(described)) => Ok(described),
            Err(failure) => Err(failure),
        })
        .await
    }

    async fn describe_consumer_group(&self, group: &str) -> Result<Option<GroupDescription>, Failure> {
        let request = ConsumerGroupDescribeRequest { group_ids: vec![group.to_owned()], ..Default::default() };
        let answer = self.ask_coordinator(group, request, Duration::ZERO).await?;
        let Some(found) = answer.groups.into_iter().next() else { return Ok(None) };
        if [ErrorCode::GROUP_ID_NOT_FOUND.0, ErrorCode::UNSUPPORTED_VERSION.0].contains(&found.error_code) {
            return Ok(None);
        }
        Failure::check(found.error_code, format!("group {group}"))?;
        let members = found.members.into_iter().map(|member| MemberRow {
            member: member.member_id,
            client: member.client_id,
            host: member.client_host,
            assigned: member
                .assignment
                .topic_partitions
                .into_iter()
                .map(|row| (row.topic_name, row.partitions.into_iter().collect()))
                .collect(),
        });
        Ok(Some(GroupDescription {
            group: group.to_owned(),
            state: found.group_state,
            kind: CONSUMER.to_owned(),
            assignor: found.assignor_name,
            members: members.collect(),
        }))
    }

    async fn describe_classic_group(&self, group: &str) -> Result<GroupDescription, Failure> {
        let request = DescribeGroupsRequest { groups: vec![group.to_owned()], ..Default::default() };
        let answer = self.ask_coordinator(group, request, Duration::ZERO).await?;
        let about = format!("group {group}");
        let Some(found) = answer.groups.into_iter().next() else {
            return Err(Failure::Passing(format!("nobody knows of {about}")));
        };
        Failure::check(found.error_code, &about)?;
        // Below version 6 this is what a broker says of a group that is not there.
        if found.group_state == "Dead" {
            Failure::check(ErrorCode::GROUP_ID_NOT_FOUND.0, &about)?;
        }
        let members = found.members.into_iter().map(|member| MemberRow {
            member: member.member_id,
            client: member.client_id,
            host: member.client_host,
            assigned: decode_assignment(&member.member_assignment).unwrap_or_default(),
        });
        Ok(GroupDescription {
            group: group.to_owned(),
            state: found.group_state,
            kind: "classic".to_owned(),
            assignor: found.protocol_data,
            members: members.collect(),
        })
    }

    /// What a group has committed.
    pub(crate) async fn committed(&self, group: &str) -> Result<Offsets, Failure> {
        let request = OffsetFetchRequest {
            group_id: group.to_owned(),
            topics: None,
            groups: vec![OffsetFetchRequestGroup { group_id: group.to_owned(), ..Default::default() }],
            require_stable: false,
        };
        self.patiently(async || {
            let answer = self.ask_coordinator(group, request.clone(), Duration::ZERO).await?;
            let about = format!("group {group}");
            Failure::check(answer.error_code, &about)?;
            let mut offsets = Offsets::new();
            for topic in answer.topics {
                for partition in topic.partitions {
                    offsets.insert((topic.name.clone(), partition.partition_index), partition.committed_offset);
                }
            }
            for group in answer.groups {
                Failure::check(group.error_code, &about)?;
                for topic in group.topics {
                    for partition in topic.partitions {
                        offsets.insert((topic.name.clone(), partition.partition_index), partition.committed_offset);
                    }
                }
            }
            offsets.retain(|_, offset| *offset >= 0);
            Ok(offsets)
        })
        .await
    }

    /// How far a group is behind, by partition. Topics that are gone are left out.
    pub(crate) async fn lag(&self, group: &str) -> Result<Vec<GroupOffset>, Failure> {
        let committed = self.committed(group).await?;
        let known: BTreeSet<(String, i32)> = self
            .topics()
            .await?
            .into_iter()
            .flat_map(|topic| topic.partitions.into_iter().map(move |one| (topic.name.clone(), one.index)))
            .collect();
        let partitions: Vec<(String, i32)> = committed.keys().filter(|one| known.contains(*one)).cloned().collect();
        let ends = self.ends(&partitions, false).await?;
        let row = |((topic, partition), end): (&(String, i32), &i64)| {
            let committed = committed.get(&(topic.clone(), *partition)).copied().unwrap_or(-1);
            GroupOffset {
                group: group.to_owned(),
                topic: topic.clone(),
                partition: *partition,
                committed,
                end: *end,
                lag: end.saturating_sub(committed).max(0),
            }
        };
        Ok(ends.iter().map(row).collect())
    }

    /// Commits offsets for a group, as this member of this generation; as nobody for a group without members.
    pub(crate) async fn commit(&self, group: &str, member: (&str, i32), offsets: &Offsets) -> Result<(), Failure> {
        let mut topics: BTreeMap<&String, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                committed_metadata: Some(String::new()),
                ..Default::default()
            });
        }
        let topics = topics.into_iter();
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: member.1,
            member_id: member.0.to_owned(),
            topics: topics
                .map(|(name, partitions)| OffsetCommitRequestTopic {
                    name: name.clone(),
                    partitions,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        self.patiently(async || {
            let answer = self.ask_coordinator(group, request.clone(), Duration::ZERO).await?;
            for topic in answer.topics {
                for partition in topic.partitions {
                    Failure::check(partition.error_code, format!("group {group}"))?;
                }
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn delete_group(&self, group: &str) -> Result<(), Failure> {
        let request = DeleteGroupsRequest { groups_names: vec![group.to_owned()] };
        self.patiently(async || {
            let answer = self.ask_coordinator(group, request.clone(), CHANGE_WAIT).await?;
            Failure::check(answer.results.first().map_or(0, |result| result.error_code), format!("group {group}"))
        })
        .await
    }
}
