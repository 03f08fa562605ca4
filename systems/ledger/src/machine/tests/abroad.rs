//! A ledger whose application is elsewhere: here, in a step function that reads requests and writes responses by the types of
//! another hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use tendermint_proto::v0_38::abci;
use tendermint_proto::v0_38::abci::request::Value as Asked;
use tendermint_proto::v0_38::abci::response::Value as Answered;
use verity_contract::{Command as Ordered, Effect, Effects, Outside as _, RequestId, StateMachine as _};
use verity_types::{LogIndex, WallMs};

use super::rig::{genesis, keys};
use crate::machine::{Command, Ledger, LedgerConfig, Proposed, Query, Topic, decode_answer};
use crate::outside::{Consensus, Kept, Pipe, Shelf};
use crate::wire::{SignBytes, Vote};

/// The application: pairs, and a hash that counts them. Like CometBFT's own, it drops what it did not commit.
#[derive(Clone, Debug, Default)]
struct Process {
    pairs: BTreeMap<String, String>,
    height: i64,
    pending: Option<(BTreeMap<String, String>, i64)>,
    began: bool,
    /// It keeps its word no longer: the hash is another one from here on.
    lies: bool,
}

/// Where the connection breaks next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Before(&'static str),
    Behind(&'static str),
}

#[derive(Debug, Default)]
struct World {
    process: Process,
    breaks: Option<Break>,
    asked: Vec<&'static str>,
    kept: Vec<Kept>,
}

type Shared = Arc<Mutex<World>>;

fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    fn hash(&self, pairs: &BTreeMap<String, String>) -> Bytes {
        Bytes::from((pairs.len() as u64 + u64::from(self.lies) * 1_000).to_be_bytes().to_vec())
    }

    fn answer(&mut self, asked: Asked) -> (&'static str, Answered) {
        match asked {
            Asked::Info(info) => {
                assert_eq!(info.abci_version, "2.0.0");
                let (last_block_height, app_version) = (self.height, 7);
                let last_block_app_hash = self.hash(&self.pairs);
                let info =
                    abci::ResponseInfo { last_block_height, last_block_app_hash, app_version, ..Default::default() };
                ("info", Answered::Info(info))
            }
            Asked::InitChain(init) => {
                assert_eq!((init.chain_id.as_str(), init.initial_height, init.validators.len()), ("test-chain", 1, 4));
                assert!(init.consensus_params.is_some_and(|params| params.block.is_some()));
                self.began = true;
                let app_hash = self.hash(&self.pairs);
                ("init", Answered::InitChain(abci::ResponseInitChain { app_hash, ..Default::default() }))
            }
            Asked::PrepareProposal(ask) => {
                assert!(self.began && ask.height == self.height + 1, "{ask:?} at {}", self.height);
                let txs = ask.txs.into_iter().filter(|tx| tx.contains(&b'=')).collect();
                ("prepare", Answered::PrepareProposal(abci::ResponsePrepareProposal { txs }))
            }
            Asked::ProcessProposal(_) => {
                ("process", Answered::ProcessProposal(abci::ResponseProcessProposal { status: 1 }))
            }
            Asked::FinalizeBlock(block) => {
                assert_eq!(block.height, self.height + 1, "each block once, in order");
                let votes = block.decided_last_commit.expect("it is always there").votes;
                assert!(block.height == 1 || votes.iter().filter(|vote| vote.block_id_flag == 2).count() >= 3);
                let mut pairs = self.pairs.clone();
                for tx in &block.txs {
                    let text = String::from_utf8_lossy(tx);
                    let (key, value) = text.split_once('=').expect("a pair");
                    pairs.insert(key.to_owned(), value.to_owned());
                }
                let tx_results = block.txs.iter().map(|_| abci::ExecTxResult { gas_used: 3, ..Default::default() });
                let app_hash = self.hash(&pairs);
                let tx_results = tx_results.collect();
                self.pending = Some((pairs, block.height));
                let done = abci::ResponseFinalizeBlock { tx_results, app_hash, ..Default::default() };
                ("finalize", Answered::FinalizeBlock(done))
            }
            Asked::Commit(_) => {
                (self.pairs, self.height) = self.pending.take().expect("a block was run");
                ("commit", Answered::Commit(abci::ResponseCommit { retain_height: self.height }))
            }
            other => panic!("{other:?}"),
        }
    }
}

struct Wire(Shared);

impl Pipe for Wire {
    fn connect(&mut self) -> Result<(), String> {
        lock(&self.0).process.pending = None;
        Ok(())
    }

    fn ask(&mut self, request: &[u8], _goes_on: &dyn Fn() -> bool) -> Result<Bytes, String> {
        let mut world = lock(&self.0);
        let request = abci::Request::decode(request).expect("a request");
        assert_eq!(request.encode_to_vec().len(), request.encoded_len());
        let asked = request.value.expect("it asks something");
        let mut process = world.process.clone();
        let (name, answer) = process.answer(asked);
        if world.breaks == Some(Break::Before(name)) {
            world.breaks = None;
            return Err("cut off".to_owned());
        }
        world.process = process;
        world.asked.push(name);
        if world.breaks == Some(Break::Behind(name)) {
            world.breaks = None;
            return Err("cut off".to_owned());
        }
        Ok(abci::Response { value: Some(answer) }.encode_to_vec().into())
    }

    fn pause(&mut self) {}

    fn name(&self) -> String {
        "here".to_owned()
    }
}

struct Memory {
    world: Shared,
    loaded: bool,
}

impl Shelf for Memory {
    fn load(&mut self) -> Result<Vec<Kept>, String> {
        self.loaded = true;
        Ok(lock(&self.world).kept.clone())
    }

    fn keep(&mut self, kept: &Kept) -> Result<(), String> {
        assert!(self.loaded, "what is there is read first");
        lock(&self.world).kept.push(kept.clone());
        Ok(())
    }

    fn replace(&mut self, all: &mut dyn Iterator<Item = Kept>) -> Result<(), String> {
        let all = all.collect();
        lock(&self.world).kept = all;
        Ok(())
    }
}

/// A node: its ledger, its connection, and the order that it reads.
struct Node {
    ledger: Ledger,
    outside: Consensus<Wire, Memory>,
    world: Shared,
    log: Vec<Bytes>,
    proposed: Option<Proposed>,
    /// Why it stopped.
    stopped: Option<String>,
}

fn ledger() -> Ledger {
    Ledger::abroad(LedgerConfig::default(), genesis(&keys(4)))
}

impl Node {
    fn new(world: Shared) -> Self {
        let outside = Consensus::new(
            Wire(Arc::clone(&world)),
            Memory { world: Arc::clone(&world), loaded: false },
            genesis(&keys(4)),
        );
        Self { ledger: ledger(), outside, world, log: Vec::new(), proposed: None, stopped: None }
    }

    /// The process of the node starts again, and reads its log.
    fn restart(&mut self) {
        let log = std::mem::take(&mut self.log);
        *self = Self::new(Arc::clone(&self.world));
        // Entries hold several commands: what is behind a call in one waits.
        for commands in log.chunks(3) {
            self.apply(commands);
        }
    }

    fn apply(&mut self, commands: &[Bytes]) {
        let first = self.log.len() as u64 + 1;
        self.log.extend_from_slice(commands);
        let ordered = |(sequence, bytes): (u64, &Bytes)| Ordered {
            index: LogIndex(first),
            time: WallMs(0),
            request: RequestId { sequence, ..RequestId::default() },
            bytes: bytes.clone(),
        };
        let batch: Vec<Ordered> = (first..).zip(commands).map(ordered).collect();
        let mut effects = Effects::default();
        self.ledger.apply(&batch, &mut effects);
        let mut replies = 0;
        loop {
            let mut call = None;
            for effect in std::mem::take(&mut effects.list) {
                assert!(call.is_none(), "a call is the last effect");
                match effect {
                    Effect::Call(ask) => call = Some(ask),
                    Effect::Fail(why) => return self.stopped = Some(why),
                    Effect::Event { topic, bytes } if topic == Topic::PROPOSED => {
                        self.proposed = Some(Proposed::decode(&bytes).expect("whole"));
                    }
                    Effect::Event { .. } => {}
                    Effect::Reply { .. } => replies += 1,
                    other => panic!("{other:?}"),
                }
            }
            let Some(ask) = call else { break };
            match self.outside.call(ask, &|| true) {
                Ok(answer) => self.ledger.on_answer(answer.expect("it goes on"), &mut effects),
                Err(why) => return self.stopped = Some(why),
            }
        }
        assert_eq!(replies, commands.len(), "one reply for each command");
        self.ledger.invariants();
    }

    fn tx(&mut self, text: &str) {
        self.apply(&[Command::Tx(Bytes::copy_from_slice(text.as_bytes())).encode().join()]);
    }

    fn vote(&mut self, validator: usize, proposed: Proposed) -> Bytes {
        let time = (0..=validator).fold(proposed.time, |time, _| time.plus_milli());
        let what = SignBytes { chain_id: "test-chain", height: proposed.height, block_id: proposed.id, time };
        Command::Vote(Vote::sign(&keys(4)[validator], &what), proposed.id).encode().join()
    }

    /// Votes until nothing is under way, three in an entry, with a transaction behind them.
    fn settle(&mut self) {
        while let Some(proposed) = self.proposed.take() {
            let votes: Vec<Bytes> = (0..3).map(|validator| self.vote(validator, proposed)).collect();
            self.apply(&votes);
        }
    }

    fn blocks(&mut self, texts: &[&str]) {
        for text in texts {
            self.tx(text);
            self.settle();
        }
    }

    fn app_hash(&mut self) -> String {
        let verity_contract::ReadOutcome::Ready(bytes) =
            self.ledger.read(&Query::BlockResults { height: None }.encode())
        else {
            panic!("answered at once")
        };
        let json = decode_answer(&bytes).expect("results");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        json["app_hash"].as_str().expect("a hash").to_owned()
    }
}

#[test]
fn blocks_are_run_elsewhere() {
    let mut node = Node::new(Shared::default());
    node.blocks(&["a=1", "b=2", "not a pair", "a=3"]);
    assert_eq!(node.stopped, None);
    let world = lock(&node.world).process.clone();
    assert_eq!(world.pairs, BTreeMap::from([("a".into(), "3".into()), ("b".into(), "2".into())]));
    assert_eq!(world.height.cast_unsigned(), node.ledger.height());
    assert_eq!(node.app_hash(), crate::wire::base64(&2_u64.to_be_bytes()));
    let asked = lock(&node.world).asked[..6].to_vec();
    assert_eq!(asked, ["info", "init", "prepare", "process", "finalize", "commit"]);
}

/// An entry may hold the votes by which a block stands, and what comes behind: it waits for the application, too.
#[test]
fn commands_behind_a_block_wait_for_it() {
    let mut node = Node::new(Shared::default());
    node.tx("a=1");
    let proposed = node.proposed.take().expect("a block");
    let mut entry: Vec<Bytes> = (0..3).map(|validator| node.vote(validator, proposed)).collect();
    entry.push(Command::Tx("b=1".into()).encode().join());
    entry.push(node.vote(3, proposed));
    node.apply(&entry);
    node.settle();
    assert_eq!(lock(&node.world).process.pairs.len(), 2);
}

#[test]
fn node_application_and_both_start_again() {
    let (mut node, mut straight) = (Node::new(Shared::default()), Node::new(Shared::default()));
    let texts = ["a=1", "b=2", "c=3", "a=4"];
    straight.blocks(&texts);
    for (at, text) in texts.iter().enumerate() {
        node.blocks(&[text]);
        let digest = node.ledger.digest();
        if at != 1 {
            // The application keeps nothing.
            lock(&node.world).process = Process::default();
            node.outside = Node::new(Arc::clone(&node.world)).outside;
        }
        if at != 2 {
            node.restart();
        }
        assert_eq!(node.stopped, None);
        assert_eq!(node.ledger.digest(), digest);
    }
    node.blocks(&["d=5"]);
    straight.blocks(&["d=5"]);
    assert_eq!(node.stopped, None);
    assert_eq!(node.ledger.digest(), straight.ledger.digest());
    assert_eq!(lock(&node.world).process.pairs, lock(&straight.world).process.pairs);
}

#[test]
fn a_connection_may_break_anywhere() {
    for name in ["info", "init", "prepare", "process", "finalize", "commit"] {
        for breaks in [Break::Before(name), Break::Behind(name)] {
            let mut node = Node::new(Shared::default());
            if !["info", "init"].contains(&name) {
                node.blocks(&["a=1"]);
            }
            lock(&node.world).breaks = Some(breaks);
            node.blocks(&["b=2", "c=3"]);
            assert_eq!(lock(&node.world).breaks, None, "{breaks:?} happened");
            assert_eq!(node.stopped, None, "{breaks:?}");
            // The node starts again, too, and finds the application where it is.
            let digest = node.ledger.digest();
            node.restart();
            assert_eq!((node.stopped.as_deref(), node.ledger.digest()), (None, digest), "{breaks:?}");
        }
    }
}

#[test]
fn an_application_that_comes_to_another_state_stops_the_node() {
    let mut node = Node::new(Shared::default());
    node.blocks(&["a=1", "b=2"]);
    lock(&node.world).process = Process { lies: true, ..Process::default() };
    node.outside = Node::new(Arc::clone(&node.world)).outside;
    node.tx("c=3");
    let why = node.stopped.expect("it stops");
    assert!(why.starts_with("the application ran block 1 again and has another state than before"), "{why}");
}

#[test]
fn a_node_that_is_alone_with_its_state_stops() {
    let (mut node, mut other) = (Node::new(Shared::default()), Node::new(Shared::default()));
    node.blocks(&["a=1"]);
    other.blocks(&["a=1"]);
    lock(&node.world).process.lies = true;
    for node in [&mut node, &mut other] {
        node.tx("b=2");
        let proposed = node.proposed.take().expect("a block");
        let votes: Vec<Bytes> = (0..3).map(|validator| node.vote(validator, proposed)).collect();
        node.apply(&votes);
    }
    let (ours, theirs) = (node.proposed.expect("a proof block"), other.proposed.expect("a proof block"));
    assert_ne!(ours.id, theirs.id);
    let votes: Vec<Bytes> = (0..3).map(|validator| other.vote(validator, theirs)).collect();
    node.apply(&votes[..2]);
    assert_eq!(node.stopped, None, "two of four may be wrong themselves");
    node.apply(&votes[2..]);
    let why = node.stopped.expect("it stops");
    assert!(why.starts_with("the application came to another state in block"), "{why}");
    assert!(node.ledger.proposal.is_some(), "its own block never stood");
}

#[test]
fn another_chains_application_is_refused() {
    let mut node = Node::new(Shared::default());
    lock(&node.world).process.height = 9;
    node.tx("a=1");
    let why = node.stopped.expect("it stops");
    assert!(why.contains("has run 9 blocks, and this node does not know what they came to"), "{why}");
}

#[test]
fn a_snapshot_goes_on_with_an_application_that_has_its_blocks() {
    let mut node = Node::new(Shared::default());
    node.blocks(&["a=1", "b=2"]);
    node.tx("c=3");
    let digest = node.ledger.digest();
    node.ledger.snapshot_begin();
    let chunks: Vec<Bytes> = std::iter::from_fn(|| node.ledger.snapshot_next(1 << 20)).collect();
    node.ledger.snapshot_saved(LogIndex(0));
    // Another node takes it, whose application has run nothing.
    let mut other = Node::new(Shared::default());
    other.ledger.restore(&mut chunks.into_iter().map(Ok)).expect("it is whole");
    assert_eq!(other.ledger.digest(), digest);
    other.proposed = node.proposed;
    for node in [&mut node, &mut other] {
        node.settle();
        node.blocks(&["d=4"]);
        assert_eq!(node.stopped, None);
    }
    assert_eq!(other.ledger.digest(), node.ledger.digest());
    assert_eq!(lock(&other.world).process.pairs, lock(&node.world).process.pairs);
}
