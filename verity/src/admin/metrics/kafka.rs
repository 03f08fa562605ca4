//! Kafka's figures. Their names are those that dashboards for Kafka know, with Verity's in front.

use verity_node::Figures;

use super::{Figure, Labels, Values};
use crate::admin::kafka::{KafkaFigures, Lag};

fn plain(name: &'static str, help: &'static str, value: u64) -> Figure {
    Figure { name, help, values: Values::Gauge(vec![(Labels::new(), value)]) }
}

/// Everything that is measured of Kafka on a node.
pub(super) fn figures(kafka: &KafkaFigures, counted: &Figures) -> Vec<Figure> {
    let mut all = partitions(kafka);
    all.extend(groups(kafka));
    all.extend(transactions(kafka));
    all.extend(traffic(counted));
    all.push(plain("kafka_series_left_out", "Values that are not told, since there are too many.", kafka.left_out));
    all
}

fn partitions(kafka: &KafkaFigures) -> Vec<Figure> {
    vec![
        plain("kafka_topics", "Topics of the cluster, told by whoever leads the metadata.", kafka.topics),
        plain(
            "kafka_cluster_partitions",
            "Partitions of the cluster, told by whoever leads the metadata.",
            kafka.cluster_partitions,
        ),
        plain("kafka_partitions", "Partitions that the node holds.", kafka.partitions),
        plain("kafka_leaders", "Partitions that the node leads.", kafka.leaders),
        plain(
            "kafka_under_replicated_partitions",
            "Partitions that the node leads and of which a replica's node is not heard.",
            kafka.under_replicated,
        ),
        plain(
            "kafka_offline_partitions",
            "Partitions that nobody leads, told by whoever leads the metadata.",
            kafka.offline,
        ),
    ]
}

fn groups(kafka: &KafkaFigures) -> Vec<Figure> {
    let gauge = |name, help, values| Figure { name, help, values: Values::Gauge(values) };
    let of_group = |(group, value): &(String, u64)| (vec![("consumergroup", group.clone())], *value);
    let lag = |Lag { group, topic, partition, lag }: &Lag| {
        let labels =
            vec![("consumergroup", group.clone()), ("topic", topic.clone()), ("partition", partition.to_string())];
        (labels, *lag)
    };
    let state = |(state, count): (&String, &u64)| (vec![("state", state.clone())], *count);
    vec![
        gauge(
            "kafka_consumergroups",
            "Groups by state, told by whoever leads the coordinator.",
            kafka.groups.iter().map(state).collect(),
        ),
        gauge(
            "kafka_consumergroup_members",
            "Members of a group, told by whoever leads the coordinator.",
            kafka.members.iter().map(of_group).collect(),
        ),
        gauge(
            "kafka_consumergroup_lag",
            "Records between what a group has committed and the end of a partition that the node leads.",
            kafka.lags.iter().map(lag).collect(),
        ),
        gauge(
            "kafka_consumergroup_lag_sum",
            "The same over all partitions that the node leads.",
            kafka.lag_sums.iter().map(of_group).collect(),
        ),
    ]
}

fn transactions(kafka: &KafkaFigures) -> Vec<Figure> {
    let age = |(topic, partition, ms): &(String, i32, u64)| {
        (vec![("topic", topic.clone()), ("partition", partition.to_string())], ms / 1000)
    };
    vec![
        plain(
            "kafka_open_transactions",
            "Transactions that are open, told by whoever leads the coordinator.",
            kafka.open_transactions,
        ),
        plain(
            "kafka_undecided_partitions",
            "Partitions that the node leads and in which a transaction is open.",
            kafka.undecided,
        ),
        Figure {
            name: "kafka_last_stable_offset_age_seconds",
            help: "Since when a transaction keeps readers of committed records from the rest of a partition.",
            values: Values::Gauge(kafka.ages.iter().map(age).collect()),
        },
    ]
}

fn traffic(counted: &Figures) -> Vec<Figure> {
    let count = |what| {
        let found = counted.counts.iter().find(|count| (count.system, count.what) == ("kafka", what));
        found.map_or(0, |count| count.count)
    };
    let ways = |name, help, received, sent| {
        let way = |way: &str, what| (vec![("direction", way.to_owned())], count(what));
        Figure { name, help, values: Values::Counter(vec![way("received", received), way("sent", sent)]) }
    };
    vec![
        plain("kafka_connections", "Open connections of Kafka's clients.", count("connections")),
        ways(
            "kafka_messages_total",
            "Records that producers wrote and consumers were sent.",
            "messages_received",
            "messages_sent",
        ),
        ways("kafka_bytes_total", "Bytes of these records, as they travel.", "bytes_received", "bytes_sent"),
    ]
}
