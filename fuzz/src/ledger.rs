//! What clients of a ledger send, to a node's service with the machine behind it; and commands, queries and snapshots, to
//! the machine alone.
//!
//! ```text
//! machine = deed*   deed = 0 tx blob | 1 validator:u8 millis:u8, a vote | 2 votes until nothing is under way | 3 command blob
//!                        | 4 query blob | 5 cut | 6 a snapshot goes round | 7 snapshot blob, to another machine
//! session = deed*   deed = 0 bytes blob | 1 POST body blob | 2 GET target blob | 3 a handshake of WebSocket, and text blob
//!                        | 4 text blob | 5 seconds:u8 pass | 6 the connection is another one
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use verity_clock::{Interval, Now};
use verity_contract::{
    Command as Ordered, Door, Effect, Effects, Peer, ReadOutcome, RequestId, Service as _, SessionInput, SessionOutput,
    StateMachine as _,
};
use verity_ledger::SigningKey;
use verity_ledger::machine::{Command, KvStore, Ledger, LedgerConfig, PoolLimits, Proposed, Query, Topic};
use verity_ledger::session::{Config, LedgerService};
use verity_ledger::wire::{Genesis, GenesisValidator, PublicKey, SignBytes, Time, Vote};
use verity_types::{ConnId, GroupId, LogIndex, Mono, Nanos, NodeId, Token, WallMs};

use crate::{Lines, Script};

/// Deeds of one script.
const DEEDS_MAX: usize = 64;
const GROUP: GroupId = GroupId(4);
const CHAIN: &str = "fuzzed";
/// Seeds make fewer blocks.
const CANARY_HEIGHT: u64 = 6;
const HANDSHAKE: &[u8] = b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn keys() -> [SigningKey; 4] {
    [1, 2, 3, 4].map(|seed| SigningKey::from([seed; 32]))
}

fn genesis() -> Arc<Genesis> {
    let validator = |key: &SigningKey| GenesisValidator { key: PublicKey::of(key), name: String::new() };
    Arc::new(Genesis {
        chain_id: CHAIN.to_owned(),
        time: Time::from_unix_nanos(1_700_000_000_000_000_000),
        validators: keys().iter().map(validator).collect(),
        app_state: String::new(),
    })
}

/// Small bounds, so that made-up bytes reach them.
fn new_ledger() -> Ledger {
    let pool = PoolLimits { count_max: 8, bytes_max: 400, tx_bytes_max: 100, cache_max: 8 };
    let config = LedgerConfig { retain_blocks: 4, retain_bytes: 1 << 20, pool };
    Ledger::new(config, genesis(), Box::new(KvStore::new()))
}

/// A machine and its order.
struct Chain {
    ledger: Ledger,
    proposed: Option<Proposed>,
    sequence: u64,
}

impl Chain {
    fn new() -> Self {
        Self { ledger: new_ledger(), proposed: None, sequence: 0 }
    }

    fn apply(&mut self, bytes: Bytes) -> Vec<Effect> {
        self.sequence += 1;
        let request = RequestId { sequence: self.sequence, ..RequestId::default() };
        let mut effects = Effects::default();
        let index = LogIndex(self.sequence);
        self.ledger.apply(&[Ordered { index, time: WallMs(0), request, bytes }], &mut effects);
        self.ledger.invariants();
        let mut replies = 0;
        for effect in &effects.list {
            match effect {
                Effect::Reply { .. } => replies += 1,
                Effect::Event { topic, bytes } if *topic == Topic::PROPOSED => {
                    self.proposed = Some(Proposed::decode(bytes).expect("the machine wrote it"));
                }
                _ => {}
            }
        }
        assert!(replies == 1, "one reply for each command: {effects:?}");
        if self.ledger.height() >= CANARY_HEIGHT {
            crate::canary("six blocks");
        }
        effects.list
    }

    fn vote(&mut self, validator: usize, millis: u8) {
        let Some(Proposed { height, id, time }) = self.proposed else { return };
        let time = (0..millis).fold(time, |time, _| time.plus_milli());
        let key = keys()[validator % 4];
        let vote = Vote::sign(&key, &SignBytes { chain_id: CHAIN, height, block_id: id, time });
        self.apply(Command::Vote(vote, id).encode().join());
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            (0..3).for_each(|validator| self.vote(validator, 1));
        }
    }

    fn go_round(&mut self) {
        self.ledger.snapshot_begin();
        let chunks: Vec<Bytes> = std::iter::from_fn(|| self.ledger.snapshot_next(50)).collect();
        let mut other = new_ledger();
        other.restore(&mut chunks.into_iter().map(Ok)).expect("it was just drawn");
        other.invariants();
        assert_eq!(other.digest(), self.ledger.digest(), "a snapshot is the state");
        self.ledger = other;
    }
}

/// Commands, queries and snapshots.
///
/// # Panics
/// If something that must hold does not.
pub fn machine(data: &[u8]) {
    let (mut script, mut chain) = (Script(data), Chain::new());
    for _ in 0..DEEDS_MAX {
        if script.is_empty() {
            return;
        }
        match script.byte() % 8 {
            0 => {
                let tx = Bytes::copy_from_slice(script.blob());
                chain.apply(Command::Tx(tx).encode().join());
            }
            1 => {
                let (validator, millis) = (script.byte(), script.byte());
                chain.vote(validator.into(), millis);
            }
            2 => chain.settle(),
            3 => {
                chain.apply(Bytes::copy_from_slice(script.blob()));
            }
            4 => {
                let _ = chain.ledger.read(script.blob());
            }
            5 => {
                chain.apply(Command::Cut.encode().join());
            }
            6 => chain.go_round(),
            _ => {
                let bytes = Bytes::copy_from_slice(script.blob());
                let _ = new_ledger().restore(&mut std::iter::once(Ok(bytes)));
            }
        }
    }
}

/// A node's service on an order of its own; it signs as all validators.
struct Node {
    chain: Chain,
    service: LedgerService,
    now: Now,
    conn: ConnId,
    is_open: bool,
}

impl Node {
    fn new() -> Self {
        let config = Config {
            node: NodeId(1),
            group: GROUP,
            key: keys()[0],
            genesis: genesis(),
            moniker: "fuzzed".to_owned(),
            rpc_address: "127.0.0.1:26657".to_owned(),
            any_origin: false,
            external: false,
            linearizable_reads: false,
            commit_timeout: Config::COMMIT_TIMEOUT,
        };
        let now = Now { mono: Mono(1), wall: Interval::around(1_700_000_001_000_000_000, 0) };
        let mut node =
            Self { chain: Chain::new(), service: LedgerService::new(config), now, conn: ConnId(0), is_open: false };
        node.dial();
        node
    }

    fn dial(&mut self) {
        if self.is_open {
            self.input(SessionInput::Closed { conn: self.conn });
        }
        self.conn = ConnId(self.conn.0 + 1);
        self.is_open = true;
        let addr: SocketAddr = "127.0.0.1:9".parse().expect("an address");
        self.input(SessionInput::Opened {
            conn: self.conn,
            peer: Peer { addr, local: None, door: Door(0), certificate: None },
        });
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if !self.is_open {
            self.dial();
        }
        self.input(SessionInput::Bytes { conn: self.conn, bytes: Bytes::copy_from_slice(bytes) });
    }

    fn order(&mut self, token: Option<Token>, command: Bytes, todo: &mut VecDeque<SessionInput>) {
        for effect in self.chain.apply(command) {
            match (effect, token) {
                (Effect::Event { topic, bytes }, _) => {
                    todo.push_back(SessionInput::Event { group: GROUP, topic, bytes });
                }
                (Effect::Reply { bytes, .. }, Some(token)) => {
                    todo.push_back(SessionInput::Completed { token, result: Ok(bytes) });
                }
                _ => {}
            }
        }
    }

    fn input(&mut self, input: SessionInput) {
        let mut todo = VecDeque::from([input]);
        while let Some(input) = todo.pop_front() {
            let mut out = Vec::new();
            self.service.on(self.now, input, &mut out);
            self.service.invariants();
            for output in out {
                match output {
                    SessionOutput::Bytes { conn, bytes } => {
                        assert!(self.is_open && conn == self.conn, "bytes for a connection that is gone");
                        if bytes.starts_with(b"HTTP/1.1 404") {
                            crate::canary("a page that is not there");
                        }
                    }
                    SessionOutput::Close(conn) => self.is_open &= conn != self.conn,
                    SessionOutput::Propose { token, command, .. } => self.order(Some(token), command.join(), &mut todo),
                    SessionOutput::Read { token, query, .. } => {
                        Query::decode(&query).expect("the service wrote it");
                        let ReadOutcome::Ready(bytes) = self.chain.ledger.read(&query) else { panic!("at once") };
                        todo.push_back(SessionInput::Completed { token, result: Ok(bytes) });
                    }
                    SessionOutput::Call { .. } => panic!("nothing is asked outside"),
                    _ => {}
                }
            }
        }
    }

    /// The others sign what is under way.
    fn settle(&mut self) {
        let Some(Proposed { height, id, time }) = self.chain.proposed else { return };
        let mut todo = VecDeque::new();
        for key in &keys()[1..] {
            let time = time.plus_milli();
            let vote = Vote::sign(key, &SignBytes { chain_id: CHAIN, height, block_id: id, time });
            self.order(None, Command::Vote(vote, id).encode().join(), &mut todo);
        }
        todo.into_iter().for_each(|input| self.input(input));
    }

    fn pass(&mut self, seconds: u8) {
        self.now.mono = self.now.mono + Nanos::from_millis(u64::from(seconds) * 1_000);
        self.input(SessionInput::Wake);
    }
}

fn frame(text: &[u8]) -> Vec<u8> {
    // A mask of zeros leaves what it masks.
    let mut out = vec![0x81, 0xfe];
    out.extend(u16::try_from(text.len().max(126)).unwrap_or(u16::MAX).to_be_bytes());
    out.extend([0; 4]);
    out.extend(text);
    out.resize(out.len() + 126_usize.saturating_sub(text.len()), b' ');
    out
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Streams of clients.
///
/// # Panics
/// If something that must hold does not.
pub fn session(data: &[u8]) {
    let (mut script, mut node) = (Script(data), Node::new());
    for _ in 0..DEEDS_MAX {
        if script.is_empty() {
            return;
        }
        match script.byte() % 7 {
            0 => node.bytes(script.blob()),
            1 => node.bytes(&post(script.blob())),
            2 => {
                let target = script.blob();
                node.bytes(&[b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat());
            }
            3 => {
                node.dial();
                node.bytes(HANDSHAKE);
                node.bytes(&frame(script.blob()));
            }
            4 => node.bytes(&frame(script.blob())),
            5 => node.pass(script.byte()),
            _ => node.dial(),
        }
        node.settle();
    }
}

/// Where the corpus of `machine` begins.
#[must_use]
pub fn machine_seeds() -> Vec<Vec<u8>> {
    let begin = || Lines(Vec::new());
    let query = |query: &Query| begin().raw(&[0]).blob(b"a=1").raw(&[2, 4]).blob(&query.encode()).0;
    let text = "app.key='a' AND tx.height > 0".to_owned();
    let (page, order_by) = (verity_ledger::machine::Page::default(), String::new());
    vec![
        begin().raw(&[0]).blob(b"a=1").raw(&[1, 0, 1, 1, 1, 2, 1, 2, 3, 6]).0,
        begin().raw(&[5, 6, 3]).blob(&Command::Cut.encode().join()).0,
        begin().raw(&[0]).blob(b"b:2").raw(&[6, 0]).blob(b"val=x!1").raw(&[7]).blob(&[1, 0, 0, 0, 4, 1, 2, 3, 4]).0,
        query(&Query::Status),
        query(&Query::Block { height: Some(1) }),
        query(&Query::TxSearch { query: text, prove: true, page, order_by }),
        query(&Query::AbciQuery { path: "/key".to_owned(), data: "a".into(), height: 0, prove: true }),
    ]
}

/// Where the corpus of `session` begins.
#[must_use]
pub fn session_seeds() -> Vec<Vec<u8>> {
    let begin = || Lines(Vec::new());
    let call = |method: &str, params: &str| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}")
    };
    let calls = [
        call("status", "{}"),
        call("broadcast_tx_commit", "{\"tx\":\"YT0x\"}"),
        call("block", "[\"1\"]"),
        call("abci_query", "{\"path\":\"/key\",\"data\":\"61\",\"prove\":true}"),
        call("tx_search", "{\"query\":\"app.key='a'\",\"per_page\":\"2\"}"),
        call("validators", "{\"height\":\"1\",\"page\":\"1\"}"),
    ];
    let mut seeds: Vec<Vec<u8>> = calls.iter().map(|call| begin().raw(&[1]).blob(call.as_bytes()).0).collect();
    seeds.push(begin().raw(&[1]).blob(format!("[{},{}]", calls[0], calls[1]).as_bytes()).0);
    seeds.push(begin().raw(&[2]).blob(b"/block_results?height=1").raw(&[2]).blob(b"/").raw(&[5, 70]).0);
    let subscribe = call("subscribe", "{\"query\":\"tm.event='NewBlock'\"}");
    seeds.push(begin().raw(&[3]).blob(subscribe.as_bytes()).raw(&[4]).blob(calls[1].as_bytes()).raw(&[5, 30]).0);
    seeds.push(begin().raw(&[0]).blob(&post(calls[0].as_bytes())[..20]).raw(&[6, 5, 1]).0);
    seeds
}
