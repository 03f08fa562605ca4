//! Starting from what a disk held.

use bytes::Bytes;
use verity_contract::{Agreement, Boot, Input, Members, Output, Record, RecordKind, SnapshotMeta};
use verity_types::{LogIndex, Mono, NodeId, Term};

use super::net::{campaign, net};
use crate::state::State;
use crate::{Config, Error, Paxos};

/// Noop, five proposals, a restart, and another noop.
fn records() -> Vec<Record> {
    let mut net = net(1, 1, Config::default());
    net.tick(&[1], 1);
    for _ in 0..5 {
        net.input(1, Input::Propose(Bytes::from_static(b"x")));
    }
    net.restart(1);
    net.tick(&[1], 8);
    net.records.remove(&1).unwrap()
}

fn start(records: Vec<Record>, snapshot: Option<SnapshotMeta>) -> Result<Paxos, Error> {
    let members = Members::of_voters([NodeId(1)]);
    Paxos::start(
        Boot { id: NodeId(1), members, snapshot, records, seed: 1, ..Boot::default() },
        Config::default(),
        Mono(0),
    )
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        index: LogIndex(index),
        term: Term(1 << 16 | 1),
        members: Members::of_voters([NodeId(1)]),
        ..SnapshotMeta::default()
    }
}

#[test]
fn a_log_comes_back_and_is_handed_out_again() {
    let mut paxos = start(records(), None).unwrap();
    assert_eq!((paxos.status().last, paxos.status().first), (LogIndex(7), LogIndex(1)));
    let mut out = Vec::new();
    paxos.on(Mono(1), Input::Applied(LogIndex(0)), &mut out);
    paxos.invariants();
    let Some(Output::Commit(entries)) = out.first() else { panic!("{out:?}") };
    assert!(entries.len() >= 5 && entries[0].index == LogIndex(1));
}

#[test]
fn a_ballot_is_never_used_twice() {
    let mut net = net(3, 3, Config::default());
    let mut last = 0;
    for _ in 0..5 {
        campaign(&mut net, 2);
        let promised = net.nodes[&2].promised.0;
        assert!(promised > last);
        last = promised;
        net.restart(2);
        assert_eq!(net.nodes[&2].promised.0, last, "the promise comes back");
    }
}

#[test]
fn a_log_that_shrank_is_quarantined() {
    let mut records = records();
    records.retain(|record| record.kind != RecordKind::Entry || record.index.0 < 4);
    let Err(Error::Storage(why)) = start(records, None) else { panic!("it must not start") };
    assert!(why.contains("must not take part") && !why.contains('\n'), "{why}");
}

#[test]
fn holes_rubbish_and_cuts_are_refused() {
    let mut hole = records();
    hole.retain(|record| record.kind != RecordKind::Entry || record.index.0 != 3);
    let mut rubbish = records();
    rubbish[0].payload = Bytes::from_static(&[9, 9, 9]).into();
    let mut cut = records();
    cut.push(Record { kind: RecordKind::Truncate, index: LogIndex(9), payload: Bytes::new().into() });
    for records in [hole, rubbish, cut] {
        assert!(matches!(start(records, None), Err(Error::Storage(_))));
    }
}

#[test]
fn a_snapshot_takes_the_place_of_what_it_includes() {
    let paxos = start(records(), Some(meta(20))).unwrap();
    paxos.invariants();
    assert_eq!((paxos.status().last, paxos.status().first), (LogIndex(20), LogIndex(21)));
    let paxos = start(records(), Some(meta(3))).unwrap();
    assert_eq!((paxos.status().last, paxos.status().first), (LogIndex(7), LogIndex(4)));
    let mut trimmed = records();
    trimmed.retain(|record| record.kind != RecordKind::Entry || record.index.0 > 3);
    assert!(start(trimmed.clone(), Some(meta(3))).is_ok());
    assert!(start(trimmed, Some(meta(2))).is_err(), "slot 3 is in neither");
}

/// What was accepted below a snapshot that took the place of the log need not be what was chosen.
#[test]
fn a_log_does_not_go_on_from_before_the_snapshot_that_replaced_it() {
    let mut records = records();
    let installed = State { decided: 7, installed: 5, ..State::default() };
    records.push(installed.to_record());
    assert!(start(records.clone(), Some(meta(5))).is_ok());
    assert!(matches!(start(records.clone(), Some(meta(3))), Err(Error::Storage(_))));
    assert!(matches!(start(records, None), Err(Error::Storage(_))));
}

#[test]
fn undecided_slots_may_leave_gaps() {
    let mut records = records();
    let gap = records.iter().rev().find(|record| record.kind == RecordKind::Entry).unwrap().clone();
    records.push(Record { index: LogIndex(12), ..gap });
    let paxos = start(records, None).unwrap();
    paxos.invariants();
    assert_eq!(paxos.status().last, LogIndex(12));
}

#[test]
fn nobody_starts_as_a_node_that_fits_no_ballot() {
    for id in [0, 1 << 16] {
        let boot = Boot { id: NodeId(id), ..Boot::default() };
        assert!(matches!(Paxos::start(boot, Config::default(), Mono(0)), Err(Error::ApiMisuse(_))));
    }
}
