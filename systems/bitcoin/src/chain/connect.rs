//! What a block does to the coins, and whether it may.
//!
//! - each input spends a coin that is there, is ripe, and is unlocked by its script;
//! - what goes out is no more than what comes in, and the first transaction takes what is left and the subsidy, no more;
//! - nothing changes before all of the block is judged: what it would do stands in a layer above the coins.

use std::sync::{Arc, Mutex};

use bitcoin::block::Block;
use bitcoin::{OutPoint, Script, Transaction, Txid};
use verity_nakamoto::{BlockId, Tree};

use super::check::{SIGOPS_COST_MAX, reject};
use super::coins::{CoinMap, Coins, Salted};
use super::scripts::{self, Audits, Refused, Workers};
use super::transaction::{self, InputsReject, MONEY_MAX, SequenceLocks};
use super::{BlockReject, BlockUndo, ChainError, Coin, RejectKind, TxUndo, sigops};
use crate::mutant::Mutant;
use crate::params::Params;
use crate::script::{Flags, SCRIPT_BYTES_MAX};

/// From this height on a coinbase may be a copy of one before BIP 34, in whose stead it named this height.
const BIP34_IMPLIES_BIP30_LIMIT: u32 = 1_983_702;
/// The two blocks of the network that repeat a coinbase.
const REPEATED: [(u32, &str); 2] = [
    (91_842, "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec"),
    (91_880, "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721"),
];

/// A block that is to be judged, and where it stands.
pub(super) struct Judged<'a> {
    pub(super) block: &'a Arc<Block>,
    pub(super) txids: &'a [Txid],
    pub(super) tree: &'a Tree,
    pub(super) prev: BlockId,
    pub(super) params: &'a Params,
    pub(super) flags: Flags,
    /// False: its scripts are taken to be good.
    pub(super) scripts: bool,
}

/// Coins as the block leaves them.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) undo: BlockUndo,
    /// True beside a coin that the database cannot have.
    layer: CoinMap<(Option<Coin>, bool)>,
}

/// Nothing can ever unlock it.
pub(crate) fn is_unspendable(script: &Script) -> bool {
    script.as_bytes().first() == Some(&0x6a) || script.len() > SCRIPT_BYTES_MAX
}

/// The rules for scripts of a block of this hash at this height.
pub(super) fn script_flags(params: &Params, height: u32, hash: Option<&bitcoin::BlockHash>) -> Flags {
    let always = Flags::P2SH | Flags::WITNESS | Flags::TAPROOT;
    let mut flags = hash.and_then(|hash| params.script_exceptions.get(hash)).copied().unwrap_or(always);
    for (since, flag) in [
        (params.headers.bip66_height, Flags::DERSIG),
        (params.headers.bip65_height, Flags::CHECKLOCKTIMEVERIFY),
        (params.csv_height, Flags::CHECKSEQUENCEVERIFY),
        (params.segwit_height, Flags::NULLDUMMY),
    ] {
        if height >= since {
            flags |= flag;
        }
    }
    flags
}

impl Judged<'_> {
    fn height(&self) -> u32 {
        self.tree.entry(self.prev).height + 1
    }

    /// Must no transaction have the id of one that still has coins? (BIP 30)
    fn forbids_repeats(&self) -> bool {
        let (height, hash) = (self.height(), self.block.block_hash().to_string());
        if REPEATED.contains(&(height, hash.as_str())) {
            return false;
        }
        let below = self.tree.ancestor(self.prev, self.params.headers.bip34_height);
        let differs = |hash| below.is_some_and(|id| self.tree.entry(id).hash == hash);
        height >= BIP34_IMPLIES_BIP30_LIMIT || !self.params.bip34_hash.is_some_and(differs)
    }

    fn check_repeats(&self, coins: &Coins) -> Result<Result<(), BlockReject>, ChainError> {
        for (tx, txid) in self.block.txdata.iter().zip(self.txids) {
            for vout in 0..tx.output.len() as u32 {
                if coins.has(&OutPoint::new(*txid, vout))? {
                    let debug = "tried to overwrite transaction";
                    return Ok(Err(reject(RejectKind::Consensus, "bad-txns-BIP30", debug)));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Takes the coins that a transaction spends out of the layer, or from below it.
    fn spend(
        coins: &mut Coins,
        layer: &mut CoinMap<(Option<Coin>, bool)>,
        tx: &Transaction,
    ) -> Result<Option<Vec<Coin>>, ChainError> {
        let mut spent = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            let outpoint = &input.previous_output;
            let coin = match layer.get_mut(outpoint) {
                Some((coin, _)) => coin.take(),
                None => {
                    let coin = coins.get(outpoint)?.cloned();
                    if coin.is_some() {
                        layer.insert(*outpoint, (None, false));
                    }
                    coin
                }
            };
            let Some(coin) = coin else { return Ok(None) };
            spent.push(coin);
        }
        Ok(Some(spent))
    }

    fn add(&self, layer: &mut CoinMap<(Option<Coin>, bool)>, at: usize, repeats: bool) {
        let tx = &self.block.txdata[at];
        for (vout, output) in tx.output.iter().enumerate() {
            if !is_unspendable(&output.script_pubkey) {
                let coin = Coin { out: output.clone(), height: self.height(), coinbase: at == 0 };
                layer.insert(OutPoint::new(self.txids[at], vout as u32), (Some(coin), !repeats));
            }
        }
    }

    /// Judges the block. The coins are not changed.
    pub(super) fn judge(
        &self,
        coins: &mut Coins,
        salt: u64,
        workers: &dyn Workers,
        audits: &mut Audits,
    ) -> Result<Result<Outcome, BlockReject>, ChainError> {
        let consensus = |reason: &str, debug: String| reject(RejectKind::Consensus, reason, debug);
        let height = self.height();
        let no_repeats = self.forbids_repeats();
        if no_repeats && let Err(refused) = self.check_repeats(coins)? {
            return Ok(Err(refused));
        }
        let median_below = self.tree.median_time_past(self.prev);
        let median_at = |height: u32| {
            let id = self.tree.ancestor(self.prev, height).expect("coins are no higher than the tip");
            self.tree.median_time_past(id)
        };
        let mut layer = CoinMap::with_capacity_and_hasher(self.block.txdata.len() * 4, Salted(salt));
        let (mut undo, mut fees, mut cost) = (BlockUndo::default(), 0u64, 0i64);
        for (at, tx) in self.block.txdata.iter().enumerate() {
            let txid = self.txids[at];
            let mut spent = Vec::new();
            if at > 0 {
                let Some(found) = Self::spend(coins, &mut layer, tx)? else {
                    let debug = format!("CheckTxInputs: inputs missing/spent in transaction {txid}");
                    return Ok(Err(consensus("bad-txns-inputs-missingorspent", debug)));
                };
                spent = found;
                match transaction::check_inputs(tx, &spent, height) {
                    Ok(fee) => fees = fees.saturating_add(fee.to_sat()),
                    Err(InputsReject { reason, debug, .. }) => {
                        return Ok(Err(consensus(reason, format!("{debug} in transaction {txid}"))));
                    }
                }
                if fees > MONEY_MAX as u64 {
                    let debug = "accumulated fee in the block out of range".to_owned();
                    return Ok(Err(consensus("bad-txns-accumulated-fee-outofrange", debug)));
                }
                if height >= self.params.csv_height {
                    let heights = spent.iter().map(|coin| coin.height);
                    if !SequenceLocks::of(tx, heights, median_at).hold(height, median_below) {
                        let debug = format!("contains a non-BIP68-final transaction {txid}");
                        return Ok(Err(consensus("bad-txns-nonfinal", debug)));
                    }
                }
            }
            cost += sigops::transaction_sigop_cost(tx, &spent, self.flags);
            if cost > SIGOPS_COST_MAX {
                return Ok(Err(consensus("bad-blk-sigops", "too many sigops".to_owned())));
            }
            self.add(&mut layer, at, !no_repeats);
            if at > 0 {
                undo.txs.push(TxUndo { spent });
            }
        }
        let paid: u64 = self.block.txdata[0].output.iter().map(|output| output.value.to_sat()).sum();
        let limit = fees + self.params.subsidy(height);
        if paid > limit {
            let debug = format!("coinbase pays too much (actual={paid} vs limit={limit})");
            return Ok(Err(consensus("bad-cb-amount", debug)));
        }
        if self.scripts
            && let Err(refused) = self.check_scripts(&undo, workers, audits)?
        {
            return Ok(Err(refused));
        }
        Ok(Ok(Outcome { undo, layer }))
    }

    fn check_scripts(
        &self,
        undo: &BlockUndo,
        workers: &dyn Workers,
        audits: &mut Audits,
    ) -> Result<Result<(), BlockReject>, ChainError> {
        // The first by place, so that whoever judges says the same.
        let first: Mutex<Option<(usize, Result<Refused, ChainError>)>> = Mutex::default();
        workers.run(undo.txs.len(), &|at| {
            let failed = match scripts::verify(&self.block.txdata[at + 1], &undo.txs[at], self.flags) {
                Ok(Ok(())) => return,
                Ok(Err(refused)) => Ok(refused),
                Err(error) => Err(error),
            };
            let mut first = first.lock().expect("nobody panics while holding it");
            if first.as_ref().is_none_or(|(earlier, _)| at < *earlier) {
                *first = Some((at, failed));
            }
        });
        if let Some((at, failed)) = first.into_inner().expect("nobody panics while holding it") {
            let (Refused { input, error }, tx) = (failed?, &self.block.txdata[at + 1]);
            let spent = tx.input[input].previous_output;
            let (txid, wtxid) = (self.txids[at + 1], tx.compute_wtxid());
            let debug = format!("input {input} of {txid} (wtxid {wtxid}), spending {}:{}", spent.txid, spent.vout);
            let reason = format!("block-script-verify-flag-failed ({error})");
            return Ok(Err(reject(RejectKind::Consensus, reason, debug)));
        }
        for (at, spent) in undo.txs.iter().enumerate() {
            audits.add(self.block, at + 1, spent, self.flags)?;
        }
        Ok(Ok(()))
    }
}

/// Does to the coins what a block that was judged would.
pub(super) fn apply(coins: &mut Coins, layer: Outcome, block: &Block) -> BlockUndo {
    for (outpoint, (coin, unknown)) in layer.layer {
        coins.set(outpoint, coin, unknown);
    }
    coins.move_to(block.block_hash());
    layer.undo
}

/// Undoes a block, by what it spent.
pub(super) fn revert(
    coins: &mut Coins,
    block: &Block,
    txids: &[Txid],
    undo: BlockUndo,
    mutant: Mutant,
) -> Result<(), ChainError> {
    let fits = undo.txs.len() + 1 == block.txdata.len()
        && undo.txs.iter().zip(&block.txdata[1..]).all(|(undo, tx)| undo.spent.len() == tx.input.len());
    if !fits {
        let hash = block.block_hash();
        return Err(ChainError::Corrupt(format!(
            "what block {hash} spent is not known; move its folder away, and the blocks are asked for anew"
        )));
    }
    let mut spent = undo.txs;
    for (at, tx) in block.txdata.iter().enumerate().rev() {
        for (vout, output) in tx.output.iter().enumerate() {
            if !is_unspendable(&output.script_pubkey) && mutant != Mutant::UndoKeepsOutputs {
                coins.set(OutPoint::new(txids[at], vout as u32), None, false);
            }
        }
        if at > 0 {
            let coins_back = spent.pop().expect("there is one for each").spent;
            let coins_back = if mutant == Mutant::UndoForgetsCoins { Vec::new() } else { coins_back };
            for (input, coin) in tx.input.iter().zip(coins_back) {
                coins.set(input.previous_output, Some(coin), false);
            }
        }
    }
    coins.move_to(block.header.prev_blockhash);
    Ok(())
}
