//! How a block comes to stand: it is cut, voted for, and run.
//!
//! A block waits for the votes of the one before it, whose times make its own and whose signatures it carries. While they
//! are on their way transactions gather, so blocks are the larger the more there is to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::Effects;

use super::app::{BlockToRun, FinalizedBlock};
use super::command::Reply;
use super::ledger::{Ledger, Mutant, Proposal, Tip};
use super::query::{BlockMade, Proposed, Topic};
use super::store::Stored;
use crate::wire::{
    Address, Block, BlockId, Commit, CommitSig, ConsensusParams, ExecTxResult, Header, Time, Vote, Writer, hex_upper,
};

impl Ledger {
    /// The state that the last block left is said by no header yet, so nothing of it can be proved. CometBFT cuts a block
    /// for that even if it makes no empty ones, and so the first one.
    fn needs_proof(&self) -> bool {
        self.tip.height == 0 || self.tip.said != self.tip.app_hash
    }

    /// Cuts a block, if none is under way and there is a reason.
    pub(super) fn cut_if_due(&mut self, effects: &mut Effects) {
        if self.proposal.is_none() && !self.is_busy() && (!self.pool.is_empty() || self.needs_proof()) {
            self.cut(effects);
        }
    }

    /// Cuts a block.
    pub(super) fn cut(&mut self, effects: &mut Effects) {
        assert!(self.proposal.is_none(), "one block after the other");
        let bytes_max = ConsensusParams::data_bytes_max(self.validators.count());
        let waiting = self.pool.oldest(bytes_max);
        self.pool.proposed = waiting.len();
        if self.abroad.is_some() {
            return self.prepare_abroad(&waiting, bytes_max);
        }
        let mut txs = self.app.prepare_proposal(&waiting, bytes_max);
        if !self.app.process_proposal(&txs) {
            txs = Vec::new();
        }
        self.finish_cut(txs, effects);
    }

    /// The time of the next block.
    pub(super) fn next_time(&self) -> Time {
        let time = self.tip.seen.median_time().unwrap_or(self.genesis.time);
        assert!(self.tip.height == 0 || time > self.tip.time, "votes are later than their block");
        time
    }

    /// Puts out a block of these transactions, to be signed.
    pub(super) fn finish_cut(&mut self, txs: Vec<Bytes>, effects: &mut Effects) {
        let (height, time) = (self.tip.height + 1, self.next_time());
        let last_commit = self.tip.seen.clone();
        let validators_hash = self.validators.hash();
        let header = Header {
            app_version: self.app_version(),
            chain_id: self.genesis.chain_id.clone(),
            height,
            time,
            last_block_id: self.tip.id,
            last_commit_hash: last_commit.hash(),
            data_hash: Block::data_hash(&txs),
            validators_hash,
            consensus_hash: self.params.hash(),
            app_hash: if self.mutant == Mutant::HeaderSaysOldState { &self.tip.said } else { &self.tip.app_hash }
                .clone(),
            last_results_hash: self.tip.results_hash,
            proposer: self.validators.address(self.validators.proposer(height)),
        };
        let block = Block { header, txs, last_commit };
        let encoded = block.encode();
        let block_id = block.id(&encoded);
        let votes = Commit { height, block_id, signatures: vec![CommitSig { vote: None }; self.validators.count()] };
        self.proposal = Some(Proposal { encoded, time, height, votes, others: BTreeMap::new() });
        let event = Proposed { height, id: block_id, time };
        effects.event(Bytes::from_static(Topic::PROPOSED), event.encode());
    }

    /// Counts a vote.
    pub(super) fn on_vote(&mut self, vote: Vote, named: BlockId, effects: &mut Effects) -> Reply {
        let refuse = |why: &str| Reply::Refused(why.to_owned());
        let Some((at, key)) = self.validators.find(&vote.address) else { return refuse("nobody's vote") };
        let (votes, time) = match &mut self.proposal {
            Some(proposal) if proposal.height == vote.height => (&mut proposal.votes, proposal.time),
            _ if self.tip.height == vote.height && vote.height > 0 => (&mut self.tip.seen, self.tip.time),
            _ => return refuse("a vote for another height"),
        };
        if votes.signatures[at].vote.is_some() {
            return refuse("a vote that is there");
        }
        if vote.time <= time {
            return refuse("a vote before its block");
        }
        if !vote.is_by(&key, &self.genesis.chain_id, named) {
            return refuse("a signature that does not verify");
        }
        if named != votes.block_id {
            self.on_other_block(vote.address, named);
            return refuse("a vote for another block");
        }
        votes.signatures[at].vote = Some((vote.time, vote.address, vote.signature));
        if let Some(proposal) = self.proposal.take_if(|proposal| self.validators.is_quorum(proposal.votes.votes())) {
            self.stand(proposal, effects);
        }
        Reply::Done
    }

    /// A validator signed another block of this height. All made theirs of one order: what differs is what their
    /// applications came to, and a node that is alone with that must not go on.
    fn on_other_block(&mut self, address: Address, named: BlockId) {
        let Some(proposal) = &mut self.proposal else { return };
        proposal.others.insert(address, named);
        let same = proposal.others.values().filter(|other| **other == named).count();
        if same * 2 > self.validators.count() {
            let before = proposal.height - 1;
            self.failed = Some(format!(
                "the application came to another state in block {before} than those of {same} of {} validators: its hash \
                 there is {}, and they signed another block behind it; restore it from one of theirs",
                self.validators.count(),
                hex_upper(&self.tip.app_hash)
            ));
        }
    }

    /// Runs a block that is signed.
    fn stand(&mut self, proposal: Proposal, effects: &mut Effects) {
        if self.abroad.is_some() {
            return self.run_abroad(proposal);
        }
        let block = Block::decode(proposal.encoded.clone()).expect("it was encoded here");
        let run = BlockToRun { height: proposal.height, time: proposal.time, txs: &block.txs };
        let done = self.app.finalize_block(run);
        self.finish_stand(proposal, block, done, effects);
    }

    /// Takes in what a block came to.
    pub(super) fn finish_stand(
        &mut self,
        proposal: Proposal,
        block: Block,
        done: FinalizedBlock,
        effects: &mut Effects,
    ) {
        assert_eq!(done.tx_results.len(), block.txs.len(), "the application answers for each transaction");
        let retain = self.app.commit();
        let results = done.tx_results.iter().map(ExecTxResult::encode).collect();
        let said = block.header.app_hash.clone();
        let stored = Stored::new(block, proposal.encoded, results, done.events, done.app_hash.clone());
        let stored = Arc::new(stored.expect("it was encoded here"));
        self.tip = Tip {
            height: proposal.height,
            id: stored.id,
            time: proposal.time,
            said,
            app_hash: done.app_hash,
            results_hash: ExecTxResult::hash_of(&done.tx_results),
            seen: proposal.votes,
        };
        if self.mutant == Mutant::TransactionStaysWaiting && self.pool.proposed > 1 {
            self.pool.proposed -= 1;
        }
        self.pool.settle(&self.config.pool, &stored.hashes);
        self.keep(Arc::clone(&stored), &done.tx_results, retain);
        let event = BlockMade { height: stored.height(), hashes: stored.hashes.clone() };
        effects.event(Bytes::from_static(Topic::BLOCK), event.encode());
    }

    /// Stores a block, and lets the oldest ones go.
    pub(super) fn keep(&mut self, stored: Arc<Stored>, results: &[ExecTxResult], retain: u64) {
        self.index.insert(&stored, results);
        self.store.push(stored);
        while let Some(oldest) = self.store.prune(self.config.retain_blocks, self.config.retain_bytes, retain) {
            self.index.remove(&oldest);
        }
    }
}

impl Proposal {
    /// As a snapshot carries it, with the number of transactions that it took.
    pub(super) fn encode(&self, proposed: usize) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(1, &self.encoded).message(2, |out| self.votes.write(out)).uint(3, proposed as u64);
        out.out
    }
}

/// What comes behind a moment at the earliest: a vote of this time is later than its block.
#[must_use]
pub(crate) fn vote_time(now: Time, block: Time) -> Time {
    now.max(block.plus_milli())
}
