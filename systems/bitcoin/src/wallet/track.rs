//! How a wallet follows the chain and the mempool.
//!
//! - upon a transaction that pays the wallet, or spends of it: it is kept, and the addresses that it pays are given out;
//! - upon a block: what it has is confirmed; what else spends the same is in conflict with it, and all that hangs on that;
//! - upon a block that is undone: what it had stands nowhere; its coinbase will never be anywhere else; conflicts with it end;
//! - upon the mempool: what is in it waits, and what spends the same is told apart.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::{BlockHash, Transaction, Txid};

use super::record::{Place, Record};
use super::state::{Named, Wallet};
use super::truc::TRUC_VERSION;

/// Clocks may differ by so many seconds.
const CLOCK_TOLERANCE: u64 = 300;

impl Wallet {
    /// Does it concern the wallet?
    pub(crate) fn concerns(&self, tx: &Transaction) -> bool {
        tx.output.iter().any(|out| self.is_mine(&out.script_pubkey)) || self.is_from_me(tx)
    }

    /// Does it spend of the wallet?
    pub(crate) fn is_from_me(&self, tx: &Transaction) -> bool {
        let mine = |input: &bitcoin::TxIn| {
            self.output(&input.previous_output).is_some_and(|out| self.is_mine(&out.script_pubkey))
        };
        tx.input.iter().any(mine)
    }

    /// A transaction is here. False if it does not concern the wallet.
    pub(crate) fn see(&mut self, tx: &Arc<Transaction>, place: Place, now: u64) -> bool {
        let txid = tx.compute_txid();
        if !self.records.contains_key(&txid) && !self.concerns(tx) {
            return false;
        }
        self.note_paid(tx);
        let new = self.keep(tx, place, now);
        if new {
            self.note_spends(&txid);
            self.join_up(&txid);
        }
        self.tell(txid);
        self.dirty = true;
        true
    }

    /// Whoever wants to hears of it.
    fn tell(&mut self, txid: Txid) {
        let block = self.records.get(&txid).and_then(|record| match record.place {
            Place::Block { hash, height, .. } => Some((hash, height)),
            _ => None,
        });
        self.news.push((txid, block));
    }

    /// Addresses that are paid were given out, by whoever it was.
    fn note_paid(&mut self, tx: &Transaction) {
        for out in &tx.output {
            let Some((at, index)) = self.scripts.get(&out.script_pubkey).copied() else { continue };
            let source = &mut self.sources[at];
            let internal = source.internal || !source.active;
            if index >= source.next && source.is_range() {
                source.next = index + 1;
                source.reach(self.ahead);
                if !internal {
                    let named = || Named { label: String::new(), receive: true };
                    self.book.entry(out.script_pubkey.clone()).or_insert_with(named);
                }
                self.derive();
            }
        }
    }

    /// Writes it down. True if it is new.
    fn keep(&mut self, tx: &Arc<Transaction>, place: Place, now: u64) -> bool {
        let txid = tx.compute_txid();
        if let Some(record) = self.records.get_mut(&txid) {
            let abandoned = matches!(place, Place::Nowhere { .. }) && record.is_abandoned();
            if !abandoned {
                record.place = place;
            }
            // Witnesses may differ; those that a block has are the ones.
            record.tx = Arc::clone(tx);
            return false;
        }
        let time = self.time_of(place, now);
        let order = self.order_next;
        self.order_next += 1;
        let record = Record {
            tx: Arc::clone(tx),
            place,
            received: now,
            time,
            order,
            notes: std::collections::BTreeMap::new(),
            conflicts: BTreeSet::new(),
        };
        self.records.insert(txid, record);
        true
    }

    /// When people would say that it was: not before those that came before it, not after its block.
    fn time_of(&self, place: Place, now: u64) -> u64 {
        let Place::Block { time, .. } = place else { return now };
        let last = self.records.values().filter(|record| record.time <= now + CLOCK_TOLERANCE);
        let last = last.max_by_key(|record| record.order).map_or(0, |record| record.time);
        last.max(u64::from(time).min(now))
    }

    /// What came before its parent spends of the wallet only now.
    fn join_up(&mut self, txid: &Txid) {
        let Some(record) = self.records.get(txid) else { return };
        for vout in 0..record.tx.output.len() {
            let outpoint = bitcoin::OutPoint { txid: *txid, vout: u32::try_from(vout).unwrap_or(u32::MAX) };
            let script = &record.tx.output[vout].script_pubkey;
            if self.spenders.contains_key(&outpoint) && self.is_mine(script) {
                self.used.insert(script.clone());
            }
        }
    }

    /// Upon a block of the chain that counts.
    pub(crate) fn on_connected(&mut self, hash: BlockHash, height: u32, block: &Block, now: u64) {
        for (index, tx) in block.txdata.iter().enumerate() {
            let txid = tx.compute_txid();
            self.settle_conflicts(tx, &txid, (hash, height));
            if tx.version.0.cast_unsigned() == TRUC_VERSION {
                // What only could not wait beside it can wait now.
                self.no_rival(tx);
            }
            if self.records.contains_key(&txid) || self.concerns(tx) {
                let index = u32::try_from(index).expect("a block's weight bounds its transactions");
                let place = Place::Block { hash, height, index, time: block.header.time };
                self.see(&Arc::new(tx.clone()), place, now);
                if let Some(record) = self.records.get_mut(&txid) {
                    record.conflicts.clear();
                }
            }
        }
        self.best = (hash, height);
    }

    /// What spends the same as a transaction of a block is in conflict with it.
    fn settle_conflicts(&mut self, tx: &Transaction, txid: &Txid, block: (BlockHash, u32)) {
        let mut lost = BTreeSet::new();
        for input in &tx.input {
            if let Some(spenders) = self.spenders.get(&input.previous_output) {
                lost.extend(spenders.iter().filter(|other| *other != txid).copied());
            }
        }
        let place = Place::Conflicted { hash: block.0, height: block.1 };
        self.each_below(lost, |record| {
            let other = match record.place {
                Place::Conflicted { height, .. } => height > block.1,
                Place::Block { .. } => false,
                Place::Mempool | Place::Nowhere { .. } => true,
            };
            if other {
                record.place = place;
            }
            other
        });
    }

    /// Does something to these and all that spends of them, as long as it says that something changed.
    pub(crate) fn each_below(&mut self, from: BTreeSet<Txid>, mut deed: impl FnMut(&mut Record) -> bool) {
        let (mut todo, mut done) = (from, BTreeSet::new());
        while let Some(txid) = todo.pop_first() {
            let Some(record) = self.records.get_mut(&txid).filter(|_| done.insert(txid)) else { continue };
            if !deed(record) {
                continue;
            }
            self.dirty = true;
            let outputs = u32::try_from(record.tx.output.len()).unwrap_or(u32::MAX);
            for vout in 0..outputs {
                if let Some(spenders) = self.spenders.get(&bitcoin::OutPoint { txid, vout }) {
                    todo.extend(spenders);
                }
            }
        }
    }

    /// Upon a block that was the tip and is undone.
    pub(crate) fn on_disconnected(&mut self, hash: BlockHash, height: u32, block: &Block) {
        for tx in &block.txdata {
            let txid = tx.compute_txid();
            if let Some(record) = self.records.get_mut(&txid)
                && matches!(record.place, Place::Block { .. })
            {
                record.place = Place::Nowhere { abandoned: false };
                self.dirty = true;
                self.tell(txid);
            }
            // A coinbase is of its block alone: what spends it can never be anywhere either.
            if tx.is_coinbase() {
                self.each_below(BTreeSet::from([txid]), |record| {
                    let lost = !matches!(record.place, Place::Block { .. });
                    if lost {
                        record.place = Place::Nowhere { abandoned: true };
                    }
                    lost
                });
            }
        }
        for record in self.records.values_mut() {
            if matches!(record.place, Place::Conflicted { hash: other, .. } if other == hash) {
                record.place = Place::Nowhere { abandoned: false };
                self.dirty = true;
            }
        }
        self.best = (block.header.prev_blockhash, height.saturating_sub(1));
    }

    /// Upon a transaction that came into the mempool.
    pub(crate) fn on_added(&mut self, tx: &Arc<Transaction>, now: u64) {
        let txid = tx.compute_txid();
        let mut others = self.rivals(tx, &txid);
        others.append(&mut self.siblings(tx, &txid, true));
        for other in others {
            self.each_below(BTreeSet::from([other]), |record| record.conflicts.insert(txid));
        }
        self.see(tx, Place::Mempool, now);
    }

    /// Upon a transaction that went out of the mempool, and into no block; since one is in a block with which it is in conflict,
    /// or for another reason.
    pub(crate) fn on_removed(&mut self, tx: &Transaction, conflict: bool) {
        let txid = tx.compute_txid();
        if conflict && self.records.contains_key(&txid) {
            self.tell(txid);
        }
        if let Some(record) = self.records.get_mut(&txid)
            && record.place == Place::Mempool
        {
            record.place = Place::Nowhere { abandoned: false };
            self.dirty = true;
        }
        self.no_rival(tx);
    }

    /// It is no rival in the mempool any more.
    pub(crate) fn no_rival(&mut self, tx: &Transaction) {
        let txid = tx.compute_txid();
        let mut others = self.rivals(tx, &txid);
        others.append(&mut self.siblings(tx, &txid, false));
        for other in others {
            self.each_below(BTreeSet::from([other]), |record| record.conflicts.remove(&txid));
        }
    }

    /// Transactions of the wallet that spend the same as this one.
    pub(crate) fn rivals(&self, tx: &Transaction, txid: &Txid) -> BTreeSet<Txid> {
        let spenders = tx.input.iter().filter_map(|input| self.spenders.get(&input.previous_output));
        spenders.flatten().filter(|other| *other != txid).copied().collect()
    }
}
