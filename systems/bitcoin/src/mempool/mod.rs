//! What is valid, and not in a block yet.
//!
//! - upon a transaction ([`Mempool::accept`]): it must be valid in the next block, of a form that is relayed (`standard`), and
//!   pay for its place (`accept`). What spends the same outputs goes, if the newcomer is worth more to miners in every way
//!   (`replace`). Of version 3 there are rules of their own about what hangs together (`truc`);
//! - upon some that only pay together ([`Mempool::accept_package`]): the same, with their sums (`package`);
//! - upon a block ([`Mempool::on_connected`]): what it has goes, and what can never be in one any more (`follow`);
//! - upon another chain ([`Mempool::on_reorganised`]): what it lacks comes back;
//! - upon time and a lack of room: the oldest goes, and the worst (`room`).
//!
//! What hangs together by spending is a cluster, and clusters are bounded, so that the best order to mine them in can be kept
//! at all times (`graph`, `linearise`).
//!
//! Deliberately absent: transactions whose inputs are not known yet, and whom to tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid, Wtxid};

mod accept;
mod bump;
mod estimator;
mod feerate;
mod follow;
mod graph;
mod known_good;
mod linearise;
mod options;
mod package;
mod persist;
mod queries;
mod replace;
mod room;
mod solver;
mod standard;
#[cfg(test)]
mod tests;
mod truc;
mod view;

pub use estimator::{Bucket, Estimate, FeeEstimator, Horizon, RawEstimate};
pub use feerate::{FeeFraction, fee_at};
pub use options::MempoolOptions;
pub use package::{PackageOutcome, PackageReject, PackageRejectKind, PackageTx};
pub use persist::{LoadOptions, Loaded};
pub use queries::{ClusterChunk, MempoolInfo, Prioritised, Relatives};
pub use solver::OutputKind;
pub use standard::{STANDARD_FLAGS, STANDARD_SIGOPS_COST_MAX, STANDARD_SIZE_MIN, STANDARD_WEIGHT_MAX, dust_threshold};
pub use view::View;

use graph::Graph;
use known_good::KnownGood;
use room::RollingFee;

/// Why a transaction is refused, in the words of the network's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxReject {
    /// What kind it is.
    pub kind: TxRejectKind,
    /// The network's word, such as `bad-txns-inputs-missingorspent`.
    pub reason: String,
    /// More, for people.
    pub debug: String,
}

impl TxReject {
    pub(crate) fn new(kind: TxRejectKind, reason: &str, debug: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), debug: debug.into() }
    }
}

impl fmt::Display for TxReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.debug.is_empty() { Ok(()) } else { write!(f, ", {}", self.debug) }
    }
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxRejectKind {
    /// It breaks a rule of the network.
    Consensus,
    /// It is not what is relayed.
    NotStandard,
    /// What it spends is not of a form that is relayed, whatever its witnesses are.
    InputsNotStandard,
    /// An input is not known: it may come.
    MissingInputs,
    /// It cannot be in the next block yet.
    PrematureSpend,
    /// A witness is missing that its outputs ask for.
    WitnessStripped,
    /// Its witness is wrong; another may be right.
    WitnessMutated,
    /// It is there already, or in a block.
    Conflict,
    /// It does not pay enough, or more than its place allows.
    Policy,
    /// It pays too little by itself; in a package it may do.
    Reconsiderable,
}

/// How a transaction is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptOptions {
    /// Say what would be, and leave all as it is.
    pub test: bool,
    /// By the operator: no fee above it, in satoshi per 1,000 vbytes (`maxfeerate`); `None` for no bound.
    pub fee_rate_max: Option<u64>,
}

/// What a transaction came to.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Those that it replaced.
    pub replaced: Vec<Arc<Transaction>>,
    /// Its virtual size, by weight and signature operations.
    pub vsize: u64,
    /// What it pays.
    pub fee: Amount,
    /// What it was judged by, in satoshi and vbytes: its own fee as the operator sees it, or a package's.
    pub effective: FeeFraction,
    /// Whose fees are in that.
    pub effective_includes: Vec<Wtxid>,
}

/// What became of the mempool, in order.
#[derive(Clone, Debug)]
pub enum MempoolEvent {
    /// This came in.
    Added {
        /// It.
        tx: Arc<Transaction>,
        /// The mempool's count of changes at that moment (`zmqpubsequence`).
        sequence: u64,
    },
    /// This went, and is not in a block.
    Removed {
        /// It.
        tx: Arc<Transaction>,
        /// The mempool's count of changes at that moment.
        sequence: u64,
        /// Why: `replaced`, `conflict`, `expiry`, `sizelimit`, `reorg`.
        reason: &'static str,
    },
    /// This went, into a block or not, and no peer had fetched it.
    Unsent {
        /// Which.
        txid: Txid,
    },
}

/// A transaction that waits.
#[derive(Clone, Debug)]
pub struct MempoolEntry {
    /// It.
    pub tx: Arc<Transaction>,
    /// Its hash.
    pub txid: Txid,
    /// Its hash with witnesses.
    pub wtxid: Wtxid,
    /// What it pays.
    pub fee: Amount,
    /// What it is taken to pay, by `prioritisetransaction`, in satoshi.
    pub fee_delta: i64,
    /// Its virtual size, by weight and signature operations.
    pub vsize: u64,
    /// Its weight.
    pub weight: u64,
    /// Its signature operations' cost.
    pub sigops_cost: u64,
    /// When it came, in seconds since 1970.
    pub time: u64,
    /// The height of the chain when it came.
    pub height: u32,
    /// It spends a block's reward.
    pub spends_coinbase: bool,
    /// The weight that it counts as, with its signature operations.
    pub adjusted_weight: u64,
    /// The mempool's count of changes when it came; 0 if a block had it before.
    pub sequence: u64,
}

impl MempoolEntry {
    /// What it is taken to pay, in satoshi.
    #[must_use]
    pub fn modified_fee(&self) -> i64 {
        (self.fee.to_sat() as i64).saturating_add(self.fee_delta)
    }
}

/// The mempool.
#[derive(Debug)]
pub struct Mempool {
    options: MempoolOptions,
    entries: BTreeMap<Txid, MempoolEntry>,
    by_wtxid: BTreeMap<Wtxid, Txid>,
    by_time: BTreeSet<(u64, Txid)>,
    spenders: BTreeMap<OutPoint, Txid>,
    graph: Graph,
    /// An operator's words about what a transaction pays, whether it is there or not.
    deltas: BTreeMap<Txid, i64>,
    /// Came from here, and no peer asked for it yet.
    unbroadcast: BTreeSet<Txid>,
    sequence: u64,
    changes: u64,
    total_size: u64,
    total_fee: u64,
    /// Bytes of memory that the transactions take themselves.
    inner_usage: u64,
    rolling: RollingFee,
    known_good: KnownGood,
    estimator: FeeEstimator,
    loaded: bool,
}

impl Default for Mempool {
    fn default() -> Self {
        Self::new(MempoolOptions::default())
    }
}

impl Mempool {
    /// An empty one.
    #[must_use]
    pub fn new(options: MempoolOptions) -> Self {
        assert!(options.cluster_count_max <= linearise::CLUSTER_COUNT_MAX, "larger clusters cannot be put in order");
        Self {
            options,
            entries: BTreeMap::new(),
            by_wtxid: BTreeMap::new(),
            by_time: BTreeSet::new(),
            spenders: BTreeMap::new(),
            graph: Graph::default(),
            deltas: BTreeMap::new(),
            unbroadcast: BTreeSet::new(),
            sequence: 1,
            changes: 0,
            total_size: 0,
            total_fee: 0,
            inner_usage: 0,
            rolling: RollingFee::default(),
            known_good: KnownGood::default(),
            estimator: FeeEstimator::default(),
            loaded: false,
        }
    }

    /// How it is run.
    #[must_use]
    pub fn options(&self) -> &MempoolOptions {
        &self.options
    }

    /// What fees are to be expected.
    #[must_use]
    pub fn estimator(&self) -> &FeeEstimator {
        &self.estimator
    }

    /// What fees are to be expected, to load or store them.
    pub fn estimator_mut(&mut self) -> &mut FeeEstimator {
        &mut self.estimator
    }

    fn limits(&self) -> graph::ClusterLimits {
        graph::ClusterLimits { count: self.options.cluster_count_max, weight: self.options.cluster_size_max * 4 }
    }

    /// Counts a change, and says which it is.
    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    /// Takes one in, whose links are in the graph already.
    fn remember(&mut self, entry: MempoolEntry) {
        let (txid, wtxid) = (entry.txid, entry.wtxid);
        for input in &entry.tx.input {
            let other = self.spenders.insert(input.previous_output, txid);
            assert!(other.is_none(), "what spends the same went before");
        }
        self.by_wtxid.insert(wtxid, txid);
        self.by_time.insert((entry.time, txid));
        self.total_size += entry.vsize;
        self.total_fee += entry.fee.to_sat();
        self.inner_usage += room::usage(&entry.tx);
        self.changes += 1;
        self.entries.insert(txid, entry);
    }

    /// Strikes one out, but for its links. `None` for what a block has, which is told elsewhere.
    fn forget(&mut self, txid: &Txid, reason: Option<&'static str>, events: &mut Vec<MempoolEvent>) -> MempoolEntry {
        let entry = self.entries.remove(txid).expect("those go that are there");
        let sequence = self.next_sequence();
        for input in &entry.tx.input {
            self.spenders.remove(&input.previous_output);
        }
        self.by_wtxid.remove(&entry.wtxid);
        self.by_time.remove(&(entry.time, *txid));
        if self.unbroadcast.remove(txid) {
            events.push(MempoolEvent::Unsent { txid: *txid });
        }
        self.total_size -= entry.vsize;
        self.total_fee -= entry.fee.to_sat();
        self.inner_usage -= room::usage(&entry.tx);
        self.changes += 1;
        if let Some(reason) = reason {
            self.estimator.on_removed(txid);
            events.push(MempoolEvent::Removed { tx: entry.tx.clone(), sequence, reason });
        }
        entry
    }

    /// Strikes these out. All that rests on them is among them.
    fn remove(&mut self, txids: &BTreeSet<Txid>, reason: &'static str, events: &mut Vec<MempoolEvent>) {
        for txid in txids {
            self.forget(txid, Some(reason), events);
        }
        self.graph.remove(txids);
    }

    /// Panics if what is kept does not fit together.
    pub fn invariants(&self) {
        self.graph.invariants(self.limits());
        assert_eq!(self.by_wtxid.len(), self.entries.len());
        assert_eq!(self.by_time.len(), self.entries.len());
        let (mut size, mut fee, mut usage, mut inputs) = (0, 0, 0, 0);
        for (txid, entry) in &self.entries {
            size += entry.vsize;
            fee += entry.fee.to_sat();
            usage += room::usage(&entry.tx);
            inputs += entry.tx.input.len();
            assert_eq!(entry.fee_delta, self.deltas.get(txid).copied().unwrap_or(0), "a word of the operator is lost");
            let mut parents = BTreeSet::new();
            for input in &entry.tx.input {
                assert_eq!(self.spenders.get(&input.previous_output), Some(txid), "a spender is lost");
                if let Some(parent) = self.entries.get(&input.previous_output.txid) {
                    assert!((input.previous_output.vout as usize) < parent.tx.output.len());
                    parents.insert(input.previous_output.txid);
                }
            }
            assert_eq!(self.graph.parents(txid), &parents, "a link is lost");
        }
        assert_eq!((size, fee, usage), (self.total_size, self.total_fee, self.inner_usage), "a sum is wrong");
        assert_eq!(inputs, self.spenders.len(), "an output has no spender any more");
        assert!(self.unbroadcast.iter().all(|txid| self.entries.contains_key(txid)));
    }
}
