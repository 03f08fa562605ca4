//! Looking through blocks that are stored for what a wallet missed.

use std::collections::BTreeMap;

use verity_nakamoto::BlockId;

use super::record::Place;
use super::state::Wallet;
use crate::chain::ChainError;
use crate::node::Node;

/// True if blocks that a wallet did not see are thrown away.
pub(crate) fn misses_blocks(wallet: &Wallet, node: &Node) -> bool {
    let chain = node.chain();
    let seen = chain.tree().find(&wallet.best.0).map(|best| chain.entry(chain.tree().fork(best, chain.tip())).height);
    chain.prune().is_some() && chain.pruned_height().is_some_and(|pruned| seen.is_none_or(|seen| seen < pruned))
}

/// Goes from the last block that a wallet knows to the tip: undoes what is not of the chain any more, then looks at the rest.
pub(crate) fn catch_up(wallet: &mut Wallet, node: &Node) -> Result<(), ChainError> {
    let chain = node.chain();
    let mut at = chain.tree().find(&wallet.best.0);
    while let Some(id) = at.filter(|id| !chain.is_active(*id)) {
        let entry = chain.entry(id);
        let Some(block) = chain.block(id)? else { break };
        wallet.on_disconnected(entry.hash, entry.height, &block);
        at = entry.prev;
    }
    let from = match at.filter(|id| chain.is_active(*id)) {
        Some(id) => chain.entry(id).height + 1,
        // Of another chain, or of one that is gone: all is looked at again.
        None => 0,
    };
    let height = chain.height();
    rescan(wallet, node, from, height)?;
    let tip = chain.entry(chain.tip());
    wallet.best = (tip.hash, tip.height);
    Ok(())
}

/// Looks at all blocks of these heights, then at the mempool.
pub(crate) fn rescan(wallet: &mut Wallet, node: &Node, from: u32, to: u32) -> Result<(), ChainError> {
    let (chain, best, now) = (node.chain(), wallet.best, node.time());
    wallet.derive();
    let ids: Vec<BlockId> = (from..=to).filter_map(|height| chain.active(height)).collect();
    for id in ids {
        let entry = chain.entry(id);
        let Some(block) = chain.block(id)? else { continue };
        // Old blocks are as old as they are.
        let time = now.min(u64::from(entry.header.time));
        wallet.on_connected(entry.hash, entry.height, &block, time);
    }
    wallet.best = best.max_by_height(wallet.best);
    look_at_mempool(wallet, node);
    Ok(())
}

trait MaxByHeight {
    fn max_by_height(self, other: Self) -> Self;
}

impl MaxByHeight for (bitcoin::BlockHash, u32) {
    fn max_by_height(self, other: Self) -> Self {
        if other.1 > self.1 { other } else { self }
    }
}

/// What waits now waits for the wallet too, and nothing else does.
fn look_at_mempool(wallet: &mut Wallet, node: &Node) {
    let mempool = node.mempool();
    for (txid, record) in &mut wallet.records {
        record.conflicts.clear();
        if record.place == Place::Mempool && mempool.get(txid).is_none() {
            record.place = Place::Nowhere { abandoned: false };
        }
    }
    // Parents come before those that spend of them.
    let mut waiting: BTreeMap<(usize, bitcoin::Txid), _> = BTreeMap::new();
    for entry in mempool.entries() {
        let txid = entry.tx.compute_txid();
        waiting.insert((mempool.ancestors(&txid).len(), txid), std::sync::Arc::clone(&entry.tx));
    }
    for tx in waiting.values() {
        wallet.on_added(tx, node.time());
    }
}
