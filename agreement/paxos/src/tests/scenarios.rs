//! Datadriven scenarios: `testdata/*.txt`, but for the diagram, which is [`crate::single`]'s. A block is commands,
//! `----`, and what they show. Set `VERITY_REWRITE=1` to write what they show now.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use verity_contract::{Agreement, BarrierId, Change, Input};
use verity_types::NodeId;

use super::net::Net;
use crate::Config;
use crate::message::{Ballot, Kind, Value};

fn ids(text: &str) -> Vec<u64> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
}

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

/// Each node's role, promise, decided index and log: slot:value@ballot.
fn show(net: &Net, out: &mut String) {
    for (id, paxos) in &net.nodes {
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
        writeln!(out, "{id} {role}, promised {promised}, decided {decided}, log {}", log.join(" ")).unwrap();
        assert_eq!(net.committed[id].len() as u64, decided.0, "what is decided is handed out");
    }
}

fn command(net: &mut Net, line: &str, out: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    match words[0] {
        "campaign" => net.campaign(number(1)),
        "tick" => net.tick(&ids(words[1]), number(2)),
        "propose" => net.input(number(1), Input::Propose(Bytes::copy_from_slice(words[2].as_bytes()))),
        "deliver" => net.deliver(),
        "step" => net.step(),
        "lose" => net.flying.clear(),
        "restart" => net.restart(number(1)),
        "heal" => net.cut.clear(),
        "cut" => net.cut.extend([(number(1), number(2)), (number(2), number(1))]),
        "isolate" => {
            let one = number(1);
            let others: Vec<u64> = net.nodes.keys().copied().collect();
            net.cut.extend(others.iter().flat_map(|other| [(one, *other), (*other, one)]));
        }
        "barrier" => {
            let (now, name) = (net.now, BarrierId(number(2)));
            net.with(number(1), |paxos, out| paxos.barrier().unwrap().on_barrier(now, name, out));
        }
        "change" => {
            let now = net.now;
            let voters = ids(words[2]).into_iter().map(NodeId).collect();
            let change = Change { voters, learners: Default::default(), context: Bytes::from_static(b"change") };
            let mut refused = None;
            net.with(number(1), |paxos, out| {
                refused = paxos.reconfigure().unwrap().on_reconfigure(now, change, out).err();
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
                    net = Some(Net::new(voters.parse().unwrap(), nodes.parse().unwrap(), Config::default()));
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
    paths.retain(|path| !path.ends_with("seed_diagram.txt"));
    paths.sort();
    assert!(paths.len() >= 6, "the scenarios are there");
    paths.iter().for_each(|path| run(path));
}
