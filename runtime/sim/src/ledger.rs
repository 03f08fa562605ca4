//! A world of a ledger's clients, and the laws that the chain must keep.
//!
//! The clients speak JSON-RPC by HTTP, and hash and fold proofs by hand, so that they share nothing with what they judge.
//! Every transaction is sent once.
//!
//! - one height has one block, whichever node shows it, and each names the one before it: heights have no gap;
//! - a transaction is in one block at most; one that was told to be in a block is in that one, and one that was taken, whose
//!   sender did not wait, is in one at the end;
//! - a block's transactions are those whose root its header has; more than two thirds of the nodes signed it;
//! - a header's hash of the state is what a store comes to that runs the blocks before it;
//! - a value that was read is the one behind the block that was named, and its proof ends in the next header.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use verity_contract::{Door, Members};
use verity_ledger::SigningKey;
use verity_ledger::machine::{KvStore, Ledger, LedgerConfig, Mutant as LedgerMutant};
use verity_ledger::session::{Config, DutyConfig, LedgerDuty, LedgerService};
use verity_ledger::wire::{Genesis, GenesisValidator, PublicKey, Time};
use verity_replica::{GroupConfig, GroupSpec};
use verity_storage::Disk;
use verity_types::{GroupId, NodeId};

use crate::mutant::{Mutant, mutate};
use crate::twice::{Began, mutate_machine};
use crate::workload::{ClientId, ClientInput, ClientOutput, NodeSetup, Workload};
use crate::zookeeper::EngineFn;

const GROUP: GroupId = GroupId(4);
const MILLI: u64 = 1_000_000;
/// An unanswered request is given up after this long, and the client connects anew.
const PATIENCE: u64 = 4_000 * MILLI;
/// A client writes so many keys.
const KEYS: u64 = 5;

type Hash = [u8; 32];

fn sha256(parts: &[&[u8]]) -> Hash {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// RFC 6962's root over leaves that are hashed already.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let left = leaves.len().next_power_of_two() / 2;
            sha256(&[&[1], &root(&leaves[..left]), &root(&leaves[left..])])
        }
    }
}

/// Where a path of a proof leads to.
fn fold(index: u64, total: u64, leaf: Hash, aunts: &[Hash]) -> Option<Hash> {
    let Some((last, rest)) = aunts.split_last() else { return (index == 0 && total == 1).then_some(leaf) };
    let left = total.next_power_of_two() / 2;
    Some(if index < left {
        sha256(&[&[1], &fold(index, left, leaf, rest)?, last])
    } else {
        sha256(&[&[1], last, &fold(index - left, total - left, leaf, rest)?])
    })
}

fn pair_leaf(key: &str, value: &str) -> Hash {
    let (key_size, hash) = (u8::try_from(key.len()).expect("keys are short"), sha256(&[value.as_bytes()]));
    sha256(&[&[0, key_size], key.as_bytes(), &[32], &hash])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = BASE64.iter().position(|known| *known == byte)?;
        bits = bits << 6 | u32::try_from(digit).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    Some(out)
}

/// A protobuf message's fields: numbers, and bytes.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, u64, &[u8])>> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (tag, value) = (varint(&mut bytes)?, varint(&mut bytes)?);
        match tag & 7 {
            0 => all.push((tag >> 3, value, &[][..])),
            2 => {
                let (field, rest) = bytes.split_at_checked(usize::try_from(value).ok()?)?;
                all.push((tag >> 3, 0, field));
                bytes = rest;
            }
            _ => return None,
        }
    }
    Some(all)
}

/// The root that a `simple:v` operator says for a pair; `None` if its leaf is another's.
fn proved(data: &[u8], key: &str, value: &str) -> Option<Hash> {
    let operator = fields(data)?;
    let path = fields(operator.iter().find(|(number, ..)| *number == 2)?.2)?;
    let number = |wanted| path.iter().find(|(number, ..)| *number == wanted).map_or(0, |(_, value, _)| *value);
    let aunts: Option<Vec<Hash>> =
        path.iter().filter(|(of, ..)| *of == 4).map(|(.., one)| (*one).try_into().ok()).collect();
    let leaf = path.iter().find(|(number, ..)| *number == 3)?.2;
    let own = pair_leaf(key, value);
    (leaf == own).then(|| fold(number(2), number(1), own, &aunts?))?
}

#[derive(Clone, Debug)]
enum Op {
    /// Its sender waits for its block.
    Commit(String),
    /// Its sender does not.
    Sync(String),
    Read(String),
    /// The last one, or one.
    Block(Option<u64>),
    /// At the end: is anything waiting, how far is the chain, and all of its blocks.
    Pool,
    Height,
    Walk(u64),
}

impl Op {
    fn body(&self) -> String {
        let hex_of = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (method, params) = match self {
            Self::Commit(tx) => ("broadcast_tx_commit", json!({ "tx": to_base64(tx.as_bytes()) })),
            Self::Sync(tx) => ("broadcast_tx_sync", json!({ "tx": to_base64(tx.as_bytes()) })),
            Self::Read(key) => ("abci_query", json!({ "path": "/key", "data": hex_of(key), "prove": true })),
            Self::Block(None) => ("block", json!({})),
            Self::Block(Some(height)) | Self::Walk(height) => ("block", json!({ "height": height.to_string() })),
            Self::Pool => ("num_unconfirmed_txs", json!({})),
            Self::Height => ("status", json!({})),
        };
        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
    }
}

fn to_base64(bytes: &[u8]) -> String {
    let digit = |bits: u32| char::from(BASE64[(bits & 63) as usize]);
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digits: String = [18, 12, 6, 0].iter().map(|shift| digit(bits >> shift)).collect();
        out.push_str(&digits[..=chunk.len()]);
        (chunk.len()..3).for_each(|_| out.push('='));
    }
    out
}

/// What is known of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    /// It was taken.
    Taken,
    /// It was told to be in the block of this height.
    In(u64),
    /// It was refused.
    Refused,
}

/// A block, as far as it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    hash: String,
    before: String,
    app_hash: String,
    data_hash: String,
    txs: Vec<String>,
    votes_before: usize,
}

impl Block {
    fn read(result: &Value) -> Option<(u64, Self)> {
        let (block, header) = (&result["block"], &result["block"]["header"]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let txs = block["data"]["txs"].as_array()?.iter().map(|tx| {
            let bytes = from_base64(tx.as_str()?)?;
            String::from_utf8(bytes).ok()
        });
        let signatures = block["last_commit"]["signatures"].as_array()?;
        let votes_before = signatures.iter().filter(|signature| signature["block_id_flag"] == 2).count();
        let height = header["height"].as_str()?.parse().ok()?;
        let block = Self {
            hash: text(&result["block_id"]["hash"])?,
            before: text(&header["last_block_id"]["hash"])?,
            app_hash: text(&header["app_hash"])?,
            data_hash: text(&header["data_hash"])?,
            txs: txs.collect::<Option<_>>()?,
            votes_before,
        };
        Some((height, block))
    }
}

/// A value that was read: behind which block, of which key, and the root that its proof leads to.
struct Seen {
    height: u64,
    key: String,
    value: String,
    root: Option<Hash>,
}

#[derive(Default)]
struct Client {
    connecting: bool,
    connected: bool,
    buffer: Vec<u8>,
    asked: Option<(Op, u64)>,
    count: u64,
    done: bool,
}

/// The clients of a world, and what they know.
pub struct LedgerClients {
    engine: EngineFn,
    genesis: Arc<Genesis>,
    nodes: u64,
    pace: u64,
    clients: Vec<Client>,
    fates: BTreeMap<String, Fate>,
    blocks: BTreeMap<u64, Block>,
    seen: Vec<Seen>,
    winding_down: bool,
    /// The chain's length at the end, once nothing waits.
    height: Option<u64>,
    answered: u64,
    wrong: Option<String>,
}

fn key_of(node: u64) -> SigningKey {
    SigningKey::from([u8::try_from(node).expect("a world has few nodes"); 32])
}

impl LedgerClients {
    /// So many clients, each asking every `pace` nanoseconds, of so many nodes, which all sign.
    #[must_use]
    pub fn new(engine: EngineFn, nodes: usize, clients: usize, pace: u64) -> Self {
        let validator = |node| GenesisValidator { key: PublicKey::of(&key_of(node)), name: format!("node-{node}") };
        let genesis = Genesis {
            chain_id: "world".to_owned(),
            time: Time::from_unix_nanos(1_000_000_000),
            validators: (1..=nodes as u64).map(validator).collect(),
            app_state: String::new(),
        };
        Self {
            engine,
            genesis: Arc::new(genesis),
            nodes: nodes as u64,
            pace,
            clients: (0..clients).map(|_| Client::default()).collect(),
            fates: BTreeMap::new(),
            blocks: BTreeMap::new(),
            seen: Vec::new(),
            winding_down: false,
            height: None,
            answered: 0,
            wrong: None,
        }
    }

    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn next_op(&mut self, id: usize, rng: &mut Rng) -> Option<Op> {
        if self.winding_down {
            return match self.height {
                // The first one walks, when the others have nothing under way.
                _ if id > 0 => {
                    self.clients[id].done = true;
                    None
                }
                None if self.clients[1..].iter().any(|client| !client.done) => None,
                None => Some(Op::Pool),
                Some(height) => match (1..=height).find(|height| !self.blocks.contains_key(height)) {
                    Some(height) => Some(Op::Walk(height)),
                    None => {
                        self.clients[id].done = true;
                        None
                    }
                },
            };
        }
        let client = &mut self.clients[id];
        client.count += 1;
        let (key, value) = (format!("k{id}.{}", rng.u64(..KEYS)), client.count);
        let tx = format!("{key}=v{value}");
        Some(match rng.u8(..10) {
            0..=3 => {
                self.fates.insert(tx.clone(), Fate::Unknown);
                Op::Commit(tx)
            }
            4..=5 => {
                self.fates.insert(tx.clone(), Fate::Unknown);
                Op::Sync(tx)
            }
            6..=7 => Op::Read(key),
            8 => Op::Block(None),
            _ => Op::Block(self.blocks.last_key_value().map(|(last, _)| rng.u64(1..=*last))),
        })
    }

    fn on_answer(&mut self, id: usize, body: &[u8]) {
        let Some((op, _)) = self.clients[id].asked.take() else { return };
        let answer: Value = match serde_json::from_slice(body) {
            Ok(answer) => answer,
            Err(error) => return self.wrong(format!("an answer to {op:?} is no JSON: {error}")),
        };
        let (result, error) = (&answer["result"], &answer["error"]);
        if !error.is_null() {
            // Nobody leads, or the answer took too long: what became of it is not known. What is full is refused.
            return;
        }
        self.answered += 1;
        match op {
            Op::Commit(tx) => {
                let height = result["height"].as_str().and_then(|height| height.parse().ok()).unwrap_or(0);
                if height == 0 || result["check_tx"]["code"] != 0 || result["tx_result"]["code"] != 0 {
                    return self.wrong(format!("transaction {tx} came to nothing: {result}"));
                }
                self.fates.insert(tx, Fate::In(height));
            }
            Op::Sync(tx) => {
                let fate = if result["code"] == 0 { Fate::Taken } else { Fate::Refused };
                self.fates.insert(tx, fate);
            }
            Op::Read(key) => self.on_read(key, &result["response"]),
            // There is no first block yet, or the node that was asked has not heard of it.
            Op::Block(None) if result["block"].is_null() => {}
            Op::Block(_) | Op::Walk(_) => match Block::read(result) {
                Some((height, block)) => self.on_block(height, block),
                None => self.wrong(format!("no block: {result}")),
            },
            Op::Pool => {
                if result["total"] == "0" {
                    self.clients[id].count = u64::MAX;
                }
            }
            Op::Height => {
                let height = &result["sync_info"]["latest_block_height"];
                self.height = height.as_str().and_then(|height| height.parse().ok());
            }
        }
    }

    fn on_block(&mut self, height: u64, block: Block) {
        if let Some(known) = self.blocks.get(&height)
            && *known != block
        {
            return self.wrong(format!("two blocks of height {height}: {known:?} and {block:?}"));
        }
        self.blocks.insert(height, block);
    }

    fn on_read(&mut self, key: String, response: &Value) {
        let Some(height) = response["height"].as_str().and_then(|height| height.parse().ok()) else { return };
        let value = response["value"].as_str().and_then(from_base64).unwrap_or_default();
        let value = String::from_utf8_lossy(&value).into_owned();
        if value.is_empty() {
            return self.seen.push(Seen { height, key, value, root: None });
        }
        let operator = response["proofOps"]["ops"][0]["data"].as_str().and_then(from_base64).unwrap_or_default();
        match proved(&operator, &key, &value) {
            Some(root) => self.seen.push(Seen { height, key, value, root: Some(root) }),
            None => self.wrong(format!("{key}={value} behind block {height} has a proof that proves nothing")),
        }
    }

    /// Reads what came.
    fn take_answers(&mut self, id: usize) {
        while let Some((body, rest)) = split_answer(&self.clients[id].buffer) {
            let (body, rest) = (body.to_vec(), rest.to_vec());
            self.clients[id].buffer = rest;
            self.on_answer(id, &body);
        }
    }

    fn judge_chain(&self) -> Result<(), String> {
        let (mut places, mut leaves) = (BTreeMap::<&str, u64>::new(), Vec::<Hash>::new());
        let (mut index, mut state) = (BTreeMap::<String, usize>::new(), BTreeMap::<String, String>::new());
        let mut reads: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
        self.seen.iter().for_each(|seen| reads.entry(seen.height).or_default().push(seen));
        let (mut before, quorum) = (None::<&Block>, self.genesis.validators.len() * 2 / 3 + 1);
        for height in 1..=self.height.unwrap_or(0) {
            let block = self.blocks.get(&height).ok_or_else(|| format!("there is no block {height}"))?;
            if before.is_some_and(|before| before.hash != block.before) {
                return Err(format!("block {height} does not follow the one before it"));
            }
            if before.is_some() && block.votes_before < quorum {
                return Err(format!("block {} is signed by {} alone", height - 1, block.votes_before));
            }
            if block.app_hash != hex(&root(&leaves)) {
                return Err(format!("block {height} says another state than the blocks before it come to"));
            }
            let hashes: Vec<Hash> = block.txs.iter().map(|tx| sha256(&[&[0], &sha256(&[tx.as_bytes()])])).collect();
            if block.data_hash != hex(&root(&hashes)) {
                return Err(format!("the root of block {height} is not that of its transactions"));
            }
            for tx in &block.txs {
                if let Some(first) = places.insert(tx, height) {
                    return Err(format!("transaction {tx} is in blocks {first} and {height}"));
                }
                let (key, value) = tx.split_once('=').ok_or_else(|| format!("nobody sent {tx}"))?;
                let leaf = pair_leaf(key, value);
                let at = *index.entry(key.to_owned()).or_insert(leaves.len());
                if at == leaves.len() {
                    leaves.push(leaf)
                } else {
                    leaves[at] = leaf
                }
                state.insert(key.to_owned(), value.to_owned());
            }
            for seen in reads.remove(&height).unwrap_or_default() {
                let there = state.get(&seen.key).map_or("", String::as_str);
                if there != seen.value {
                    return Err(format!(
                        "{} was read as {:?} behind block {height}, and is {there:?}",
                        seen.key, seen.value
                    ));
                }
                if seen.root.is_some_and(|proved| proved != root(&leaves)) {
                    return Err(format!("the proof of {} does not end in the header behind block {height}", seen.key));
                }
            }
            before = Some(block);
        }
        for (tx, fate) in &self.fates {
            match (fate, places.get(tx.as_str())) {
                (Fate::Taken, None) => return Err(format!("transaction {tx} was taken and is in no block")),
                (Fate::In(told), place) if place != Some(told) => {
                    return Err(format!("transaction {tx} was told to be in block {told}, and is in {place:?}"));
                }
                (Fate::Refused, Some(place)) => {
                    return Err(format!("transaction {tx} was refused and is in block {place}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A whole response's body, and what is behind it.
pub(crate) fn split_answer(buffer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&buffer[..end]).ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?.parse().ok()?;
    buffer[end + 4..].split_at_checked(length)
}

impl Workload for LedgerClients {
    fn setup(&self, _disk: &Arc<dyn Disk>, node: NodeId, members: &Members, mutant: Option<Mutant>) -> NodeSetup {
        let (engine, genesis, began) = (self.engine, Arc::clone(&self.genesis), Began::default());
        let planted = match mutant {
            Some(Mutant::TransactionStaysWaiting) => LedgerMutant::TransactionStaysWaiting,
            Some(Mutant::HeaderSaysOldState) => LedgerMutant::HeaderSaysOldState,
            _ => LedgerMutant::None,
        };
        let ledger = Ledger::new(LedgerConfig::default(), Arc::clone(&genesis), Box::new(KvStore::new()));
        let machine = mutate_machine(Box::new(ledger.with_mutant(planted)), mutant, &began);
        let group = GroupSpec {
            id: GROUP,
            members: members.clone(),
            config: GroupConfig::default(),
            engine: Box::new(move |boot, now| {
                let seed = boot.seed;
                Ok(mutate(engine(boot, now, mutant)?, mutant, seed, &began))
            }),
            machine,
            duty: Some(Box::new(LedgerDuty::new(DutyConfig::default()))),
        };
        let service = move |_| {
            Box::new(LedgerService::new(Config {
                node,
                group: GROUP,
                key: key_of(node.0),
                genesis,
                moniker: format!("node-{node}"),
                rpc_address: "127.0.0.1:26657".to_owned(),
                any_origin: true,
                external: false,
                linearizable_reads: true,
                commit_timeout: Config::COMMIT_TIMEOUT,
            })) as Box<dyn verity_contract::Service>
        };
        NodeSetup { groups: vec![group], founder: None, services: vec![Box::new(service)] }
    }

    fn clients(&self) -> usize {
        self.clients.len()
    }

    fn on_client(
        &mut self,
        ClientId(id): ClientId,
        now: u64,
        input: ClientInput,
        rng: &mut Rng,
        out: &mut Vec<ClientOutput>,
    ) {
        match input {
            ClientInput::Bytes(bytes) => {
                self.clients[id].buffer.extend_from_slice(&bytes);
                return self.take_answers(id);
            }
            ClientInput::Connected => return self.clients[id].connected = true,
            ClientInput::Disconnected => {
                let client = &mut self.clients[id];
                (client.connecting, client.connected, client.asked) = (false, false, None);
                return;
            }
            ClientInput::Wake => out.push(ClientOutput::Wake(now + self.pace)),
        }
        let client = &mut self.clients[id];
        let since = client.asked.as_ref().map(|(_, since)| *since);
        if client.done {
            return;
        }
        if !client.connecting || since.is_some_and(|since| now > since + PATIENCE) {
            client.asked = None;
            client.buffer.clear();
            (client.connecting, client.connected) = (true, false);
            return out.push(ClientOutput::Connect(NodeId(rng.u64(1..=self.nodes)), Door(0)));
        }
        if !client.connected || client.asked.is_some() {
            return;
        }
        let op =
            if client.count == u64::MAX && self.height.is_none() { Some(Op::Height) } else { self.next_op(id, rng) };
        let Some(op) = op else { return };
        let body = op.body();
        self.clients[id].asked = Some((op, now));
        let head = format!("POST / HTTP/1.1\r\nHost: world\r\nContent-Length: {}\r\n\r\n", body.len());
        out.push(ClientOutput::Bytes(Bytes::from(head + &body)));
    }

    fn wind_down(&mut self, _now: u64) {
        self.winding_down = true;
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(|client| client.done)
    }

    fn acknowledged(&self) -> u64 {
        self.answered
    }

    fn judge(&mut self) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)?;
        self.judge_chain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_text_round_trip() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"k1.2=v345"] {
            let text = to_base64(bytes);
            assert_eq!(text.len() % 4, 0);
            assert_eq!(from_base64(&text).as_deref(), Some(bytes));
        }
        assert_eq!(to_base64(b"k=v"), "az12");
        assert_eq!(to_base64(b"k=vx"), "az12eA==");
    }
}
