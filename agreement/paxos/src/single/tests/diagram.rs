//! `testdata/seed_diagram.txt`: one proposer and three acceptors, message by message. A block is commands, `----`, and
//! what they show. Set `VERITY_REWRITE=1` to write what they show now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::super::{Acceptor, AcceptorId, Event, Message, Number, Proposer, ProposerState};

struct Play {
    proposer: Proposer<String>,
    acceptors: BTreeMap<AcceptorId, Acceptor<String>>,
    sent: Vec<(AcceptorId, Message<String>)>,
    answers: Vec<(AcceptorId, Message<String>)>,
}

fn said(message: &Message<String>) -> String {
    match message {
        Message::Prepare(n) => format!("Prepare({})", n.0),
        Message::Promise(n, None) => format!("Promise({}, null)", n.0),
        Message::Promise(n, Some((at, value))) => format!("Promise({}, {value} of {})", n.0, at.0),
        Message::Accept(n, value) => format!("Accept({}, {value})", n.0),
        Message::Accepted(n) => format!("Accepted({})", n.0),
        Message::Reject(n, promised) => format!("Reject({}, promised {})", n.0, promised.0),
    }
}

impl Play {
    fn new() -> Self {
        let ids: Vec<_> = (1..=3).map(AcceptorId).collect();
        Self {
            proposer: Proposer::new(0, 10, ids.clone()),
            acceptors: ids.into_iter().map(|id| (id, Acceptor::default())).collect(),
            sent: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn show_sent(&mut self, out: &mut String) {
        self.sent.iter().for_each(|(to, m)| writeln!(out, "Proposer->>Acceptor{}: {}", to.0, said(m)).unwrap());
        self.proposer.on(Event::Sent);
    }

    fn command(&mut self, line: &str, out: &mut String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| Number(words[at].parse().unwrap());
        match words[0] {
            "promised" => {
                self.acceptors.get_mut(&AcceptorId(number(1).0)).unwrap().on(Message::Prepare(number(2)));
            }
            "accepted" => {
                let acceptor = self.acceptors.get_mut(&AcceptorId(number(1).0)).unwrap();
                acceptor.on(Message::Accept(number(2), words[3].into()));
            }
            "propose" => {
                self.sent = self.proposer.on(Event::Propose(words[1].into()));
                self.show_sent(out);
            }
            "arrive" => {
                for (to, message) in std::mem::take(&mut self.sent) {
                    let acceptor = self.acceptors.get_mut(&to).unwrap();
                    let answer = acceptor.on(message).unwrap();
                    acceptor.invariants();
                    writeln!(out, "Acceptor{}-->>Proposer: {} [{:?}]", to.0, said(&answer), acceptor.state()).unwrap();
                    self.answers.push((to, answer));
                }
            }
            "answer" => {
                let id = AcceptorId(number(1).0);
                let at = self.answers.iter().position(|(from, _)| *from == id).unwrap();
                let (from, message) = self.answers.remove(at);
                let sent = self.proposer.on(Event::From(from, message));
                self.proposer.invariants();
                writeln!(out, "Proposer is {:?}", self.proposer.state()).unwrap();
                if self.proposer.state() == ProposerState::Success {
                    writeln!(out, "Consensus reached: {}", self.proposer.chosen().unwrap()).unwrap();
                }
                if !sent.is_empty() {
                    self.sent = sent;
                    self.show_sent(out);
                }
            }
            other => panic!("no command '{other}'"),
        }
    }
}

#[test]
fn the_diagram_of_the_specification() {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"))
        .join("testdata/seed_diagram.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut play = Play::new();
    let mut written = String::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let commands = block.split("\n----").next().unwrap();
        let mut out = String::new();
        commands.lines().filter(|line| !line.starts_with('#')).for_each(|line| play.command(line, &mut out));
        write!(written, "{commands}\n----\n{out}\n").unwrap();
    }
    if std::env::var_os("VERITY_REWRITE").is_some() {
        std::fs::write(&path, written.trim_end().to_owned() + "\n").unwrap();
    } else {
        assert_eq!(written.trim_end(), text.trim_end(), "the diagram shows something else now");
    }
    assert_eq!(play.proposer.state(), ProposerState::Success);
}
