//! Transactions that come together, because some of them only pay together.
//!
//! - a package is sorted, parents before children, without two that spend the same, and small;
//! - to be taken it is one child with parents of it ([`Mempool::accept_package`]). Each is looked at by itself first, so that
//!   nobody pays for one that pays for itself; those that are left for want of fees or of a parent are looked at together;
//! - together they must pay the rate that there is room for, and for what they take the place of. That much only one parent
//!   with one child may do, without others that wait behind them;
//! - to be tested, it may have any shape, and nothing may go for it.
//!
//! Deliberately absent: who asks for parents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Wtxid};

use super::accept::{Candidate, PackageCoins, Refusal, Request, answer, rate_max, run_scripts, whole};
use super::feerate::FeeFraction;
use super::graph::Addition;
use super::replace::{Effect, NO_IMPROVEMENT};
use super::standard::{self, STANDARD_FLAGS};
use super::view::View;
use super::{AcceptOptions, Accepted, Mempool, MempoolEvent, TxReject, TxRejectKind};
use crate::chain::ChainError;

/// No package has more.
const COUNT_MAX: usize = 25;
/// No package weighs more.
const WEIGHT_MAX: u64 = 404_000;

/// Why a package is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageReject {
    /// Where the fault is.
    pub kind: PackageRejectKind,
    /// The network's word.
    pub reason: String,
    /// More, for people.
    pub debug: String,
}

impl fmt::Display for PackageReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.debug.is_empty() { Ok(()) } else { write!(f, ", {}", self.debug) }
    }
}

/// Where a package's fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageRejectKind {
    /// In the package itself.
    Policy,
    /// In one of its transactions.
    Tx,
}

impl PackageReject {
    fn new(kind: PackageRejectKind, reason: &str, debug: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), debug: debug.into() }
    }

    fn policy(reason: &str) -> Self {
        Self::new(PackageRejectKind::Policy, reason, "")
    }

    fn failed() -> Self {
        Self::new(PackageRejectKind::Tx, "transaction failed", "")
    }
}

/// What became of one of a package.
#[derive(Clone, Debug)]
pub enum PackageTx {
    /// It came in, or would.
    Accepted(Accepted),
    /// It was there.
    AlreadyThere {
        /// Its virtual size.
        vsize: u64,
        /// What it pays.
        fee: Amount,
    },
    /// It was there with another witness: this one.
    OtherWitness(Wtxid),
    /// It was refused.
    Rejected(TxReject),
}

/// What became of a package. Those that nothing is said of were not looked at.
#[derive(Clone, Debug, Default)]
pub struct PackageOutcome {
    /// Why not all of it is in.
    pub reject: Option<PackageReject>,
    /// What became of each.
    pub txs: BTreeMap<Wtxid, PackageTx>,
}

impl PackageOutcome {
    fn rejected(reject: PackageReject) -> Self {
        Self { reject: Some(reject), txs: BTreeMap::new() }
    }

    fn one_failed(wtxid: Wtxid, reject: TxReject) -> Self {
        let txs = BTreeMap::from([(wtxid, PackageTx::Rejected(reject))]);
        Self { reject: Some(PackageReject::failed()), txs }
    }
}

/// Judges a package's shape.
///
/// # Errors
/// The first rule that it breaks.
fn well_formed(txs: &[Arc<Transaction>]) -> Result<(), PackageReject> {
    if txs.len() > COUNT_MAX {
        return Err(PackageReject::policy("package-too-many-transactions"));
    }
    let weight: u64 = txs.iter().map(|tx| tx.weight().to_wu()).sum();
    if txs.len() > 1 && weight > WEIGHT_MAX {
        return Err(PackageReject::policy("package-too-large"));
    }
    let txids: Vec<Txid> = txs.iter().map(|tx| tx.compute_txid()).collect();
    let mut later: BTreeSet<Txid> = txids.iter().copied().collect();
    if later.len() != txs.len() {
        return Err(PackageReject::policy("package-contains-duplicates"));
    }
    for (tx, txid) in txs.iter().zip(&txids) {
        if tx.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return Err(PackageReject::policy("package-not-sorted"));
        }
        later.remove(txid);
    }
    let mut spent: BTreeSet<OutPoint> = BTreeSet::new();
    for tx in txs {
        // One without inputs, or with one twice, is found by itself, and that says more.
        let own: BTreeSet<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
        if own.is_empty() || !spent.is_disjoint(&own) {
            return Err(PackageReject::policy("conflict-in-package"));
        }
        spent.extend(own);
    }
    Ok(())
}

/// Are all but the last what the last spends?
fn is_child_with_parents(txs: &[Arc<Transaction>]) -> bool {
    let Some((child, parents)) = txs.split_last() else { return false };
    let spent: BTreeSet<Txid> = child.input.iter().map(|input| input.previous_output.txid).collect();
    !parents.is_empty() && parents.iter().all(|parent| spent.contains(&parent.compute_txid()))
}

impl Mempool {
    /// Upon a package: tested in any shape, or taken if it is a child with parents of it.
    ///
    /// # Errors
    /// The disk's.
    pub fn accept_package<C: View + ?Sized>(
        &mut self,
        chain: &C,
        txs: &[Arc<Transaction>],
        now: u64,
        options: AcceptOptions,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<PackageOutcome, ChainError> {
        let single = Request::single(now);
        if options.test {
            let request = Request { test: true, replace: false, evict_sibling: false, ..single };
            return self.accept_together(chain, txs, &request, events);
        }
        let request = Request { evict_sibling: false, in_package: true, package_rates: true, ..single };
        let request = Request { rate_max: rate_max(&options), ..request };
        if let Err(reject) = well_formed(txs) {
            return Ok(PackageOutcome::rejected(reject));
        }
        if txs.len() > 1 && !is_child_with_parents(txs) {
            return Ok(PackageOutcome::rejected(PackageReject::policy("package-not-child-with-parents")));
        }
        self.accept_child_with_parents(chain, txs, &request, events)
    }

    fn accept_child_with_parents<C: View + ?Sized>(
        &mut self,
        chain: &C,
        txs: &[Arc<Transaction>],
        request: &Request,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<PackageOutcome, ChainError> {
        let alone = Request { evict_sibling: true, package_rates: false, ..*request };
        let mut outcome = PackageOutcome::default();
        let (mut left, mut by_itself) = (Vec::new(), BTreeMap::new());
        for tx in txs {
            let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
            if let Some(entry) = self.entries.get(&txid) {
                let there = entry.wtxid;
                let known = PackageTx::AlreadyThere { vsize: entry.vsize, fee: entry.fee };
                outcome.txs.insert(wtxid, if there == wtxid { known } else { PackageTx::OtherWitness(there) });
                continue;
            }
            match answer(self.accept_one(chain, tx, &alone, events))? {
                Ok(accepted) => drop(outcome.txs.insert(wtxid, PackageTx::Accepted(accepted))),
                Err(reject) => {
                    let may_change = matches!(reject.kind, TxRejectKind::Reconsiderable | TxRejectKind::MissingInputs);
                    if txs.len() == 1 || !may_change {
                        outcome.reject = Some(PackageReject::failed());
                    }
                    by_itself.insert(wtxid, PackageTx::Rejected(reject));
                    left.push(tx.clone());
                }
            }
        }
        let mut together = PackageOutcome::default();
        if outcome.reject.is_none() && !left.is_empty() {
            together = match &*left {
                [one] => self.accept_again(chain, one, &alone, events)?,
                _ => self.accept_together(chain, &left, request, events)?,
            };
            outcome.reject = together.reject.take();
        }
        self.make_room(request.now, events);
        for tx in txs {
            let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
            let known = together.txs.remove(&wtxid).or_else(|| outcome.txs.remove(&wtxid));
            let Some(known) = known.or_else(|| by_itself.remove(&wtxid)) else { continue };
            let gone = !matches!(known, PackageTx::Rejected(_)) && !self.entries.contains_key(&txid);
            if gone {
                outcome.reject = Some(PackageReject::failed());
            }
            let full = PackageTx::Rejected(TxReject::new(TxRejectKind::Policy, "mempool full", ""));
            outcome.txs.insert(wtxid, if gone { full } else { known });
        }
        Ok(outcome)
    }

    /// One that is left by itself, after its parents came in.
    fn accept_again<C: View + ?Sized>(
        &mut self,
        chain: &C,
        tx: &Arc<Transaction>,
        request: &Request,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<PackageOutcome, ChainError> {
        let wtxid = tx.compute_wtxid();
        Ok(match answer(self.accept_one(chain, tx, request, events))? {
            Ok(accepted) => {
                PackageOutcome { reject: None, txs: BTreeMap::from([(wtxid, PackageTx::Accepted(accepted))]) }
            }
            Err(reject) => PackageOutcome::one_failed(wtxid, reject),
        })
    }

    fn accept_together<C: View + ?Sized>(
        &mut self,
        chain: &C,
        txs: &[Arc<Transaction>],
        request: &Request,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<PackageOutcome, ChainError> {
        match self.judge_together(chain, txs, request) {
            Err(Stop::Outcome(outcome)) => Ok(outcome),
            Err(Stop::Chain(error)) => Err(error),
            Ok((candidates, removals, outcome)) if request.test => {
                let _ = (candidates, removals);
                Ok(outcome)
            }
            Ok((candidates, removals, mut outcome)) => {
                let mut replaced = self.take_in(&candidates, &removals, events);
                for candidate in &candidates {
                    // The first is said to have replaced all of them.
                    if let Some(PackageTx::Accepted(accepted)) = outcome.txs.get_mut(&candidate.wtxid) {
                        accepted.replaced = std::mem::take(&mut replaced);
                    }
                    self.tell(chain, candidate, request, events);
                }
                Ok(outcome)
            }
        }
    }

    fn judge_together<C: View + ?Sized>(
        &mut self,
        chain: &C,
        txs: &[Arc<Transaction>],
        request: &Request,
    ) -> Result<(Vec<Candidate>, BTreeSet<Txid>, PackageOutcome), Stop> {
        well_formed(txs)?;
        let candidates = self.look_at_all(chain, txs, request)?;
        for candidate in &candidates {
            self.truc_in_package(candidate, txs)
                .map_err(|debug| PackageReject::new(PackageRejectKind::Policy, "TRUC-violation", debug))?;
        }
        let total = candidates.iter().fold(FeeFraction::default(), |sum, candidate| sum.plus(candidate.rate()));
        let wtxids: Vec<Wtxid> = candidates.iter().map(|candidate| candidate.wtxid).collect();
        if request.package_rates
            && let Err(reject) = self.check_rate(total, request.now)
        {
            let child = *wtxids.last().expect("a package is not empty");
            return Err(Stop::Outcome(PackageOutcome::one_failed(child, reject)));
        }
        let package = candidates.iter().map(|candidate| candidate.txid).collect();
        let additions: Vec<Addition> = candidates.iter().map(|candidate| candidate.addition(&package)).collect();
        let removals = self.check_package_replacement(&candidates, &additions, total)?;
        if self.options.require_standard {
            self.check_dust_spent(txs).map_err(|reject| {
                let child = txs
                    .iter()
                    .map(|tx| tx.compute_wtxid())
                    .find(|wtxid| reject.debug.contains(&format!("wtxid={wtxid}")));
                let mut outcome =
                    PackageOutcome::rejected(PackageReject::new(PackageRejectKind::Tx, "unspent-dust", ""));
                outcome.txs.extend(child.map(|child| (child, PackageTx::Rejected(reject))));
                Stop::Outcome(outcome)
            })?;
        }
        let mut outcome = PackageOutcome::default();
        for candidate in &candidates {
            let scripts = run_scripts(candidate, STANDARD_FLAGS);
            if let Err(reject) = scripts.and_then(|()| self.run_for_blocks(candidate, chain.script_flags())) {
                let mut stopped = PackageOutcome::one_failed(candidate.wtxid, reject);
                // Of a package that is only tested, those before it are known to be good.
                stopped.txs.extend(outcome.txs.into_iter().filter(|_| request.test));
                return Err(Stop::Outcome(stopped));
            }
            let together = request.package_rates;
            let accepted = Accepted {
                replaced: Vec::new(),
                vsize: candidate.entry.vsize,
                fee: candidate.entry.fee,
                effective: if together { total } else { candidate.rate() },
                effective_includes: if together { wtxids.clone() } else { vec![candidate.wtxid] },
            };
            outcome.txs.insert(candidate.wtxid, PackageTx::Accepted(accepted));
        }
        Ok((candidates, removals, outcome))
    }

    fn look_at_all<C: View + ?Sized>(
        &self,
        chain: &C,
        txs: &[Arc<Transaction>],
        request: &Request,
    ) -> Result<Vec<Candidate>, Stop> {
        let (mut coins, mut candidates) = (PackageCoins::new(), Vec::with_capacity(txs.len()));
        for tx in txs {
            let failed = |reject| Stop::Outcome(PackageOutcome::one_failed(tx.compute_wtxid(), reject));
            let candidate = self.look_at(chain, tx, request, &coins).map_err(|refusal| match refusal {
                Refusal::Tx(reject) => failed(reject),
                Refusal::Chain(error) => Stop::Chain(error),
            })?;
            if request.rate_max.is_some_and(|bound| candidate.rate().cmp_rate(whole(bound)).is_gt()) {
                return Err(failed(TxReject::new(TxRejectKind::Policy, "max feerate exceeded", "")));
            }
            let outputs = (0..).zip(&tx.output);
            coins.extend(outputs.map(|(vout, output)| (OutPoint { txid: candidate.txid, vout }, output.clone())));
            candidates.push(candidate);
        }
        Ok(candidates)
    }

    /// All that goes for a package, if it may, and if its cluster stays small.
    fn check_package_replacement(
        &self,
        candidates: &[Candidate],
        additions: &[Addition],
        total: FeeFraction,
    ) -> Result<BTreeSet<Txid>, PackageReject> {
        let conflicts: BTreeSet<Txid> =
            candidates.iter().flat_map(|candidate| candidate.conflicts.iter().copied()).collect();
        let failed = |words: &str, debug: String| {
            Err(PackageReject::new(PackageRejectKind::Policy, &format!("package RBF failed: {words}"), debug))
        };
        if conflicts.is_empty() {
            let fits = self.graph.stage(additions, &conflicts, self.limits()).is_some();
            return if fits { Ok(conflicts) } else { Err(PackageReject::policy("too-large-cluster")) };
        }
        let [parent, child] = candidates else {
            return failed("package must be 1-parent-1-child", String::new());
        };
        if candidates.iter().any(|candidate| !candidate.parents.is_empty()) {
            return failed("new transaction cannot have mempool ancestors", String::new());
        }
        let removals = match self.all_conflicts(&conflicts, child.txid) {
            Ok(removals) => removals,
            Err(debug) => return failed("too many potential replacements", debug),
        };
        if let Err(debug) = self.pays_for(&removals, total, child.txid) {
            return failed("insufficient anti-DoS fees", debug);
        }
        if total.cmp_rate(parent.rate()).is_le() {
            let debug =
                format!("package feerate {} <= parent feerate is {}", rate_text(total), rate_text(parent.rate()));
            return failed("package feerate is less than or equal to parent feerate", debug);
        }
        match self.effect_of(additions, &removals) {
            Effect::Better => Ok(removals),
            Effect::TooLarge => Err(PackageReject::policy("too-large-cluster")),
            Effect::NotBetter => failed(NO_IMPROVEMENT, String::new()),
        }
    }

    /// Whoever spends of a parent spends its dust, or nobody ever would.
    pub(super) fn check_dust_spent(&self, txs: &[Arc<Transaction>]) -> Result<(), TxReject> {
        let package: BTreeMap<Txid, &Transaction> = txs.iter().map(|tx| (tx.compute_txid(), &**tx)).collect();
        for tx in txs {
            let spent: BTreeSet<Txid> = tx.input.iter().map(|input| input.previous_output.txid).collect();
            let parents = spent.into_iter().filter_map(|txid| {
                let waiting = || self.entries.get(&txid).map(|entry| &*entry.tx);
                package.get(&txid).copied().or_else(waiting).map(|parent| (txid, parent))
            });
            if standard::missing_dust(tx, parents, self.options.dust_rate) {
                let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
                let debug = format!("tx {txid} (wtxid={wtxid}) did not spend parent's ephemeral dust");
                return Err(TxReject::new(TxRejectKind::Policy, "missing-ephemeral-spends", debug));
            }
        }
        Ok(())
    }
}

/// A rate as the network's messages write it.
fn rate_text(rate: FeeFraction) -> String {
    let rate = rate.per_thousand();
    format!("{}.{:08} BTC/kvB", rate / 100_000_000, rate % 100_000_000)
}

/// Why a package goes no further.
#[derive(Debug)]
enum Stop {
    Outcome(PackageOutcome),
    Chain(ChainError),
}

impl From<PackageReject> for Stop {
    fn from(reject: PackageReject) -> Self {
        Self::Outcome(PackageOutcome::rejected(reject))
    }
}
