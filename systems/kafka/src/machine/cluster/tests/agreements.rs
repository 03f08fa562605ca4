//! Topics whose partitions are on an agreement of their own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::config::source;
use super::super::*;
use super::rig::Rig;
use crate::wire::ErrorCode;

/// A node's key.
fn key(node: i32) -> Bytes {
    Bytes::from(vec![u8::try_from(node).expect("a few"); 32])
}

fn all_keys(nodes: i32) -> BTreeMap<i32, Bytes> {
    (1..=nodes).map(|node| (node, key(node))).collect()
}

/// So many nodes, each of which knows the keys of all.
fn rig(nodes: i32) -> Rig {
    let mut rig = Rig::new(nodes);
    (1..=nodes).for_each(|id| drop(rig.ok(Command::Keys { id, keys: all_keys(nodes) })));
    rig
}

fn agreements(rig: &Rig) -> Vec<Option<Agreement>> {
    let blueprint = |spawn: &Spawn| Blueprint::decode(&spawn.blueprint).expect("a blueprint").agreement;
    rig.spawned.iter().map(blueprint).collect()
}

fn on(rig: &mut Rig, name: &str, partitions: i32, factor: i16, agreement: &str) -> Command {
    rig.topic(name, partitions, factor, &[(AGREEMENT, agreement)])
}

#[test]
fn every_partition_of_a_topic_is_on_its_agreement() {
    let mut rig = rig(5);
    let pbft = on(&mut rig, "pbft", 2, -1, "pbft");
    let Outcome::Created { replication_factor, .. } = rig.ok(pbft) else { panic!("it is created") };
    assert_eq!((replication_factor, agreements(&rig)), (4, vec![Some(Agreement::Pbft); 2]), "one of four may lie");
    rig.ok(Command::CreatePartitions { name: "pbft".into(), count: 3, assignments: None, validate_only: false });
    assert_eq!(agreements(&rig), [Some(Agreement::Pbft)], "what comes later too");
    let paxos = on(&mut rig, "paxos", 1, -1, "paxos");
    let Outcome::Created { replication_factor, .. } = rig.ok(paxos) else { panic!("it is created") };
    assert_eq!((replication_factor, agreements(&rig)), (3, vec![Some(Agreement::Paxos)]));
    rig.create("usual", 1, -1);
    assert_eq!(agreements(&rig), [None], "what the cluster runs on");
    let few = on(&mut rig, "few", 1, 2, "pbft");
    let Outcome::Created { replication_factor, .. } = rig.ok(few) else { panic!("it is created") };
    assert_eq!(replication_factor, 2, "as many as were asked for");
    // What is restored says the same.
    let snapshot = rig.snapshot();
    let image = ClusterImage::from_snapshot(&snapshot).expect("a whole snapshot");
    image.invariants();
    assert_eq!(&image, rig.machine.image());
    let own = |name: &str| image.topic(name).expect("it is there").agreement;
    assert_eq!([own("pbft"), own("paxos"), own("usual")], [Some(Agreement::Pbft), Some(Agreement::Paxos), None]);
    let mut restored = Cluster::new();
    restored.restore(&mut std::iter::once(Ok(snapshot))).expect("a whole snapshot");
    assert_eq!(restored.spawned(), rig.machine.spawned());
}

#[test]
fn an_agreement_is_given_once() {
    let mut rig = rig(4);
    let wrong = on(&mut rig, "t", 1, -1, "zab");
    let message = "Invalid value zab for configuration verity.agreement: String must be one of: raft, paxos, pbft";
    assert_eq!(rig.refused(wrong), (ErrorCode::INVALID_CONFIG, message.into()));
    let pbft = on(&mut rig, "t", 1, -1, "pbft");
    rig.ok(pbft);
    rig.create("usual", 1, -1);
    let message = "verity.agreement is set when a topic is created, and cannot be changed afterwards.";
    let refused = (ErrorCode::INVALID_CONFIG, message.to_owned());
    for topic in ["t", "usual"].map(ConfigResource::topic) {
        for (op, value) in [(0, Some("raft")), (0, Some("pbft")), (1, None)] {
            let ops = vec![ConfigOp { name: AGREEMENT.into(), op, value: value.map(str::to_owned) }];
            let change = Command::IncrementalAlterConfig { resource: topic.clone(), ops, validate_only: false };
            assert_eq!(rig.refused(change), refused);
        }
        let values = vec![(AGREEMENT.to_owned(), Some("raft".to_owned()))];
        assert_eq!(rig.refused(Command::AlterConfig { resource: topic, values, validate_only: false }), refused);
    }
    // Neither way of changing something else takes it away.
    let t = ConfigResource::topic("t");
    assert_eq!(rig.set(t.clone(), "retention.ms", "5").error, ErrorCode::NONE);
    assert_eq!(rig.heard.topic_config("t", AGREEMENT), "pbft");
    rig.ok(Command::AlterConfig { resource: t, values: Vec::new(), validate_only: false });
    assert_eq!(
        (rig.heard.topic_config("t", AGREEMENT), rig.heard.topic_config("t", "retention.ms")),
        ("pbft", "604800000")
    );
    assert_eq!(rig.set(ConfigResource::cluster(), AGREEMENT, "pbft").error, ErrorCode::INVALID_REQUEST);
}

#[test]
fn it_is_described_with_where_it_comes_from() {
    let mut rig = rig(4);
    let paxos = on(&mut rig, "own", 1, -1, "paxos");
    rig.ok(paxos);
    rig.create("usual", 1, -1);
    let started = BTreeMap::from([(AGREEMENT.to_owned(), "pbft".to_owned())]);
    let entry = |resource: ConfigResource| {
        let described = rig.heard.describe_config(&resource, 1, &started).expect("it can be described");
        described.into_iter().find(|entry| entry.name == AGREEMENT).expect("it is described")
    };
    let own = entry(ConfigResource::topic("own"));
    assert_eq!((own.value.as_deref(), own.source, own.read_only), (Some("paxos"), source::TOPIC, true));
    let layers: Vec<_> = own.synonyms.iter().map(|one| (one.value.as_deref(), one.source)).collect();
    assert_eq!(layers, [(Some("paxos"), source::TOPIC), (Some("pbft"), source::DEFAULT)]);
    let usual = entry(ConfigResource::topic("usual"));
    assert_eq!((usual.value.as_deref(), usual.source, usual.read_only), (Some("pbft"), source::DEFAULT, true));
    let node = entry(ConfigResource::new(ConfigResource::BROKER, "1"));
    assert_eq!((node.value.as_deref(), node.source, node.read_only), (Some("pbft"), source::STATIC, true));
}

#[test]
fn pbft_needs_the_keys_of_all_nodes() {
    let invalid = ErrorCode::INVALID_CONFIG;
    let mut rig = Rig::new(4);
    let pbft = on(&mut rig, "t", 1, -1, "pbft");
    let message = "verity.agreement is pbft, and node 1 has no keys: its file must list every node's in [pbft.keys].";
    assert_eq!(rig.refused(pbft.clone()), (invalid, message.into()));
    let paxos = on(&mut rig, "paxos", 1, -1, "paxos");
    rig.ok(paxos);
    (1..=3).for_each(|id| drop(rig.ok(Command::Keys { id, keys: all_keys(4) })));
    assert!(rig.refused(pbft.clone()).1.contains("node 4 has no keys"));
    rig.ok(Command::Keys { id: 4, keys: BTreeMap::from([(4, key(4))]) });
    let message = "verity.agreement is pbft, and pbft.keys of node 4 does not list node 1.";
    assert_eq!(rig.refused(pbft.clone()), (invalid, message.into()));
    let mut other = all_keys(4);
    other.insert(2, key(9));
    rig.ok(Command::Keys { id: 4, keys: other });
    let message = "verity.agreement is pbft, and pbft.keys of node 4 lists another key of node 2 than that node.";
    assert_eq!(rig.refused(pbft.clone()), (invalid, message.into()));
    // Of a placement that was asked for, those nodes count that are in it.
    let mut assigned = rig.assigned("three", &[(0, &[1, 2, 3])]);
    if let Command::CreateTopic { configs, .. } = &mut assigned {
        configs.push((AGREEMENT.to_owned(), Some("pbft".to_owned())));
    }
    rig.ok(assigned);
    let more = Command::CreatePartitions {
        name: "three".into(),
        count: 2,
        assignments: Some(vec![vec![1, 2, 4]]),
        validate_only: false,
    };
    assert_eq!(rig.refused(more).0, invalid);
    rig.ok(Command::Keys { id: 4, keys: all_keys(4) });
    rig.ok(pbft);
    // Who says the same once more changes nothing, and who has none any more has none.
    let before = rig.heard.version();
    rig.ok(Command::Keys { id: 4, keys: all_keys(4) });
    assert_eq!(rig.heard.version(), before);
    rig.ok(Command::Keys { id: 4, keys: BTreeMap::new() });
    assert_eq!(rig.heard.keys_of(4), None);
    assert_eq!(
        rig.refused(Command::Keys { id: 4, keys: BTreeMap::from([(4, Bytes::new())]) }).0,
        ErrorCode::INVALID_REGISTRATION
    );
}

#[test]
fn a_partition_on_pbft_stays_where_it_is_and_others_move() {
    let mut rig = rig(5);
    let pbft = on(&mut rig, "pbft", 1, -1, "pbft");
    rig.ok(pbft);
    rig.create("usual", 1, 1);
    let to = |topic: &str, replicas: Option<Vec<i32>>| Command::Reassign {
        topic: topic.into(),
        partition: 0,
        replicas,
        allow_replication_factor_change: true,
    };
    let message = "The partition's agreement has fixed members: it does not move.";
    assert_eq!(
        rig.refused(to("pbft", Some(vec![2, 3, 4, 5]))),
        (ErrorCode::INVALID_REPLICA_ASSIGNMENT, message.into())
    );
    assert_eq!(rig.refused(to("pbft", None)).0, ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
    rig.ok(to("usual", Some(vec![4, 5])));
}
