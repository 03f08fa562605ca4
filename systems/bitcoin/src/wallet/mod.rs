//! Wallets: keys, what they own on this chain, and how it is spent.
//!
//! - upon events of the node ([`Wallets::on_events`]): every wallet that is loaded follows the chain and the mempool (`track`);
//! - upon a wallet that is loaded: it looks through the blocks since the last one that it knows;
//! - upon a payment: outputs are chosen (`select`), a transaction is made of them (`build`), and signed as all are;
//! - upon anything that must not be lost: the wallet is written down whole before a client hears of it (`file`).
//!
//! Keys come from descriptors (`source`), and are under a passphrase if there is one (`secret`).
//!
//! Deliberately absent: wallets of other programs' formats, keys outside of descriptors, devices that sign.

mod build;
mod coins;
mod file;
mod names;
mod record;
mod rescan;
mod resend;
mod secret;
mod select;
mod size;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod track;
mod truc;

use std::sync::Arc;

use verity_storage::Disk;

use crate::chain::{ChainError, ChainEvent};
use crate::mempool::{AcceptOptions, MempoolEvent};
use crate::node::{Event, Node};
use crate::places::Places;
use crate::session::Notice;

pub(crate) use build::{Choice, Draft, Payment, Plan, build, fee_of, fee_rate};
pub(crate) use coins::{Asked, Coin};
pub(crate) use file::FileError;
pub(crate) use record::{Place, Record};
pub(crate) use rescan::rescan;
pub(crate) use secret::{Entropy, Lock};
pub(crate) use size::input_weight;
pub(crate) use source::{KINDS, Source, standard};
pub(crate) use state::{Flags, Named, Wallet};
pub(crate) use truc::{TRUC_CHILD_WEIGHT_MAX, TRUC_VERSION, spendable, version_mismatch};

const FOLDER: &str = "wallets";
const FILE: &str = "wallet.dat";
/// No name is longer.
const NAME_BYTES_MAX: usize = 255;

/// How wallets are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletOptions {
    /// Those that are loaded at the start (`-wallet`).
    pub load: Vec<String>,
    /// So many addresses are watched beyond those that were given out (`-keypool`).
    pub ahead: u32,
    /// What is paid where nothing is estimated, in satoshi per 1,000 vbytes; 0 to refuse (`-fallbackfee`).
    pub fallback_rate: u64,
    /// Nothing is paid below it (`-mintxfee`).
    pub rate_min: u64,
    /// Change that costs more than its worth at this rate becomes fee (`-discardfee`).
    pub discard_rate: u64,
    /// At rates below it outputs are gathered (`-consolidatefeerate`).
    pub long_term_rate: u64,
    /// No fee above it, in satoshi (`-maxtxfee`).
    pub fee_max: u64,
    /// Blocks within which a transaction is to be confirmed (`-txconfirmtarget`).
    pub target: u32,
    /// Transactions may be replaced (`-walletrbf`).
    pub replaceable: bool,
    /// Change may be spent before it is confirmed (`-spendzeroconfchange`).
    pub spend_unconfirmed: bool,
    /// The type of new addresses (`-addresstype`).
    pub address_type: String,
    /// The type of addresses for change, if it is always the same (`-changetype`).
    pub change_type: Option<String>,
    /// Nothing is made that the mempool has no room for behind its parents (`-walletrejectlongchains`).
    pub reject_long_chains: bool,
    /// A chain is too long that has so many, one behind the other (`-limitancestorcount`).
    pub chain_max: usize,
    /// It is too long as well if so many hang together in it (`-limitdescendantcount`).
    pub cluster_max: usize,
    /// Transactions are sent to peers (`-walletbroadcast`).
    pub broadcast: bool,
    /// What was paid to one address is spent together (`-avoidpartialspends`).
    pub avoid_partial_spends: bool,
    /// What was paid to one address is spent together if that costs no more than so many satoshi beyond the fee (`-maxapsfee`);
    /// it is not looked at if there is none.
    pub together_fee_max: Option<u64>,
}

impl Default for WalletOptions {
    fn default() -> Self {
        Self {
            load: Vec::new(),
            ahead: 1_000,
            fallback_rate: 0,
            rate_min: 1_000,
            discard_rate: 10_000,
            long_term_rate: 10_000,
            fee_max: 10_000_000,
            target: 6,
            replaceable: true,
            spend_unconfirmed: true,
            address_type: "bech32".into(),
            change_type: None,
            reject_long_chains: true,
            chain_max: 25,
            cluster_max: 25,
            broadcast: true,
            avoid_partial_spends: false,
            together_fee_max: Some(0),
        }
    }
}

/// Why something could not be done with a wallet's file: a number for clients, and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoadError {
    /// It is not there.
    NotFound(String),
    /// It is there already.
    Exists(String),
    /// It is loaded already.
    Loaded,
    /// It is no wallet's.
    Unknown(String),
    /// It cannot be read or written.
    Broken(String),
    /// The node cannot go on.
    Chain(String),
}

impl From<FileError> for LoadError {
    fn from(error: FileError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// All wallets that are loaded.
#[derive(Debug)]
pub struct Wallets {
    places: Places,
    /// The wallet without a name was loaded although nobody had asked for it.
    nameless: bool,
    pub(crate) options: WalletOptions,
    loaded: Vec<Wallet>,
    pub(crate) entropy: Entropy,
}

impl Wallets {
    /// None is loaded yet. HAZARD: the seed makes keys; nobody may know it, and it must never come twice.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, folder: &str, options: WalletOptions, seed: [u8; 32]) -> Self {
        Self {
            places: Places { own: disk, path: folder.to_owned(), outside: None },
            nameless: false,
            options,
            loaded: Vec::new(),
            entropy: Entropy::new(seed),
        }
    }

    /// Backups may be kept in any folder of this disk, which begins where absolute paths do.
    pub fn set_outside(&mut self, outside: Option<Arc<dyn Disk>>) {
        self.places.outside = outside;
    }

    /// Loads those that are to be loaded at the start. Words for each that could not be.
    ///
    /// # Errors
    /// The disk's.
    pub fn start(&mut self, node: &mut Node) -> Result<Vec<String>, ChainError> {
        let mut failed = Vec::new();
        let broken = |error: FileError| ChainError::Corrupt(error.to_string());
        let mut all = self.options.load.clone();
        all.extend(names::at_start(self.places.own.as_ref()).map_err(broken)?);
        // The one without a name is of older days, and loaded where nobody says which ones are.
        self.nameless = all.is_empty() && self.places.own.exists(&Self::path("").0)?;
        if self.nameless {
            all.push(String::new());
        }
        for name in all {
            match self.load(&name, node) {
                Ok(()) | Err(LoadError::Loaded) => {}
                Err(
                    LoadError::NotFound(words)
                    | LoadError::Exists(words)
                    | LoadError::Unknown(words)
                    | LoadError::Broken(words),
                ) => failed.push(words),
                Err(LoadError::Chain(words)) => return Err(ChainError::Corrupt(words)),
            }
        }
        Ok(failed)
    }

    /// Where a wallet's file is, and its folder.
    fn path(name: &str) -> (String, String) {
        let folder = if name.is_empty() { FOLDER.to_owned() } else { format!("{FOLDER}/{name}") };
        (format!("{folder}/{FILE}"), folder)
    }

    /// Where it is, for people.
    pub(crate) fn shown_path(&self, name: &str) -> String {
        format!("{}/{}", self.places.path, Self::path(name).1)
    }

    /// May a wallet have this name? It is a path below the folder of wallets.
    fn is_name(name: &str) -> bool {
        let part = |part: &str| !part.is_empty() && !matches!(part, "." | "..") && !part.contains('\0');
        name.len() <= NAME_BYTES_MAX && (name.is_empty() || name.split('/').all(part))
    }

    fn exists(&self, name: &str) -> Result<bool, LoadError> {
        if !Self::is_name(name) {
            return Err(LoadError::NotFound(format!("{name} is not a name of a wallet below {}", self.places.path)));
        }
        Ok(self.places.own.exists(&Self::path(name).0).map_err(FileError::from)?)
    }

    /// Why what should be a wallet of this name is none.
    fn unreadable(&self, name: &str, error: FileError) -> LoadError {
        match error {
            FileError::Unknown => {
                let path = self.shown_path(name);
                LoadError::Unknown(format!("Failed to load database path '{path}'. {error}"))
            }
            other => other.into(),
        }
    }

    /// Adds a new wallet, and writes it down.
    pub(crate) fn create(&mut self, wallet: Wallet, node: &Node) -> Result<(), LoadError> {
        if self.exists(&wallet.name)? {
            let path = self.shown_path(&wallet.name);
            return Err(LoadError::Exists(format!(
                "Failed to create database path '{path}'. Database already exists."
            )));
        }
        if self.find(&wallet.name).is_some() {
            return Err(LoadError::Loaded);
        }
        let name = wallet.name.clone();
        self.loaded.push(wallet);
        self.flush_one(&name, node)?;
        Ok(names::add(self.places.own.as_ref(), &name)?)
    }

    /// Loads a wallet, and brings it to the tip.
    pub(crate) fn load(&mut self, name: &str, node: &mut Node) -> Result<(), LoadError> {
        if self.find(name).is_some() {
            return Err(LoadError::Loaded);
        }
        if !self.exists(name)? {
            let path = self.shown_path(name);
            return Err(LoadError::NotFound(format!("Failed to load database path '{path}'. Path does not exist.")));
        }
        let bytes = file::read(self.places.own.as_ref(), &Self::path(name).0)?;
        let params = node.chain().params();
        let mut wallet = file::decode(&bytes, name, params.network, params.magic, self.options.ahead)
            .map_err(|error| self.unreadable(name, error))?;
        if rescan::misses_blocks(&wallet, node) {
            let words = "Prune: last wallet synchronisation goes beyond pruned data. You need to -reindex (download the whole blockchain again in case of a pruned node)";
            return Err(LoadError::Broken(words.to_owned()));
        }
        wallet.top_up();
        rescan::catch_up(&mut wallet, node).map_err(|error| LoadError::Chain(error.to_string()))?;
        self.loaded.push(wallet);
        self.resubmit(name, node).map_err(|error| LoadError::Chain(error.to_string()))?;
        self.flush_one(name, node)?;
        Ok(names::add(self.places.own.as_ref(), name)?)
    }

    /// Brings what stands nowhere to the mempool again.
    fn resubmit(&mut self, name: &str, node: &mut Node) -> Result<(), ChainError> {
        if !self.options.broadcast {
            return Ok(());
        }
        let Some(wallet) = self.find(name) else { return Ok(()) };
        let waits = |record: &&Record| record.place == Place::Nowhere { abandoned: false } && !record.is_coinbase();
        let mut waiting: Vec<&Record> = wallet.records.values().filter(waits).collect();
        waiting.sort_by_key(|record| record.order);
        let txs: Vec<_> = waiting.into_iter().map(|record| Arc::clone(&record.tx)).collect();
        for tx in txs {
            // What is refused may be taken later.
            let _refused = node.on_transaction(tx, AcceptOptions::default())?;
        }
        Ok(())
    }

    /// Writes a wallet down, and forgets it.
    pub(crate) fn unload(&mut self, name: &str, node: &Node) -> Result<(), LoadError> {
        self.flush_one(name, node)?;
        self.loaded.retain(|wallet| wallet.name != name);
        Ok(())
    }

    /// Names of all that are loaded.
    pub(crate) fn names(&self) -> Vec<String> {
        self.loaded.iter().map(|wallet| wallet.name.clone()).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Wallet> {
        self.loaded.iter().find(|wallet| wallet.name == name)
    }

    pub(crate) fn find_mut(&mut self, name: &str) -> Option<(&mut Wallet, &mut Entropy, &WalletOptions)> {
        let wallet = self.loaded.iter_mut().find(|wallet| wallet.name == name)?;
        Some((wallet, &mut self.entropy, &self.options))
    }

    /// Names of all wallets in the folder.
    pub(crate) fn on_disk(&self) -> Result<Vec<String>, FileError> {
        let mut there = Vec::new();
        for name in names::all(self.places.own.as_ref())? {
            if self.places.own.exists(&Self::path(&name).0)? {
                there.push(name);
            }
        }
        Ok(there)
    }

    /// Loads a wallet at each start, or not any more; nothing if it is not said.
    pub(crate) fn set_at_start(&self, name: &str, load: Option<bool>) -> Result<(), FileError> {
        let Some(load) = load else { return Ok(()) };
        if self.nameless && load && names::at_start(self.places.own.as_ref())?.is_empty() {
            names::set_at_start(self.places.own.as_ref(), "", true)?;
        }
        names::set_at_start(self.places.own.as_ref(), name, load)
    }

    /// Writes a wallet's bytes somewhere.
    pub(crate) fn back_up(&self, wallet: &Wallet, node: &Node, to: &str) -> Result<(), String> {
        let (disk, path) = self.place(to)?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if Arc::ptr_eq(disk, &self.places.own) {
            disk.create_dir(folder).map_err(|error| error.to_string())?;
        }
        let bytes = file::encode(wallet, node.chain().params().magic);
        file::write(disk.as_ref(), folder, path, &bytes).map_err(|error| error.to_string())
    }

    fn place<'a>(&self, path: &'a str) -> Result<(&Arc<dyn Disk>, &'a str), String> {
        self.places.find(path).ok_or_else(|| format!("{path} is no place for a backup"))
    }

    /// Makes a wallet of a backup.
    pub(crate) fn restore(&mut self, name: &str, from: &str, node: &mut Node) -> Result<(), LoadError> {
        let (disk, place) = self.place(from).map_err(LoadError::NotFound)?;
        let disk = Arc::clone(disk);
        if !disk.exists(place).map_err(FileError::from)? {
            return Err(LoadError::NotFound("Backup file does not exist".into()));
        }
        if self.exists(name)? {
            let path = self.shown_path(name);
            return Err(LoadError::Exists(format!(
                "Failed to restore wallet. Database file exists in '{path}/{FILE}'."
            )));
        }
        let bytes = file::read(disk.as_ref(), place)?;
        let params = node.chain().params();
        file::decode(&bytes, name, params.network, params.magic, self.options.ahead)
            .map_err(|error| self.unreadable(name, error))?;
        let (path, folder) = Self::path(name);
        self.places.own.create_dir(&folder).map_err(FileError::from)?;
        file::write(self.places.own.as_ref(), &folder, &path, &bytes)?;
        self.load(name, node)
    }

    /// Upon what became of the node.
    ///
    /// # Errors
    /// The disk's.
    pub fn on_events(&mut self, node: &Node, events: &[Event]) -> Result<(), ChainError> {
        if events.is_empty() {
            return Ok(());
        }
        let now = node.time();
        for wallet in &mut self.loaded {
            wallet.derive();
            for event in events {
                match event {
                    Event::Chain(ChainEvent::Connected { id, block, .. }) => {
                        let entry = node.chain().entry(*id);
                        // A wallet that was loaded in between knows it already.
                        if wallet.best.0 == block.header.prev_blockhash {
                            wallet.on_connected(entry.hash, entry.height, block, now);
                        }
                    }
                    Event::Chain(ChainEvent::Disconnected { id, block }) => {
                        let entry = node.chain().entry(*id);
                        if wallet.best.0 == entry.hash {
                            wallet.on_disconnected(entry.hash, entry.height, block);
                        }
                    }
                    Event::Mempool(MempoolEvent::Added { tx, .. }) => wallet.on_added(tx, now),
                    Event::Mempool(MempoolEvent::Removed { tx, reason, .. }) => {
                        wallet.on_removed(tx, *reason == "conflict");
                    }
                    Event::Chain(ChainEvent::Invalid { .. })
                    | Event::Mempool(MempoolEvent::Unsent { .. })
                    | Event::Tip { .. } => {}
                }
            }
            // Whatever it missed, it finds by the blocks themselves.
            if wallet.best.0 != node.chain().entry(node.chain().tip()).hash {
                rescan::catch_up(wallet, node)?;
            }
        }
        Ok(())
    }

    /// Transactions that came or moved since this was asked.
    pub fn take_news(&mut self) -> Vec<Notice> {
        let of = |wallet: &mut Wallet| {
            let (name, news) = (wallet.name.clone(), std::mem::take(&mut wallet.news));
            news.into_iter().map(move |(txid, block)| Notice::Transaction { wallet: name.clone(), txid, block })
        };
        self.loaded.iter_mut().flat_map(of).collect()
    }

    /// Upon time, in seconds since 1970: what was unlocked for a while is locked.
    pub fn on_time(&mut self, now: u64) {
        self.loaded.iter_mut().for_each(|wallet| wallet.on_time(now));
    }

    /// Writes a wallet down, if anything of it changed.
    pub(crate) fn flush_one(&mut self, name: &str, node: &Node) -> Result<(), LoadError> {
        let disk = Arc::clone(&self.places.own);
        let Some((wallet, ..)) = self.find_mut(name) else { return Ok(()) };
        if std::mem::take(&mut wallet.dirty) {
            let (path, folder) = Self::path(name);
            disk.create_dir(&folder).map_err(FileError::from)?;
            let bytes = file::encode(wallet, node.chain().params().magic);
            file::write(disk.as_ref(), &folder, &path, &bytes)?;
        }
        Ok(())
    }

    /// Writes all down of which anything changed.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush(&mut self, node: &Node) -> Result<(), ChainError> {
        for name in self.names() {
            self.flush_one(&name, node).map_err(|error| ChainError::Corrupt(format!("wallet {name}: {error:?}")))?;
        }
        Ok(())
    }

    /// What must hold.
    pub fn invariants(&self) {
        self.loaded.iter().for_each(Wallet::invariants);
    }
}
