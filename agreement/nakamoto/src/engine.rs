//! Which chain counts, and the way there.
//!
//! - upon a header ([`Engine::on_header`]): it joins the tree, if it keeps the rules;
//! - upon a block ([`Engine::on_block`]): it may be judged once all below it are there;
//! - upon more work than the tip's in a chain of which nothing is known to be invalid ([`Engine::step`]): the blocks of the old
//!   chain are reverted down to where both meet, then those of the new one are judged one by one, upwards;
//! - upon a verdict against a block ([`Engine::on_verdict`]): it and all upon it never count again, and the best of the others
//!   is gone for;
//! - upon equal work: the one that came first counts (Bitcoin, §5);
//! - upon an operator's word: a block counts no more ([`Engine::invalidate`]), may count again ([`Engine::reconsider`]), or
//!   comes before its equals ([`Engine::precious`]).
//!
//! HAZARD: a chain that counts may always cease to. What is final is a matter of odds alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::block::Header;
use bitcoin::pow::Work;

use crate::error::HeaderError;
use crate::pow::{self, HeaderRules};
use crate::tree::{BlockId, Failure, Tree};

/// What is to be done next. Each is answered before the next is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Undo the tip. Answer with [`Engine::on_reverted`].
    Revert(BlockId),
    /// Judge this block, which stands on the tip, and apply it if it is valid. Answer with [`Engine::on_verdict`].
    Judge(BlockId),
}

/// What was kept of a block, for [`Engine::restore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its header.
    pub header: Header,
    /// Its transactions; 0 if it was never had.
    pub tx_count: u32,
    /// The block is stored.
    pub has_data: bool,
    /// It was found valid once.
    pub validated: bool,
    /// It is invalid itself, or an operator said so.
    pub failed: bool,
}

/// Better is greater: more work, then what came first, then the lower place.
type Merit = (Work, Reverse<i64>, Reverse<BlockId>);

/// The choice of a chain.
#[derive(Clone, Debug)]
pub struct Engine {
    tree: Tree,
    rules: HeaderRules,
    /// The chain that counts, by height.
    active: Vec<BlockId>,
    best_header: BlockId,
    /// What could be the tip: all that is there and may count, with as much work as the tip at least.
    candidates: BTreeSet<Merit>,
    /// Blocks that are there and stand on one that never was, by what they stand on.
    waiting: BTreeMap<BlockId, Vec<BlockId>>,
    next_sequence: i64,
    precious_sequence: i64,
}

impl Engine {
    /// A chain of the first block alone, which is valid.
    #[must_use]
    pub fn new(genesis: Header, rules: HeaderRules) -> Self {
        let mut tree = Tree::new(genesis);
        let first = tree.entry_mut(BlockId::GENESIS);
        (first.tx_count, first.chain_tx_count, first.has_data, first.validated) = (1, 1, true, true);
        let mut engine = Self {
            tree,
            rules,
            active: vec![BlockId::GENESIS],
            best_header: BlockId::GENESIS,
            candidates: BTreeSet::new(),
            waiting: BTreeMap::new(),
            next_sequence: 1,
            precious_sequence: -1,
        };
        engine.candidates.insert(engine.merit(BlockId::GENESIS));
        engine
    }

    /// An engine as it was left: what was kept of all blocks but the first, in the order of their ids. The tip is the first;
    /// [`Engine::resume_at`] says where it was.
    ///
    /// # Errors
    /// The place of one that does not stand on any before it.
    pub fn restore(genesis: Header, rules: HeaderRules, kept: impl IntoIterator<Item = Kept>) -> Result<Self, usize> {
        let mut engine = Self::new(genesis, rules);
        for (at, kept) in kept.into_iter().enumerate() {
            let prev = engine.tree.find(&kept.header.prev_blockhash).ok_or(at)?;
            let below = engine.tree.entry(prev);
            let (chain_tx_count, below_failed) = (below.chain_tx_count, below.failure.is_some());
            let id = engine.tree.insert(kept.header, prev);
            let entry = engine.tree.entry_mut(id);
            entry.tx_count = kept.tx_count;
            entry.has_data = kept.has_data;
            entry.validated = kept.validated;
            entry.failure = match (kept.failed, below_failed) {
                (true, _) => Some(Failure::Own),
                (false, true) => Some(Failure::Ancestor),
                _ => None,
            };
            if kept.tx_count > 0 {
                if chain_tx_count > 0 {
                    entry.chain_tx_count = chain_tx_count + u64::from(kept.tx_count);
                } else {
                    engine.waiting.entry(prev).or_default().push(id);
                }
            }
        }
        engine.choose_best_header();
        engine.find_candidates();
        Ok(engine)
    }

    /// Says which block is applied, at a start.
    ///
    /// # Panics
    /// If one of its chain was never had.
    pub fn resume_at(&mut self, tip: BlockId) {
        assert!(self.tree.entry(tip).chain_tx_count > 0, "a chain that was applied was had");
        let mut chain: Vec<BlockId> = std::iter::successors(Some(tip), |id| self.tree.entry(*id).prev).collect();
        chain.reverse();
        self.active = chain;
        // What was the tip stays so among its equals.
        self.tree.entry_mut(tip).sequence = -1;
        self.find_candidates();
    }

    /// The headers.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What headers must be.
    #[must_use]
    pub fn rules(&self) -> &HeaderRules {
        &self.rules
    }

    /// The last block that is applied.
    #[must_use]
    pub fn tip(&self) -> BlockId {
        *self.active.last().expect("the first block is always applied")
    }

    /// The header with the most work, of which nothing is known to be invalid.
    #[must_use]
    pub fn best_header(&self) -> BlockId {
        self.best_header
    }

    /// Which block of the chain that counts has this height.
    #[must_use]
    pub fn active(&self, height: u32) -> Option<BlockId> {
        self.active.get(height as usize).copied()
    }

    /// True if a block is part of the chain that counts.
    #[must_use]
    pub fn is_active(&self, id: BlockId) -> bool {
        self.active(self.tree.entry(id).height) == Some(id)
    }

    fn merit(&self, id: BlockId) -> Merit {
        let entry = self.tree.entry(id);
        (entry.work, Reverse(entry.sequence), Reverse(id))
    }

    /// Upon a header; `now` in seconds since 1970. True if it is new.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn on_header(&mut self, header: &Header, now: u32) -> Result<(BlockId, bool), HeaderError> {
        let hash = header.block_hash();
        if let Some(id) = self.tree.find(&hash) {
            let known = self.tree.entry(id).failure.is_none();
            return if known { Ok((id, false)) } else { Err(HeaderError::KnownInvalid) };
        }
        if !pow::has_work(hash, header.bits, self.rules.pow.limit) {
            return Err(HeaderError::HighHash);
        }
        let prev = self.tree.find(&header.prev_blockhash).ok_or(HeaderError::PrevNotFound)?;
        if self.tree.entry(prev).failure.is_some() {
            return Err(HeaderError::PrevInvalid);
        }
        pow::check(&self.tree, prev, header, now, &self.rules)?;
        let id = self.tree.insert(*header, prev);
        if self.tree.entry(id).work > self.tree.entry(self.best_header).work {
            self.best_header = id;
        }
        Ok((id, true))
    }

    /// Would a header keep the rules upon `prev`? Its proof of work is not looked at.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check_header(&self, prev: BlockId, header: &Header, now: u32) -> Result<(), HeaderError> {
        pow::check(&self.tree, prev, header, now, &self.rules)
    }

    /// Upon a block that was stored, with so many transactions. Its header is known. The same one again changes nothing.
    ///
    /// # Panics
    /// If it has no transactions.
    pub fn on_block(&mut self, id: BlockId, tx_count: u32) {
        assert!(tx_count > 0, "a block has transactions");
        let entry = self.tree.entry_mut(id);
        if entry.has_data {
            return;
        }
        entry.has_data = true;
        entry.tx_count = tx_count;
        let prev = entry.prev.expect("the first block is always there");
        if self.tree.entry(prev).chain_tx_count > 0 {
            self.complete(id);
        } else {
            self.waiting.entry(prev).or_default().push(id);
        }
    }

    /// A stored block was thrown away. It may come again.
    ///
    /// # Panics
    /// If it is the tip, or the first block.
    pub fn on_pruned(&mut self, id: BlockId) {
        assert!(id != BlockId::GENESIS && id != self.tip(), "the first block and the tip stay");
        self.candidates.remove(&self.merit(id));
        let entry = self.tree.entry_mut(id);
        entry.has_data = false;
        let prev = entry.prev.expect("it is not the first");
        if let Some(waiting) = self.waiting.get_mut(&prev) {
            waiting.retain(|other| *other != id);
        }
    }

    /// All below a block is there: it may count, and so may those that waited for it.
    fn complete(&mut self, id: BlockId) {
        // Of those that waited, whoever came first counts as first.
        let mut queue = VecDeque::from([id]);
        while let Some(id) = queue.pop_front() {
            let prev = self.tree.entry(id).prev.expect("the first block is always there");
            let below = self.tree.entry(prev).chain_tx_count;
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let entry = self.tree.entry_mut(id);
            entry.chain_tx_count = below + u64::from(entry.tx_count);
            entry.sequence = sequence;
            self.offer(id);
            queue.extend(self.waiting.remove(&id).unwrap_or_default());
        }
    }

    /// Takes a block among those that could be the tip, if it could.
    fn offer(&mut self, id: BlockId) {
        let entry = self.tree.entry(id);
        let may = entry.failure.is_none() && entry.chain_tx_count > 0 && entry.has_data;
        if may && self.merit(id) >= self.merit(self.tip()) {
            self.candidates.insert(self.merit(id));
        }
    }

    fn find_candidates(&mut self) {
        self.candidates.clear();
        for id in self.tree.ids() {
            self.offer(id);
        }
        // Where blocks were thrown away the tip itself may have none, and still is the tip.
        self.candidates.insert(self.merit(self.tip()));
    }

    fn choose_best_header(&mut self) {
        let mut best = BlockId::GENESIS;
        for id in self.tree.ids().filter(|id| self.tree.entry(*id).failure.is_none()) {
            if self.tree.entry(id).work > self.tree.entry(best).work {
                best = id;
            }
        }
        self.best_header = best;
    }

    /// The block that the chain is to end with. Chains that cannot be gone are dropped on the way.
    fn goal(&mut self) -> BlockId {
        loop {
            let Some((.., Reverse(best))) = self.candidates.last().copied() else { return self.tip() };
            let mut at = best;
            let mut obstacle = None;
            while !self.is_active(at) {
                let entry = self.tree.entry(at);
                if entry.failure.is_some() || !entry.has_data {
                    obstacle = Some(at);
                }
                at = entry.prev.expect("the first block is active");
            }
            let Some(obstacle) = obstacle else { return best };
            // Everything between is no way, for now or for good.
            let (mut at, missing) = (best, self.tree.entry(obstacle).failure.is_none());
            loop {
                self.candidates.remove(&self.merit(at));
                let prev = self.tree.entry(at).prev.expect("an obstacle is not the first block");
                if missing {
                    self.waiting.entry(prev).or_default().push(at);
                }
                if at == obstacle {
                    break;
                }
                at = prev;
            }
        }
    }

    /// What is to be done next; nothing if the tip is the best there is.
    pub fn step(&mut self) -> Option<Output> {
        let tip = self.tip();
        if self.tree.entry(tip).failure.is_some() {
            return Some(Output::Revert(tip));
        }
        let goal = self.goal();
        if goal == tip {
            // Whatever is worse than the tip is no candidate any more.
            let floor = self.merit(tip);
            self.candidates = self.candidates.split_off(&floor);
            return None;
        }
        if !self.tree.stands_on(goal, tip) {
            return Some(Output::Revert(tip));
        }
        let next = self.tree.ancestor(goal, self.tree.entry(tip).height + 1);
        Some(Output::Judge(next.expect("the goal is higher than the tip")))
    }

    /// Where it is going: the block that the chain is to end with.
    #[must_use]
    pub fn heading_for(&self) -> BlockId {
        self.candidates.last().map_or(self.tip(), |(.., Reverse(id))| *id)
    }

    /// The tip was undone.
    ///
    /// # Panics
    /// If it is the first block.
    pub fn on_reverted(&mut self) {
        assert!(self.active.len() > 1, "the first block is never undone");
        self.active.pop();
        // Before, it was below the tip and no candidate.
        self.candidates.insert(self.merit(self.tip()));
    }

    /// A block was judged: it is applied if it is `valid`.
    ///
    /// # Panics
    /// If it does not stand on the tip.
    pub fn on_verdict(&mut self, id: BlockId, valid: bool) {
        assert_eq!(self.tree.entry(id).prev, Some(self.tip()), "blocks are judged upon the tip");
        if valid {
            self.tree.entry_mut(id).validated = true;
            self.active.push(id);
        } else {
            self.fail(id);
        }
    }

    /// It and all upon it do not count.
    fn fail(&mut self, id: BlockId) {
        self.candidates.remove(&self.merit(id));
        self.tree.entry_mut(id).failure = Some(Failure::Own);
        for other in self.tree.ids().skip(id.0 as usize + 1) {
            let entry = self.tree.entry(other);
            let below = entry.prev.and_then(|prev| self.tree.entry(prev).failure);
            if entry.failure.is_none() && below.is_some() {
                self.candidates.remove(&self.merit(other));
                self.tree.entry_mut(other).failure = Some(Failure::Ancestor);
            }
        }
        if self.tree.entry(self.best_header).failure.is_some() {
            self.choose_best_header();
        }
    }

    /// A stored block was found to be no good before its turn came (it breaks a rule that needs no coins).
    pub fn on_bad_block(&mut self, id: BlockId) {
        self.fail(id);
    }

    /// By an operator: it counts no more.
    ///
    /// # Panics
    /// If it is the first block.
    pub fn invalidate(&mut self, id: BlockId) {
        assert!(id != BlockId::GENESIS, "the first block always counts");
        self.fail(id);
        if self.is_active(id) {
            // What is worse than the tip now may be better than what is left of it.
            let floor = self.tree.entry(id).prev.expect("it is not the first");
            for other in self.tree.ids() {
                let entry = self.tree.entry(other);
                let may = entry.failure.is_none() && entry.chain_tx_count > 0 && entry.has_data;
                if may && entry.work >= self.tree.entry(floor).work {
                    self.candidates.insert(self.merit(other));
                }
            }
        }
    }

    /// By an operator: it, all below it and all upon it may count again.
    pub fn reconsider(&mut self, id: BlockId) {
        for other in self.tree.ids() {
            if self.tree.stands_on(other, id) || self.tree.stands_on(id, other) {
                self.tree.entry_mut(other).failure = None;
            }
        }
        // What stands on one of them, beside `id`, may still stand on another that failed.
        for other in self.tree.ids().skip(1) {
            let entry = self.tree.entry(other);
            let below = entry.prev.and_then(|prev| self.tree.entry(prev).failure);
            if entry.failure == Some(Failure::Ancestor) && below.is_none() {
                self.tree.entry_mut(other).failure = None;
            }
        }
        for other in self.tree.ids() {
            self.offer(other);
        }
        self.choose_best_header();
    }

    /// By an operator: it comes before others with as much work.
    pub fn precious(&mut self, id: BlockId) {
        let tip_work = self.tree.entry(self.tip()).work;
        if self.tree.entry(id).work < tip_work {
            return;
        }
        self.candidates.remove(&self.merit(id));
        // The tip that was resumed at has -1, and whoever was precious before has less: the last word counts.
        self.precious_sequence -= 1;
        self.tree.entry_mut(id).sequence = self.precious_sequence;
        self.offer(id);
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    /// If it does not.
    pub fn invariants(&self) {
        for (height, id) in self.active.iter().enumerate() {
            let entry = self.tree.entry(*id);
            assert_eq!(entry.height as usize, height, "the chain that counts has no gap");
            assert_eq!(entry.prev, height.checked_sub(1).map(|below| self.active[below]), "each stands on the last");
            assert!(entry.validated, "what is applied was judged");
        }
        for (work, sequence, Reverse(id)) in &self.candidates {
            let entry = self.tree.entry(*id);
            assert_eq!((*work, sequence.0), (entry.work, entry.sequence), "candidates stand where they belong");
            assert!(entry.chain_tx_count > 0, "all below a candidate was had");
        }
        for id in self.tree.ids().skip(1) {
            let entry = self.tree.entry(id);
            let below = self.tree.entry(entry.prev.expect("only the first stands on nothing"));
            assert!(below.failure.is_none() || entry.failure.is_some(), "nothing counts upon what does not");
            let expected = if entry.tx_count > 0 && below.chain_tx_count > 0 {
                below.chain_tx_count + u64::from(entry.tx_count)
            } else {
                0
            };
            assert_eq!(entry.chain_tx_count, expected, "transactions of a chain are counted once all are there");
        }
    }
}
