//! What a wallet must pay on top, to spend an output that waits at the rate that it means to pay.
//!
//! A miner takes a transaction with all that it rests on. So whoever spends the output of one that pays too little pays for
//! that one as well. How much is found by mining: those that would be taken at the rate anyway, by the rate of each with all
//! that it rests on, need nothing; what is left of the others' ancestors must be brought up to it.
//!
//! An output that is spent already is asked for by one who means to replace the spender: what rests on it does not count.
//!
//! Deliberately absent: what a replacement must pay.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Txid};

use super::Mempool;
use super::feerate::{FeeFraction, fee_at};

/// No question looks at more transactions.
const ENTRIES_MAX: usize = 500;

/// A miner of a few clusters.
struct Miner<'a> {
    pool: &'a Mempool,
    /// Those that are not mined, and will not be replaced.
    left: BTreeSet<Txid>,
    /// Whose outputs were asked for, and are there.
    asked: BTreeSet<Txid>,
}

impl<'a> Miner<'a> {
    fn new(pool: &'a Mempool, outpoints: &[OutPoint]) -> Option<Self> {
        let mut asked: BTreeSet<Txid> =
            outpoints.iter().map(|outpoint| outpoint.txid).filter(|txid| pool.graph.contains(txid)).collect();
        let spenders = outpoints.iter().filter(|outpoint| pool.graph.contains(&outpoint.txid));
        let replaced = pool.graph.descendants(spenders.filter_map(|outpoint| pool.spender(outpoint)));
        let clusters: BTreeSet<u64> = asked.iter().map(|txid| pool.graph.cluster_of(txid)).collect();
        let members = clusters.iter().flat_map(|cluster| pool.graph.cluster(*cluster)).flat_map(|chunk| &chunk.members);
        let mut left: BTreeSet<Txid> = members.copied().collect();
        if left.len() > ENTRIES_MAX {
            return None;
        }
        left.retain(|txid| !replaced.contains(txid));
        asked.retain(|txid| left.contains(txid));
        Some(Self { pool, left, asked })
    }

    fn own(&self, txid: &Txid) -> FeeFraction {
        let entry = &self.pool.entries[txid];
        FeeFraction::new(entry.modified_fee(), entry.vsize)
    }

    /// It and what it rests on, of what is left.
    fn ancestors(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.pool.graph.ancestors(txid).intersection(&self.left).copied().collect()
    }

    fn sum(&self, txids: &BTreeSet<Txid>) -> FeeFraction {
        txids.iter().fold(FeeFraction::default(), |sum, txid| sum.plus(self.own(txid)))
    }

    /// Takes all that is taken at this rate, the best first.
    fn mine(&mut self, rate: u64) {
        loop {
            let scored = self.left.iter().map(|txid| {
                let (own, all) = (self.own(txid), self.sum(&self.ancestors(txid)));
                // Of equal rates, the one over more counts as the lower.
                let score = if own.cmp_rate(all).is_lt() { own } else { all };
                (score, all, *txid)
            });
            let best = scored.max_by(|(a, _, a_id), (b, _, b_id)| {
                let by_rate = a.cmp_rate(*b).then_with(|| b.size.cmp(&a.size));
                by_rate.then_with(|| Reverse(a_id).cmp(&Reverse(b_id)))
            });
            let Some((_, all, txid)) = best else { return };
            if all.fee < fee_at(rate, all.size) {
                return;
            }
            for mined in self.ancestors(&txid) {
                self.left.remove(&mined);
            }
        }
    }
}

impl Mempool {
    /// What must be paid on top for each of these outputs, so that whoever spends it alone pays this rate (satoshi per 1,000
    /// vbytes) for all of it. Nothing for what the chain has. `None` if too much hangs on them.
    #[must_use]
    pub fn bump_fees(&self, outpoints: &[OutPoint], rate: u64) -> Option<BTreeMap<OutPoint, i64>> {
        let mut miner = Miner::new(self, outpoints)?;
        miner.mine(rate);
        let of = |outpoint: &OutPoint| {
            if !miner.left.contains(&outpoint.txid) {
                return 0;
            }
            let (own, all) = (miner.own(&outpoint.txid), miner.sum(&miner.ancestors(&outpoint.txid)));
            let short = |paid: FeeFraction| fee_at(rate, paid.size).saturating_sub(paid.fee);
            short(own).max(short(all))
        };
        Some(outpoints.iter().map(|outpoint| (*outpoint, of(outpoint))).collect())
    }

    /// What must be paid on top for all of these outputs together. Where they rest on the same, that is paid for once.
    #[must_use]
    pub fn bump_fee_total(&self, outpoints: &[OutPoint], rate: u64) -> Option<i64> {
        let mut miner = Miner::new(self, outpoints)?;
        miner.mine(rate);
        let short = miner.asked.iter().filter(|txid| miner.left.contains(*txid));
        let all = miner.sum(&short.flat_map(|txid| miner.ancestors(txid)).collect());
        Some(fee_at(rate, all.size).saturating_sub(all.fee))
    }
}
