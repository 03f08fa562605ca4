//! One wallet: its sources, its transactions, and what people call its addresses.
//!
//! Deliberately absent: what follows from blocks (`track`), what it has (`coins`), how it is written down (`file`).

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::bip32::Xpriv;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, OutPoint, ScriptBuf, Txid};

use super::record::Record;
use super::secret::{self, Entropy, Lock};
use super::source::{KINDS, Source, standard};
use crate::session::rpc::descriptor::{self, Known};

/// What a wallet is for, as it was made or set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// It never has private keys.
    pub(crate) watch_only: bool,
    /// It has no keys yet.
    pub(crate) blank: bool,
    /// An address that was spent from is not used again.
    pub(crate) avoid_reuse: bool,
}

/// What people call an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) label: String,
    /// It is of the wallet: `receive`, not `send`.
    pub(crate) receive: bool,
}

/// A wallet.
#[derive(Clone, Debug)]
pub(crate) struct Wallet {
    pub(crate) name: String,
    pub(crate) network: Network,
    pub(crate) flags: Flags,
    pub(crate) sources: Vec<Source>,
    pub(crate) book: BTreeMap<ScriptBuf, Named>,
    pub(crate) records: BTreeMap<Txid, Record>,
    /// Outputs that are left alone, and whether that is written down.
    pub(crate) locked: BTreeMap<OutPoint, bool>,
    pub(crate) order_next: u64,
    /// The last block that it looked at.
    pub(crate) best: (BlockHash, u32),
    pub(crate) lock: Option<Lock>,
    /// The master key, while it is unlocked.
    pub(crate) master: Option<[u8; 32]>,
    /// Until when it is unlocked, in seconds since 1970.
    pub(crate) unlocked_until: u64,
    /// So many addresses are watched beyond those that were given out.
    pub(crate) ahead: u32,
    /// Scripts, by source and place.
    pub(crate) scripts: BTreeMap<ScriptBuf, (usize, u32)>,
    /// Who spends an output.
    pub(crate) spenders: BTreeMap<OutPoint, BTreeSet<Txid>>,
    /// Scripts of which something was spent.
    pub(crate) used: BTreeSet<ScriptBuf>,
    /// When its payments are told again, in seconds since 1970; 0 if that is not chosen yet.
    pub(crate) resend_at: u64,
    /// Outputs that were not written down yet.
    pub(crate) dirty: bool,
    /// Transactions that came or moved since anybody asked, and their blocks.
    pub(crate) news: Vec<(Txid, Option<(BlockHash, u32)>)>,
}

impl Wallet {
    /// An empty one, as of this block.
    pub(crate) fn new(name: &str, network: Network, flags: Flags, best: (BlockHash, u32), ahead: u32) -> Self {
        Self {
            name: name.to_owned(),
            network,
            flags,
            sources: Vec::new(),
            book: BTreeMap::new(),
            records: BTreeMap::new(),
            locked: BTreeMap::new(),
            order_next: 0,
            best,
            lock: None,
            master: None,
            unlocked_until: 0,
            ahead: ahead.max(1),
            scripts: BTreeMap::new(),
            spenders: BTreeMap::new(),
            used: BTreeSet::new(),
            resend_at: 0,
            dirty: true,
            news: Vec::new(),
        }
    }

    /// Gives it the usual descriptors over a new master key.
    pub(crate) fn add_standard(&mut self, entropy: &mut Entropy, now: u64) {
        let master = Xpriv::new_master(self.network, &entropy.next()).expect("all but a few of 2^256 keys are valid");
        for kind in KINDS {
            for internal in [false, true] {
                let text = standard(&master, kind, internal, self.network);
                let full = descriptor::parse(&text, self.network, true).expect("it is of a known form").remove(0);
                let mut source = Source::new(full, self.network, now).expect("it is of a known form");
                (source.active, source.internal) = (true, internal);
                self.add_source(source, entropy);
            }
        }
        self.flags.blank = false;
    }

    /// Adds a source, sealed if the wallet is. Its place.
    pub(crate) fn add_source(&mut self, mut source: Source, entropy: &mut Entropy) -> usize {
        if let (Some(master), Some(private)) = (self.master, source.private()) {
            source.sealed = Some(secret::seal(master, entropy.bytes(), private.private_text().as_bytes()));
        }
        if source.active {
            let kind = source.kind();
            for other in &mut self.sources {
                if other.active && other.internal == source.internal && other.kind() == kind {
                    other.active = false;
                }
            }
        }
        source.reach(self.ahead);
        self.sources.push(source);
        self.dirty = true;
        self.derive_if_few();
        self.sources.len() - 1
    }

    /// Derives what is watched and was not derived yet.
    pub(crate) fn derive(&mut self) {
        for (at, source) in self.sources.iter_mut().enumerate() {
            let from = source.derived.max(source.begin);
            for index in from..source.end {
                // What cannot be derived without private keys is derived once they are there.
                let Some(scripts) = source.expand(index, &mut Known::default()) else { break };
                for script in scripts {
                    self.scripts.entry(script).or_insert((at, index));
                }
                source.derived = index + 1;
            }
        }
    }

    /// Derives at once what is a matter of a moment. What takes longer waits until something could be found by it.
    fn derive_if_few(&mut self) {
        const FEW: u32 = 64;
        if self.ahead <= FEW {
            self.derive();
        }
    }

    /// All that is watched, derived anew.
    pub(crate) fn derive_all(&mut self) {
        self.scripts.clear();
        self.sources.iter_mut().for_each(|source| source.derived = 0);
        self.derive();
    }

    /// Is an output with this script the wallet's?
    pub(crate) fn is_mine(&self, script: &bitcoin::Script) -> bool {
        self.scripts.contains_key(script)
    }

    /// Which source has a script.
    pub(crate) fn source_of(&self, script: &bitcoin::Script) -> Option<(&Source, u32)> {
        let (at, index) = self.scripts.get(script)?;
        Some((&self.sources[*at], *index))
    }

    /// Adds what is known of a script, with private keys if they are at hand. False if it is not the wallet's.
    pub(crate) fn explain(&self, script: &bitcoin::Script, known: &mut Known) -> bool {
        self.source_of(script).is_some_and(|(source, index)| source.expand_private(index, known).is_some())
    }

    /// Where new addresses of a type come from.
    pub(crate) fn active(&self, kind: &str, internal: bool) -> Option<usize> {
        let fits = |source: &Source| source.active && source.internal == internal && source.kind() == Some(kind);
        self.sources.iter().position(fits)
    }

    /// Watches what is next to be given out, as it may have been since this was written down.
    pub(crate) fn top_up(&mut self) {
        for source in self.sources.iter_mut().filter(|source| source.active) {
            source.reach(self.ahead);
        }
    }

    /// The next script of a source; none if it cannot be derived.
    pub(crate) fn give_out(&mut self, at: usize) -> Option<ScriptBuf> {
        let source = &mut self.sources[at];
        // The next ones are made ready before this one is given out, and not because of it.
        source.reach(self.ahead);
        let index = source.next;
        let script = match source.expand(index, &mut Known::default()) {
            Some(mut scripts) => scripts.pop()?,
            // Its private keys are locked up, and it may have been derived before that.
            None => self.scripts.iter().find(|(_, place)| **place == (at, index))?.0.clone(),
        };
        source.next = index.checked_add(1)?;
        self.scripts.entry(script.clone()).or_insert((at, index));
        self.dirty = true;
        self.derive_if_few();
        Some(script)
    }

    /// The last that was given out comes back, since nothing became of it.
    pub(crate) fn take_back(&mut self, script: &ScriptBuf) {
        if let Some((at, index)) = self.scripts.get(script).copied()
            && self.sources[at].next == index + 1
        {
            self.sources[at].next = index;
        }
    }

    pub(crate) fn can_give_out(&self, internal: bool) -> bool {
        self.sources.iter().any(|source| source.active && source.internal == internal)
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.lock.is_some()
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some() && self.master.is_none()
    }

    /// Seals all private keys under a passphrase; the wallet is locked then.
    pub(crate) fn encrypt(&mut self, passphrase: &str, entropy: &mut Entropy) {
        let master: [u8; 32] = entropy.bytes();
        self.lock = Some(Lock::new(passphrase, master, entropy));
        self.master = Some(master);
        for source in &mut self.sources {
            if let Some(private) = source.private() {
                source.sealed = Some(secret::seal(master, entropy.bytes(), private.private_text().as_bytes()));
            }
        }
        self.lock_up();
        self.dirty = true;
    }

    /// Forgets what the passphrase opened.
    pub(crate) fn lock_up(&mut self) {
        if self.lock.is_some() {
            self.master = None;
            self.unlocked_until = 0;
            self.sources.iter_mut().for_each(Source::lock);
        }
    }

    /// Opens what is sealed. False if the passphrase is wrong.
    pub(crate) fn unlock(&mut self, passphrase: &str) -> bool {
        let Some(master) = self.lock.as_ref().and_then(|lock| lock.open(passphrase)) else { return false };
        self.master = Some(master);
        let network = self.network;
        for source in &mut self.sources {
            if let Some(sealed) = &source.sealed {
                let text = secret::open(master, sealed).and_then(|bytes| String::from_utf8(bytes).ok());
                if !text.is_some_and(|text| source.unlock(&text, network)) {
                    return false;
                }
            }
        }
        self.derive();
        true
    }

    /// Locks itself when its time is over.
    pub(crate) fn on_time(&mut self, now: u64) {
        if self.master.is_some() && self.unlocked_until <= now {
            self.lock_up();
        }
    }

    /// How many addresses are ready, for others and for change.
    pub(crate) fn ready(&self) -> (u32, u32) {
        let count = |internal: bool| {
            let of = |source: &&Source| source.active && source.internal == internal;
            self.sources.iter().filter(of).map(Source::ready).sum()
        };
        (count(false), count(true))
    }

    /// Since when something may be its own, in seconds since 1970.
    pub(crate) fn birth(&self) -> Option<u64> {
        let sources = self.sources.iter().map(|source| source.timestamp);
        sources.chain(self.records.values().map(|record| record.time)).min()
    }

    /// The label of an address, which its own have though nobody gave them one.
    pub(crate) fn label(&self, script: &bitcoin::Script) -> Option<&str> {
        self.book.get(script).map(|named| named.label.as_str())
    }

    /// An output for change: the wallet's, and nobody was told of it.
    pub(crate) fn is_change(&self, script: &bitcoin::Script) -> bool {
        self.is_mine(script) && !self.book.contains_key(script)
    }

    /// Puts together again what follows from the rest.
    pub(crate) fn rebuild(&mut self) {
        self.spenders.clear();
        self.used.clear();
        let ids: Vec<Txid> = self.records.keys().copied().collect();
        for txid in ids {
            self.note_spends(&txid);
        }
    }

    /// A transaction is no more the wallet's. False if it never was.
    pub(crate) fn forget(&mut self, txid: &Txid) -> bool {
        if self.records.remove(txid).is_none() {
            return false;
        }
        for record in self.records.values_mut() {
            record.conflicts.remove(txid);
        }
        self.rebuild();
        self.dirty = true;
        true
    }

    /// Notes what a transaction of the wallet spends.
    pub(crate) fn note_spends(&mut self, txid: &Txid) {
        let Some(record) = self.records.get(txid) else { return };
        if record.is_coinbase() {
            return;
        }
        let tx = std::sync::Arc::clone(&record.tx);
        for input in &tx.input {
            self.spenders.entry(input.previous_output).or_default().insert(*txid);
            self.locked.remove(&input.previous_output);
            let out = self.output(&input.previous_output);
            if let Some(script) = out.map(|out| out.script_pubkey.clone()).filter(|script| self.is_mine(script)) {
                self.used.insert(script);
            }
        }
    }

    /// An output of a transaction of the wallet.
    pub(crate) fn output(&self, outpoint: &OutPoint) -> Option<&bitcoin::TxOut> {
        self.records.get(&outpoint.txid)?.tx.output.get(usize::try_from(outpoint.vout).ok()?)
    }

    /// Holds together?
    pub(crate) fn invariants(&self) {
        for (txid, record) in &self.records {
            assert_eq!(record.tx.compute_txid(), *txid, "a record is found by its transaction's id");
            assert!(record.order < self.order_next, "orders are given out once");
        }
        assert!(
            self.sources.iter().all(|source| source.sealed.is_none() || self.lock.is_some()),
            "sealed under a lock"
        );
        assert!(!self.flags.watch_only || self.sources.iter().all(|source| !source.has_private()), "watch only");
        assert_ne!(self.best.0, BlockHash::all_zeros(), "a wallet looked at some block");
    }
}
