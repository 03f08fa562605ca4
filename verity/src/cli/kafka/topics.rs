//! `verity kafka topics`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use verity_kafka::machine::cluster::AGREEMENT;

use super::table::table;
use super::{counted, pair, say_done};
use crate::compose::Agreement;
use crate::kafka::{Client, NewTopic, TopicInfo};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity kafka topics create orders --partitions 6 --config retention.ms=86400000\n  \
    verity kafka topics create ledger --agreement pbft       of its four replicas one may lie\n  \
    verity kafka topics describe orders\n  \
    verity kafka topics alter orders --partitions 12 --config cleanup.policy=compact"
)]
pub(super) struct Topics {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Show which topics there are.
    List {
        /// Also those that the cluster keeps for itself.
        #[arg(long)]
        internal: bool,
    },
    /// Show who holds and leads a topic's partitions, how far they go, and what is configured.
    Describe {
        /// Which; all if none is named.
        topics: Vec<String>,
    },
    /// Make a topic.
    Create {
        /// Its name.
        topic: String,
        /// How many partitions it has; the cluster's default if it is not said.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// On how many nodes each is; the cluster's default if it is not said.
        #[arg(long, alias = "replication-factor", value_name = "COUNT", value_parser = clap::value_parser!(i16).range(1..))]
        replicas: Option<i16>,
        /// What its replicas come to one order by, if not by what the cluster runs on (verity.agreement).
        #[arg(long, value_enum)]
        agreement: Option<Agreement>,
        /// An entry of its configuration; may be given again.
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
        /// That it is there already is no mistake.
        #[arg(long)]
        if_absent: bool,
    },
    /// Give a topic more partitions, or another configuration.
    Alter {
        /// Which.
        topic: String,
        /// How many partitions it has from here on; not fewer than now.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// An entry of its configuration; may be given again.
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
        /// An entry that goes back to its default; may be given again.
        #[arg(long = "delete-config", value_name = "NAME")]
        deletions: Vec<String>,
    },
    /// Delete topics and all their records.
    Delete {
        /// Which.
        #[arg(required = true)]
        topics: Vec<String>,
    },
}

impl Topics {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<()> {
        match self.kind {
            Kind::List { internal } => list(client, internal, json).await,
            Kind::Describe { topics } => describe(client, topics, json).await,
            Kind::Create { topic, partitions, replicas, agreement, mut configs, if_absent } => {
                configs.extend(agreement.map(|agreement| (AGREEMENT.to_owned(), agreement.to_string())));
                let new = NewTopic {
                    name: topic,
                    partitions: partitions.unwrap_or(-1),
                    replicas: replicas.unwrap_or(-1),
                    configs,
                };
                create(client, &new, if_absent, json).await
            }
            Kind::Alter { topic, partitions, configs, deletions } => {
                if partitions.is_none() && configs.is_empty() && deletions.is_empty() {
                    bail!("nothing to change; --partitions, --config and --delete-config say what");
                }
                if let Some(count) = partitions {
                    client.set_partitions(&topic, count).await?;
                }
                if !configs.is_empty() || !deletions.is_empty() {
                    client.set_configs(&topic, &configs, &deletions).await?;
                }
                say_done(json, &format!("topic {topic} is changed"));
                Ok(())
            }
            Kind::Delete { topics } => {
                for topic in &topics {
                    client.delete_topic(topic).await?;
                }
                let many = topics.len() > 1;
                let (noun, verb) = if many { ("topics", "are") } else { ("topic", "is") };
                say_done(json, &format!("{noun} {} {verb} deleted", topics.join(", ")));
                Ok(())
            }
        }
    }
}

async fn create(client: &Client, new: &NewTopic, if_absent: bool, json: bool) -> Result<()> {
    let name = &new.name;
    let there = match client.create_topic(new).await {
        Ok(()) => false,
        Err(failure) if if_absent && failure.code() == Some(verity_kafka::wire::ErrorCode::TOPIC_ALREADY_EXISTS) => {
            true
        }
        Err(failure) => return Err(failure.into()),
    };
    if there {
        say_done(json, &format!("topic {name} is there already"));
        return Ok(());
    }
    let made = client.topic(name).await?;
    let partitions = counted(made.partitions.len() as u64, "partition");
    say_done(json, &format!("topic {name} is created with {partitions}"));
    Ok(())
}

async fn list(client: &Client, internal: bool, json: bool) -> Result<()> {
    let topics: Vec<TopicInfo> = client.topics().await?.into_iter().filter(|one| internal || !one.internal).collect();
    let agreements = agreements(client, &topics).await?;
    let replicas = |topic: &TopicInfo| topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    if json {
        let row = |topic: &TopicInfo| {
            json!({
                "topic": topic.name,
                "partitions": topic.partitions.len(),
                "replicas": replicas(topic),
                "internal": topic.internal,
                "agreement": agreements.get(&topic.name),
            })
        };
        println!("{}", json!({ "topics": topics.iter().map(row).collect::<Vec<_>>() }));
    } else if topics.is_empty() {
        println!("no topics; `verity kafka topics create NAME` makes one");
    } else {
        let row = |topic: &TopicInfo| {
            let agreement = agreements.get(&topic.name).cloned().unwrap_or_default();
            vec![topic.name.clone(), topic.partitions.len().to_string(), replicas(topic).to_string(), agreement]
        };
        let mut rows: Vec<Vec<String>> = topics.iter().map(row).collect();
        let mut heads = vec!["topic", ">partitions", ">replicas", "agreement"];
        // Other brokers know of none.
        if agreements.is_empty() {
            heads.truncate(3);
            rows.iter_mut().for_each(|row| row.truncate(3));
        }
        print!("{}", table(&heads, &rows));
    }
    Ok(())
}

async fn agreements(client: &Client, topics: &[TopicInfo]) -> Result<BTreeMap<String, String>> {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    Ok(client.agreements(&names).await?)
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn describe(client: &Client, names: Vec<String>, json: bool) -> Result<()> {
    let topics = if names.is_empty() {
        client.topics().await?.into_iter().filter(|topic| !topic.internal).collect()
    } else {
        let mut topics = Vec::new();
        for name in &names {
            topics.push(client.topic(name).await?);
        }
        topics
    };
    let agreements = agreements(client, &topics).await?;
    let mut all = Vec::new();
    for (at, topic) in topics.iter().enumerate() {
        // What nobody leads has no ends that anybody could tell.
        let led: Vec<(String, i32)> = topic
            .partitions
            .iter()
            .filter(|partition| partition.leader >= 0)
            .map(|partition| (topic.name.clone(), partition.index))
            .collect();
        let starts = client.offsets_at(&led, -2).await?;
        let ends = client.ends(&led, false).await?;
        let configs = client.configs(&topic.name).await?;
        let of =
            |offsets: &BTreeMap<(String, i32), i64>, index: i32| offsets.get(&(topic.name.clone(), index)).copied();
        if json {
            let row = |partition: &crate::kafka::PartitionInfo| {
                json!({
                    "partition": partition.index,
                    "leader": partition.leader,
                    "replicas": partition.replicas,
                    "in_sync": partition.in_sync,
                    "start": of(&starts, partition.index),
                    "end": of(&ends, partition.index),
                })
            };
            let configs: BTreeMap<&String, &Option<String>> =
                configs.iter().map(|entry| (&entry.name, &entry.value)).collect();
            all.push(json!({
                "topic": topic.name,
                "internal": topic.internal,
                "agreement": agreements.get(&topic.name),
                "partitions": topic.partitions.iter().map(row).collect::<Vec<_>>(),
                "configs": configs,
            }));
            continue;
        }
        if at > 0 {
            println!();
        }
        println!("topic {}, {}", topic.name, counted(topic.partitions.len() as u64, "partition"));
        for entry in &configs {
            println!("  {} = {}", entry.name, entry.value.as_deref().unwrap_or("-"));
        }
        let number = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let row = |partition: &crate::kafka::PartitionInfo| {
            let leader = if partition.leader < 0 { "none".to_owned() } else { partition.leader.to_string() };
            let (start, end) = (of(&starts, partition.index), of(&ends, partition.index));
            let index = partition.index.to_string();
            vec![index, leader, ids(&partition.replicas), ids(&partition.in_sync), number(start), number(end)]
        };
        let rows: Vec<Vec<String>> = topic.partitions.iter().map(row).collect();
        print!("{}", table(&[">partition", ">leader", "replicas", "in sync", ">start", ">end"], &rows));
    }
    if json {
        println!("{}", json!({ "topics": all }));
    } else if topics.is_empty() {
        println!("no topics; `verity kafka topics create NAME` makes one");
    }
    Ok(())
}
