//! How a world of Bitcoin nodes ends: its first client asks every node for all that is judged.
//!
//! - upon the end of the faults, once the other clients are done: what operators took out of the chain is put back;
//! - then all nodes are to come to one tip by themselves. Branches of equal length are no fault; a block upon one of them decides;
//! - then each node shows what waits, its coins, and every block that it ever told of; what is missing below is asked for, too.
//!
//! Deliberately absent: a deadline. The world has one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{BlockHash, OutPoint, Transaction, Txid};
use fastrand::Rng;
use serde_json::Value;
use verity_types::NodeId;

use super::call::{Call, hash};
use super::model::{Blocks, Outcome, judge_pool};
use super::purse::Purse;

/// Outputs that each node is asked for.
const OUTPUTS: usize = 24;

/// Looks at all tips before a block is made for nodes whose operators took blocks out.
const ROUNDS: u64 = 800;

/// What a node showed at the end.
#[derive(Default)]
struct Shown {
    pool: Vec<Txid>,
    coins: Value,
    outputs: BTreeMap<OutPoint, Value>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Restoring,
    Agreeing,
    Showing,
    Over,
}

/// The end of a world.
#[derive(Default)]
pub(super) struct Closing {
    phase: Phase,
    todo: VecDeque<(NodeId, Call)>,
    /// Each node's tip, when it was asked last.
    heights: BTreeMap<NodeId, u64>,
    tips: BTreeMap<NodeId, BlockHash>,
    shown: BTreeMap<NodeId, Shown>,
    rounds: u64,
}

impl Closing {
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Where each node was when it was asked last, and what is asked next.
    pub(super) fn standing(&self) -> String {
        let tips = self.tips.iter().map(|(node, tip)| {
            let height = self.heights.get(node).copied().unwrap_or(0);
            format!("node {node} is at {tip}, height {height}")
        });
        let next = self.todo.front().map(|(node, call)| format!("node {node} is asked {call:?}"));
        tips.chain(next).collect::<Vec<_>>().join("; ")
    }

    /// The next call, and of whom.
    pub(super) fn next(
        &mut self,
        nodes: u64,
        invalidated: &BTreeSet<(NodeId, BlockHash)>,
        told: &BTreeMap<NodeId, BTreeSet<BlockHash>>,
        (blocks, purse): (&Blocks, &Purse),
        rng: &mut Rng,
    ) -> Option<(NodeId, Call)> {
        if let Some(next) = self.todo.front() {
            return Some(next.clone());
        }
        let all = || (1..=nodes).map(NodeId);
        match self.phase {
            Phase::Restoring => {
                self.todo.extend(invalidated.iter().map(|(node, hash)| (*node, Call::Reconsider(*hash))));
                self.phase = Phase::Agreeing;
                self.ask_tips(nodes);
            }
            Phase::Agreeing => {
                let heights: BTreeSet<u64> = self.heights.values().copied().collect();
                let tips: BTreeSet<BlockHash> = self.tips.values().copied().collect();
                if tips.len() == 1 && self.tips.len() as u64 == nodes {
                    self.phase = Phase::Showing;
                    for node in all() {
                        self.todo.extend([(node, Call::Pool), (node, Call::Coins)]);
                        self.todo.extend((0..OUTPUTS).filter_map(|_| Some((node, Call::Coin(purse.any_output(rng)?)))));
                        let told = told.get(&node).into_iter().flatten();
                        self.todo.extend(told.map(|hash| (node, Call::Block(*hash))));
                    }
                } else {
                    if heights.len() == 1 && self.heights.len() as u64 == nodes {
                        self.todo.push_back((NodeId(1), Call::Mine(1, 0)));
                    }
                    // Headers upon a block that was taken out were refused, and nobody tells of them again: as with Core, the
                    // next block does.
                    self.rounds += 1;
                    if !invalidated.is_empty() && self.rounds.is_multiple_of(ROUNDS) {
                        let highest = self.heights.iter().max_by_key(|(_, height)| **height);
                        self.todo.extend(highest.map(|(node, _)| (*node, Call::Mine(1, 0))));
                    }
                    self.ask_tips(nodes);
                    // Not at once: the caller comes again.
                    return None;
                }
            }
            Phase::Showing => {
                let tip = *self.tips.values().next()?;
                let told = told.iter().flat_map(|(node, all)| all.iter().map(|hash| (*node, *hash)));
                let missing =
                    told.chain([(NodeId(1), tip)]).find_map(|(node, hash)| Some((node, blocks.missing(hash)?)));
                match missing {
                    Some((node, hash)) => self.todo.push_back((node, Call::Block(hash))),
                    None => self.phase = Phase::Over,
                }
            }
            Phase::Over => return None,
        }
        self.todo.front().cloned()
    }

    fn ask_tips(&mut self, nodes: u64) {
        self.todo.extend((1..=nodes).flat_map(|node| [(NodeId(node), Call::Height), (NodeId(node), Call::Best)]));
    }

    /// Takes an answer to the call that was next.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn on_answer(&mut self, blocks: &mut Blocks, result: Result<Value, Value>) -> Result<(), String> {
        let Some((node, call)) = self.todo.pop_front() else { return Ok(()) };
        let value = match (&call, result) {
            (_, Ok(value)) => value,
            (Call::Block(hash), Err(error)) => {
                return Err(format!("node {node} told of block {hash}, and has lost it: {error}"));
            }
            // It never was there, or its height is another by now.
            (Call::Reconsider(_), Err(_)) => return Ok(()),
            (call, Err(error)) => return Err(format!("node {node} refuses {call:?}: {error}")),
        };
        let shown = self.shown.entry(node).or_default();
        match call {
            Call::Height => {
                self.heights.insert(node, value.as_u64().ok_or("a height is no number")?);
            }
            Call::Best => {
                self.tips.insert(node, hash(&value).ok_or("a tip is no hash")?);
            }
            Call::Pool => {
                let all = value.as_array().ok_or("a mempool is no list")?;
                let txids = all.iter().map(|txid| txid.as_str().and_then(|txid| txid.parse().ok()));
                shown.pool = txids.collect::<Option<_>>().ok_or("a transaction is no hash")?;
            }
            Call::Coins => shown.coins = value,
            Call::Coin(outpoint) => {
                shown.outputs.insert(outpoint, value);
            }
            Call::Block(hash) => blocks.add(hash, value.as_str().unwrap_or_default())?,
            _ => {}
        }
        Ok(())
    }

    /// Judges what the nodes showed.
    ///
    /// # Errors
    /// Which law is broken, and how.
    pub(super) fn judge(
        &self,
        blocks: &Blocks,
        purse: &Purse,
        told: &BTreeMap<NodeId, BTreeSet<BlockHash>>,
        lives: &BTreeMap<NodeId, u64>,
    ) -> Result<(), String> {
        let tip = *self.tips.values().next().ok_or("no node showed a tip")?;
        let most = blocks.work(tip);
        if let Some(other) = told.values().flatten().find(|other| blocks.work(**other) > most) {
            return Err(format!("all nodes are at {tip}, and block {other} has more work"));
        }
        let outcome = blocks.replay(tip)?;
        let made = |txid: &Txid| purse.payments.get(txid).map(|payment| &payment.tx);
        for (node, shown) in &self.shown {
            shown.judge_coins(&outcome, tip).map_err(|what| format!("node {node}: {what}"))?;
            let mut pool = BTreeMap::new();
            for txid in &shown.pool {
                pool.insert(
                    *txid,
                    made(txid).ok_or_else(|| format!("nobody made {txid}, which waits at node {node}"))?,
                );
            }
            judge_pool(&pool, &outcome).map_err(|what| format!("node {node}: {what}"))?;
            let life = lives.get(node).copied().unwrap_or(0);
            let taken = purse.payments.iter().filter(|(_, payment)| payment.taken.contains(&(*node, life)));
            for (txid, payment) in taken.filter(|(_, payment)| purse.has_no_rival(&payment.tx)) {
                judge_payment(txid, &payment.tx, &pool, &outcome).map_err(|what| format!("node {node}: {what}"))?;
            }
        }
        Ok(())
    }
}

/// A payment that was taken by a node that was not down since is in a block or waits there.
fn judge_payment(
    txid: &Txid,
    tx: &Transaction,
    pool: &BTreeMap<Txid, &Transaction>,
    outcome: &Outcome,
) -> Result<(), String> {
    if outcome.places.contains_key(txid) || pool.contains_key(txid) {
        return Ok(());
    }
    let coins: Vec<String> = tx.input.iter().map(|input| input.previous_output.to_string()).collect();
    Err(format!("payment {txid} was taken and is forgotten; it spends {}", coins.join(" ")))
}

impl Shown {
    fn judge_coins(&self, outcome: &Outcome, tip: BlockHash) -> Result<(), String> {
        let said = &self.coins;
        let total = said["total_amount"].as_f64().map(satoshi);
        let own = (hash(&said["bestblock"]), said["height"].as_u64(), said["txouts"].as_u64(), total);
        let count = outcome.coins.len() as u64;
        let model = (Some(tip), Some(outcome.height.into()), Some(count), Some(outcome.total()));
        if own != model {
            return Err(format!("its coins are {own:?}, and the blocks leave {model:?}"));
        }
        for (outpoint, shown) in &self.outputs {
            let there = outcome.coins.get(outpoint).map(|coin| coin.value);
            if shown["value"].as_f64().map(satoshi) != there {
                return Err(format!("it shows {outpoint} as {shown}, and the blocks leave {there:?}"));
            }
        }
        Ok(())
    }

    fn digest(&self) -> &Value {
        &self.coins["hash_serialized_3"]
    }
}

impl Closing {
    /// All nodes at one tip have the same coins, whole.
    ///
    /// # Errors
    /// Two have not.
    pub(super) fn judge_digests(&self) -> Result<(), String> {
        let digests: BTreeSet<String> = self.shown.values().map(|shown| shown.digest().to_string()).collect();
        if digests.len() > 1 { Err(format!("nodes at one tip have other coins: {digests:?}")) } else { Ok(()) }
    }
}

fn satoshi(amount: f64) -> u64 {
    (amount * 1e8).round() as u64
}
