//! Datadriven scenarios of the paper: `testdata/*.txt`. A block is commands, `----`, and what they show. Set
//! `VERITY_REWRITE=1` to write what they show now.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use verity_contract::{Agreement, BarrierId, Change, CommittedKind, Input};
use verity_types::NodeId;

use super::net::Net;
use crate::Config;

fn ids(text: &str) -> Vec<u64> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
}

fn show(net: &Net, out: &mut String) {
    for (id, raft) in &net.nodes {
        let status = raft.status();
        let role = if status.leads { "leads" } else { "follows" };
        let leader = status.leader.map_or("nobody".into(), |leader| leader.to_string());
        let members: Vec<_> = status.members.all().iter().map(ToString::to_string).collect();
        let joint = if status.members.outgoing.is_empty() { "" } else { " joint" };
        let done = net.committed[id].iter().map(|entry| match &entry.kind {
            CommittedKind::Normal => String::from_utf8_lossy(&entry.payload).into_owned(),
            CommittedKind::Noop => "-".into(),
            CommittedKind::Members(_) => format!("members({})", entry.payload.escape_ascii()),
        });
        let done: Vec<String> = done.collect();
        let (term, last, committed) = (status.term, status.last, status.committed);
        let members = members.join(",");
        writeln!(
            out,
            "{id} {role} {leader} term {term} last {last} committed {committed} of {members}{joint}: {}",
            done.join(" ")
        )
        .unwrap();
    }
}

fn command(net: &mut Net, line: &str, out: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    match words[0] {
        "elect" => net.elect(number(1)),
        "tick" => net.tick(&ids(words[1]), number(2)),
        "propose" => net.input(number(1), Input::Propose(Bytes::copy_from_slice(words[2].as_bytes()))),
        "deliver" => net.deliver(),
        "lose" => net.flying.clear(),
        "restart" => net.restart(number(1)),
        "heal" => net.cut.clear(),
        "isolate" => {
            let one = number(1);
            let others: Vec<u64> = net.nodes.keys().copied().collect();
            net.cut.extend(others.iter().flat_map(|other| [(one, *other), (*other, one)]));
        }
        "barrier" => {
            let (now, name) = (net.now, BarrierId(number(2)));
            net.with(number(1), |raft, out| raft.barrier().unwrap().on_barrier(now, name, out));
        }
        "change" => {
            let now = net.now;
            let set = |text: &str| ids(text).into_iter().map(NodeId).collect();
            let learners = words.get(4).map_or_else(Default::default, |text| set(text));
            let context = Bytes::copy_from_slice(words[3].as_bytes());
            let change = Change { voters: set(words[2]), learners, context };
            let mut refused = None;
            net.with(number(1), |raft, out| {
                refused = raft.reconfigure().unwrap().on_reconfigure(now, change, out).err()
            });
            refused.iter().for_each(|why| writeln!(out, "refused: {why}").unwrap());
        }
        "show" => show(net, out),
        other => panic!("no command '{other}'"),
    }
    net.answers.drain(..).for_each(|answer| writeln!(out, "{answer}").unwrap());
}

fn run(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut net = None;
    let mut written = String::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let commands = block.split("\n----").next().unwrap();
        let mut out = String::new();
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix("group ") {
                Some(counts) => {
                    let (voters, nodes) = counts.split_once(' ').unwrap();
                    let config = Config { lease: None, ..Config::default() };
                    net = Some(Net::new(voters.parse().unwrap(), nodes.parse().unwrap(), config));
                }
                None => command(net.as_mut().expect("a file begins with a group"), line, &mut out),
            }
        }
        write!(written, "{commands}\n----\n{out}\n").unwrap();
    }
    if std::env::var_os("VERITY_REWRITE").is_some() {
        std::fs::write(path, written.trim_end().to_owned() + "\n").unwrap();
    } else {
        assert_eq!(written.trim_end(), text.trim_end(), "{} shows something else now", path.display());
    }
}

#[test]
fn scenarios_show_what_they_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 6, "the scenarios are there");
    paths.iter().for_each(|path| run(path));
}
