//! An application in another process: what the order asks of it, and what becomes of its answers.
//!
//! - upon the first command: the chain begins there, by InitChain;
//! - upon a block that is to be cut: PrepareProposal, then ProcessProposal of what it gave;
//! - upon a block that stands: FinalizeBlock, and Commit;
//! - upon an application that is behind (it was restarted, and keeps nothing, or another one stands in its place): the
//!   blocks that it lacks are run there again, each with the hash that it left before, and then the ask is put again.
//!
//! Each ask is [`Effect::Call`](verity_contract::Effect::Call): commands behind it wait for the answer. CheckTx and Query go
//! beside the order, from the session.
//!
//! HAZARD: every node asks an application of its own. One whose PrepareProposal is no function of the blocks before and of
//! its request makes another block than the others, and none of them stands. CometBFT asks the proposer's alone.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::codec::{CodecError, put_blob, put_number, take_blob, take_byte, take_number};
use verity_contract::{Command as Ordered, Effects};

use super::app::{App, AppQuery, BlockToRun, FinalizedBlock};
use super::ledger::{Ledger, Proposal};
use super::store::Stored;
use crate::wire::socket::{self, BlockAsk};
use crate::wire::{Block, CheckTx, Info, QueryResponse, Time};

/// What is asked, for whoever carries it to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// InitChain, if no block was run; what it answered, else.
    Begin = 1,
    /// PrepareProposal.
    Prepare = 2,
    /// ProcessProposal.
    Process = 3,
    /// FinalizeBlock, and Commit behind it.
    Run = 4,
}

/// An ask of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What.
    pub errand: Errand,
    /// For the block of this height; the application must have run the one before it, and no later one.
    pub height: u64,
    /// Answers about blocks up to this height are not asked for again.
    pub floor: u64,
    /// `tendermint.abci.Request`.
    pub request: Bytes,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What the application answered to [`Ask::request`].
    Answer(Bytes),
    /// To [`Errand::Begin`]: its Info, and what it answered to InitChain.
    Begun(Bytes, Bytes),
    /// It has run the blocks up to this height only.
    Behind(u64),
}

impl Ask {
    /// As the effect carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.request.len() + 32);
        out.put_u8(self.errand as u8);
        put_number(&mut out, self.height);
        put_number(&mut out, self.floor);
        out.put_slice(&self.request);
        out.freeze()
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, CodecError> {
        let errand = match take_byte(&mut bytes)? {
            1 => Errand::Begin,
            2 => Errand::Prepare,
            3 => Errand::Process,
            4 => Errand::Run,
            _ => return Err(CodecError("an unknown errand".to_owned())),
        };
        Ok(Self { errand, height: take_number(&mut bytes)?, floor: take_number(&mut bytes)?, request: bytes })
    }
}

impl Told {
    /// As the answer carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Answer(bytes) => {
                out.put_u8(0);
                out.put_slice(bytes);
            }
            Self::Begun(info, init) => {
                out.put_u8(1);
                put_blob(&mut out, info);
                put_blob(&mut out, init);
            }
            Self::Behind(height) => {
                out.put_u8(2);
                put_number(&mut out, *height);
            }
        }
        out.freeze()
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(mut bytes: Bytes) -> Result<Self, CodecError> {
        let blob = |bytes: &mut Bytes| take_blob(bytes, socket::MESSAGE_SIZE_MAX);
        Ok(match take_byte(&mut bytes)? {
            0 => Self::Answer(bytes),
            1 => Self::Begun(blob(&mut bytes)?, blob(&mut bytes)?),
            2 => Self::Behind(take_number(&mut bytes)?),
            _ => return Err(CodecError("an unknown answer".to_owned())),
        })
    }
}

/// What the ledger waits for.
#[derive(Debug)]
enum Doing {
    Begin,
    Prepare,
    Process(Vec<Bytes>),
    Run(Proposal),
}

/// The application's part of the state.
#[derive(Debug, Default)]
pub(super) struct Abroad {
    /// Of its protocol; `None` before the chain has begun there.
    pub(super) version: Option<u64>,
    /// Of the state that it began with.
    pub(super) first_hash: Bytes,
    doing: Option<Doing>,
    /// What was asked last.
    ask: Option<Ask>,
    /// It is to be put out.
    is_new: bool,
    /// A block that is run again, before what was asked is asked again.
    again: Option<u64>,
    /// Commands behind the one that waits.
    left: VecDeque<Ordered>,
    /// The height at which the last snapshot was begun, and that of the last that was saved.
    drawn: u64,
    floor: u64,
}

impl Abroad {
    pub(super) fn is_busy(&self) -> bool {
        self.doing.is_some()
    }

    fn put(&mut self, errand: Errand, height: u64, request: Bytes) {
        self.ask = Some(Ask { errand, height, floor: self.floor, request });
        self.is_new = true;
    }
}

/// What stands in the place of an application that is elsewhere.
#[derive(Debug)]
pub(super) struct Elsewhere;

impl App for Elsewhere {
    fn info(&mut self) -> Info {
        Info::default()
    }

    fn init_chain(&mut self, _chain_id: &str, _time: Time) -> Bytes {
        Bytes::new()
    }

    fn check_tx(&self, _tx: &[u8]) -> CheckTx {
        CheckTx::default()
    }

    fn prepare_proposal(&self, _txs: &[Bytes], _bytes_max: usize) -> Vec<Bytes> {
        unreachable!("it is asked outside")
    }

    fn process_proposal(&self, _txs: &[Bytes]) -> bool {
        unreachable!("it is asked outside")
    }

    fn finalize_block(&mut self, _block: BlockToRun<'_>) -> FinalizedBlock {
        unreachable!("it is asked outside")
    }

    fn commit(&mut self) -> u64 {
        0
    }

    fn query(&mut self, _query: &AppQuery) -> QueryResponse {
        QueryResponse::default()
    }

    fn snapshot_begin(&mut self) {}

    fn snapshot_next(&mut self, _size_max: usize) -> Option<Bytes> {
        None
    }

    fn restore_begin(&mut self) {}

    fn restore_chunk(&mut self, _chunk: &[u8]) -> Result<(), String> {
        Err("it is of a ledger whose application is built in".to_owned())
    }

    fn app_hash(&mut self) -> Bytes {
        Bytes::new()
    }

    fn aside(&self) -> [u64; 2] {
        [0, 0]
    }

    fn size(&self) -> u64 {
        0
    }
}

/// Why the ledger cannot go on with its application.
struct Stuck(String);

fn unread(error: impl std::fmt::Display) -> Stuck {
    Stuck(format!("the application's answer cannot be read: {error}"))
}

impl Ledger {
    /// Takes commands in, and applies them up to the first that must wait.
    pub(super) fn apply_abroad(&mut self, batch: &[Ordered], effects: &mut Effects) {
        let abroad = self.abroad.as_mut().expect("the application is elsewhere");
        assert!(!abroad.is_busy(), "nothing is applied while the application is asked");
        abroad.left.extend(batch.iter().cloned());
        self.apply_left(effects);
    }

    fn apply_left(&mut self, effects: &mut Effects) {
        loop {
            let abroad = self.abroad.as_mut().expect("the application is elsewhere");
            if abroad.version.is_none() && !abroad.is_busy() && !abroad.left.is_empty() {
                abroad.doing = Some(Doing::Begin);
                abroad.put(Errand::Begin, 1, socket::init_chain(&self.genesis));
            }
            if std::mem::take(&mut abroad.is_new) {
                return effects.call(abroad.ask.as_ref().expect("it is new").encode());
            }
            let Some(command) = abroad.left.pop_front() else { return };
            if !self.apply_one(&command, effects) {
                return;
            }
        }
    }

    /// Asks for the next block's transactions.
    pub(super) fn prepare_abroad(&mut self, waiting: &[Bytes], bytes_max: usize) {
        let request = self.block_ask(waiting, &[]).prepare(bytes_max);
        let height = self.tip.height + 1;
        let abroad = self.abroad.as_mut().expect("the application is elsewhere");
        abroad.doing = Some(Doing::Prepare);
        abroad.put(Errand::Prepare, height, request);
    }

    /// Has a block run that stands.
    pub(super) fn run_abroad(&mut self, proposal: Proposal) {
        let block = Block::decode(proposal.encoded.clone()).expect("it was encoded here");
        let request = self.finalize(&block, &proposal.votes.block_id.hash);
        let abroad = self.abroad.as_mut().expect("the application is elsewhere");
        abroad.put(Errand::Run, proposal.height, request);
        abroad.doing = Some(Doing::Run(proposal));
    }

    fn finalize(&self, block: &Block, hash: &[u8]) -> Bytes {
        BlockAsk::of(block, hash, self.validators.addresses().collect()).finalize()
    }

    fn block_ask<'a>(&'a self, txs: &'a [Bytes], hash: &'a [u8]) -> BlockAsk<'a> {
        let height = self.tip.height + 1;
        BlockAsk {
            txs,
            last_commit: &self.tip.seen,
            validators: self.validators.addresses().collect(),
            hash,
            height,
            time: self.next_time(),
            next_validators_hash: self.validators.hash(),
            proposer: self.validators.address(self.validators.proposer(height)),
        }
    }

    /// Takes the application's answer, and goes on.
    pub(super) fn on_answer_abroad(&mut self, answer: Bytes, effects: &mut Effects) {
        match self.take_answer(answer, effects) {
            Ok(()) if effects.has_called() => {}
            Ok(()) => self.apply_left(effects),
            Err(Stuck(why)) => effects.fail(why),
        }
    }

    fn take_answer(&mut self, answer: Bytes, effects: &mut Effects) -> Result<(), Stuck> {
        let told = Told::decode(answer).map_err(unread)?;
        if let Told::Behind(height) = told {
            return self.run_again(height, effects);
        }
        if let Some(height) = self.abroad.as_mut().and_then(|abroad| abroad.again.take()) {
            return self.on_run_again(height, told);
        }
        let doing = self.abroad.as_mut().and_then(|abroad| abroad.doing.take()).expect("something was asked");
        match (doing, told) {
            (Doing::Begin, Told::Begun(info, init)) => self.on_begun(info, init),
            (Doing::Prepare, Told::Answer(body)) => self.on_prepared(body),
            (Doing::Process(txs), Told::Answer(body)) => {
                let txs = if socket::read_processed(body).map_err(unread)? { txs } else { Vec::new() };
                self.finish_cut(txs, effects);
                Ok(())
            }
            (Doing::Run(proposal), Told::Answer(body)) => self.on_ran(proposal, body, effects),
            (doing, _) => Err(Stuck(format!("the application's answer is none to {doing:?}"))),
        }
    }

    fn on_begun(&mut self, info: Bytes, init: Bytes) -> Result<(), Stuck> {
        let info = socket::read_info(info).map_err(unread)?;
        let (keys, app_hash) = socket::read_init_chain(init).map_err(unread)?;
        if !keys.is_empty() && crate::wire::Validators::new(keys) != self.validators {
            return Err(Stuck("the application wants other validators than the group's members".to_owned()));
        }
        let abroad = self.abroad.as_mut().expect("the application is elsewhere");
        abroad.version = Some(info.app_version.0);
        abroad.first_hash = app_hash.clone();
        self.tip.app_hash = app_hash;
        Ok(())
    }

    fn on_prepared(&mut self, body: Bytes) -> Result<(), Stuck> {
        let txs = socket::read_prepared(body).map_err(unread)?;
        let size: usize = txs.iter().map(|tx| 1 + crate::wire::varint_size(tx.len() as u64) + tx.len()).sum();
        let most = crate::wire::ConsensusParams::data_bytes_max(self.validators.count());
        if size > most {
            return Err(Stuck(format!("the application made a block of {size} bytes, and {most} are the most")));
        }
        let request = self.block_ask(&txs, &Block::data_hash(&txs)).process();
        let height = self.tip.height + 1;
        let abroad = self.abroad.as_mut().expect("the application is elsewhere");
        abroad.put(Errand::Process, height, request);
        abroad.doing = Some(Doing::Process(txs));
        Ok(())
    }

    fn on_ran(&mut self, proposal: Proposal, body: Bytes, effects: &mut Effects) -> Result<(), Stuck> {
        let height = proposal.height;
        let done = socket::read_finalized(body).map_err(unread)?;
        if done.changes_validators {
            return Err(Stuck(format!(
                "the application changes the validators in block {height}: they are the group's members"
            )));
        }
        let block = Block::decode(proposal.encoded.clone()).expect("it was encoded here");
        let (wanted, given) = (block.txs.len(), done.tx_results.len());
        if wanted != given {
            return Err(Stuck(format!(
                "the application gave {given} results for the {wanted} transactions of block {height}"
            )));
        }
        let done = FinalizedBlock { tx_results: done.tx_results, events: done.events, app_hash: done.app_hash };
        self.finish_stand(proposal, block, done, effects);
        self.cut_if_due(effects);
        Ok(())
    }

    /// The application lacks blocks behind this height: the next one is run there.
    fn run_again(&mut self, height: u64, effects: &mut Effects) -> Result<(), Stuck> {
        let next = height + 1;
        let Some(stored) = self.store.get(next).cloned() else {
            let (from, to) = (self.store.base(), self.tip.height);
            return Err(Stuck(format!(
                "the application has run the blocks up to {height}, and this node has those from {from} to {to}: give it \
                 the state of another node's application"
            )));
        };
        let request = self.finalize(&stored.block, &stored.id.hash);
        let abroad = self.abroad.as_mut().expect("the application is elsewhere");
        let ask = Ask { errand: Errand::Run, height: next, floor: abroad.floor, request };
        abroad.again = Some(next);
        effects.call(ask.encode());
        Ok(())
    }

    fn on_run_again(&mut self, height: u64, told: Told) -> Result<(), Stuck> {
        let Told::Answer(body) = told else { return Err(Stuck("the application's answer is none to a block".into())) };
        let done = socket::read_finalized(body).map_err(unread)?;
        let stored: &Stored = self.store.get(height).expect("it was sent from there");
        if done.app_hash != stored.app_hash {
            return Err(Stuck(format!(
                "the application ran block {height} again and has another state than before: {} in place of {}",
                crate::wire::hex_upper(&done.app_hash),
                crate::wire::hex_upper(&stored.app_hash)
            )));
        }
        // Whether it lacks another one shows when it is asked.
        self.abroad.as_mut().expect("the application is elsewhere").is_new = true;
        Ok(())
    }

    /// A snapshot begins.
    pub(super) fn note_drawing(&mut self) {
        if let Some(abroad) = &mut self.abroad {
            abroad.drawn = self.tip.height;
        }
    }

    /// It is saved: what the application answered up to there is not needed again.
    pub(super) fn note_saved(&mut self) {
        if let Some(abroad) = &mut self.abroad {
            abroad.floor = abroad.drawn;
        }
    }
}
