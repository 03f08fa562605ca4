//! What a wallet has: its outputs, which of them are spent, and which can be counted on.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, TxOut, Txid};

use super::record::{Place, Record};
use super::state::Wallet;

/// What a wallet has, in satoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) trusted: u64,
    pub(crate) pending: u64,
    pub(crate) immature: u64,
    /// Spent by what is neither in a block nor waits for one.
    pub(crate) nonmempool: u64,
}

/// An output that can be spent.
#[derive(Clone, Debug)]
pub(crate) struct Coin {
    pub(crate) outpoint: OutPoint,
    pub(crate) out: TxOut,
    pub(crate) depth: i32,
    pub(crate) safe: bool,
    pub(crate) solvable: bool,
    pub(crate) reused: bool,
    /// The wallet made the transaction itself.
    pub(crate) from_me: bool,
}

/// Which outputs are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) depth_min: i32,
    pub(crate) depth_max: i32,
    pub(crate) unsafe_too: bool,
    pub(crate) immature_too: bool,
    /// Those that are locked.
    pub(crate) locked_too: bool,
    pub(crate) reused_too: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            depth_min: 0,
            depth_max: i32::MAX,
            unsafe_too: false,
            immature_too: false,
            locked_too: false,
            reused_too: true,
        }
    }
}

/// What a transaction moved: to whom, what, and its fee if the wallet paid for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Amounts {
    pub(crate) received: Vec<(usize, u64)>,
    pub(crate) sent: Vec<(usize, u64)>,
    pub(crate) fee: i64,
}

impl Wallet {
    pub(crate) fn tip(&self) -> u32 {
        self.best.1
    }

    pub(crate) fn depth(&self, record: &Record) -> i32 {
        record.depth(self.tip())
    }

    /// Does some transaction spend it?
    pub(crate) fn is_spent(&self, outpoint: &OutPoint) -> bool {
        let spenders = self.spenders.get(outpoint).into_iter().flatten();
        spenders.filter_map(|txid| self.records.get(txid)).any(|record| record.spends(self.tip()))
    }

    /// Does something that stands somewhere spend it: a block, or the mempool?
    fn is_spent_somewhere(&self, outpoint: &OutPoint) -> bool {
        let spenders = self.spenders.get(outpoint).into_iter().flatten();
        let stands = |record: &Record| matches!(record.place, Place::Block { .. } | Place::Mempool);
        spenders.filter_map(|txid| self.records.get(txid)).any(stands)
    }

    /// What it spends of the wallet, in satoshi.
    pub(crate) fn debit(&self, tx: &Transaction) -> u64 {
        let outs = tx.input.iter().filter_map(|input| self.output(&input.previous_output));
        outs.filter(|out| self.is_mine(&out.script_pubkey)).map(|out| out.value.to_sat()).sum()
    }

    /// What it pays to the wallet, in satoshi.
    pub(crate) fn credit(&self, tx: &Transaction) -> u64 {
        tx.output.iter().filter(|out| self.is_mine(&out.script_pubkey)).map(|out| out.value.to_sat()).sum()
    }

    /// Will it be confirmed, as far as the wallet can know?
    pub(crate) fn is_trusted(&self, txid: &Txid) -> bool {
        self.is_trusted_within(txid, &mut BTreeMap::new())
    }

    fn is_trusted_within(&self, txid: &Txid, known: &mut BTreeMap<Txid, bool>) -> bool {
        if let Some(trusted) = known.get(txid) {
            return *trusted;
        }
        // A chain of unconfirmed transactions is bounded by the mempool, so that this does not go deep.
        let trusted = self.records.get(txid).is_some_and(|record| {
            let depth = self.depth(record);
            if depth != 0 {
                return depth > 0;
            }
            record.place == Place::Mempool
                && record.tx.input.iter().all(|input| {
                    let out = self.output(&input.previous_output);
                    out.is_some_and(|out| self.is_mine(&out.script_pubkey))
                        && self.is_trusted_within(&input.previous_output.txid, known)
                })
        });
        known.insert(*txid, trusted);
        trusted
    }

    /// What the wallet has.
    pub(crate) fn balance(&self, depth_min: i32, avoid_reuse: bool) -> Balance {
        let (mut balance, mut trusts) = (Balance::default(), BTreeMap::new());
        for (txid, record) in &self.records {
            let depth = self.depth(record);
            if depth < 0 {
                continue;
            }
            let trusted = self.is_trusted_within(txid, &mut trusts);
            for (vout, out) in record.tx.output.iter().enumerate() {
                let outpoint = OutPoint { txid: *txid, vout: u32::try_from(vout).unwrap_or(u32::MAX) };
                if !self.is_mine(&out.script_pubkey) || self.is_spent_somewhere(&outpoint) {
                    continue;
                }
                let value = out.value.to_sat();
                if self.is_spent(&outpoint) {
                    balance.nonmempool += value;
                    continue;
                }
                let reused = self.used.contains(&out.script_pubkey);
                if record.is_immature(self.tip()) {
                    balance.immature += if depth > 0 { value } else { 0 };
                } else if trusted && depth >= depth_min {
                    balance.trusted += if reused && avoid_reuse { 0 } else { value };
                } else if !trusted && depth == 0 && record.place == Place::Mempool {
                    balance.pending += if reused && avoid_reuse { 0 } else { value };
                }
            }
        }
        balance
    }

    /// Outputs that can be spent.
    pub(crate) fn coins(&self, asked: Asked) -> Vec<Coin> {
        let (mut coins, mut trusts) = (Vec::new(), BTreeMap::new());
        for (txid, record) in &self.records {
            let depth = self.depth(record);
            let waits = record.place == Place::Mempool;
            if depth < 0 || (depth == 0 && !waits) || depth < asked.depth_min || depth > asked.depth_max {
                continue;
            }
            if record.is_immature(self.tip()) && !asked.immature_too {
                continue;
            }
            let mut safe = self.is_trusted_within(txid, &mut trusts);
            // What replaces another, or is replaced, may still go.
            let replaces = ["replaces_txid", "replaced_by_txid"].iter().any(|note| record.notes.contains_key(*note));
            safe &= depth > 0 || !replaces;
            if !safe && !asked.unsafe_too {
                continue;
            }
            let from_me = self.is_from_me(&record.tx);
            for (vout, out) in record.tx.output.iter().enumerate() {
                let outpoint = OutPoint { txid: *txid, vout: u32::try_from(vout).unwrap_or(u32::MAX) };
                let Some((source, _)) = self.source_of(&out.script_pubkey) else { continue };
                let reused = self.used.contains(&out.script_pubkey);
                if self.is_spent(&outpoint)
                    || (self.locked.contains_key(&outpoint) && !asked.locked_too)
                    || (reused && !asked.reused_too)
                {
                    continue;
                }
                let solvable = source.is_solvable();
                coins.push(Coin { outpoint, out: out.clone(), depth, safe, solvable, reused, from_me });
            }
        }
        coins
    }

    /// What a transaction moved; `change` too if it is asked for.
    pub(crate) fn amounts(&self, record: &Record, change: bool) -> Amounts {
        let mut amounts = Amounts::default();
        let debit = self.debit(&record.tx);
        if debit > 0 {
            let paid: u64 = record.tx.output.iter().map(|out| out.value.to_sat()).sum();
            amounts.fee = debit.cast_signed() - paid.cast_signed();
        }
        for (vout, out) in record.tx.output.iter().enumerate() {
            let mine = self.is_mine(&out.script_pubkey);
            if debit > 0 {
                if !change && self.is_change(&out.script_pubkey) {
                    continue;
                }
            } else if !mine {
                continue;
            }
            let value = out.value.to_sat();
            if debit > 0 {
                amounts.sent.push((vout, value));
            }
            if mine {
                amounts.received.push((vout, value));
            }
        }
        amounts
    }

    /// Transactions of the wallet that spend the same as this one.
    pub(crate) fn conflicts(&self, record: &Record) -> BTreeSet<Txid> {
        if record.is_coinbase() {
            return BTreeSet::new();
        }
        self.rivals(&record.tx, &record.tx.compute_txid())
    }

    /// Gives a transaction up, so that what it spends can be spent again. False if that cannot be.
    pub(crate) fn abandon(&mut self, txid: &Txid) -> bool {
        let Some(record) = self.records.get(txid) else { return false };
        if self.depth(record) != 0 || record.place == Place::Mempool {
            return false;
        }
        self.each_below(BTreeSet::from([*txid]), |record| {
            let can = matches!(record.place, Place::Nowhere { abandoned: false });
            if can {
                record.place = Place::Nowhere { abandoned: true };
            }
            can
        });
        true
    }
}
