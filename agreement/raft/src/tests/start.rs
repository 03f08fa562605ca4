//! Starting from what a disk held.

use bytes::Bytes;
use verity_contract::{Agreement, Boot, Input, Members, Output, PersistId, Record, RecordKind, SnapshotMeta};
use verity_types::{LogIndex, Mono, NodeId, Term};

use super::net::{elect, net};
use crate::state::truncate_record;
use crate::{Config, Error, Raft};

fn records() -> Vec<Record> {
    let mut net = net(1, 1, Config::default());
    elect(&mut net, 1);
    for _ in 0..5 {
        net.input(1, Input::Propose(Bytes::from_static(b"x")));
    }
    net.restart(1);
    elect(&mut net, 1);
    net.records.remove(&1).unwrap()
}

fn start(records: Vec<Record>, snapshot: Option<SnapshotMeta>) -> Result<Raft, Error> {
    let members = Members::of_voters([NodeId(1)]);
    Raft::start(
        Boot { id: NodeId(1), members, snapshot, records, seed: 1, ..Boot::default() },
        Config::default(),
        Mono(0),
    )
}

#[test]
fn a_log_comes_back() {
    let raft = start(records(), None).unwrap();
    raft.invariants();
    assert_eq!((raft.status().last, raft.status().first), (LogIndex(7), LogIndex(1)));
}

#[test]
fn a_log_that_shrank_is_quarantined() {
    let mut records = records();
    records.retain(|record| record.kind != RecordKind::Entry || record.index.0 < 4);
    let Err(Error::Storage(why)) = start(records, None) else { panic!("it must not start") };
    assert!(why.contains("must not take part") && !why.contains('\n'), "{why}");
}

#[test]
fn holes_and_rubbish_are_refused() {
    let mut hole = records();
    hole.retain(|record| record.kind != RecordKind::Entry || record.index.0 != 3);
    let mut rubbish = records();
    rubbish[0].payload = Bytes::from_static(&[9, 9, 9]).into();
    let mut behind = records();
    behind.push(truncate_record(9, true));
    for records in [hole, rubbish, behind] {
        assert!(matches!(start(records, None), Err(Error::Storage(_))));
    }
}

#[test]
fn a_snapshot_newer_than_the_log_takes_its_place() {
    let members = Members::of_voters([NodeId(1)]);
    let meta = |index, term| SnapshotMeta {
        index: LogIndex(index),
        term: Term(term),
        members: members.clone(),
        ..SnapshotMeta::default()
    };
    let raft = start(records(), Some(meta(20, 5))).unwrap();
    assert_eq!((raft.status().last, raft.status().first), (LogIndex(20), LogIndex(21)));
    let raft = start(records(), Some(meta(3, 1))).unwrap();
    assert_eq!((raft.status().last, raft.status().first), (LogIndex(7), LogIndex(4)));
}

/// A crash between a snapshot's arrival and the record that voids the log before it, twice in a row.
#[test]
fn what_a_snapshot_made_void_is_written_down() {
    let members = Members::of_voters([NodeId(1)]);
    for (index, term) in [(20, 5), (4, 3)] {
        let snapshot = SnapshotMeta {
            index: LogIndex(index),
            term: Term(term),
            members: members.clone(),
            ..SnapshotMeta::default()
        };
        let mut records = records();
        // Nothing in this log was known to be committed, so it may contradict the snapshot.
        let first = records.iter().position(|record| record.kind == RecordKind::State).unwrap();
        let vote = records[first].clone();
        records.retain(|record| record.kind != RecordKind::State);
        records.push(vote);
        for life in 1..=2 {
            let mut raft = start(records.clone(), Some(snapshot.clone())).unwrap();
            for input in [Input::Tick, Input::Propose(Bytes::from_static(b"y"))] {
                let mut out = Vec::new();
                raft.on(Mono(1), input, &mut out);
                while !out.is_empty() {
                    if let Output::Persist { id, records: more } = out.remove(0) {
                        records.extend(more);
                        raft.on(Mono(1), Input::Persisted(id), &mut out);
                    }
                }
            }
            raft.invariants();
            assert_eq!(raft.status().last, LogIndex(index + 2 * life), "what is void does not come back");
        }
    }
}

#[test]
fn a_sole_voters_messages_wait_for_its_own_vote() {
    let members = Members { learners: [NodeId(2)].into(), ..Members::of_voters([NodeId(1)]) };
    let boot = Boot { id: NodeId(1), members, seed: 1, ..Boot::default() };
    let mut raft = Raft::start(boot, Config::default(), Mono(0)).unwrap();
    let mut out = Vec::new();
    raft.on(Mono(1), Input::Tick, &mut out);
    assert!(raft.leads());
    let persisted = out.iter().position(|output| matches!(output, Output::Persist { .. })).unwrap();
    let sends: Vec<_> = out.iter().filter(|output| matches!(output, Output::Send { .. })).collect();
    assert!(!sends.is_empty() && out[..persisted].iter().all(|output| !matches!(output, Output::Send { .. })));
    assert!(sends.iter().all(|send| matches!(send, Output::Send { after: Some(PersistId(1)), .. })), "{sends:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::Commit(_))), "its own acknowledgement waits too");
}

#[test]
fn a_restarted_node_holds_its_vote_for_a_lease() {
    let mut net = net(3, 3, Config::default());
    elect(&mut net, 1);
    net.tick(&[1, 2, 3], 2);
    net.restart(2);
    net.cut.extend([(1, 3), (3, 1), (1, 2), (2, 1)]);
    // Node 3 lost the leader and asks node 2, which may have acknowledged a lease in its earlier life.
    net.input(3, Input::Unreachable(NodeId(1)));
    net.tick(&[3], 4);
    assert!(!net.nodes[&3].leads());
    net.tick(&[2, 3], 60);
    assert!(net.nodes[&3].leads() || net.nodes[&2].leads());
}
