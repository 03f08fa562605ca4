//! Four nodes' services on one order.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use verity_clock::{Interval, Now};
use verity_contract::{
    Command as Ordered, Door, Effect, Effects, Peer, ReadOutcome, RequestId, Service as _, SessionInput, SessionOutput,
    StateMachine as _,
};
use verity_types::{ConnId, GroupId, LogIndex, Mono, NodeId, Token, WallMs};

use crate::machine::tests::rig::{genesis, keys};
use crate::machine::{Command, KvStore, Ledger, LedgerConfig};
use crate::session::{Config, LedgerService};

const GROUP: GroupId = GroupId(4);

pub(crate) struct World {
    pub(crate) ledger: Ledger,
    services: Vec<LedgerService>,
    /// What is written to the first node's connections.
    pub(crate) written: Vec<u8>,
    pub(crate) now: Now,
    /// Nodes from this one on do not sign.
    pub(crate) silent_from: usize,
    sequence: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let keys = keys(4);
        let genesis = genesis(&keys);
        let service = |(at, key): (usize, &crate::SigningKey)| {
            LedgerService::new(Config {
                node: NodeId(at as u64 + 1),
                group: GROUP,
                key: *key,
                genesis: genesis.clone(),
                moniker: format!("node-{}", at + 1),
                rpc_address: "127.0.0.1:26657".to_owned(),
                any_origin: false,
                external: false,
                linearizable_reads: false,
                commit_timeout: Config::COMMIT_TIMEOUT,
            })
        };
        let wall = Interval::around(1_800_000_000_000_000_000, 0);
        let mut world = Self {
            ledger: Ledger::new(LedgerConfig::default(), genesis.clone(), Box::new(KvStore::new())),
            services: keys.iter().enumerate().map(service).collect(),
            written: Vec::new(),
            now: Now { mono: Mono(1), wall },
            silent_from: 4,
            sequence: 0,
        };
        let addr: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        world.input(
            0,
            SessionInput::Opened {
                conn: ConnId(1),
                peer: Peer { addr, local: None, door: Door(0), certificate: None },
            },
        );
        world
    }

    /// Orders a command of nobody.
    pub(crate) fn order(&mut self, command: &Command) {
        let mut todo = VecDeque::new();
        self.apply(None, command.encode().join(), &mut todo);
        self.run(todo);
    }

    fn apply(&mut self, from: Option<(usize, Token)>, bytes: Bytes, todo: &mut VecDeque<(usize, SessionInput)>) {
        self.sequence += 1;
        let request = RequestId { sequence: self.sequence, ..RequestId::default() };
        let mut effects = Effects::default();
        let ordered = Ordered { index: LogIndex(self.sequence), time: WallMs(0), request, bytes };
        self.ledger.apply(&[ordered], &mut effects);
        self.ledger.invariants();
        for effect in effects.list {
            match (effect, from) {
                (Effect::Event { topic, bytes }, _) => {
                    for node in 0..self.services.len() {
                        let (topic, bytes) = (topic.clone(), bytes.clone());
                        todo.push_back((node, SessionInput::Event { group: GROUP, topic, bytes }));
                    }
                }
                (Effect::Reply { bytes, .. }, Some((node, token))) => {
                    todo.push_back((node, SessionInput::Completed { token, result: Ok(bytes) }));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn input(&mut self, node: usize, input: SessionInput) {
        self.run(VecDeque::from([(node, input)]));
    }

    fn run(&mut self, mut todo: VecDeque<(usize, SessionInput)>) {
        let mut steps = 0;
        while let Some((node, input)) = todo.pop_front() {
            steps += 1;
            assert!(steps < 10_000, "it never ends");
            let mut out = Vec::new();
            self.services[node].on(self.now, input, &mut out);
            self.services[node].invariants();
            for output in out {
                match output {
                    SessionOutput::Bytes { bytes, .. } => self.written.extend_from_slice(&bytes),
                    SessionOutput::Propose { token, command, .. } => {
                        let command = command.join();
                        let is_vote = matches!(Command::decode(&command), Ok(Command::Vote(..)));
                        if !is_vote || node < self.silent_from {
                            self.apply(Some((node, token)), command, &mut todo);
                        }
                    }
                    SessionOutput::Read { token, query, .. } => {
                        let ReadOutcome::Ready(bytes) = self.ledger.read(&query) else { panic!("at once") };
                        todo.push_back((node, SessionInput::Completed { token, result: Ok(bytes) }));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Sends bytes to the first node, and takes what it writes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> String {
        self.written.clear();
        self.input(0, SessionInput::Bytes { conn: ConnId(1), bytes: Bytes::copy_from_slice(bytes) });
        self.taken()
    }

    /// What was written since.
    pub(crate) fn taken(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.written)).into_owned()
    }

    /// A POST, and the body of its response.
    pub(crate) fn post(&mut self, body: &str) -> String {
        let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        body_of(&self.send(format!("{head}{body}").as_bytes()))
    }

    /// A call by POST.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let body = serde_json::json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string();
        serde_json::from_str(&self.post(&body)).expect("JSON")
    }

    /// A GET, and its status and body.
    pub(crate) fn get(&mut self, target: &str) -> (String, String) {
        let text = self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        (text.get(9..12).unwrap_or_default().to_owned(), body_of(&text))
    }
}

fn body_of(text: &str) -> String {
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
