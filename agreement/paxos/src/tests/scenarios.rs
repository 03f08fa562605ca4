//! Datadriven scenarios: `testdata/*.txt`, but for the diagram, which is [`crate::single`]'s.

use std::path::Path;

use verity_contract::testing::Script;
use verity_contract::{Agreement, Committed};

use super::net::{campaign, start};
use crate::Paxos;
use crate::message::{Ballot, Kind, Value};

fn ballot(ballot: Ballot) -> String {
    format!("{}.{}", ballot.0 >> 16, ballot.node())
}

fn content(value: &Value) -> String {
    match &value.kind {
        Kind::Normal => String::from_utf8_lossy(&value.payload).into_owned(),
        Kind::Noop => "-".into(),
        Kind::Members(members) => {
            let voters: Vec<_> = members.voters.iter().map(ToString::to_string).collect();
            format!("members({})", voters.join(","))
        }
    }
}

/// A node's role, promise, decided index and log: slot:value@ballot.
fn show(id: u64, paxos: &Paxos, committed: &[Committed]) -> String {
    let status = paxos.status();
    let role = match status.leader {
        _ if status.leads => "leads".into(),
        Some(leader) => format!("follows {leader}"),
        None => "is alone".into(),
    };
    let log = paxos.log.entries.iter();
    let log: Vec<_> =
        log.map(|(slot, entry)| format!("{slot}:{}@{}", content(&entry.value), ballot(entry.ballot))).collect();
    let (promised, decided) = (ballot(paxos.promised), status.committed);
    assert_eq!(committed.len() as u64, decided.0, "what is decided is handed out");
    format!("{id} {role}, promised {promised}, decided {decided}, log {}", log.join(" "))
}

#[test]
fn scenarios_show_what_they_did() {
    let folder =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is")).join("testdata");
    Script { start, own: ("campaign", campaign), show }.run_all(&folder, &["seed_diagram.txt"], 6);
}
