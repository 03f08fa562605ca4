//! What clients own, and how they pay: each payment spends a coin that anybody may spend, and is made by hand.
//!
//! - a family is what became of one coinbase: so few payments that they fit into one cluster of a mempool;
//! - a payment is made of its coin alone, so that one that got no answer is sent again as it was;
//! - now and then a coin is spent once more, in another way. Such payments, and what rests on them, may be lost.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use fastrand::Rng;
use verity_types::NodeId;

use super::call::{Call, anybody, home};

/// Payments of one family.
const FAMILY_MAX: usize = 18;
const FEE: u64 = 2_000;
const RIVAL_FEE: u64 = 20_000;
/// A smaller coin is not split.
const SPLIT_MIN: u64 = 1_000_000;

/// What became of one coinbase.
#[derive(Default)]
pub(super) struct Family {
    coins: Vec<(OutPoint, u64)>,
    spent: Vec<(OutPoint, u64)>,
    payments: usize,
}

/// A payment that was made.
pub(super) struct Payment {
    pub(super) tx: Transaction,
    /// Who took it, and in which of its lives.
    pub(super) taken: BTreeSet<(NodeId, u64)>,
}

/// All that the clients of a world own and have made.
#[derive(Default)]
pub(super) struct Purse {
    families: Vec<Family>,
    pub(super) payments: BTreeMap<Txid, Payment>,
    /// Coins that more than one payment spends.
    contested: BTreeSet<OutPoint>,
}

fn pay(coin: OutPoint, value: u64, fee: u64, split: bool) -> Transaction {
    let rest = value - fee;
    let output = |value| TxOut { value: Amount::from_sat(value), script_pubkey: home().script_pubkey() };
    let output = if split { vec![output(rest / 2), output(rest - rest / 2)] } else { vec![output(rest)] };
    let input = TxIn {
        previous_output: coin,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[anybody().to_bytes()]),
    };
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

impl Purse {
    /// A coinbase that has matured.
    pub(super) fn found(&mut self, coin: OutPoint, value: u64) {
        self.families.push(Family { coins: vec![(coin, value)], ..Family::default() });
    }

    /// How many families there are.
    pub(super) fn families(&self) -> usize {
        self.families.len()
    }

    /// A payment of one of a client's families.
    pub(super) fn next(&mut self, client: usize, clients: usize, rng: &mut Rng) -> Option<(Transaction, usize)> {
        let own: Vec<usize> = (client..self.families.len()).step_by(clients).collect();
        let at = rng.choice(own)?;
        let family = &mut self.families[at];
        if family.payments >= FAMILY_MAX {
            return None;
        }
        let rival = rng.u8(..12) == 0 && !family.spent.is_empty();
        let tx = if rival {
            let (coin, value) = *rng.choice(&family.spent)?;
            self.contested.insert(coin);
            pay(coin, value, RIVAL_FEE, false)
        } else {
            let (coin, value) = family
                .coins
                .swap_remove(rng.usize(0..family.coins.len().max(1)).min(family.coins.len().checked_sub(1)?));
            family.spent.push((coin, value));
            pay(coin, value, FEE, value >= SPLIT_MIN)
        };
        family.payments += 1;
        let made = Payment { tx: tx.clone(), taken: BTreeSet::new() };
        self.payments.entry(tx.compute_txid()).or_insert(made);
        Some((tx, at))
    }

    /// A node took a payment: what it made can be spent, unless others spend the same.
    pub(super) fn on_taken(&mut self, txid: Txid, family: usize, node: NodeId, life: u64) {
        let Some(payment) = self.payments.get_mut(&txid) else { return };
        let new = payment.taken.is_empty();
        payment.taken.insert((node, life));
        let free = payment.tx.input.iter().all(|input| !self.contested.contains(&input.previous_output));
        if new && free {
            let outputs = payment.tx.output.iter().enumerate();
            let coins = outputs.map(|(at, output)| (OutPoint::new(txid, at as u32), output.value.to_sat()));
            self.families[family].coins.extend(coins);
        }
    }

    /// A node refused a payment: its coin may be had another time.
    pub(super) fn on_refused(&mut self, txid: Txid, family: usize) {
        let Some(payment) = self.payments.get(&txid) else { return };
        let coin = payment.tx.input[0].previous_output;
        let family = &mut self.families[family];
        if payment.taken.is_empty()
            && !self.contested.contains(&coin)
            && let Some(at) = family.spent.iter().position(|(spent, _)| *spent == coin)
        {
            let back = family.spent.swap_remove(at);
            family.coins.push(back);
            family.payments -= 1;
        }
    }

    /// True if nothing else was ever made that spends what this payment spends, and so with what it rests on.
    pub(super) fn has_no_rival(&self, tx: &Transaction) -> bool {
        tx.input.iter().all(|input| {
            let coin = input.previous_output;
            !self.contested.contains(&coin)
                && self.payments.get(&coin.txid).is_none_or(|parent| self.has_no_rival(&parent.tx))
        })
    }

    /// An output of any payment.
    pub(super) fn any_output(&self, rng: &mut Rng) -> Option<OutPoint> {
        let at = rng.usize(0..self.payments.len().max(1));
        let (txid, payment) = self.payments.iter().nth(at)?;
        Some(OutPoint::new(*txid, rng.u32(0..payment.tx.output.len() as u32)))
    }
}

/// The call that makes a payment.
pub(super) fn call(tx: &Transaction) -> Call {
    Call::Pay(tx.compute_txid(), serialize_hex(tx))
}
