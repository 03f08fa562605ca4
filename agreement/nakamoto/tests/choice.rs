//! The choice of a chain, beside one that looks at all chains whenever it is asked.

use std::collections::BTreeSet;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::pow::{CompactTarget, Target};
use bitcoin::{BlockHash, TxMerkleNode};
use proptest::prelude::*;
use verity_nakamoto::{BlockId, Engine, HeaderError, HeaderRules, Kept, Output, PowParams};

const BITS: u32 = 0x207f_ffff;
const NOW: u32 = 1_700_000_000;

fn rules() -> HeaderRules {
    let pow = PowParams {
        limit: Target::from_compact(CompactTarget::from_consensus(BITS)),
        spacing: 600,
        timespan: 86_400,
        allow_min_difficulty: true,
        enforce_bip94: false,
        no_retargeting: true,
    };
    HeaderRules { pow, bip34_height: 1, bip66_height: 1, bip65_height: 1 }
}

/// A header with its work; `mark` tells those apart that stand on the same.
fn mined(prev: BlockHash, time: u32, mark: u8) -> Header {
    let mut header = Header {
        version: Version::from_consensus(4),
        prev_blockhash: prev,
        merkle_root: TxMerkleNode::from_byte_array([mark; 32]),
        time,
        bits: CompactTarget::from_consensus(BITS),
        nonce: 0,
    };
    while !verity_nakamoto::has_work(header.block_hash(), header.bits, rules().pow.limit) {
        header.nonce += 1;
    }
    header
}

fn genesis() -> Header {
    mined(BlockHash::all_zeros(), 1_600_000_000, 0)
}

/// An engine, who of its blocks is invalid in truth, and what an operator said.
struct Judge {
    engine: Engine,
    bad: BTreeSet<BlockId>,
    found_bad: BTreeSet<BlockId>,
    outcast: BTreeSet<BlockId>,
    reverts: usize,
}

impl Judge {
    fn new() -> Self {
        let engine = Engine::new(genesis(), rules());
        Self { engine, bad: BTreeSet::new(), found_bad: BTreeSet::new(), outcast: BTreeSet::new(), reverts: 0 }
    }

    fn settle(&mut self) {
        while let Some(output) = self.engine.step() {
            self.engine.invariants();
            match output {
                Output::Revert(id) => {
                    assert_eq!(id, self.engine.tip());
                    self.engine.on_reverted();
                    self.reverts += 1;
                }
                Output::Judge(id) => {
                    let valid = !self.bad.contains(&id);
                    if !valid {
                        self.found_bad.insert(id);
                    }
                    self.engine.on_verdict(id, valid);
                }
            }
        }
        self.engine.invariants();
    }

    /// What a block is worth, if it can be the tip as far as is known.
    fn worth(&self, id: BlockId) -> Option<u32> {
        let tree = self.engine.tree();
        let mut below = std::iter::successors(Some(id), |id| tree.entry(*id).prev);
        let fine = |id: BlockId| tree.entry(id).has_data && !self.bad.contains(&id) && !self.outcast.contains(&id);
        below.all(fine).then(|| tree.entry(id).height)
    }

    /// `strict`: nothing came back that had come before the tip.
    fn check(&self, before: BlockId, strict: bool) {
        let tree = self.engine.tree();
        let best = tree.ids().filter_map(|id| self.worth(id)).max().expect("the first is always fine");
        let tip = self.engine.tip();
        assert_eq!(self.worth(tip), Some(best), "the most work that holds");
        if strict && self.worth(before) == Some(best) {
            assert_eq!(tip, before, "an equal does not displace the tip");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever comes in whichever order: the tip is the end of the best chain that holds, and a restart changes nothing.
    #[test]
    fn the_best_chain_that_holds_counts(
        prevs in proptest::collection::vec((any::<u32>(), any::<bool>(), 0..8u8), 1..40),
        deeds in proptest::collection::vec((0..10u8, any::<u32>()), 1..120),
    ) {
        let mut judge = Judge::new();
        let mut ids = vec![BlockId::GENESIS];
        for (at, (pick, deep, luck)) in prevs.iter().enumerate() {
            // Mostly upon the last few, so that chains grow.
            let pick = if *deep { *pick as usize % ids.len() } else { ids.len() - 1 - *pick as usize % ids.len().min(3) };
            let prev = judge.engine.tree().entry(ids[pick]).clone();
            let header = mined(prev.hash, prev.header.time + 1, at as u8 + 1);
            let (id, new) = judge.engine.on_header(&header, NOW).expect("it keeps the rules");
            prop_assert!(new);
            ids.push(id);
            if *luck == 0 {
                judge.bad.insert(id);
            }
        }
        for (deed, pick) in deeds {
            let (before, id) = (judge.engine.tip(), ids[1 + pick as usize % (ids.len() - 1)]);
            match deed {
                0 => {
                    judge.engine.invalidate(id);
                    judge.outcast.insert(id);
                }
                1 => {
                    judge.engine.reconsider(id);
                    let tree = judge.engine.tree().clone();
                    judge.outcast.retain(|other| !tree.stands_on(*other, id) && !tree.stands_on(id, *other));
                }
                2 if judge.worth(id).is_some() && judge.worth(id) == judge.worth(before) => {
                    judge.engine.precious(id);
                    judge.settle();
                    prop_assert_eq!(judge.engine.tip(), id, "the operator says which of equals");
                }
                2 => {}
                _ => judge.engine.on_block(id, 1),
            }
            let before = judge.engine.tip();
            judge.settle();
            judge.check(before, deed != 1);
        }
        let (engine, tip) = (&judge.engine, judge.engine.tip());
        let kept = engine.tree().ids().skip(1).map(|id| engine.tree().entry(id)).map(|entry| Kept {
            header: entry.header,
            tx_count: entry.tx_count,
            has_data: entry.has_data,
            validated: entry.validated,
            failed: entry.failure == Some(verity_nakamoto::Failure::Own),
        });
        let mut restored = Engine::restore(genesis(), rules(), kept).expect("each stands on one before it");
        restored.resume_at(tip);
        restored.invariants();
        prop_assert_eq!(restored.step(), None, "nothing is better than what was best");
        prop_assert_eq!(restored.tip(), tip);
    }
}

#[test]
fn headers_keep_the_rules() {
    let mut engine = Engine::new(genesis(), rules());
    let first = mined(genesis().block_hash(), genesis().time + 1, 1);
    let (id, new) = engine.on_header(&first, NOW).expect("it keeps the rules");
    assert!(new && engine.best_header() == id);
    assert_eq!(engine.on_header(&first, NOW), Ok((id, false)));
    let old = mined(first.block_hash(), genesis().time, 2);
    assert_eq!(engine.on_header(&old, NOW), Err(HeaderError::TimeTooOld));
    let new = mined(first.block_hash(), NOW + 7_201, 3);
    assert_eq!(engine.on_header(&new, NOW), Err(HeaderError::TimeTooNew));
    let orphan = mined(BlockHash::from_byte_array([7; 32]), NOW, 4);
    assert_eq!(engine.on_header(&orphan, NOW), Err(HeaderError::PrevNotFound));
    let mut easy = mined(first.block_hash(), NOW, 5);
    easy.nonce = (0..)
        .find(|nonce| {
            let header = Header { nonce: *nonce, ..easy };
            !verity_nakamoto::has_work(header.block_hash(), header.bits, rules().pow.limit)
        })
        .expect("half of them are too high");
    assert_eq!(engine.on_header(&easy, NOW), Err(HeaderError::HighHash));
    engine.invalidate(id);
    assert_eq!(engine.on_header(&first, NOW), Err(HeaderError::KnownInvalid));
    let upon = mined(first.block_hash(), NOW, 6);
    assert_eq!(engine.on_header(&upon, NOW), Err(HeaderError::PrevInvalid));
    assert_eq!(engine.best_header(), BlockId::GENESIS);
    engine.reconsider(id);
    assert_eq!(engine.best_header(), id);
}

/// Of blocks that waited for the one below them, the first to come is the first to count.
#[test]
fn whoever_waited_longest_counts_first() {
    let mut judge = Judge::new();
    let mut prev = genesis();
    let bring = |judge: &mut Judge, below: &Header, mark: u8| {
        let header = mined(below.block_hash(), below.time + 1, mark);
        let (id, _) = judge.engine.on_header(&header, NOW).expect("it keeps the rules");
        (header, id)
    };
    let (parent, parent_id) = bring(&mut judge, &prev, 1);
    prev = parent;
    let children: Vec<BlockId> = (2..6).map(|mark| bring(&mut judge, &prev, mark).1).collect();
    children.iter().for_each(|id| judge.engine.on_block(*id, 1));
    judge.settle();
    assert_ne!(judge.engine.tip(), children[0], "the block below is not there yet");
    judge.engine.on_block(parent_id, 1);
    judge.settle();
    assert_eq!(judge.engine.tip(), children[0]);
}
