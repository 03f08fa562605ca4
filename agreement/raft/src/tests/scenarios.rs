//! Datadriven scenarios of the paper: `testdata/*.txt`.

use std::path::Path;

use verity_contract::testing::Script;
use verity_contract::{Agreement, Committed, CommittedKind};

use super::net::{elect, start};
use crate::Raft;

fn show(id: u64, raft: &Raft, committed: &[Committed]) -> String {
    let status = raft.status();
    let role = if status.leads { "leads" } else { "follows" };
    let leader = status.leader.map_or("nobody".into(), |leader| leader.to_string());
    let members: Vec<_> = status.members.all().iter().map(ToString::to_string).collect();
    let joint = if status.members.outgoing.is_empty() { "" } else { " joint" };
    let done = committed.iter().map(|entry| match &entry.kind {
        CommittedKind::Normal => String::from_utf8_lossy(&entry.payload).into_owned(),
        CommittedKind::Noop => "-".into(),
        CommittedKind::Members(_) => format!("members({})", entry.payload.escape_ascii()),
    });
    let (done, members) = (done.collect::<Vec<_>>().join(" "), members.join(","));
    let (term, last, committed) = (status.term, status.last, status.committed);
    format!("{id} {role} {leader} term {term} last {last} committed {committed} of {members}{joint}: {done}")
}

#[test]
fn scenarios_show_what_they_did() {
    let folder =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is")).join("testdata");
    Script { start, own: ("elect", elect), show }.run_all(&folder, &[], 6);
}
