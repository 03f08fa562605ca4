//! The state of a ledger, and what each command does to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::{Command as Ordered, Effects, ReadOutcome, RestoreError, StateMachine};
use verity_types::{Digest, LogIndex};

use super::abroad::{Abroad, Elsewhere};
use super::app::App;
use super::command::{Command, Reply};
use super::draw::Drawing;
use super::index::Index;
use super::pool::{Pool, PoolLimits};
use super::query::{Answer, Proposed, Query, address, encode_answer};
use super::store::Store;
use crate::wire::{Address, BlockId, Commit, ConsensusParams, Genesis, Hash, Time, Validators, root, sha256};

/// A bug that is planted to see whether it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    #[default]
    None,
    /// The last of several transactions of a block waits for another one.
    TransactionStaysWaiting,
    /// A header says the state before the one that the last block left.
    HeaderSaysOldState,
}

/// What a ledger keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// So many of the last blocks can be read and searched.
    pub retain_blocks: u64,
    /// They hold at most about so many bytes of memory.
    pub retain_bytes: u64,
    /// Bounds of what waits for a block.
    pub pool: PoolLimits,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { retain_blocks: 10_000, retain_bytes: 256 << 20, pool: PoolLimits::default() }
    }
}

/// The last block that stands, or what stands before the first one.
#[derive(Clone, Debug)]
pub(super) struct Tip {
    pub(super) height: u64,
    pub(super) id: BlockId,
    pub(super) time: Time,
    /// Of the state before it, which its header says.
    pub(super) said: Bytes,
    /// Of the state behind it, which the next header will say.
    pub(super) app_hash: Bytes,
    /// Of what its transactions came to.
    pub(super) results_hash: Hash,
    /// The votes for it so far: more than two thirds.
    pub(super) seen: Commit,
}

/// A block that was cut and does not stand yet.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) encoded: Bytes,
    pub(super) time: Time,
    pub(super) height: u64,
    /// The votes for it so far.
    pub(super) votes: Commit,
    /// Who signed another block of this height, and which. It is this node's own, and no part of the common state.
    pub(super) others: BTreeMap<Address, BlockId>,
}

/// A ledger.
pub struct Ledger {
    pub(super) config: LedgerConfig,
    pub(super) genesis: Arc<Genesis>,
    pub(super) validators: Validators,
    pub(super) params: ConsensusParams,
    pub(super) app: Box<dyn App>,
    /// The application, if it runs in another process.
    pub(super) abroad: Option<Abroad>,
    /// Why it cannot go on.
    pub(super) failed: Option<String>,
    pub(super) mutant: Mutant,
    pub(super) pool: Pool,
    pub(super) store: Store,
    pub(super) index: Index,
    pub(super) tip: Tip,
    pub(super) proposal: Option<Proposal>,
    pub(super) drawing: Option<Drawing>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("tip", &self.tip).finish_non_exhaustive()
    }
}

impl Ledger {
    /// A ledger that begins.
    ///
    /// # Panics
    /// If no chain can begin with the genesis: [`Genesis::check`] says so before.
    #[must_use]
    pub fn new(config: LedgerConfig, genesis: Arc<Genesis>, mut app: Box<dyn App>) -> Self {
        genesis.check().expect("a genesis is checked by who reads it");
        let app_hash = app.init_chain(&genesis.chain_id, genesis.time);
        Self {
            tip: Tip {
                height: 0,
                id: BlockId::default(),
                time: genesis.time,
                said: Bytes::new(),
                app_hash,
                results_hash: root::<Bytes>(&[]),
                seen: Commit::default(),
            },
            validators: genesis.set(),
            params: ConsensusParams::default(),
            app,
            abroad: None,
            failed: None,
            mutant: Mutant::None,
            pool: Pool::default(),
            store: Store::default(),
            index: Index::default(),
            proposal: None,
            drawing: None,
            config,
            genesis,
        }
    }

    /// A ledger that begins, and whose application runs in another process.
    ///
    /// # Panics
    /// If no chain can begin with the genesis: [`Genesis::check`] says so before.
    #[must_use]
    pub fn abroad(config: LedgerConfig, genesis: Arc<Genesis>) -> Self {
        Self { abroad: Some(Abroad::default()), ..Self::new(config, genesis, Box::new(Elsewhere)) }
    }

    /// The same, with a bug.
    #[must_use]
    pub fn with_mutant(self, mutant: Mutant) -> Self {
        Self { mutant, ..self }
    }

    /// The application is asked something.
    pub(super) fn is_busy(&self) -> bool {
        self.abroad.as_ref().is_some_and(Abroad::is_busy)
    }

    /// Of the application's protocol.
    pub(super) fn app_version(&mut self) -> u64 {
        match &self.abroad {
            Some(abroad) => abroad.version.expect("the chain has begun there"),
            None => self.app.info().app_version.0,
        }
    }

    /// Applies a command; false if it is the last one.
    pub(super) fn apply_one(&mut self, command: &Ordered, effects: &mut Effects) -> bool {
        let reply = self.on_command(&command.bytes, effects);
        effects.reply(command.request, reply.encode());
        self.failed.take().map(|why| effects.fail(why)).is_none()
    }

    /// The height of the last block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.tip.height
    }

    fn on_command(&mut self, bytes: &Bytes, effects: &mut Effects) -> Reply {
        match Command::decode(bytes) {
            Ok(Command::Tx(tx)) => {
                let reply = self.on_tx(&tx);
                self.cut_if_due(effects);
                reply
            }
            Ok(Command::Vote(vote, named)) => {
                let reply = self.on_vote(vote, named, effects);
                self.cut_if_due(effects);
                reply
            }
            Ok(Command::Cut) => {
                if self.proposal.is_none() {
                    self.cut(effects);
                }
                Reply::Done
            }
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    fn on_tx(&mut self, tx: &Bytes) -> Reply {
        let hash = sha256(tx);
        if let Some(why) = self.pool.refuse(&self.config.pool, &hash, tx) {
            return Reply::Refused(why);
        }
        let check = self.app.check_tx(tx);
        if check.code == 0 {
            self.pool.push(&self.config.pool, hash, tx);
        }
        Reply::Checked(check)
    }

    /// What a validator has not signed yet: the block under way, or the last one.
    fn unsigned(&self, bytes: &Bytes) -> Answer {
        let none = Ok(Bytes::new());
        let Some((at, _)) = address(bytes).and_then(|address| self.validators.find(&address)) else { return none };
        let (height, time, votes) = match &self.proposal {
            Some(proposal) => (proposal.height, proposal.time, &proposal.votes),
            None => (self.tip.height, self.tip.time, &self.tip.seen),
        };
        match votes.signatures.get(at) {
            Some(signature) if signature.vote.is_none() => Ok(Proposed { height, id: votes.block_id, time }.encode()),
            _ => none,
        }
    }
}

impl StateMachine for Ledger {
    fn apply(&mut self, batch: &[Ordered], effects: &mut Effects) {
        if self.abroad.is_some() {
            return self.apply_abroad(batch, effects);
        }
        for command in batch {
            if !self.apply_one(command, effects) {
                return;
            }
        }
    }

    fn on_answer(&mut self, answer: Bytes, effects: &mut Effects) {
        self.on_answer_abroad(answer, effects);
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        let answer = match Query::decode(query) {
            Ok(Query::Unsigned { address }) => self.unsigned(&address),
            Ok(query) => self.answer(query).map(Bytes::from),
            Err(error) => Err(error.to_string()),
        };
        ReadOutcome::Ready(encode_answer(answer))
    }

    fn snapshot_saved(&mut self, _index: LogIndex) {
        self.note_saved();
    }

    fn snapshot_begin(&mut self) {
        self.note_drawing();
        self.draw_begin();
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        self.draw_next(size_max)
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        self.restore_from(chunks)
    }

    fn digest(&self) -> Digest {
        let mut state = Vec::with_capacity(512);
        state.extend_from_slice(&self.tip.height.to_be_bytes());
        state.extend_from_slice(&self.tip.id.hash);
        state.extend_from_slice(&sha256(&self.tip.app_hash));
        state.extend_from_slice(&self.tip.results_hash);
        state.extend_from_slice(&self.tip.seen.hash());
        state.extend_from_slice(&self.store.base().to_be_bytes());
        state.extend_from_slice(&self.store.trail().end());
        state.extend(self.app.aside().iter().flat_map(|word| word.to_be_bytes()));
        if let Some(abroad) = &self.abroad {
            state.extend_from_slice(&abroad.version.map_or(0, |version| version + 1).to_be_bytes());
            state.extend_from_slice(&sha256(&abroad.first_hash));
        }
        state.extend_from_slice(&self.pool.fingerprint());
        if let Some(proposal) = &self.proposal {
            state.extend_from_slice(&proposal.votes.block_id.hash);
            state.extend_from_slice(&proposal.votes.block_id.parts.hash);
            state.extend_from_slice(&proposal.votes.hash());
        }
        Digest(sha256(&state))
    }

    fn size(&self) -> u64 {
        self.store.bytes() + self.app.size() + self.pool.bytes()
    }

    fn invariants(&self) {
        self.pool.invariants();
        assert_eq!(self.store.height(), self.tip.height, "the last block is stored");
        assert!(self.tip.height == 0 || self.validators.is_quorum(self.tip.seen.votes()), "what stands is signed");
        if let Some(proposal) = &self.proposal {
            assert_eq!(proposal.height, self.tip.height + 1, "one block after the other");
            assert!(!self.validators.is_quorum(proposal.votes.votes()), "what is signed stands");
        } else if !self.is_busy() {
            assert_eq!(self.pool.proposed, 0, "what is proposed is in a block");
        }
    }
}
