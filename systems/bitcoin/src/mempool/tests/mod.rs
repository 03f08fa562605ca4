//! Mempools on small chains made by hand.
//!
//! Deliberately absent: real chains, which are under test with all of a node.

mod cases;
mod orders;
mod packages;

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version as BlockVersion};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
    Witness,
};

use super::standard::MANDATORY_FLAGS;
use super::*;
use crate::chain::{ChainError, Coin};
use crate::script::Flags;

const NOW: u64 = 1_700_000_000;
const COIN: u64 = 100_000_000;

/// A chain of coins alone.
#[derive(Clone, Debug)]
struct World {
    coins: BTreeMap<OutPoint, Coin>,
    height: u32,
}

impl View for World {
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        Ok(self.coins.get(outpoint).cloned())
    }

    fn height(&self) -> u32 {
        self.height
    }

    fn median_time(&self, height: u32) -> u32 {
        1_600_000_000 + height * 600
    }

    fn script_flags(&self) -> Flags {
        MANDATORY_FLAGS
    }

    fn is_current(&self, _: u64) -> bool {
        true
    }
}

/// Whoever shows the script `1` may spend it.
fn anybody() -> ScriptBuf {
    ScriptBuf::from([&[0, 32][..], sha256::Hash::hash(&[0x51]).as_byte_array()].concat())
}

fn input(outpoint: OutPoint) -> TxIn {
    let witness = Witness::from_slice(&[vec![0x51]]);
    TxIn { previous_output: outpoint, script_sig: ScriptBuf::new(), sequence: Sequence(0xffff_fffd), witness }
}

fn output(value: u64) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey: anybody() }
}

/// Spends these, into outputs of these values.
fn spend(outpoints: &[OutPoint], values: &[u64]) -> Arc<Transaction> {
    Arc::new(Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: outpoints.iter().copied().map(input).collect(),
        output: values.iter().copied().map(output).collect(),
    })
}

fn truc(tx: &Arc<Transaction>) -> Arc<Transaction> {
    Arc::new(Transaction { version: Version(3), ..(**tx).clone() })
}

fn out(tx: &Transaction, vout: u32) -> OutPoint {
    OutPoint::new(tx.compute_txid(), vout)
}

fn block_of(txs: &[Arc<Transaction>]) -> Block {
    let header = Header {
        version: BlockVersion::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let mut coinbase = (*spend(&[OutPoint::null()], &[0])).clone();
    coinbase.input[0].script_sig = ScriptBuf::from(vec![1, txs.len() as u8]);
    let txdata = std::iter::once(coinbase).chain(txs.iter().map(|tx| (**tx).clone())).collect();
    Block { header, txdata }
}

impl World {
    /// At height 200, with so many coins of one bitcoin each.
    fn new(coins: u8) -> Self {
        let coins = (0..coins).map(|at| (Self::outpoint(at), Coin { out: output(COIN), height: 50, coinbase: false }));
        Self { coins: coins.collect(), height: 200 }
    }

    fn outpoint(at: u8) -> OutPoint {
        OutPoint::new(Txid::from_byte_array([at + 1; 32]), 0)
    }

    /// Takes the coins of a block, and gives those that it makes.
    fn connect(&mut self, block: &Block) -> BTreeMap<OutPoint, Coin> {
        self.height += 1;
        let mut spent = BTreeMap::new();
        for tx in &block.txdata {
            for input in &tx.input {
                spent.extend(self.coins.remove(&input.previous_output).map(|coin| (input.previous_output, coin)));
            }
            for (vout, out) in (0..).zip(&tx.output) {
                let coin = Coin { out: out.clone(), height: self.height, coinbase: tx.is_coinbase() };
                self.coins.insert(OutPoint::new(tx.compute_txid(), vout), coin);
            }
        }
        spent
    }

    fn disconnect(&mut self, block: &Block, spent: BTreeMap<OutPoint, Coin>) {
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            self.coins.retain(|outpoint, _| outpoint.txid != txid);
        }
        let own: Vec<Txid> = block.txdata.iter().map(|tx| tx.compute_txid()).collect();
        self.coins.extend(spent.into_iter().filter(|(outpoint, _)| !own.contains(&outpoint.txid)));
        self.height -= 1;
    }
}

/// A mempool upon a chain, and what became of it.
#[derive(Debug)]
struct Rig {
    world: World,
    pool: Mempool,
    events: Vec<MempoolEvent>,
    now: u64,
}

impl Rig {
    fn new(coins: u8) -> Self {
        Self::with(coins, MempoolOptions::default())
    }

    fn with(coins: u8, options: MempoolOptions) -> Self {
        Self { world: World::new(coins), pool: Mempool::new(options), events: Vec::new(), now: NOW }
    }

    fn accept(&mut self, tx: &Arc<Transaction>) -> Result<Accepted, TxReject> {
        let options = AcceptOptions::default();
        let result = self.pool.accept(&self.world, tx.clone(), self.now, options, &mut self.events);
        self.pool.invariants();
        result.expect("coins are in memory")
    }

    fn take(&mut self, tx: &Arc<Transaction>) -> Txid {
        self.accept(tx).expect("it is good");
        tx.compute_txid()
    }

    fn word(&mut self, tx: &Arc<Transaction>) -> String {
        self.accept(tx).expect_err("it is not good").reason
    }

    fn package(&mut self, txs: &[Arc<Transaction>], test: bool) -> PackageOutcome {
        let options = AcceptOptions { test, ..AcceptOptions::default() };
        let result = self.pool.accept_package(&self.world, txs, self.now, options, &mut self.events);
        self.pool.invariants();
        result.expect("coins are in memory")
    }

    fn connect(&mut self, block: &Block) -> BTreeMap<OutPoint, Coin> {
        let spent = self.world.connect(block);
        self.pool.on_connected(block, self.world.height, self.now, &mut self.events);
        self.pool.invariants();
        spent
    }

    fn reorganised(&mut self, blocks: &[Block]) {
        let blocks: Vec<Arc<Block>> = blocks.iter().cloned().map(Arc::new).collect();
        let result = self.pool.on_reorganised(&self.world, &blocks, self.now, &mut self.events);
        self.pool.invariants();
        result.expect("coins are in memory");
    }

    fn has(&self, txid: &Txid) -> bool {
        self.pool.get(txid).is_some()
    }

    /// Why some went, in order.
    fn reasons(&mut self) -> Vec<&'static str> {
        let reason = |event| match event {
            MempoolEvent::Removed { reason, .. } => Some(reason),
            MempoolEvent::Added { .. } | MempoolEvent::Unsent { .. } => None,
        };
        self.events.drain(..).filter_map(reason).collect()
    }
}
