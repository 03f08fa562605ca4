//! What administrators ask and change about topics.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use verity_kafka::machine::cluster::AGREEMENT;
use verity_kafka::wire::Ask;
use verity_kafka::wire::message::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest,
    DeleteTopicState, DeleteTopicsRequest, DescribeConfigsRequest, DescribeConfigsResource,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource, IncrementalAlterableConfig, ListOffsetsPartition,
    ListOffsetsRequest, ListOffsetsTopic,
};

use super::client::Client;
use super::failure::Failure;

/// How long a broker may take to change something.
pub(super) const CHANGE_WAIT: Duration = Duration::from_secs(30);
/// A time that stands for the end of a partition.
const END: i64 = -1;
const TOPIC: i8 = 2;
const SET: i8 = 0;
const UNSET: i8 = 1;

/// Offsets by topic and partition.
pub(crate) type Offsets = BTreeMap<(String, i32), i64>;

/// A topic to be made. -1 leaves a number to the broker.
#[derive(Clone, Debug)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) replicas: i16,
    pub(crate) configs: Vec<(String, String)>,
}

/// A configuration's entry that somebody has set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ConfigEntry {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

fn wait_ms() -> i32 {
    i32::try_from(CHANGE_WAIT.as_millis()).expect("a constant that fits")
}

impl Client {
    /// Asks the controller, or whoever passes it on.
    async fn change<A: Ask + Clone>(&self, request: A) -> Result<A::Answer, Failure> {
        self.patiently(async || {
            let address = self.controller().await?;
            match self.ask_at(&address, request.clone(), CHANGE_WAIT).await {
                // The controller may be the broker that crashed.
                Err(Failure::Passing(_)) => self.ask_any(request.clone()).await,
                result => result,
            }
        })
        .await
    }

    pub(crate) async fn create_topic(&self, topic: &NewTopic) -> Result<(), Failure> {
        let configs = topic.configs.iter();
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name.clone(),
                num_partitions: topic.partitions,
                replication_factor: topic.replicas,
                configs: configs
                    .map(|(name, value)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) })
                    .collect(),
                ..Default::default()
            }],
            timeout_ms: wait_ms(),
            validate_only: false,
        };
        let answer = self.change(request).await?;
        let result = answer.topics.first();
        let said = result.and_then(|result| result.error_message.as_deref());
        Failure::check_said(result.map_or(0, |result| result.error_code), said, format!("topic {}", topic.name))
    }

    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), Failure> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name.to_owned()), ..Default::default() }],
            topic_names: vec![name.to_owned()],
            timeout_ms: wait_ms(),
        };
        let answer = self.change(request).await?;
        let result = answer.responses.first();
        let said = result.and_then(|result| result.error_message.as_deref());
        Failure::check_said(result.map_or(0, |result| result.error_code), said, format!("topic {name}"))
    }

    pub(crate) async fn set_partitions(&self, topic: &str, count: i32) -> Result<(), Failure> {
        let topics = vec![CreatePartitionsTopic { name: topic.to_owned(), count, assignments: None }];
        let answer =
            self.change(CreatePartitionsRequest { topics, timeout_ms: wait_ms(), validate_only: false }).await?;
        let result = answer.results.first();
        let said = result.and_then(|result| result.error_message.as_deref());
        Failure::check_said(result.map_or(0, |result| result.error_code), said, format!("topic {topic}"))
    }

    /// Sets entries of a topic's configuration, and takes back others.
    pub(crate) async fn set_configs(
        &self,
        topic: &str,
        set: &[(String, String)],
        unset: &[String],
    ) -> Result<(), Failure> {
        let entry = |name: &String, config_operation, value| IncrementalAlterableConfig {
            name: name.clone(),
            config_operation,
            value,
        };
        let mut configs: Vec<IncrementalAlterableConfig> =
            set.iter().map(|(name, value)| entry(name, SET, Some(value.clone()))).collect();
        configs.extend(unset.iter().map(|name| entry(name, UNSET, None)));
        let resources =
            vec![IncrementalAlterConfigsResource { resource_type: TOPIC, resource_name: topic.to_owned(), configs }];
        let answer = self.change(IncrementalAlterConfigsRequest { resources, validate_only: false }).await?;
        let result = answer.responses.first();
        let said = result.and_then(|result| result.error_message.as_deref());
        Failure::check_said(result.map_or(0, |result| result.error_code), said, format!("topic {topic}"))
    }

    /// What is set of a topic's configuration.
    pub(crate) async fn configs(&self, topic: &str) -> Result<Vec<ConfigEntry>, Failure> {
        const TOPICS_OWN: i8 = 1;
        let resources = vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.to_owned(),
            configuration_keys: None,
        }];
        let request = DescribeConfigsRequest { resources, ..Default::default() };
        let answer = self.patiently(async || self.ask_any(request.clone()).await).await?;
        let Some(result) = answer.results.into_iter().next() else { return Ok(Vec::new()) };
        Failure::check_said(result.error_code, result.error_message.as_deref(), format!("topic {topic}"))?;
        let own = result.configs.into_iter().filter(|entry| entry.config_source == TOPICS_OWN);
        Ok(own.map(|entry| ConfigEntry { name: entry.name, value: entry.value }).collect())
    }

    /// What topics come to one order by. Only Verity tells, and only whom it lets see configurations.
    pub(crate) async fn agreements(&self, topics: &[String]) -> Result<BTreeMap<String, String>, Failure> {
        let resource = |name: &String| DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: name.clone(),
            configuration_keys: Some(vec![AGREEMENT.to_owned()]),
        };
        let resources: Vec<DescribeConfigsResource> = topics.iter().map(resource).collect();
        if resources.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = DescribeConfigsRequest { resources, ..Default::default() };
        let answer = match self.patiently(async || self.ask_any(request.clone()).await).await {
            // A broker that knows no such request has none to tell.
            Err(Failure::Lasting(_)) => return Ok(BTreeMap::new()),
            answer => answer?,
        };
        let told = answer.results.into_iter().filter_map(|result| {
            let entry = result.configs.into_iter().find(|entry| entry.name == AGREEMENT)?;
            Some((result.resource_name, entry.value?))
        });
        Ok(told.collect())
    }

    /// Offsets of partitions by time: -1 for the end, -2 for the start, else milliseconds. Partitions that have none by
    /// that time are told their end.
    pub(crate) async fn offsets_at(&self, partitions: &[(String, i32)], timestamp: i64) -> Result<Offsets, Failure> {
        let mut found = self.offsets(partitions, timestamp, false).await?;
        let none: Vec<(String, i32)> =
            found.iter().filter(|(_, offset)| **offset < 0).map(|(partition, _)| partition.clone()).collect();
        if !none.is_empty() {
            found.extend(self.offsets(&none, END, false).await?);
        }
        Ok(found)
    }

    /// Where partitions end for readers of all records, or of committed ones.
    pub(crate) async fn ends(&self, partitions: &[(String, i32)], committed: bool) -> Result<Offsets, Failure> {
        self.offsets(partitions, END, committed).await
    }

    async fn offsets(&self, partitions: &[(String, i32)], timestamp: i64, committed: bool) -> Result<Offsets, Failure> {
        let mut found = Offsets::new();
        self.patiently(async || {
            let mut by_leader: BTreeMap<String, BTreeMap<String, Vec<ListOffsetsPartition>>> = BTreeMap::new();
            for (topic, partition) in partitions.iter().filter(|one| !found.contains_key(*one)) {
                let address = self.leader(topic, *partition).await?;
                let wanted = ListOffsetsPartition { partition_index: *partition, timestamp, ..Default::default() };
                by_leader.entry(address).or_default().entry(topic.clone()).or_default().push(wanted);
            }
            for (address, topics) in by_leader {
                let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name, partitions });
                let request = ListOffsetsRequest {
                    replica_id: -1,
                    isolation_level: i8::from(committed),
                    topics: topics.collect(),
                    ..Default::default()
                };
                let answer = self.ask_at(&address, request, Duration::ZERO).await?;
                for topic in answer.topics {
                    for partition in topic.partitions {
                        let about = format!("topic {}", topic.name);
                        Failure::check(partition.error_code, about)?;
                        found.insert((topic.name.clone(), partition.partition_index), partition.offset);
                    }
                }
            }
            Ok(())
        })
        .await?;
        Ok(found)
    }
}
