//! What others ask of a mempool.
//!
//! Deliberately absent: how it is written for clients.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

use super::feerate::FeeFraction;
use super::graph::Addition;
use super::standard::dust;
use super::view::View;
use super::{Mempool, MempoolEntry};
use crate::chain::{ChainError, Coin};

/// Sums over a transaction with all that it rests on, or with all that rests on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relatives {
    /// How many, with itself.
    pub count: usize,
    /// Their virtual sizes.
    pub vsize: u64,
    /// What they are taken to pay, in satoshi.
    pub fees: i64,
}

/// What of a cluster is mined as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterChunk {
    /// What it is taken to pay, for its weight.
    pub rate: FeeFraction,
    /// Parents first.
    pub txids: Vec<Txid>,
}

/// An operator's word about what a transaction pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prioritised {
    /// Which.
    pub txid: Txid,
    /// Satoshi more than it pays.
    pub delta: i64,
    /// What it is taken to pay, if it is here.
    pub modified_fee: Option<i64>,
}

/// The mempool at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolInfo {
    /// How many wait.
    pub count: usize,
    /// Their virtual sizes.
    pub bytes: u64,
    /// Bytes of memory.
    pub usage: u64,
    /// What they pay, in satoshi.
    pub total_fee: u64,
    /// Bytes of memory that it may take.
    pub size_max: u64,
    /// Nothing below this rate comes in now (satoshi per 1,000 vbytes).
    pub fee_rate_min: u64,
    /// Nothing below this rate ever comes in.
    pub relay_rate_min: u64,
    /// What a replacement must add.
    pub incremental_rate: u64,
    /// How many came from here that no peer asked for yet.
    pub unbroadcast: usize,
}

impl Mempool {
    /// One that waits.
    #[must_use]
    pub fn get(&self, txid: &Txid) -> Option<&MempoolEntry> {
        self.entries.get(txid)
    }

    /// One that waits, by its hash with witnesses.
    #[must_use]
    pub fn get_by_wtxid(&self, wtxid: &Wtxid) -> Option<&MempoolEntry> {
        self.entries.get(self.by_wtxid.get(wtxid)?)
    }

    /// Who in the mempool spends this output.
    #[must_use]
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spenders.get(outpoint).copied()
    }

    /// An output of the chain or of what waits, unless something that waits spends it.
    ///
    /// # Errors
    /// The disk's.
    pub fn coin<C: View + ?Sized>(&self, chain: &C, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        if self.spenders.contains_key(outpoint) {
            return Ok(None);
        }
        let Some(entry) = self.entries.get(&outpoint.txid) else { return chain.coin(outpoint) };
        let output = entry.tx.output.get(outpoint.vout as usize);
        Ok(output.map(|out| Coin { out: out.clone(), height: chain.height() + 1, coinbase: false }))
    }

    /// All that waits, in the order of their txids.
    pub fn entries(&self) -> Box<dyn Iterator<Item = &MempoolEntry> + '_> {
        Box::new(self.entries.values())
    }

    /// All that waits, in the order in which it is worth mining.
    pub fn best_first(&self) -> impl Iterator<Item = (Txid, &MempoolEntry)> {
        let txids = self.graph.chunks().flat_map(|(_, chunk)| &chunk.members);
        txids.map(|txid| (*txid, &self.entries[txid]))
    }

    /// All chunks with a number for their cluster, the best first.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (u64, FeeFraction, &[Txid])> {
        self.graph.chunks().map(|(cluster, chunk)| (cluster, chunk.rate, &*chunk.members))
    }

    /// True if one of its outputs is worth less than it costs to spend: an operator's word about its fee is no use then.
    #[must_use]
    pub fn has_dust(&self, tx: &Transaction) -> bool {
        dust(tx, self.options.dust_rate).next().is_some()
    }

    /// True once the file was read, or found not to be there.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Upon a host that has no file, or does not want it read.
    pub fn set_loaded(&mut self) {
        self.loaded = true;
    }

    /// Which of two is worth mining earlier. One that does not wait comes first, so that whoever has a queue is rid of it.
    #[must_use]
    pub fn compare(&self, a: &Txid, b: &Txid) -> std::cmp::Ordering {
        match (self.graph.contains(a), self.graph.contains(b)) {
            (true, true) => self.graph.compare(a, b),
            (a, b) => a.cmp(&b),
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Counts up with each change.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Counts up with each change, and with each word of the operator: a template that was made at another count is old.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Those that wait and that it spends; nothing if it does not wait.
    #[must_use]
    pub fn parents(&self, txid: &Txid) -> BTreeSet<Txid> {
        if self.graph.contains(txid) { self.graph.parents(txid).clone() } else { BTreeSet::new() }
    }

    /// Those that spend it; nothing if it does not wait.
    #[must_use]
    pub fn children(&self, txid: &Txid) -> BTreeSet<Txid> {
        if self.graph.contains(txid) { self.graph.children(txid).clone() } else { BTreeSet::new() }
    }

    /// All that it rests on, without itself; nothing if it does not wait.
    #[must_use]
    pub fn ancestors(&self, txid: &Txid) -> BTreeSet<Txid> {
        let mut found = if self.graph.contains(txid) { self.graph.ancestors(txid) } else { BTreeSet::new() };
        found.remove(txid);
        found
    }

    /// All that rests on it, without itself; nothing if it does not wait.
    #[must_use]
    pub fn descendants(&self, txid: &Txid) -> BTreeSet<Txid> {
        let mut found = if self.graph.contains(txid) { self.graph.descendants([*txid]) } else { BTreeSet::new() };
        found.remove(txid);
        found
    }

    /// The sums over it and all that it rests on.
    #[must_use]
    pub fn with_ancestors(&self, txid: &Txid) -> Option<Relatives> {
        self.graph.contains(txid).then(|| self.sums(&self.graph.ancestors(txid)))
    }

    /// The sums over it and all that rests on it.
    #[must_use]
    pub fn with_descendants(&self, txid: &Txid) -> Option<Relatives> {
        self.graph.contains(txid).then(|| self.sums(&self.graph.descendants([*txid])))
    }

    fn sums(&self, txids: &BTreeSet<Txid>) -> Relatives {
        txids.iter().map(|txid| &self.entries[txid]).fold(Relatives::default(), |sum, entry| Relatives {
            count: sum.count + 1,
            vsize: sum.vsize + entry.vsize,
            fees: sum.fees.saturating_add(entry.modified_fee()),
        })
    }

    /// The cluster that it is in, chunk by chunk, the best first.
    #[must_use]
    pub fn cluster(&self, txid: &Txid) -> Option<Vec<ClusterChunk>> {
        self.graph.contains(txid).then(|| {
            let chunks = self.graph.cluster(self.graph.cluster_of(txid)).iter();
            chunks.map(|chunk| ClusterChunk { rate: chunk.rate, txids: chunk.members.clone() }).collect()
        })
    }

    /// How many are in its cluster, with itself; nothing if it does not wait.
    #[must_use]
    pub fn cluster_count(&self, txid: &Txid) -> usize {
        let chunks = || self.graph.cluster(self.graph.cluster_of(txid));
        if self.graph.contains(txid) { chunks().iter().map(|chunk| chunk.members.len()).sum() } else { 0 }
    }

    /// Would it fit into the clusters of what it spends? Its witnesses may be missing; what it conflicts with is left.
    #[must_use]
    pub fn fits(&self, tx: &Transaction) -> bool {
        let spent = tx.input.iter().map(|input| input.previous_output.txid);
        let parents = spent.filter(|txid| self.graph.contains(txid)).collect();
        let rate = FeeFraction::new(0, tx.weight().to_wu());
        let addition = Addition { txid: tx.compute_txid(), rate, parents };
        self.graph.contains(&addition.txid) || self.graph.stage(&[addition], &BTreeSet::new(), self.limits()).is_some()
    }

    /// The rate of the chunk that it would be mined with: what it is taken to pay, for its weight.
    #[must_use]
    pub fn chunk_rate(&self, txid: &Txid) -> Option<FeeFraction> {
        self.graph.contains(txid).then(|| self.graph.chunk_of(txid).rate)
    }

    /// Fees over weights of all that waits, summed up chunk by chunk from nothing, the best first.
    #[must_use]
    pub fn diagram(&self) -> Vec<FeeFraction> {
        let mut points = vec![FeeFraction::default()];
        let mut sum = FeeFraction::default();
        for (_, chunk) in self.graph.chunks() {
            sum = sum.plus(chunk.rate);
            points.push(sum);
        }
        points
    }

    /// Does it, or something unconfirmed that it rests on, say that it may be replaced (BIP 125)? `None` if it does not wait
    /// and says nothing itself.
    #[must_use]
    pub fn signals_replacement(&self, txid: &Txid) -> Option<bool> {
        let says = |txid: &Txid| self.entries[txid].tx.input.iter().any(|input| input.sequence.is_rbf());
        self.graph.contains(txid).then(|| self.graph.ancestors(txid).iter().any(says))
    }

    /// The mempool at a glance, at this moment in seconds since 1970.
    #[must_use]
    pub fn info(&self, now: u64) -> MempoolInfo {
        MempoolInfo {
            count: self.entries.len(),
            bytes: self.total_size,
            usage: self.usage(),
            total_fee: self.total_fee,
            size_max: self.options.size_max,
            fee_rate_min: self.fee_rate_min(now),
            relay_rate_min: self.options.relay_rate_min,
            incremental_rate: self.options.incremental_rate,
            unbroadcast: self.unbroadcast.len(),
        }
    }

    /// Upon an operator's word that a transaction pays so much more, or less, than it does. Words add up.
    pub fn prioritise(&mut self, txid: Txid, delta: i64) {
        let sum = self.deltas.get(&txid).copied().unwrap_or(0).saturating_add(delta);
        if sum == 0 {
            self.deltas.remove(&txid);
        } else {
            self.deltas.insert(txid, sum);
        }
        if let Some(entry) = self.entries.get_mut(&txid) {
            entry.fee_delta = sum;
            let fee = entry.modified_fee();
            self.changes += 1;
            self.graph.set_fee(&txid, fee);
        }
    }

    /// All words of the operator, in the order of txids.
    pub fn prioritised(&self) -> impl Iterator<Item = Prioritised> {
        self.deltas.iter().map(|(txid, delta)| Prioritised {
            txid: *txid,
            delta: *delta,
            modified_fee: self.entries.get(txid).map(MempoolEntry::modified_fee),
        })
    }

    /// Upon one that came from here: it is offered again until a peer asks for it.
    pub fn add_unbroadcast(&mut self, txid: Txid) {
        if self.entries.contains_key(&txid) {
            self.unbroadcast.insert(txid);
        }
    }

    /// Upon a peer that asked for it.
    pub fn remove_unbroadcast(&mut self, txid: &Txid) {
        self.unbroadcast.remove(txid);
    }

    /// Those that came from here and that no peer asked for yet.
    #[must_use]
    pub fn unbroadcast(&self) -> &BTreeSet<Txid> {
        &self.unbroadcast
    }
}
