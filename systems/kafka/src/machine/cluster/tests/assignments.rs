//! Where partitions come to live.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::rig::Rig;

/// How much of a topic is where: the partitions that each node should lead, and the replicas that it holds.
fn spread(topic: &Topic) -> (BTreeMap<i32, usize>, BTreeMap<i32, usize>) {
    let (mut leaders, mut replicas) = (BTreeMap::new(), BTreeMap::new());
    for partition in &topic.partitions {
        *leaders.entry(partition.preferred()).or_default() += 1;
        partition.replicas.iter().for_each(|id| *replicas.entry(*id).or_default() += 1);
    }
    (leaders, replicas)
}

fn uneven(counts: &BTreeMap<i32, usize>, nodes: usize) -> usize {
    let least = if counts.len() < nodes { 0 } else { counts.values().copied().min().unwrap_or(0) };
    counts.values().copied().max().unwrap_or(0) - least
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn topics_are_spread_evenly(
        nodes in 1..9i32,
        topics in prop::collection::vec((1..20i32, 1..5i16), 1..8),
    ) {
        let mut rig = Rig::new(nodes);
        let count = usize::try_from(nodes).expect("a few");
        let mut whole: BTreeMap<i32, usize> = BTreeMap::new();
        for (at, (partitions, factor)) in topics.into_iter().enumerate() {
            let factor = factor.min(i16::try_from(nodes).expect("a few"));
            let name = format!("t{at}");
            rig.create(&name, partitions, factor);
            let (leaders, replicas) = spread(rig.heard.topic(&name).expect("it is there"));
            prop_assert!(uneven(&leaders, count) <= 1, "leaders {leaders:?}");
            prop_assert!(uneven(&replicas, count) <= 2, "replicas {replicas:?}");
            leaders.iter().for_each(|(id, led)| *whole.entry(*id).or_default() += led);
        }
        prop_assert!(uneven(&whole, count) <= 1, "leaders of all {whole:?}");
    }

    #[test]
    fn replicas_stand_on_different_racks_where_there_are_enough(
        racks in prop::collection::vec(0..3usize, 3..9),
        partitions in 1..30i32,
        factor in 1..4i16,
    ) {
        let names = ["a", "b", "c"];
        let chosen: Vec<Option<&str>> = racks.iter().map(|rack| Some(names[*rack])).collect();
        let mut rig = Rig::with_racks(&chosen);
        rig.create("t", partitions, factor);
        let there = racks.iter().collect::<BTreeSet<_>>().len();
        let topic = rig.heard.topic("t").expect("it is there");
        for partition in &topic.partitions {
            let ids: BTreeSet<i32> = partition.replicas.iter().copied().collect();
            prop_assert_eq!(ids.len(), partition.replicas.len(), "each node once");
            let of = |id: &i32| rig.heard.node(*id).expect("it is there").rack.clone();
            let used: BTreeSet<_> = partition.replicas.iter().map(of).collect();
            prop_assert_eq!(used.len(), there.min(partition.replicas.len()));
        }
        let (leaders, _) = spread(topic);
        prop_assert!(uneven(&leaders, racks.len()) <= 1, "leaders {leaders:?}");
    }
}

#[test]
fn partitions_do_not_all_share_the_same_nodes() {
    let mut rig = Rig::new(6);
    rig.create("t", 30, 3);
    let sets: BTreeSet<BTreeSet<i32>> =
        rig.heard.topic("t").expect("t").partitions.iter().map(|partition| partition.hosts.clone()).collect();
    assert!(sets.len() >= 8, "{} different sets of nodes of 20 possible ones", sets.len());
}

#[test]
fn a_node_that_came_later_gets_its_share() {
    let mut rig = Rig::new(2);
    rig.create("old", 20, 2);
    rig.ok(Command::Register { id: 3, rack: None, host: "c".into(), port: 1, tls_port: 0 });
    for at in 0..10 {
        rig.create(&format!("single{at}"), 1, 1);
    }
    let third = rig.heard.topics().filter(|topic| topic.partitions[0].preferred() == 3).count();
    assert_eq!(third, 10, "it led nothing, the others ten each");
    rig.create("wide", 30, 1);
    let (leaders, _) = spread(rig.heard.topic("wide").expect("wide"));
    assert_eq!(leaders.into_values().collect::<Vec<_>>(), [10, 10, 10], "one topic alone is spread all the same");
}
