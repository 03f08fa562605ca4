//! A cluster, as its clients see it.
//!
//! - upon [`Client::connect`]: the brokers named first are asked in turn, once each, until one answers;
//! - upon a request to whoever leads or coordinates: who that is stands in the metadata, which are asked for anew whenever
//!   they prove wrong;
//! - upon a passing failure: another try, until [`PATIENCE`] ends. A leader that has crashed is followed by another meanwhile.
//!
//! A connection is taken out of its place while it is used, so that a call that is given up takes it along: no answer can
//! come to the wrong request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use verity_kafka::wire::message::{
    Coordinator, FindCoordinatorRequest, MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use verity_kafka::wire::{Ask, ErrorCode};

use super::access::Access;
use super::connection::Connection;
use super::failure::Failure;

/// How long passing failures are met by another try.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before the first other try; later ones are longer.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A partition, as the metadata know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionInfo {
    pub(crate) index: i32,
    /// -1 if nobody leads.
    pub(crate) leader: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

/// A topic, as the metadata know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicInfo {
    pub(crate) name: String,
    pub(crate) internal: bool,
    pub(crate) partitions: Vec<PartitionInfo>,
}

#[derive(Default)]
struct State {
    brokers: BTreeMap<i32, String>,
    controller: Option<i32>,
    topics: BTreeMap<String, TopicInfo>,
    coordinators: BTreeMap<String, String>,
    /// Connections that nobody uses at the moment.
    idle: BTreeMap<String, Vec<Connection>>,
}

struct Inner {
    access: Access,
    state: Mutex<State>,
}

/// A handle on a cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

fn info(topic: MetadataResponseTopic) -> TopicInfo {
    let mut partitions: Vec<PartitionInfo> = topic
        .partitions
        .into_iter()
        .map(|partition| PartitionInfo {
            index: partition.partition_index,
            leader: partition.leader_id,
            replicas: partition.replica_nodes,
            in_sync: partition.isr_nodes,
        })
        .collect();
    partitions.sort_unstable_by_key(|partition| partition.index);
    TopicInfo { name: topic.name.unwrap_or_default(), internal: topic.is_internal, partitions }
}

impl Client {
    /// Finds a broker that answers.
    pub(crate) async fn connect(access: Access) -> Result<Self, Failure> {
        let client = Self(Arc::new(Inner { access, state: Mutex::default() }));
        client.refresh(Some(&[])).await.map_err(|failure| client.explain(failure))?;
        Ok(client)
    }

    /// What may be wrong with the first request.
    fn explain(&self, failure: Failure) -> Failure {
        let Failure::Passing(why) = failure else { return failure };
        let wants_user = self.0.access.identity.is_none() && why.ends_with("was closed");
        let help = match why.ends_with('?') {
            true => "",
            false if wants_user => "; it may want a user (--sasl, --user) or TLS (--tls-ca)",
            false => "; `verity up --only kafka` starts a cluster, --bootstrap names another",
        };
        Failure::Lasting(why + help)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nobody panics while holding the state")
    }

    /// Asks a broker at this address. `wait` is what the request asks it to wait.
    pub(super) async fn ask_at<A: Ask>(&self, address: &str, request: A, wait: Duration) -> Result<A::Answer, Failure> {
        let mut connection = self.take(address).await?;
        let answer = connection.call(request, wait).await;
        if answer.is_ok() {
            self.give_back(address, connection);
        }
        answer
    }

    /// Tells a broker what it does not answer.
    pub(super) async fn tell_at<A: Ask>(&self, address: &str, request: A) -> Result<(), Failure> {
        let mut connection = self.take(address).await?;
        connection.tell(request).await?;
        self.give_back(address, connection);
        Ok(())
    }

    async fn take(&self, address: &str) -> Result<Connection, Failure> {
        let idle = self.state().idle.get_mut(address).and_then(Vec::pop);
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(address, &self.0.access).await,
        }
    }

    fn give_back(&self, address: &str, connection: Connection) {
        self.state().idle.entry(address.to_owned()).or_default().push(connection);
    }

    /// Asks whichever broker answers first, those that are known before those that were named.
    pub(super) async fn ask_any<A: Ask + Clone>(&self, request: A) -> Result<A::Answer, Failure> {
        let mut addresses: Vec<String> = self.state().brokers.values().cloned().collect();
        addresses.extend(self.0.access.bootstrap.iter().cloned());
        let mut first = None;
        for address in addresses {
            match self.ask_at(&address, request.clone(), Duration::ZERO).await {
                Ok(answer) => return Ok(answer),
                Err(failure @ Failure::Passing(_)) => {
                    first.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(first.unwrap_or_else(|| Failure::Lasting("no broker is named".to_owned())))
    }

    /// Tries until it works, fails for good, or patience ends.
    pub(crate) async fn patiently<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let end = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        loop {
            let failure = match attempt().await {
                Err(failure) if failure.is_passing() => failure,
                result => return result,
            };
            if Instant::now() >= end {
                return Err(failure);
            }
            self.forget();
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// What is known may be wrong.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.controller = None;
        state.topics.clear();
        state.coordinators.clear();
        state.idle.clear();
    }

    /// Asks for metadata: of all topics, or of these.
    async fn refresh(&self, topics: Option<&[String]>) -> Result<MetadataResponse, Failure> {
        let named = |name: &String| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = self.ask_any(request).await?;
        let address = |host: &str, port: i32| {
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        };
        let mut state = self.state();
        state.brokers =
            answer.brokers.iter().map(|broker| (broker.node_id, address(&broker.host, broker.port))).collect();
        state.controller = Some(answer.controller_id);
        for topic in answer.topics.iter().filter(|topic| topic.error_code == 0) {
            let topic = info(topic.clone());
            state.topics.insert(topic.name.clone(), topic);
        }
        drop(state);
        Ok(answer)
    }

    /// Every topic.
    pub(crate) async fn topics(&self) -> Result<Vec<TopicInfo>, Failure> {
        let answer = self.patiently(async || self.refresh(None).await).await?;
        let mut all: Vec<TopicInfo> =
            answer.topics.into_iter().filter(|topic| topic.error_code == 0).map(info).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// One topic as it is now. That it is not there may pass within a moment, if it was just made; one try more shows it.
    pub(crate) async fn topic(&self, name: &str) -> Result<TopicInfo, Failure> {
        let mut absent = 0;
        self.patiently(async || {
            let answer = self.refresh(Some(&[name.to_owned()])).await?;
            let topic = answer.topics.into_iter().next();
            let topic = topic.ok_or_else(|| Failure::Passing(format!("nobody knows of topic {name}")))?;
            if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0 {
                absent += 1;
                let failure = Failure::check(topic.error_code, format!("topic {name}")).expect_err("it is an error");
                return Err(if absent < 3 { failure } else { Failure::Lasting(failure.to_string()) });
            }
            Failure::check(topic.error_code, format!("topic {name}"))?;
            Ok(info(topic))
        })
        .await
    }

    /// Where the leader of a partition is.
    pub(super) async fn leader(&self, topic: &str, partition: i32) -> Result<String, Failure> {
        let known = |state: &State| {
            let found = state.topics.get(topic)?.partitions.iter().find(|found| found.index == partition)?;
            state.brokers.get(&found.leader).cloned()
        };
        if let Some(address) = known(&self.state()) {
            return Ok(address);
        }
        let answer = self.refresh(Some(&[topic.to_owned()])).await?;
        if let Some(found) = answer.topics.first() {
            Failure::check(found.error_code, format!("topic {topic}"))?;
        }
        known(&self.state()).ok_or_else(|| Failure::Passing(format!("nobody leads {topic}/{partition}")))
    }

    /// Where the group's coordinator is.
    pub(super) async fn coordinator(&self, group: &str) -> Result<String, Failure> {
        if let Some(address) = self.state().coordinators.get(group) {
            return Ok(address.clone());
        }
        let request =
            FindCoordinatorRequest { key: group.to_owned(), key_type: 0, coordinator_keys: vec![group.to_owned()] };
        let answer = self.ask_any(request).await?;
        let found = answer.coordinators.into_iter().next().unwrap_or(Coordinator {
            node_id: answer.node_id,
            host: answer.host,
            port: answer.port,
            error_code: answer.error_code,
            error_message: answer.error_message,
            ..Default::default()
        });
        Failure::check(found.error_code, format!("group {group}"))?;
        let host = found.host;
        let address =
            if host.contains(':') { format!("[{host}]:{}", found.port) } else { format!("{host}:{}", found.port) };
        self.state().coordinators.insert(group.to_owned(), address.clone());
        Ok(address)
    }

    /// Every broker's address.
    pub(super) fn brokers(&self) -> Vec<String> {
        self.state().brokers.values().cloned().collect()
    }

    /// Where changes of topics go: to the controller, or to whoever passes them on.
    pub(super) async fn controller(&self) -> Result<String, Failure> {
        let known = |state: &State| {
            let controller = state.controller?;
            state.brokers.get(&controller).or_else(|| state.brokers.values().next()).cloned()
        };
        if let Some(address) = known(&self.state()) {
            return Ok(address);
        }
        self.refresh(Some(&[])).await?;
        known(&self.state()).ok_or_else(|| Failure::Passing("the cluster knows of no broker yet".to_owned()))
    }
}
