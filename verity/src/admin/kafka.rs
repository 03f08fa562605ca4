//! What is measured of Kafka on one node, read when it is asked for.
//!
//! Each figure is told by one node, so that sums over all nodes are right:
//! - what a partition is about (lag, undecided records, too few replicas) by the node that leads it;
//! - partitions that nobody leads by the node that leads the metadata, as Kafka's controller does;
//! - groups and open transactions by the node that leads the coordinator.
//!
//! HAZARD: a name of a group or topic is a label, and clients choose names. A node tells at most [`LAGS_MAX`] lags, those that
//! are the largest, and [`AGES_MAX`] ages, the oldest; `kafka_series_left_out` says how many are missing. Sums and counts
//! are over all of them.
//!
//! Deliberately absent: figures that cost a client's request something beyond an addition. These are the session's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verity_contract::Consistency;
use verity_kafka::machine::cluster::{self, ClusterImage, NO_LEADER, PARTITIONS};
use verity_kafka::machine::coordinator::{self, Answer, SurveyRow};
use verity_kafka::machine::partition::{self, Ends};
use verity_node::{NodeClient, NodeStatus};
use verity_replica::GroupStatus;
use verity_types::GroupId;

use crate::compose::{KAFKA_CLUSTER, KAFKA_COORDINATOR};

/// A node tells no more lags than this.
const LAGS_MAX: usize = 5_000;
/// Nor of more groups how many members they have and what their lags are together.
const GROUPS_MAX: usize = 1_000;
/// Nor more ages of undecided records.
const AGES_MAX: usize = 100;
/// A node asks no more of its partitions how far they go.
const ASKED_MAX: usize = 10_000;
/// How many offsets come at once.
const OFFSETS_AT_ONCE: u32 = 10_000;
/// What a group may be.
pub(crate) const GROUP_STATES: [&str; 7] =
    ["Assigning", "CompletingRebalance", "Dead", "Empty", "PreparingRebalance", "Reconciling", "Stable"];

/// How far a group is behind in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) lag: u64,
}

/// Kafka on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KafkaFigures {
    /// Topics of the cluster, told by whoever leads the metadata.
    pub(crate) topics: u64,
    /// Partitions of the cluster, told by the same.
    pub(crate) cluster_partitions: u64,
    /// Partitions that the node holds.
    pub(crate) partitions: u64,
    /// Partitions that it leads.
    pub(crate) leaders: u64,
    /// Partitions that it leads and of which a replica's node is not heard.
    pub(crate) under_replicated: u64,
    /// Partitions that nobody leads.
    pub(crate) offline: u64,
    /// Groups by state.
    pub(crate) groups: BTreeMap<String, u64>,
    /// Members by group.
    pub(crate) members: Vec<(String, u64)>,
    /// Transactions that are open.
    pub(crate) open_transactions: u64,
    /// Lags, the largest first.
    pub(crate) lags: Vec<Lag>,
    /// By group, of the partitions that the node leads.
    pub(crate) lag_sums: Vec<(String, u64)>,
    /// Partitions with undecided records: topic, partition, and for how many milliseconds; the oldest first.
    pub(crate) ages: Vec<(String, i32, u64)>,
    /// How many partitions have some.
    pub(crate) undecided: u64,
    /// How many values are not told.
    pub(crate) left_out: u64,
}

/// Something to ask, and the moment.
struct Asking<'a> {
    client: &'a NodeClient,
    status: &'a NodeStatus,
    now_ms: i64,
}

impl Asking<'_> {
    async fn read(&self, group: GroupId, query: Bytes) -> Option<Bytes> {
        self.client.read(group, query, Consistency::Local).await.ok()?.ok()
    }

    fn group(&self, id: GroupId) -> Option<&GroupStatus> {
        self.status.groups.iter().find(|group| group.group == id)
    }

    fn leads(&self, id: GroupId) -> bool {
        self.group(id).is_some_and(|group| group.role.leads)
    }

    /// All groups with their offsets.
    async fn survey(&self) -> Vec<SurveyRow> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let query = coordinator::Query::Survey { after: after.clone(), offsets_max: OFFSETS_AT_ONCE };
            let Some(bytes) = self.read(KAFKA_COORDINATOR, query.encode()).await else { return all };
            let Ok(Answer::Surveyed { groups }) = Answer::decode(&bytes) else { return all };
            let Some(last) = groups.last() else { return all };
            after.clone_from(&last.group_id);
            all.extend(groups);
        }
    }

    /// When each producer's open transaction began, in milliseconds; how many are open.
    async fn transactions(&self) -> (BTreeMap<i64, i64>, u64) {
        let query = coordinator::Query::ListTransactions {
            states: Vec::new(),
            producer_ids: Vec::new(),
            duration_ms: -1,
            now: u64::try_from(self.now_ms).unwrap_or(0),
        };
        let answer = self.read(KAFKA_COORDINATOR, query.encode()).await;
        let Some(Ok(Answer::Transactions { rows, .. })) = answer.map(|bytes| Answer::decode(&bytes)) else {
            return Default::default();
        };
        let begun: BTreeMap<i64, i64> =
            rows.iter().filter(|row| row.started >= 0).map(|row| (row.producer_id, row.started)).collect();
        let open = begun.len() as u64;
        (begun, open)
    }

    async fn ends(&self, led: &BTreeSet<GroupId>) -> BTreeMap<GroupId, Ends> {
        let mut all = BTreeMap::new();
        for group in led.iter().take(ASKED_MAX) {
            let answer = self.read(*group, partition::Query::Ends.encode()).await;
            all.extend(answer.and_then(Ends::decode).map(|ends| (*group, ends)));
        }
        all
    }
}

/// Asks a node that serves Kafka. `None` from others.
pub(crate) async fn measure(client: &NodeClient, status: &NodeStatus) -> Option<KafkaFigures> {
    #[expect(clippy::disallowed_methods, reason = "the age of what is undecided, for people")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let asking = Asking { client, status, now_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX) };
    asking.group(KAFKA_CLUSTER)?;
    let image = asking.read(KAFKA_CLUSTER, cluster::Query::Snapshot.encode()).await;
    let image = image.and_then(|bytes| ClusterImage::from_snapshot(&bytes).ok()).unwrap_or_default();
    let hosted: Vec<&GroupStatus> = status.groups.iter().filter(|group| group.group.0 >= PARTITIONS).collect();
    let led: BTreeSet<GroupId> = hosted.iter().filter(|group| group.role.leads).map(|group| group.group).collect();
    let mut figures =
        KafkaFigures { partitions: hosted.len() as u64, leaders: led.len() as u64, ..KafkaFigures::default() };
    figures.under_replicated = count(&image, |group, partition| {
        led.contains(&group) && image.in_sync(partition).len() < partition.listed().len()
    });
    if asking.leads(KAFKA_CLUSTER) {
        figures.topics = image.topic_count() as u64;
        figures.cluster_partitions = image.partition_count() as u64;
        figures.offline = count(&image, |group, partition| {
            let leader = match asking.group(group) {
                Some(here) => here.role.leader.and_then(|node| i32::try_from(node.0).ok()).unwrap_or(NO_LEADER),
                None => partition.leader,
            };
            !image.is_online(leader)
        });
    }
    let (begun, open) = asking.transactions().await;
    let groups = asking.survey().await;
    if asking.leads(KAFKA_COORDINATOR) {
        figures.open_transactions = open;
        figures.groups = GROUP_STATES.iter().map(|state| ((*state).to_owned(), 0)).collect();
        for group in &groups {
            *figures.groups.entry(group.state.clone()).or_default() += 1;
        }
        figures.members = groups.iter().map(|group| (group.group_id.clone(), u64::from(group.members))).collect();
    }
    let ends = asking.ends(&led).await;
    figures.left_out += led.len().saturating_sub(ASKED_MAX) as u64;
    figures.add_lags(&image, &groups, &ends);
    figures.add_ages(&image, &ends, &begun, asking.now_ms);
    figures.bound();
    Some(figures)
}

fn count(image: &ClusterImage, is_one: impl Fn(GroupId, &cluster::Partition) -> bool) -> u64 {
    image.groups().filter(|(group, _, _, partition)| is_one(GroupId(*group), partition)).count() as u64
}

impl KafkaFigures {
    /// How far groups are behind in the partitions of `ends`.
    fn add_lags(&mut self, image: &ClusterImage, groups: &[SurveyRow], ends: &BTreeMap<GroupId, Ends>) {
        let end = |topic: &str, partition: i32| {
            let group = GroupId(image.partition(topic, partition)?.group);
            ends.get(&group).map(|ends| ends.high_watermark)
        };
        for SurveyRow { group_id, offsets, .. } in groups {
            let mut sum = None;
            for (topic, partitions) in offsets {
                for (partition, offset) in partitions {
                    let Some(end) = end(topic, *partition) else { continue };
                    let lag = u64::try_from(end.saturating_sub(*offset)).unwrap_or(0);
                    *sum.get_or_insert(0) += lag;
                    self.lags.push(Lag { group: group_id.clone(), topic: topic.clone(), partition: *partition, lag });
                }
            }
            self.lag_sums.extend(sum.map(|sum| (group_id.clone(), sum)));
        }
    }

    /// For how long records have been undecided: since their transaction began, as the coordinator knows it; since its
    /// producer was last heard, if the coordinator does not know it any more.
    fn add_ages(
        &mut self,
        image: &ClusterImage,
        ends: &BTreeMap<GroupId, Ends>,
        begun: &BTreeMap<i64, i64>,
        now_ms: i64,
    ) {
        for (group, ends) in ends.iter().filter(|(_, ends)| ends.holder >= 0) {
            let Some((topic, partition, _)) = image.partition_of(group.0) else { continue };
            let since = begun.get(&ends.holder).copied().unwrap_or(ends.heard);
            let age = u64::try_from(now_ms.saturating_sub(since)).unwrap_or(0);
            self.ages.push((topic.name.clone(), partition, age));
        }
        self.undecided = self.ages.len() as u64;
    }

    /// Keeps what matters most.
    fn bound(&mut self) {
        fn cut<T, K: Ord>(rows: &mut Vec<T>, max: usize, rank: impl Fn(&T) -> K) -> u64 {
            rows.sort_by_key(|row| Reverse(rank(row)));
            let left_out = rows.len().saturating_sub(max);
            rows.truncate(max);
            left_out as u64
        }
        self.left_out += cut(&mut self.lags, LAGS_MAX, |row| row.lag);
        self.left_out += cut(&mut self.lag_sums, GROUPS_MAX, |row| row.1);
        self.left_out += cut(&mut self.members, GROUPS_MAX, |row| row.1);
        self.left_out += cut(&mut self.ages, AGES_MAX, |row| row.2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_least_and_is_counted() {
        let ages = (0..AGES_MAX as u64 + 3).map(|age| ("t".to_owned(), 0, age)).collect();
        let lag = |lag| Lag { group: "g".into(), topic: "t".into(), partition: 0, lag };
        let lags = (0..LAGS_MAX as u64 + 2).map(lag).collect();
        let mut figures = KafkaFigures { ages, lags, ..KafkaFigures::default() };
        figures.bound();
        assert_eq!((figures.ages.len(), figures.lags.len(), figures.left_out), (AGES_MAX, LAGS_MAX, 5));
        assert_eq!(figures.ages[0].2, AGES_MAX as u64 + 2, "the oldest comes first");
        assert_eq!(figures.lags.last().map(|row| row.lag), Some(2));
    }
}
