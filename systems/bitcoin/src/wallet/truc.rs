//! What a wallet minds of transactions of version 3 (BIP 431), so that what it makes is relayed:
//!
//! - while a transaction waits, what spends it has its version: 3 spends 3, and any other spends any other;
//! - one of version 3 that waits is spent once, and only if it rests on nothing that waits itself; of several, one is taken: the
//!   one that pays the wallet most;
//! - nothing of version 3 weighs more than 40,000, and what rests on something that waits no more than 4,000;
//! - two of version 3 that spend one that waits exclude each other, though they spend different outputs of it.
//!
//! Deliberately absent: the mempool's own rules, which judge what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, Txid};

use super::coins::{Asked, Coin};
use super::record::Place;
use super::state::Wallet;
use crate::mempool::Mempool;

/// Transactions that have these rules.
pub(crate) const TRUC_VERSION: u32 = 3;
/// The most that one of them weighs.
pub(crate) const TRUC_WEIGHT_MAX: u64 = 40_000;
/// The most that one of them weighs that spends what waits.
pub(crate) const TRUC_CHILD_WEIGHT_MAX: u64 = 4_000;

/// What stands against spending an output by a transaction of this version.
pub(crate) fn version_mismatch(wallet: &Wallet, outpoint: &OutPoint, version: u32) -> Option<String> {
    let record = wallet.records.get(&outpoint.txid).filter(|record| wallet.depth(record) == 0)?;
    let parent = record.tx.version.0.cast_unsigned();
    ((parent == TRUC_VERSION) != (version == TRUC_VERSION))
        .then(|| format!("Can't spend unconfirmed version {parent} pre-selected input with a version {version} tx"))
}

/// Outputs that a transaction of this version can spend.
pub(crate) fn spendable(wallet: &Wallet, mempool: &Mempool, asked: Asked, version: u32) -> Vec<Coin> {
    let truc = version == TRUC_VERSION;
    let mut coins = wallet.coins(asked);
    coins.retain(|coin| {
        let txid = &coin.outpoint.txid;
        coin.depth > 0
            || (version_mismatch(wallet, &coin.outpoint, version).is_none()
                && (!truc || (mempool.children(txid).is_empty() && mempool.parents(txid).is_empty())))
    });
    if truc {
        let mut worth: BTreeMap<Txid, u64> = BTreeMap::new();
        for coin in coins.iter().filter(|coin| coin.depth == 0) {
            *worth.entry(coin.outpoint.txid).or_default() += coin.out.value.to_sat();
        }
        let best = worth.into_iter().max_by_key(|(_, worth)| *worth).map(|(txid, _)| txid);
        coins.retain(|coin| coin.depth > 0 || Some(coin.outpoint.txid) == best);
    }
    coins
}

impl Wallet {
    /// Transactions of the wallet that cannot wait beside this one, as both spend the same one of version 3 that waits (`waiting`),
    /// or did.
    pub(crate) fn siblings(&self, tx: &Transaction, txid: &Txid, waiting: bool) -> BTreeSet<Txid> {
        if tx.version.0.cast_unsigned() != TRUC_VERSION {
            return BTreeSet::new();
        }
        let parents: BTreeSet<Txid> = tx.input.iter().map(|input| input.previous_output.txid).collect();
        let counts = |parent: &Txid| {
            self.records.get(parent).is_some_and(|record| {
                !waiting || matches!(record.place, Place::Mempool | Place::Nowhere { abandoned: false })
            })
        };
        let all = |parent: Txid| {
            let (first, last) = (OutPoint { txid: parent, vout: 0 }, OutPoint { txid: parent, vout: u32::MAX });
            self.spenders.range(first..=last).flat_map(|(_, spenders)| spenders)
        };
        parents.into_iter().filter(counts).flat_map(all).filter(|other| *other != txid).copied().collect()
    }
}
