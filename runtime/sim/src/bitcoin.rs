//! A world of whole Bitcoin nodes, their miners and payers, and the laws that the chain must keep.
//!
//! Nodes dial each other and speak the network's own protocol; a cut makes two sets of miners, and its end a reorganisation. The
//! clients speak JSON-RPC by HTTP and make payments by hand, so that they share nothing with what they judge.
//!
//! - a block that a node told of is never lost by it (`closing`);
//! - all nodes come to one tip, and nobody was told of a block with more work;
//! - the coins that nodes show are those that the blocks leave (`model`); none is spent twice, and none is made of nothing;
//! - a payment that a node took is in a block at the end or waits there, if nothing else spends the same (`purse`). A node that
//!   was down may have forgotten it: a mempool is promised to nobody.
//!
//! The first client mines the blocks below all others, alone, so that what is paid rests on coins that no branch takes away.
//!
//! Deliberately absent: liars. What peers may send is the concern of the node's own tests.

mod call;
mod closing;
mod host;
mod model;
mod purse;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{BlockHash, OutPoint};
use fastrand::Rng;
use serde_json::Value;
use verity_bitcoin::Mutant as BitcoinMutant;
use verity_bitcoin::session::RPC_DOOR;
use verity_contract::Members;
use verity_storage::Disk;
use verity_types::NodeId;

use crate::ledger::split_answer;
use crate::mutant::Mutant;
use crate::workload::{ClientId, ClientInput, ClientOutput, NodeSetup, Workload};
use call::{Call, hash};
use closing::Closing;
use host::{Hosted, Place};
use model::Blocks;
use purse::Purse;

const MILLI: u64 = 1_000_000;
/// An unanswered call is given up after this long, and the client connects anew.
const PATIENCE: u64 = 4_000 * MILLI;
/// So many coinbases are paid from.
const FAMILIES: u32 = 12;
/// So many blocks are below all branches: those coinbases can be spent.
const BASE: u64 = 100 + FAMILIES as u64;
/// `RPC_INVALID_ADDRESS_OR_KEY`: there is no such block.
const NO_SUCH_BLOCK: i64 = -5;
/// One of so many worlds has an operator.
const OPERATED: u64 = 3;
/// A client stays at a node for about so many calls.
const STAY: u32 = 40;

struct Client {
    node: NodeId,
    connecting: bool,
    connected: bool,
    buffer: Vec<u8>,
    asked: Option<(Call, u64)>,
    /// Which of its node's lives was asked.
    life: u64,
    /// The family that pays, if that was asked.
    family: usize,
    /// How far its node is, as it said since they are connected.
    height: Option<u64>,
    /// Its node's tip, if that is what the last answer told.
    tip: Option<BlockHash>,
    /// What it took out of its node's chain, and is to put back.
    taken_out: Option<BlockHash>,
    /// The call is one of the end.
    closes: bool,
    done: bool,
}

impl Client {
    fn new() -> Self {
        Self {
            node: NodeId(1),
            connecting: false,
            connected: false,
            buffer: Vec::new(),
            asked: None,
            life: 0,
            family: 0,
            height: None,
            tip: None,
            taken_out: None,
            closes: false,
            done: false,
        }
    }

    /// The connection is no more, and with it what was asked.
    fn forget(&mut self) {
        (self.connecting, self.connected, self.asked, self.height) = (false, false, None, None);
        (self.tip, self.taken_out) = (None, None);
        self.buffer.clear();
    }
}

/// The clients of a world, and what they know.
pub struct BitcoinClients {
    seed: u64,
    operator: bool,
    nodes: u64,
    pace: u64,
    clients: Vec<Client>,
    purse: Purse,
    /// Which blocks a node told of.
    told: BTreeMap<NodeId, BTreeSet<BlockHash>>,
    invalidated: BTreeSet<(NodeId, BlockHash)>,
    /// A block whose coinbase is paid from.
    wanted: Option<BlockHash>,
    /// How often a node was down.
    lives: BTreeMap<NodeId, u64>,
    blocks: Blocks,
    closing: Closing,
    winding_down: bool,
    answered: u64,
    wrong: Option<String>,
}

impl BitcoinClients {
    /// So many clients, each asking every `pace` nanoseconds, of so many nodes. `seed` draws who is dialled by whom, and whether
    /// there is an operator who takes out blocks by hand, and puts them back at the end.
    #[must_use]
    pub fn new(seed: u64, nodes: usize, clients: usize, pace: u64) -> Self {
        Self {
            seed,
            operator: seed.is_multiple_of(OPERATED),
            nodes: nodes as u64,
            pace,
            clients: (0..clients).map(|_| Client::new()).collect(),
            purse: Purse::default(),
            told: BTreeMap::new(),
            invalidated: BTreeSet::new(),
            wanted: None,
            lives: BTreeMap::new(),
            blocks: Blocks::new(),
            closing: Closing::default(),
            winding_down: false,
            answered: 0,
            wrong: None,
        }
    }

    /// How long nodes may take to come to one tip once nothing goes wrong any more, in milliseconds.
    ///
    /// They dial a peer that they lost once a minute. Whoever asked for a block just before it was taken out by hand is not
    /// answered, as by Core, and asks nobody else before the time of that request is over: ten minutes where blocks are ten apart.
    #[must_use]
    pub fn heal_ms(&self) -> u64 {
        if self.operator { 1_200_000 } else { 150_000 }
    }

    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// In a line each knows the next one; in a ring each dials two.
    fn peers(&self, node: NodeId) -> Vec<NodeId> {
        let behind = |step: u64| NodeId((node.0 - 1 + step) % self.nodes + 1);
        if self.seed.is_multiple_of(2) {
            let beside = [node.0 - 1, node.0 + 1];
            return beside.into_iter().filter(|id| (1..=self.nodes).contains(id)).map(NodeId).collect();
        }
        [1, 2].map(behind).into_iter().filter(|peer| *peer != node).collect()
    }

    fn life(&self, node: NodeId) -> u64 {
        self.lives.get(&node).copied().unwrap_or(0)
    }

    /// What the first client does before all others: blocks that no branch takes away, and whose coins are paid.
    fn founding(&self) -> Option<Call> {
        let height = self.clients[0].height.unwrap_or(0);
        if height < BASE {
            return Some(Call::Mine(u32::try_from(BASE - height).expect("it is small"), 0));
        }
        if let Some(wanted) = self.wanted {
            return Some(Call::Block(wanted));
        }
        let next = u32::try_from(self.purse.families()).expect("they are few") + 1;
        (next <= FAMILIES).then_some(Call::HashAt(next))
    }

    fn next_call(&mut self, id: usize, rng: &mut Rng) -> Option<Call> {
        let client = &self.clients[id];
        let Some(height) = client.height else { return Some(Call::Height) };
        if id == 0
            && let Some(call) = self.founding()
        {
            return Some(call);
        }
        if height < BASE {
            return Some(Call::Height);
        }
        if let Some(taken_out) = client.taken_out.filter(|_| rng.u8(..4) == 0) {
            return Some(Call::Reconsider(taken_out));
        }
        let node = client.node;
        Some(match rng.u8(..100) {
            0..40 => {
                let Some((tx, family)) = self.purse.next(id, self.clients.len(), rng) else { return Some(Call::Best) };
                self.clients[id].family = family;
                purse::call(&tx)
            }
            40..46 => Call::Mine(1, id),
            46..48 => Call::Mine(rng.u32(2..4), id),
            48..50 => Call::MineEmpty(id),
            50..58 => Call::Height,
            58..70 => Call::Best,
            70..75 => Call::Tips,
            75..82 => Call::Pool,
            82..88 => Call::Coin(self.purse.any_output(rng)?),
            88..94 => Call::Block(*rng.choice(self.told.get(&node)?)?),
            // An operator who takes out many blocks does not want their payments back.
            _ if self.operator && height > BASE + 3 && client.taken_out.is_none() => {
                let Some(tip) = client.tip else { return Some(Call::Best) };
                self.invalidated.insert((node, tip));
                Call::Invalidate(tip)
            }
            _ => Call::Height,
        })
    }

    /// A node told of a block, or several.
    fn tell(&mut self, node: NodeId, value: &Value) {
        let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        match all.iter().map(hash).collect::<Option<Vec<_>>>() {
            Some(hashes) => self.told.entry(node).or_default().extend(hashes),
            None => self.wrong(format!("node {node} tells of {value}, which is no block")),
        }
    }

    fn others_are_done(&self) -> bool {
        self.clients[1..].iter().all(|client| client.done)
    }

    fn on_answer(&mut self, id: usize, body: &[u8]) {
        let Some((call, _)) = self.clients[id].asked.take() else { return };
        let result = match call::read(body) {
            Ok(result) => result,
            Err(what) => return self.wrong(what),
        };
        // To be told something is no deed.
        let does = matches!(call, Call::Mine(..) | Call::MineEmpty(_) | Call::Pay(..));
        self.answered += u64::from(does && result.is_ok());
        if self.clients[id].closes {
            if let (Call::Mine(..), Ok(value)) = (&call, &result) {
                self.tell(self.clients[0].node, value);
            }
            if let Err(what) = self.closing.on_answer(&mut self.blocks, result) {
                self.wrong(what);
            }
            return;
        }
        let node = self.clients[id].node;
        match result {
            Ok(value) => self.on_result(id, node, call, &value),
            Err(error) => match call {
                Call::Pay(txid, _) => self.purse.on_refused(txid, self.clients[id].family),
                // Other errors are those of a disk.
                Call::Block(hash) if error["code"] == NO_SUCH_BLOCK => {
                    self.wrong(format!("node {node} told of block {hash}, and has lost it: {error}"));
                }
                Call::Height | Call::Best | Call::Tips | Call::Pool => {
                    self.wrong(format!("node {node} refuses {call:?}: {error}"));
                }
                _ => {}
            },
        }
    }

    fn on_result(&mut self, id: usize, node: NodeId, call: Call, value: &Value) {
        let client = &mut self.clients[id];
        match call {
            Call::Height => client.height = value.as_u64(),
            Call::Best => {
                client.tip = hash(value);
                self.tell(node, value);
            }
            Call::Mine(count, _) => {
                client.height = client.height.map(|height| height + u64::from(count));
                self.tell(node, value);
            }
            Call::MineEmpty(_) => self.tell(node, &value["hash"]),
            Call::Pay(txid, _) => {
                let (family, life) = (client.family, client.life);
                self.purse.on_taken(txid, family, node, life);
            }
            Call::HashAt(_) => self.wanted = hash(value),
            Call::Block(hash) => {
                if let Err(what) = self.blocks.add(hash, value.as_str().unwrap_or_default()) {
                    return self.wrong(what);
                }
                if self.wanted == Some(hash)
                    && let Some(coinbase) = self.blocks.get(&hash).and_then(|block| block.txdata.first())
                {
                    let value = coinbase.output[0].value.to_sat();
                    self.purse.found(OutPoint::new(coinbase.compute_txid(), 0), value);
                    self.wanted = None;
                }
            }
            Call::Invalidate(hash) => client.taken_out = Some(hash),
            Call::Reconsider(_) => client.taken_out = None,
            _ => {}
        }
    }
}

impl BitcoinClients {
    /// Reads what came.
    fn take_answers(&mut self, id: usize) {
        while let Some((body, rest)) = split_answer(&self.clients[id].buffer) {
            let (body, rest) = (body.to_vec(), rest.to_vec());
            self.clients[id].buffer = rest;
            self.on_answer(id, &body);
        }
    }

    fn ask(&mut self, id: usize, now: u64, call: Call, out: &mut Vec<ClientOutput>) {
        if !matches!(call, Call::Invalidate(_)) {
            self.clients[id].tip = None;
        }
        out.push(ClientOutput::Bytes(call.request()));
        self.clients[id].life = self.life(self.clients[id].node);
        self.clients[id].asked = Some((call, now));
    }

    fn connect(&mut self, id: usize, node: NodeId, out: &mut Vec<ClientOutput>) {
        let client = &mut self.clients[id];
        client.forget();
        (client.connecting, client.node) = (true, node);
        out.push(ClientOutput::Connect(node, RPC_DOOR));
    }

    /// What the first client does at the end.
    fn close(&mut self, now: u64, rng: &mut Rng, out: &mut Vec<ClientOutput>) {
        let known = (&self.blocks, &self.purse);
        let next = self.closing.next(self.nodes, &self.invalidated, &self.told, known, rng);
        self.clients[0].done = self.closing.is_over();
        let Some((node, call)) = next else { return };
        if self.clients[0].node != node || !self.clients[0].connecting {
            return self.connect(0, node, out);
        }
        if self.clients[0].connected {
            self.clients[0].closes = true;
            self.ask(0, now, call, out);
        }
    }

    /// One step of a client that waits for nothing.
    fn step(&mut self, id: usize, now: u64, rng: &mut Rng, out: &mut Vec<ClientOutput>) {
        if self.winding_down {
            return match id {
                0 if self.others_are_done() => self.close(now, rng, out),
                0 => {}
                _ => self.clients[id].done = true,
            };
        }
        let founds = id == 0 && self.purse.families() < FAMILIES as usize;
        if !self.clients[id].connecting || (!founds && rng.u32(..STAY) == 0) {
            let node = if founds { NodeId(1) } else { NodeId(rng.u64(1..=self.nodes)) };
            return self.connect(id, node, out);
        }
        if self.clients[id].connected
            && let Some(call) = self.next_call(id, rng)
        {
            self.ask(id, now, call, out);
        }
    }
}

impl Workload for BitcoinClients {
    fn setup(&self, disk: &Arc<dyn Disk>, node: NodeId, _members: &Members, mutant: Option<Mutant>) -> NodeSetup {
        let mutant = match mutant {
            Some(Mutant::UndoKeepsOutputs) => BitcoinMutant::UndoKeepsOutputs,
            Some(Mutant::UndoForgetsCoins) => BitcoinMutant::UndoForgetsCoins,
            Some(Mutant::AnswerBeforeFlush) => BitcoinMutant::AnswerBeforeFlush,
            Some(Mutant::HeavierBranchIgnored) => BitcoinMutant::HeavierBranchIgnored,
            Some(Mutant::RevertedPaymentsForgotten) => BitcoinMutant::RevertedPaymentsForgotten,
            Some(Mutant::ReorganisationNotTold) => BitcoinMutant::ReorganisationNotTold,
            _ => BitcoinMutant::None,
        };
        let place = Place { disk: Arc::clone(disk), node, peers: self.peers(node), seed: self.seed, mutant };
        let service =
            move |life| Box::new(Hosted::new(place, format!("{life:?}"))) as Box<dyn verity_contract::Service>;
        NodeSetup { groups: Vec::new(), founder: None, services: vec![Box::new(service)] }
    }

    fn begin(&mut self, nodes: usize) {
        self.nodes = nodes as u64;
    }

    fn crashed(&mut self, node: NodeId) {
        *self.lives.entry(node).or_default() += 1;
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
                self.take_answers(id);
                // At the end nobody waits for a pace.
                if self.clients[id].closes && self.clients[id].asked.is_none() {
                    self.step(id, now, rng, out);
                }
                return;
            }
            ClientInput::Connected => return self.clients[id].connected = true,
            ClientInput::Disconnected => return self.clients[id].forget(),
            ClientInput::Wake => out.push(ClientOutput::Wake(now + self.pace)),
        }
        if self.clients[id].done {
            return;
        }
        let since = self.clients[id].asked.as_ref().map(|(_, since)| *since);
        if since.is_some_and(|since| now > since + PATIENCE) {
            self.clients[id].forget();
        }
        if self.clients[id].asked.is_none() {
            self.step(id, now, rng, out);
        }
    }

    fn wind_down(&mut self, _now: u64) {
        self.winding_down = true;
    }

    fn is_done(&self) -> bool {
        self.wrong.is_some() || self.clients.iter().all(|client| client.done)
    }

    fn acknowledged(&self) -> u64 {
        self.answered
    }

    fn standing(&self) -> String {
        self.closing.standing()
    }

    fn judge(&mut self) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)?;
        self.closing.judge(&self.blocks, &self.purse, &self.told, &self.lives)?;
        self.closing.judge_digests()
    }
}
