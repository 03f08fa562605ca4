//! Transactions, as peers announce and bring them.
//!
//! - upon an `inv`: transactions are asked for in time (`transactions`); a block that is not known is reason to ask for headers;
//! - upon a transaction: the mempool judges it; if it is taken all are told, and orphans of it are tried again; if its parents
//!   are missing it becomes an orphan; if it pays too little a child may pay for it;
//! - upon one from a peer that should send none: the peer is let go.

use std::sync::Arc;

use bitcoin::Transaction;

use super::PeerId;
use super::bloom::Bloom;
use super::config::Permissions;
use super::machine::{Peers, Step};
use super::serve::INVENTORY_MAX;
use super::transactions::{ANNOUNCEMENTS_MAX, Package, Received, Request};
use crate::chain::ChainError;
use crate::mempool::{AcceptOptions, Accepted, PackageTx, TxReject, TxRejectKind};
use crate::wire::{Inventory, Item, Services};

const MONEY_MAX: i64 = 21_000_000 * 100_000_000;
/// A script pushes no more bytes at once.
const ELEMENT_MAX: usize = 520;
/// Larger ones are not kept for compact blocks.
const EXTRA_SIZE_MAX: usize = 100_000;

impl Peers {
    pub(super) fn on_inv(&mut self, step: &mut Step<'_>, id: PeerId, list: &[Inventory]) {
        if list.len() > INVENTORY_MAX {
            return self.blame(step, id, &format!("inv message size = {}", list.len()));
        }
        let refuses = self.refuses_transactions(id);
        let by_wtxid = self.peers[&id].wtxid_relay;
        let mut block = None;
        for item in list {
            if (by_wtxid && item.item == Item::Tx) || (!by_wtxid && item.item == Item::Wtx) {
                continue;
            }
            if item.item == Item::Block {
                let hash = item.block_hash();
                let known = step.node.chain().tree().find(&hash).is_some();
                tell_inv(step, id, item, known);
                self.note_announced(step, id, hash);
                if !known && self.asked(&hash).is_empty() {
                    block = Some(hash);
                }
            } else if item.is_transaction() {
                if refuses {
                    let why = format!("transaction ({}) inv sent in violation of protocol", item.hex());
                    return self.close(step, id, &why);
                }
                self.note_known(id, &item.hash);
                if !self.downloading {
                    let request = Request { hash: item.hash, wtxid: item.item == Item::Wtx };
                    let known = self.downloads.on_announced(step.node.mempool(), id, request, step.now);
                    tell_inv(step, id, item, known);
                    self.tell_of_downloads(step);
                }
            } else {
                step.log("net", format!("Unknown inv type \"{item}\" received from peer={id}"));
            }
        }
        if let Some(hash) = block {
            self.on_block_inv(step, id, hash);
        }
    }

    /// Upon a block that nobody told the header of.
    fn on_block_inv(&mut self, step: &mut Step<'_>, id: PeerId, hash: bitcoin::BlockHash) {
        let sync = &self.peers[&id].sync;
        let started = sync.started;
        if !started && (sync.inv_before_sync || self.inv_triggering == Some(hash)) {
            return;
        }
        if self.ask_headers_from_best(step, id) {
            let chain = step.node.chain();
            let height = chain.entry(chain.best_header()).height;
            step.log("net", format!("getheaders ({height}) {hash} to peer={id}"));
        }
        if !started {
            self.peer(id).sync.inv_before_sync = true;
            self.inv_triggering = Some(hash);
        }
    }

    fn note_known(&mut self, id: PeerId, hash: &[u8; 32]) {
        if let Some(relay) = &mut self.peer(id).tx {
            relay.known.insert(hash);
        }
    }

    pub(super) fn on_notfound(&mut self, id: PeerId, list: &[Inventory]) {
        if list.len() > ANNOUNCEMENTS_MAX + super::fetch::IN_FLIGHT_MAX {
            return;
        }
        list.iter().filter(|item| item.is_transaction()).for_each(|item| self.downloads.on_not_found(id, &item.hash));
    }

    pub(super) fn on_tx(&mut self, step: &mut Step<'_>, id: PeerId, tx: Arc<Transaction>) -> Result<(), ChainError> {
        if self.refuses_transactions(id) {
            self.close(step, id, "transaction sent in violation of protocol");
            return Ok(());
        }
        if self.downloading {
            return Ok(());
        }
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let name = if self.peers[&id].wtxid_relay { Inventory::wtx(wtxid) } else { Inventory::tx(txid) };
        self.note_known(id, &name.hash);
        let received = self.downloads.on_received(step.node.mempool(), id, &tx);
        self.tell_of_downloads(step);
        match received {
            Received::Judge => {
                let result = self.judge(step, &tx)?;
                if result.is_ok() {
                    let seconds = step.seconds();
                    self.peer(id).last_transaction = seconds;
                }
                self.on_judged(step, id, &tx, result, true)
            }
            Received::Known => {
                self.force_relay(step, id, &tx);
                Ok(())
            }
            Received::Package(package) => {
                self.force_relay(step, id, &tx);
                self.judge_package(step, &package)
            }
        }
    }

    fn force_relay(&mut self, step: &mut Step<'_>, id: PeerId, tx: &Transaction) {
        if !self.peers[&id].has(Permissions::FORCE_RELAY) {
            return;
        }
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        if step.node.mempool().get(&txid).is_some() {
            step.log("", format!("Force relaying tx {txid} (wtxid={wtxid}) from peer={id}"));
            self.broadcast(tx);
        } else {
            step.log(
                "",
                format!("Not relaying non-mempool transaction {txid} (wtxid={wtxid}) from forcerelay peer={id}"),
            );
        }
    }

    fn judge(&mut self, step: &mut Step<'_>, tx: &Arc<Transaction>) -> Result<Result<Accepted, TxReject>, ChainError> {
        step.node.on_transaction(Arc::clone(tx), AcceptOptions::default())
    }

    fn on_judged(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        tx: &Arc<Transaction>,
        result: Result<Accepted, TxReject>,
        first: bool,
    ) -> Result<(), ChainError> {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let reject = match result {
            Ok(accepted) => {
                let (count, kilobytes) =
                    (step.node.mempool().len(), step.node.mempool().info(step.seconds()).usage / 1_000);
                let pool = format!("(poolsz {count} txn, {kilobytes} kB)");
                step.log("mempool", format!("AcceptToMemoryPool: peer={id}: accepted {txid} (wtxid={wtxid}) {pool}"));
                self.on_accepted(tx, &accepted.replaced);
                return Ok(());
            }
            Err(reject) => reject,
        };
        let (reason, debug) = (&reject.reason, &reject.debug);
        let more = if debug.is_empty() { String::new() } else { format!(", {debug}") };
        step.log("mempoolrej", format!("{txid} (wtxid={wtxid}) from peer={id} was not accepted: {reason}{more}"));
        let mempool = step.node.mempool();
        let refused = self.downloads.on_refused(mempool, tx, &reject, id, first, step.now);
        self.tell_of_downloads(step);
        if refused.keep && tx.total_size() < EXTRA_SIZE_MAX {
            self.keep_extra(tx);
        }
        if self.peers.contains_key(&id) {
            for parent in refused.parents {
                self.note_known(id, &Inventory::tx(parent).hash);
            }
        }
        match refused.package {
            Some(package) => self.judge_package(step, &package),
            None => Ok(()),
        }
    }

    fn on_accepted(&mut self, tx: &Arc<Transaction>, replaced: &[Arc<Transaction>]) {
        let rng = &mut self.rng;
        self.downloads.on_accepted(tx, |count| rng.usize(..count));
        self.broadcast(tx);
        replaced.iter().for_each(|tx| self.keep_extra(tx));
    }

    fn keep_extra(&mut self, tx: &Arc<Transaction>) {
        if self.config.extra_transactions == 0 {
            return;
        }
        self.extra.push_back((tx.compute_wtxid(), Arc::clone(tx)));
        while self.extra.len() > self.config.extra_transactions {
            self.extra.pop_front();
        }
    }

    /// A parent that pays too little, with a child that may pay for both.
    fn judge_package(&mut self, step: &mut Step<'_>, package: &Package) -> Result<(), ChainError> {
        let txs = [Arc::clone(&package.parent), Arc::clone(&package.child)];
        let mut outcome = step.node.with_mempool(|mempool, chain, now, events| {
            mempool.accept_package(chain, &txs, now, AcceptOptions::default(), events)
        })?;
        let peer = package.peer;
        let name = |tx: &Transaction| format!("{} (wtxid={}, sender={peer})", tx.compute_txid(), tx.compute_wtxid());
        let (parent, child) = (name(&package.parent), name(&package.child));
        let verdict = if outcome.reject.is_none() { "package accepted" } else { "package rejected" };
        step.log("txpackages", format!("package evaluation for parent {parent} + child {child}: {verdict}"));
        if outcome.reject.is_some() {
            self.downloads.on_package_refused(package);
        }
        // The child first: once the parent is taken its orphans are looked for.
        for tx in txs.iter().rev() {
            let result = match outcome.txs.remove(&tx.compute_wtxid()) {
                Some(PackageTx::Accepted(accepted)) => Ok(accepted),
                Some(PackageTx::Rejected(reject)) => Err(reject),
                Some(PackageTx::AlreadyThere { .. } | PackageTx::OtherWitness(_)) | None => continue,
            };
            self.on_judged(step, package.peer, tx, result, false)?;
        }
        Ok(())
    }

    /// Tries orphans again whose parents came.
    pub(super) fn retry_orphans(&mut self, step: &mut Step<'_>, id: PeerId) -> Result<(), ChainError> {
        while self.downloads.has_again(id) {
            let Some(tx) = self.downloads.take_again(id) else { break };
            let result = self.judge(step, &tx)?;
            let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
            match &result {
                Ok(_) => step.log("txpackages", format!("   accepted orphan tx {txid} (wtxid={wtxid})")),
                Err(reject) => {
                    let reason = &reject.reason;
                    step.log(
                        "txpackages",
                        format!("   invalid orphan tx {txid} (wtxid={wtxid}) from peer={id}. {reason}"),
                    );
                }
            }
            if !matches!(&result, Err(reject) if reject.kind == TxRejectKind::MissingInputs) {
                self.on_judged(step, id, &tx, result, false)?;
            }
        }
        Ok(())
    }

    pub(super) fn on_feefilter(&mut self, step: &mut Step<'_>, id: PeerId, rate: i64) {
        if !(0..=MONEY_MAX).contains(&rate) {
            return;
        }
        if let Some(relay) = &mut self.peer(id).tx {
            relay.fee_filter = rate.cast_unsigned();
        }
        let (whole, rest) = (rate / 100_000_000, rate % 100_000_000);
        step.log("net", format!("received: feefilter of {whole}.{rest:08} BTC/kvB from peer={id}"));
    }

    /// Writes down what became of downloads.
    pub(super) fn tell_of_downloads(&mut self, step: &mut Step<'_>) {
        for line in std::mem::take(&mut self.downloads.lines) {
            step.log("txpackages", line);
        }
    }

    fn serves_bloom(&mut self, step: &mut Step<'_>, id: PeerId, command: &str) -> bool {
        let serves = self.peers[&id].our_services.has(Services::BLOOM);
        if !serves {
            self.close(step, id, &format!("{command} received despite not offering bloom services"));
        }
        serves
    }

    pub(super) fn on_filterload(&mut self, step: &mut Step<'_>, id: PeerId, filter: (Vec<u8>, u32, u32, u8)) {
        if !self.serves_bloom(step, id, "filterload") {
            return;
        }
        let (bits, hashes, tweak, flags) = filter;
        let Some(bloom) = Bloom::new(bits, hashes, tweak, flags) else {
            return self.blame(step, id, "too-large bloom filter");
        };
        if let Some(relay) = &mut self.peer(id).tx {
            (relay.bloom, relay.wants) = (Some(bloom), true);
        }
    }

    pub(super) fn on_filteradd(&mut self, step: &mut Step<'_>, id: PeerId, data: &[u8]) {
        if !self.serves_bloom(step, id, "filteradd") {
            return;
        }
        let good = match &mut self.peer(id).tx {
            _ if data.len() > ELEMENT_MAX => false,
            None => true,
            Some(relay) => relay.bloom.as_mut().map(|bloom| bloom.insert(data)).is_some(),
        };
        if !good {
            self.blame(step, id, "bad filteradd message");
        }
    }

    pub(super) fn on_filterclear(&mut self, step: &mut Step<'_>, id: PeerId) {
        if !self.serves_bloom(step, id, "filterclear") {
            return;
        }
        if let Some(relay) = &mut self.peer(id).tx {
            (relay.bloom, relay.wants) = (None, true);
        }
    }
}

/// Written down for each of thousands: only if anybody reads it.
fn tell_inv(step: &mut Step<'_>, id: PeerId, item: &Inventory, known: bool) {
    if step.verbose {
        step.log("net", format!("got inv: {item} {} peer={id}", if known { "have" } else { "new" }));
    }
}
