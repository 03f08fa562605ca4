//! Whether a transaction may wait here.
//!
//! - it is valid in the next block, as far as can be said without its scripts, and of a form that is relayed;
//! - its inputs are there: in the chain, among those that wait, or in the package that it came with;
//! - it pays at least the rate that there is room for, and for all that it takes the place of;
//! - its cluster stays small;
//! - its scripts hold by the rules of relaying nodes, which cost most to look at and come last; then by the rules of blocks
//!   alone, so that a block that has it need not run them again.
//!
//! Deliberately absent: sums over several ([`package`](super::package)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};

use super::feerate::{FeeFraction, fee_at};
use super::graph::Addition;
use super::standard::{self, MANDATORY_FLAGS, STANDARD_FLAGS};
use super::view::View;
use super::{AcceptOptions, Accepted, Mempool, MempoolEntry, MempoolEvent, TxReject, TxRejectKind};
use crate::chain::sigops::transaction_sigop_cost;
use crate::chain::transaction::{SequenceLocks, check_inputs, check_transaction, is_final};
use crate::chain::{ChainError, Coin, LIBRARY_INPUTS_MAX, TxUndo, scripts};
use crate::script::{Flags, ScriptError, SharedHashes};

/// Outputs that are asked for, to tell a transaction that a block has from one whose inputs never were.
const KNOWN_OUTPUTS_MAX: usize = 64;

/// Why one does not come in, or why nobody can say.
#[derive(Debug)]
pub(super) enum Refusal {
    Tx(TxReject),
    Chain(ChainError),
}

impl From<TxReject> for Refusal {
    fn from(reject: TxReject) -> Self {
        Self::Tx(reject)
    }
}

impl From<ChainError> for Refusal {
    fn from(error: ChainError) -> Self {
        Self::Chain(error)
    }
}

/// Lets a refusal be an answer, and the disk's trouble an error.
pub(super) fn answer<T>(result: Result<T, Refusal>) -> Result<Result<T, TxReject>, ChainError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Refusal::Tx(reject)) => Ok(Err(reject)),
        Err(Refusal::Chain(error)) => Err(error),
    }
}

/// How one is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) now: u64,
    /// When it came, which may be long ago.
    pub(super) time: u64,
    /// It was in a block: no rule about fees, dust or version 3, and no bound on memory.
    pub(super) bypass: bool,
    pub(super) test: bool,
    /// Others may go for it.
    pub(super) replace: bool,
    /// The other child of its parent may go for it, if both are of version 3.
    pub(super) evict_sibling: bool,
    /// Room is made once all of its package is in.
    pub(super) in_package: bool,
    /// Its package is looked at as a whole.
    pub(super) package_rates: bool,
    /// The operator's bound on the rate of each, in satoshi per 1,000 vbytes.
    pub(super) rate_max: Option<u64>,
    /// The same, for one that is by itself: said in other words.
    pub(super) own_rate_max: Option<u64>,
}

impl Request {
    pub(super) fn single(now: u64) -> Self {
        Self {
            now,
            time: now,
            bypass: false,
            test: false,
            replace: true,
            evict_sibling: true,
            in_package: false,
            package_rates: false,
            rate_max: None,
            own_rate_max: None,
        }
    }
}

/// What is known of one that is being looked at.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) txid: Txid,
    pub(super) wtxid: Wtxid,
    pub(super) entry: MempoolEntry,
    pub(super) coins: Vec<Coin>,
    /// Those that wait here and that it spends.
    pub(super) parents: BTreeSet<Txid>,
    /// Those that spend what it spends, or whose place it takes.
    pub(super) conflicts: BTreeSet<Txid>,
    /// One of the conflicts is its parent's other child.
    pub(super) sibling: bool,
}

impl Candidate {
    /// What it is taken to pay, for its vbytes.
    pub(super) fn rate(&self) -> FeeFraction {
        FeeFraction::new(self.entry.modified_fee(), self.entry.vsize)
    }

    /// Why it is refused whose input's script failed.
    fn script_failed(&self, input: usize, error: ScriptError, flags: Flags) -> TxReject {
        let (tx, txid, wtxid) = (&self.entry.tx, self.txid, self.wtxid);
        let spent = tx.input[input].previous_output;
        let debug = format!("input {input} of {txid} (wtxid {wtxid}), spending {}:{}", spent.txid, spent.vout);
        let policy = flags.without(MANDATORY_FLAGS) != Flags::NONE;
        let stripped =
            tx.input.iter().all(|input| input.witness.is_empty()) && standard::spends_witness_program(tx, &self.coins);
        let kind = match policy {
            true if stripped => TxRejectKind::WitnessStripped,
            true => TxRejectKind::NotStandard,
            false => TxRejectKind::Consensus,
        };
        let place = if policy { "mempool" } else { "block" };
        TxReject::new(kind, &format!("{place}-script-verify-flag-failed ({error})"), debug)
    }

    /// For the graph, with those of its parents that come with it.
    pub(super) fn addition(&self, package: &BTreeSet<Txid>) -> Addition {
        let mut parents = self.parents.clone();
        let spent = self.entry.tx.input.iter().map(|input| input.previous_output.txid);
        parents.extend(spent.filter(|txid| package.contains(txid)));
        let rate = FeeFraction::new(self.entry.modified_fee(), self.entry.adjusted_weight);
        Addition { txid: self.txid, rate, parents }
    }
}

/// Outputs of those of a package that were looked at before.
pub(super) type PackageCoins = BTreeMap<OutPoint, TxOut>;

fn reject(kind: TxRejectKind, reason: &str) -> Refusal {
    TxReject::new(kind, reason, "").into()
}

/// An operator's bound, in satoshi per 1,000 vbytes.
pub(super) fn rate_max(options: &AcceptOptions) -> Option<u64> {
    options.fee_rate_max
}

impl Mempool {
    /// Upon a transaction.
    ///
    /// # Errors
    /// The disk's; the inner error is the refusal.
    pub fn accept<C: View + ?Sized>(
        &mut self,
        chain: &C,
        tx: Arc<Transaction>,
        now: u64,
        options: AcceptOptions,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<Result<Accepted, TxReject>, ChainError> {
        let request = Request { test: options.test, own_rate_max: rate_max(&options), ..Request::single(now) };
        answer(self.accept_one(chain, &tx, &request, events))
    }

    /// All but scripts and what it takes the place of.
    pub(super) fn look_at<C: View + ?Sized>(
        &self,
        chain: &C,
        tx: &Arc<Transaction>,
        request: &Request,
        package: &PackageCoins,
    ) -> Result<Candidate, Refusal> {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        self.look_alone(chain, tx, txid, wtxid)?;
        let mut conflicts = BTreeSet::new();
        for input in &tx.input {
            if let Some(other) = self.spenders.get(&input.previous_output) {
                if !request.replace {
                    return Err(reject(TxRejectKind::Policy, "bip125-replacement-disallowed"));
                }
                conflicts.insert(*other);
            }
        }
        let (coins, unconfirmed) = self.coins_of(chain, tx, txid, package)?;
        self.look_at_coins(chain, tx, &coins)?;
        let entry = self.entry_of(chain, tx, (txid, wtxid), &coins, request)?;
        let parents = unconfirmed.into_iter().filter(|parent| self.entries.contains_key(parent)).collect();
        let mut candidate = Candidate { txid, wtxid, entry, coins, parents, conflicts, sibling: false };
        if !request.bypass && !request.package_rates {
            self.check_rate(candidate.rate(), request.now)?;
        }
        if !request.bypass {
            self.check_truc(&mut candidate, request.evict_sibling)?;
        }
        Ok(candidate)
    }

    fn look_alone<C: View + ?Sized>(
        &self,
        chain: &C,
        tx: &Transaction,
        txid: Txid,
        wtxid: Wtxid,
    ) -> Result<(), Refusal> {
        check_transaction(tx).map_err(|word| reject(TxRejectKind::Consensus, word))?;
        if tx.is_coinbase() {
            return Err(reject(TxRejectKind::Consensus, "coinbase"));
        }
        if self.options.require_standard {
            standard::is_standard(tx, &self.options)?;
        }
        if tx.base_size() < standard::STANDARD_SIZE_MIN {
            return Err(reject(TxRejectKind::NotStandard, "tx-size-small"));
        }
        let height = chain.height();
        if !is_final(tx, height + 1, chain.median_time(height)) {
            return Err(reject(TxRejectKind::PrematureSpend, "non-final"));
        }
        if self.by_wtxid.contains_key(&wtxid) {
            return Err(reject(TxRejectKind::Conflict, "txn-already-in-mempool"));
        }
        if self.entries.contains_key(&txid) {
            return Err(reject(TxRejectKind::Conflict, "txn-same-nonwitness-data-in-mempool"));
        }
        Ok(())
    }

    /// What it spends, and by whom of those that are in no block.
    fn coins_of<C: View + ?Sized>(
        &self,
        chain: &C,
        tx: &Transaction,
        txid: Txid,
        package: &PackageCoins,
    ) -> Result<(Vec<Coin>, BTreeSet<Txid>), Refusal> {
        let (mut coins, mut unconfirmed) = (Vec::with_capacity(tx.input.len()), BTreeSet::new());
        let next = chain.height() + 1;
        for input in &tx.input {
            let outpoint = input.previous_output;
            let waiting = self.entries.get(&outpoint.txid);
            let output = package.get(&outpoint).or_else(|| waiting?.tx.output.get(outpoint.vout as usize));
            let coin = match output {
                Some(output) => {
                    unconfirmed.insert(outpoint.txid);
                    Some(Coin { out: output.clone(), height: next, coinbase: false })
                }
                None if waiting.is_some() => None,
                None => chain.coin(&outpoint)?,
            };
            let Some(coin) = coin else { return Err(missing(chain, tx, txid)?.into()) };
            coins.push(coin);
        }
        Ok((coins, unconfirmed))
    }

    fn look_at_coins<C: View + ?Sized>(&self, chain: &C, tx: &Transaction, coins: &[Coin]) -> Result<(), Refusal> {
        let height = chain.height();
        let locks = SequenceLocks::of(tx, coins.iter().map(|coin| coin.height), |at| chain.median_time(at));
        if !locks.hold(height + 1, chain.median_time(height)) {
            return Err(reject(TxRejectKind::PrematureSpend, "non-BIP68-final"));
        }
        check_inputs(tx, coins, height + 1).map_err(|refused| {
            let kind = if refused.premature { TxRejectKind::PrematureSpend } else { TxRejectKind::Consensus };
            TxReject::new(kind, refused.reason, refused.debug)
        })?;
        if self.options.require_standard {
            standard::inputs(tx, coins)?;
            if !standard::witness_is_standard(tx, coins) {
                return Err(reject(TxRejectKind::WitnessMutated, "bad-witness-nonstandard"));
            }
        }
        Ok(())
    }

    fn entry_of<C: View + ?Sized>(
        &self,
        chain: &C,
        tx: &Arc<Transaction>,
        (txid, wtxid): (Txid, Wtxid),
        coins: &[Coin],
        request: &Request,
    ) -> Result<MempoolEntry, Refusal> {
        let height = chain.height();
        let fee = check_inputs(tx, coins, height + 1).expect("it was looked at before");
        let sigops = transaction_sigop_cost(tx, coins, STANDARD_FLAGS);
        let (weight, sigops_cost) = (tx.weight().to_wu(), sigops.unsigned_abs());
        let adjusted_weight = self.options.adjusted_weight(weight, sigops_cost);
        let entry = MempoolEntry {
            tx: tx.clone(),
            txid,
            wtxid,
            fee,
            fee_delta: self.deltas.get(&txid).copied().unwrap_or(0),
            vsize: adjusted_weight.div_ceil(4),
            weight,
            sigops_cost,
            time: request.time,
            height,
            spends_coinbase: coins.iter().any(|coin| coin.coinbase),
            adjusted_weight,
            sequence: if request.bypass { 0 } else { self.sequence },
        };
        let pays = fee.to_sat() != 0 || entry.modified_fee() != 0;
        if self.options.require_standard && pays && standard::dust(tx, self.options.dust_rate).next().is_some() {
            let debug = "tx with dust output must be 0-fee";
            return Err(TxReject::new(TxRejectKind::NotStandard, "dust", debug).into());
        }
        if sigops > standard::STANDARD_SIGOPS_COST_MAX {
            let debug = sigops.to_string();
            return Err(TxReject::new(TxRejectKind::NotStandard, "bad-txns-too-many-sigops", debug).into());
        }
        Ok(entry)
    }

    /// Does this pay what there is room for?
    pub(super) fn check_rate(&self, paid: FeeFraction, now: u64) -> Result<(), TxReject> {
        let short = |reason: &str, asked: i64| {
            let debug = format!("{} < {asked}", paid.fee);
            Err(TxReject::new(TxRejectKind::Reconsiderable, reason, debug))
        };
        let rolling = fee_at(self.rolling_rate(now), paid.size);
        if rolling > 0 && paid.fee < rolling {
            return short("mempool min fee not met", rolling);
        }
        let relay = fee_at(self.options.relay_rate_min, paid.size);
        if paid.fee < relay { short("min relay fee not met", relay) } else { Ok(()) }
    }

    pub(super) fn accept_one<C: View + ?Sized>(
        &mut self,
        chain: &C,
        tx: &Arc<Transaction>,
        request: &Request,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<Accepted, Refusal> {
        let candidate = self.look_at(chain, tx, request, &PackageCoins::new())?;
        let removals = self.check_place(&candidate)?;
        let rate = candidate.rate();
        let above = |bound: Option<u64>, fee: i64| {
            bound.is_some_and(|bound| FeeFraction::new(fee, rate.size).cmp_rate(whole(bound)).is_gt())
        };
        if above(request.rate_max, rate.fee) {
            return Err(reject(TxRejectKind::Policy, "max feerate exceeded"));
        }
        if !request.bypass && self.options.require_standard {
            self.check_dust_spent(std::slice::from_ref(tx))?;
        }
        run_scripts(&candidate, STANDARD_FLAGS)?;
        self.run_for_blocks(&candidate, chain.script_flags())?;
        if request.own_rate_max.is_some_and(|bound| {
            bound > 0 && candidate.entry.fee.to_sat() as i64 > fee_at(bound, candidate.entry.vsize)
        }) {
            return Err(reject(TxRejectKind::Policy, "max-fee-exceeded"));
        }
        let mut accepted = Accepted {
            replaced: Vec::new(),
            vsize: candidate.entry.vsize,
            fee: candidate.entry.fee,
            effective: rate,
            effective_includes: vec![candidate.wtxid],
        };
        if request.test {
            return Ok(accepted);
        }
        accepted.replaced = self.take_in(std::slice::from_ref(&candidate), &removals, events);
        if !request.in_package && !request.bypass {
            self.make_room(request.now, events);
            if !self.entries.contains_key(&candidate.txid) {
                return Err(reject(TxRejectKind::Reconsiderable, "mempool full"));
            }
        }
        self.tell(chain, &candidate, request, events);
        Ok(accepted)
    }

    /// Those that go for it, if it may have their place.
    fn check_place(&self, candidate: &Candidate) -> Result<BTreeSet<Txid>, Refusal> {
        let mut removals = BTreeSet::new();
        if candidate.conflicts.is_empty() {
            let addition = candidate.addition(&BTreeSet::new());
            if self.graph.stage(&[addition], &removals, self.limits()).is_none() {
                return Err(reject(TxRejectKind::Policy, "too-large-cluster"));
            }
        } else {
            removals = self.check_replacement(candidate)?;
            let ancestors = candidate.parents.iter().flat_map(|parent| self.graph.ancestors(parent));
            if let Some(both) = ancestors.collect::<BTreeSet<_>>().intersection(&candidate.conflicts).next() {
                let debug = format!("{} spends conflicting transaction {both}", candidate.txid);
                let reason = "bad-txns-spends-conflicting-tx";
                return Err(TxReject::new(TxRejectKind::Consensus, reason, debug).into());
            }
        }
        Ok(removals)
    }

    /// Runs all scripts by the rules of blocks, as a block's are run, and remembers that they hold.
    pub(super) fn run_for_blocks(&mut self, candidate: &Candidate, flags: Flags) -> Result<(), TxReject> {
        let tx = &candidate.entry.tx;
        if self.known_good.has(candidate.wtxid, flags) {
            return Ok(());
        }
        // The library would take too long, and without it nothing is known that a block could rest on.
        if tx.input.len() > LIBRARY_INPUTS_MAX {
            return run_scripts(candidate, flags);
        }
        match scripts::verify(tx, &TxUndo { spent: candidate.coins.clone() }, flags) {
            Ok(Ok(())) => {
                self.known_good.insert(candidate.wtxid, flags);
                Ok(())
            }
            Ok(Err(refused)) => Err(candidate.script_failed(refused.input, refused.error, flags)),
            // In a block it would be the end. Here it costs its author nothing, so that it must not be.
            Err(error) => Err(TxReject::new(TxRejectKind::NotStandard, "script-disagreement", error.to_string())),
        }
    }

    /// True if this transaction's scripts were found to hold under exactly these rules.
    #[must_use]
    pub fn scripts_known_good(&self, wtxid: Wtxid, flags: Flags) -> bool {
        self.known_good.has(wtxid, flags)
    }

    /// Takes these in, parents first, after those went whose place they take.
    pub(super) fn take_in(
        &mut self,
        candidates: &[Candidate],
        removals: &BTreeSet<Txid>,
        events: &mut Vec<MempoolEvent>,
    ) -> Vec<Arc<Transaction>> {
        let replaced = removals.iter().map(|txid| self.entries[txid].tx.clone()).collect();
        self.remove(removals, "replaced", events);
        let package = candidates.iter().map(|candidate| candidate.txid).collect();
        for candidate in candidates {
            self.graph.insert(candidate.addition(&package));
            self.remember(candidate.entry.clone());
        }
        replaced
    }

    /// Says that one is here, and stays.
    pub(super) fn tell<C: View + ?Sized>(
        &mut self,
        chain: &C,
        candidate: &Candidate,
        request: &Request,
        events: &mut Vec<MempoolEvent>,
    ) {
        let spends_waiting =
            candidate.entry.tx.input.iter().any(|input| self.entries.contains_key(&input.previous_output.txid));
        let counts = !request.bypass && !request.in_package && !spends_waiting && chain.is_current(request.now);
        self.estimator.on_added(&candidate.txid, &candidate.entry, counts);
        let sequence = self.next_sequence();
        events.push(MempoolEvent::Added { tx: candidate.entry.tx.clone(), sequence });
    }
}

/// Runs all scripts.
pub(super) fn run_scripts(candidate: &Candidate, flags: Flags) -> Result<(), TxReject> {
    let tx = &candidate.entry.tx;
    let spent: Vec<TxOut> = candidate.coins.iter().map(|coin| coin.out.clone()).collect();
    let shared = SharedHashes::new(tx, &spent).expect("one coin for each input");
    for at in 0..tx.input.len() {
        let spend = shared.spend(at).expect("it is an input's index");
        spend.verify(flags).map_err(|error| candidate.script_failed(at, error, flags))?;
    }
    Ok(())
}

/// A rate that an operator set, as a fraction.
pub(super) fn whole(rate: u64) -> FeeFraction {
    FeeFraction::new(i64::try_from(rate).unwrap_or(i64::MAX), 1_000)
}

/// An input is not there: perhaps because the transaction is in a block already.
fn missing<C: View + ?Sized>(chain: &C, tx: &Transaction, txid: Txid) -> Result<TxReject, ChainError> {
    for vout in (0..).take(tx.output.len().min(KNOWN_OUTPUTS_MAX)) {
        if chain.coin(&OutPoint { txid, vout })?.is_some() {
            return Ok(TxReject::new(TxRejectKind::Conflict, "txn-already-known", ""));
        }
    }
    Ok(TxReject::new(TxRejectKind::MissingInputs, "bad-txns-inputs-missingorspent", ""))
}
