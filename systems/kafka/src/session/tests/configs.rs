//! Configurations there and back.

use verity_types::{ConnId, GroupId};

use super::admin::{create, topic};
use super::rig::{PLAIN, Rig};
use crate::machine::cluster::{AGREEMENT, Agreement, ConfigResource, PARTITIONS};
use crate::machine::partition;
use crate::wire::message::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig, CreatableTopic, CreatableTopicConfig,
    CreatableTopicConfigs, CreateTopicsRequest, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResult,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource, IncrementalAlterableConfig,
    ListConfigResourcesRequest,
};
use crate::wire::{ErrorCode, Request, Response};

fn describe(rig: &mut Rig, conn: ConnId, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
    };
    let request =
        DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: true };
    ask!(rig, conn, 4, DescribeConfigs, request).results.remove(0)
}

fn incremental(rig: &mut Rig, conn: ConnId, kind: i8, name: &str, op: i8, entry: (&str, Option<&str>)) -> ErrorCode {
    let config =
        IncrementalAlterableConfig { name: entry.0.into(), config_operation: op, value: entry.1.map(str::to_owned) };
    let resource =
        IncrementalAlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = ask!(rig, conn, 1, IncrementalAlterConfigs, request);
    ErrorCode(response.responses[0].error_code)
}

#[test]
fn a_topics_configuration_goes_there_and_back_and_to_its_partitions() {
    const TOPIC: i8 = ConfigResource::TOPIC;
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 1, 1)]);
    let version = |rig: &mut Rig| {
        let answer = rig.query(GroupId(PARTITIONS), &partition::Query::Describe.encode());
        partition::Described::decode(answer).unwrap().config_version
    };
    let before = version(&mut rig);
    let set = incremental(&mut rig, conn, TOPIC, "a", 0, ("retention.ms", Some("1234")));
    assert_eq!(set, ErrorCode::NONE);
    assert!(version(&mut rig) > before, "the partition was told");
    let described = describe(&mut rig, conn, TOPIC, "a", Some(&["retention.ms"]));
    assert_eq!((described.error_code, described.configs.len()), (0, 1));
    let entry = &described.configs[0];
    assert_eq!((entry.value.as_deref(), entry.config_source), (Some("1234"), 1));
    assert!(!entry.synonyms.is_empty() && entry.documentation.is_some());
    let all = describe(&mut rig, conn, TOPIC, "a", None);
    assert!(all.configs.len() > 10);
    let wrong = incremental(&mut rig, conn, TOPIC, "a", 0, ("retention.ms", Some("x")));
    assert_eq!(wrong, ErrorCode::INVALID_CONFIG);
    let unknown = incremental(&mut rig, conn, TOPIC, "b", 0, ("retention.ms", Some("1")));
    assert_eq!(unknown, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(describe(&mut rig, conn, TOPIC, "b", None).error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
}

#[test]
fn a_configuration_is_replaced_as_a_whole() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 1, 1)]);
    incremental(&mut rig, conn, ConfigResource::TOPIC, "a", 0, ("retention.ms", Some("1234")));
    let resource = |name: &str| AlterConfigsResource {
        resource_type: ConfigResource::TOPIC,
        resource_name: name.into(),
        configs: vec![AlterableConfig { name: "segment.bytes".into(), value: Some("1048576".into()) }],
    };
    let mut replace = |resources: Vec<AlterConfigsResource>| {
        let request = AlterConfigsRequest { resources, validate_only: false };
        let responses = ask!(rig, conn, 2, AlterConfigs, request).responses;
        responses.iter().map(|response| ErrorCode(response.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(replace(vec![resource("a"), resource("a")]), [ErrorCode::INVALID_REQUEST; 2]);
    assert_eq!(replace(vec![resource("a")]), [ErrorCode::NONE]);
    let described = describe(&mut rig, conn, ConfigResource::TOPIC, "a", Some(&["retention.ms", "segment.bytes"]));
    let told: Vec<_> = described.configs.iter().map(|entry| (entry.name.as_str(), entry.config_source)).collect();
    assert_eq!(told, [("retention.ms", 5), ("segment.bytes", 1)]);
}

#[test]
fn nodes_groups_and_loggers() {
    const BROKER: i8 = ConfigResource::BROKER;
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let own = describe(&mut rig, conn, BROKER, "1", Some(&["node.id", "log.dirs"]));
    let values: Vec<_> = own.configs.iter().map(|entry| entry.value.as_deref().unwrap()).collect();
    assert_eq!(values, ["/data", "1"]);
    assert!(own.configs.iter().all(|entry| entry.read_only && entry.config_source == 4));
    assert_eq!(describe(&mut rig, conn, BROKER, "2", None).error_code, ErrorCode::INVALID_REQUEST.0);
    let set = incremental(&mut rig, conn, BROKER, "", 0, ("log.retention.ms", Some("77")));
    assert_eq!(set, ErrorCode::NONE);
    assert_eq!(describe(&mut rig, conn, BROKER, "", None).configs[0].name, "log.retention.ms");
    const GROUP: i8 = ConfigResource::GROUP;
    let set = incremental(&mut rig, conn, GROUP, "g", 0, ("consumer.session.timeout.ms", Some("50000")));
    assert_eq!(set, ErrorCode::NONE);
    let group = describe(&mut rig, conn, GROUP, "g", Some(&["consumer.session.timeout.ms"]));
    assert_eq!((group.configs[0].value.as_deref(), group.configs[0].config_source), (Some("50000"), 8));
    const LOGGER: i8 = ConfigResource::BROKER_LOGGER;
    assert_eq!(describe(&mut rig, conn, LOGGER, "1", None).error_code, 0);
    assert_eq!(describe(&mut rig, conn, LOGGER, "x", None).error_code, ErrorCode::INVALID_REQUEST.0);
    let set = incremental(&mut rig, conn, LOGGER, "1", 0, ("kafka", Some("DEBUG")));
    assert_eq!(set, ErrorCode::INVALID_CONFIG);
    assert_eq!(describe(&mut rig, conn, 99, "x", None).error_code, ErrorCode::INVALID_REQUEST.0);
}

#[test]
fn what_has_a_configuration_is_listed() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 1, 1)]);
    const METRICS: i8 = ConfigResource::CLIENT_METRICS;
    assert_eq!(incremental(&mut rig, conn, METRICS, "m", 0, ("interval.ms", Some("1000"))), ErrorCode::NONE);
    let mut list = |version: i16, resource_types: Vec<i8>| {
        let response = ask!(rig, conn, version, ListConfigResources, ListConfigResourcesRequest { resource_types });
        let listed = response.config_resources.into_iter();
        (response.error_code, listed.map(|found| (found.resource_type, found.resource_name)).collect::<Vec<_>>())
    };
    let named = |kind: i8, name: &str| (kind, name.to_owned());
    assert_eq!(list(0, Vec::new()), (0, vec![named(METRICS, "m")]));
    assert_eq!(list(1, vec![ConfigResource::TOPIC]), (0, vec![named(ConfigResource::TOPIC, "a")]));
    let all = vec![
        named(ConfigResource::TOPIC, "a"),
        named(ConfigResource::BROKER, "1"),
        named(ConfigResource::BROKER_LOGGER, "1"),
        named(METRICS, "m"),
    ];
    assert_eq!(list(1, Vec::new()), (0, all));
    assert_eq!(list(1, vec![3]), (ErrorCode::UNSUPPORTED_VERSION.0, Vec::new()));
}

#[test]
fn a_topics_agreement_is_given_at_its_creation_and_told() {
    const TOPIC: i8 = ConfigResource::TOPIC;
    let mut rig = Rig::with(crate::session::Config { agreement: Agreement::Paxos, ..super::rig::config() });
    let conn = rig.connect(PLAIN);
    let on = |name: &str, agreement: &str| {
        let value = Some(agreement.to_owned());
        let configs = vec![CreatableTopicConfig { name: AGREEMENT.into(), value }];
        CreatableTopic { configs, ..topic(name, 1, 1) }
    };
    let made =
        create(&mut rig, conn, vec![on("own", "raft"), topic("usual", 1, 1), on("zab", "zab"), on("pbft", "pbft")]);
    let invalid = ErrorCode::INVALID_CONFIG.0;
    assert_eq!(made.iter().map(|result| result.error_code).collect::<Vec<_>>(), [0, 0, invalid, invalid]);
    assert!(made[3].error_message.as_deref().is_some_and(|why| why.contains("[pbft.keys]")), "{made:?}");
    let shown = |configs: &[CreatableTopicConfigs]| {
        let entry = configs.iter().find(|entry| entry.name == AGREEMENT).expect("it is told");
        (entry.value.clone(), entry.config_source, entry.read_only)
    };
    let configs = made[0].configs.as_ref().expect("they are told");
    assert_eq!(shown(configs), (Some("raft".into()), 1, true));
    let told = |rig: &mut Rig, kind, name| {
        let entry = describe(rig, conn, kind, name, Some(&[AGREEMENT])).configs.remove(0);
        (entry.value, entry.config_source, entry.read_only)
    };
    assert_eq!(told(&mut rig, TOPIC, "own"), (Some("raft".into()), 1, true));
    assert_eq!(told(&mut rig, TOPIC, "usual"), (Some("paxos".into()), 5, true));
    assert_eq!(told(&mut rig, ConfigResource::BROKER, "1"), (Some("paxos".into()), 4, true));
    let changed = incremental(&mut rig, conn, TOPIC, "own", 0, (AGREEMENT, Some("paxos")));
    assert_eq!(changed, ErrorCode::INVALID_CONFIG);
    let config = AlterableConfig { name: AGREEMENT.into(), value: Some("paxos".into()) };
    let resource = AlterConfigsResource { resource_type: TOPIC, resource_name: "own".into(), configs: vec![config] };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = &ask!(rig, conn, 2, AlterConfigs, request).responses[0];
    assert_eq!(response.error_code, invalid);
    let message = "verity.agreement is set when a topic is created, and cannot be changed afterwards.";
    assert_eq!(response.error_message.as_deref(), Some(message));
}

#[test]
fn a_topic_on_pbft_gets_four_replicas_of_as_many_nodes() {
    let keys = std::collections::BTreeMap::from([(verity_types::NodeId(1), [1; 32])]);
    let mut rig = Rig::with(crate::session::Config { keys, founders: 4, ..super::rig::config() });
    let conn = rig.connect(PLAIN);
    // Four replicas, if nobody said how many: of these nodes three have not come.
    let configs = vec![CreatableTopicConfig { name: AGREEMENT.into(), value: Some("pbft".into()) }];
    let four = CreatableTopic { configs, ..topic("four", 1, -1) };
    rig.send(conn, 7, &Request::CreateTopics(CreateTopicsRequest { topics: vec![four], ..Default::default() }));
    rig.advance(5_000);
    let Some(Response::CreateTopics(answer)) = rig.receive(conn) else { panic!("it is answered") };
    let why = answer.topics[0].error_message.clone().unwrap_or_default();
    assert_eq!(answer.topics[0].error_code, ErrorCode::INVALID_REPLICATION_FACTOR.0);
    assert!(why.contains("replication factor of 4"), "{why}");
}
