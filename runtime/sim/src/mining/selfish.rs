//! A miner who withholds its blocks (Eyal & Sirer, "Majority is not enough", §3).
//!
//! - upon a block of its own: it is kept, unless two branches compete: then it is shown, and wins;
//! - upon a block of the others, while nothing is kept: theirs counts;
//! - while one is kept: it is shown, and two branches compete. `gamma` of the honest power mines upon the attacker's;
//! - while two are kept: both are shown, and the other's block is wasted;
//! - while more are kept: as many are shown as the others have.
//!
//! Wasted blocks slow the chain down. Until difficulty follows, the attacker earns no more in an hour than it did before: what it
//! wins is a larger part of fewer blocks.

use bitcoin::block::Header;
use bitcoin::pow::CompactTarget;
use fastrand::Rng;
use verity_nakamoto::BlockId;

use super::{PERIOD, SPACING, START, View, wait};

/// Who mines how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selfish {
    /// The attacker's share of all hash power.
    pub share: f64,
    /// How much of the honest power mines upon the attacker's block where two compete.
    pub gamma: f64,
    /// So many blocks are found in all.
    pub blocks: u32,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfishOutcome {
    /// The attacker's part of the blocks that count.
    pub share: f64,
    /// Half the width of the interval around it that holds the truth in 95 of 100 cases, by the spread of its twenty parts.
    pub half_width: f64,
    /// Blocks that were found and do not count, as a part of all.
    pub wasted: f64,
    /// What the attacker earned in the first period, to what an honest miner of its power would have.
    pub earned_first: f64,
    /// The same, in the second half of all.
    pub earned_after: f64,
    /// How often difficulty moved.
    pub retargets: u32,
}

/// A target of which about thirty hashes meet one, so that difficulty may fall as well as rise.
const BITS: u32 = 0x2007_ffff;
/// The result is cut into so many parts, whose spread says how sure it is.
const PARTS: usize = 20;

struct World {
    rng: Rng,
    plan: Selfish,
    /// What all see.
    public: View,
    /// What the attacker sees: its own as well.
    own: View,
    /// Of these, what it has not shown, and where it stands.
    kept: Vec<Header>,
    head: BlockId,
    /// Two branches of one length compete: the attacker's, as all see it.
    tie: Option<BlockId>,
    time: f64,
    mark: u64,
    /// Hashes a second of all.
    rate: f64,
}

/// The attacker's blocks have even marks.
fn is_attackers(header: &Header) -> bool {
    let root: &[u8] = header.merkle_root.as_ref();
    root[0].is_multiple_of(2)
}

impl World {
    fn new(seed: u64, plan: Selfish) -> Self {
        let public = View::new(CompactTarget::from_consensus(BITS), true);
        let rate = public.hashes(BlockId::GENESIS, f64::from(START)) / f64::from(SPACING);
        Self {
            rng: Rng::with_seed(seed),
            plan,
            own: public.clone(),
            public,
            kept: Vec::new(),
            head: BlockId::GENESIS,
            tie: None,
            time: f64::from(START),
            mark: 0,
            rate,
        }
    }

    fn mark(&mut self, attackers: bool) -> u64 {
        self.mark += 2;
        self.mark + u64::from(!attackers)
    }

    /// Shows so many of the blocks that are kept. Answers with the last, as all see it.
    fn show(&mut self, count: usize) -> Option<BlockId> {
        let shown: Vec<Header> = self.kept.drain(..count).collect();
        shown.iter().map(|header| self.public.see(header)).last()
    }

    fn attacker_finds(&mut self) {
        let mark = self.mark(true);
        let header = self.own.mine(self.head, self.time, mark);
        self.head = self.own.see(&header);
        self.kept.push(header);
        if self.tie.take().is_some() {
            self.show(1);
        }
    }

    fn others_find(&mut self) {
        let tip = self.public.engine.tip();
        let upon = match self.tie.take() {
            // The engine stays with what it saw first; part of the power heard of the other first.
            Some(attackers) if self.rng.f64() < self.plan.gamma => attackers,
            Some(attackers) => self.rival(attackers).unwrap_or(tip),
            None => tip,
        };
        let mark = self.mark(false);
        let header = self.public.mine(upon, self.time, mark);
        self.public.see(&header);
        let theirs = self.own.see(&header);
        match self.kept.len() {
            // Whatever competed is decided, and the attacker goes on from what all have.
            0 => self.head = theirs,
            1 => self.tie = self.show(1),
            2 => {
                self.show(2);
            }
            _ => {
                self.show(1);
            }
        }
    }

    /// Who else has this height, and is not the attacker's.
    fn rival(&self, attackers: BlockId) -> Option<BlockId> {
        let tree = self.public.engine.tree();
        let height = tree.entry(attackers).height;
        tree.ids().rev().take(8).find(|id| *id != attackers && tree.entry(*id).height == height)
    }

    fn run(&mut self) {
        for _ in 0..self.plan.blocks {
            let mean = self.public.hashes(self.public.engine.tip(), self.time) / self.rate;
            self.time += wait(&mut self.rng, mean);
            if self.rng.f64() < self.plan.share { self.attacker_finds() } else { self.others_find() }
        }
        self.show(self.kept.len());
    }

    /// The attacker's part of the chain between two heights, and how long that took, in seconds.
    fn part(&self, from: u32, to: u32) -> (f64, f64) {
        let header = |height| {
            let id = self.public.engine.active(height).expect("it is no higher than the tip");
            self.public.engine.tree().entry(id).header
        };
        let attackers = (from + 1..=to).filter(|height| is_attackers(&header(*height))).count();
        (attackers as f64 / f64::from(to - from), f64::from(header(to).time) - f64::from(header(from).time))
    }

    /// What the attacker earned there, to what an honest miner of its power earns in that time.
    fn earned(&self, from: u32, to: u32) -> f64 {
        let (part, seconds) = self.part(from, to);
        part * f64::from(to - from) / (seconds / f64::from(SPACING) * self.plan.share)
    }
}

/// Mines so many blocks.
///
/// # Panics
/// If there are fewer than would make a few periods.
#[must_use]
pub fn selfish(seed: u64, plan: Selfish) -> SelfishOutcome {
    assert!(plan.blocks >= 8 * PERIOD, "difficulty must have moved several times");
    let mut world = World::new(seed, plan);
    world.run();
    let tip = world.public.engine.tree().entry(world.public.engine.tip()).height;
    // The first periods are not like those that follow.
    let begin = 2 * PERIOD;
    let parts: Vec<f64> = (0..PARTS as u32)
        .map(|part| {
            let at = |part: u32| begin + (tip - begin) / PARTS as u32 * part;
            world.part(at(part), at(part + 1)).0
        })
        .collect();
    let share = parts.iter().sum::<f64>() / PARTS as f64;
    let variance = parts.iter().map(|part| (part - share).powi(2)).sum::<f64>() / (PARTS as f64 - 1.0);
    let bits = |height: u32| {
        let id = world.public.engine.active(height).expect("it is no higher than the tip");
        world.public.engine.tree().entry(id).header.bits
    };
    SelfishOutcome {
        share,
        // Student's t for nineteen degrees of freedom.
        half_width: 2.093 * (variance / PARTS as f64).sqrt(),
        wasted: 1.0 - f64::from(tip) / f64::from(plan.blocks),
        earned_first: world.earned(0, PERIOD - 1),
        earned_after: world.earned(tip / 2, tip),
        retargets: (1..=tip).filter(|height| bits(*height) != bits(height - 1)).count() as u32,
    }
}

#[cfg(test)]
mod tests {
    use verity_nakamoto::finality::selfish_share;

    use super::*;

    #[test]
    fn the_attackers_part_is_what_the_formula_says() {
        for (seed, share, gamma) in [(1, 0.4, 0.0), (2, 0.3, 0.5), (3, 0.25, 1.0), (4, 0.2, 0.0)] {
            let outcome = selfish(seed, Selfish { share, gamma, blocks: 12_000 });
            let expected = selfish_share(share, gamma);
            let off = (outcome.share - expected).abs();
            assert!(off < 2.5 * outcome.half_width.max(0.004), "q = {share}, gamma = {gamma}: {outcome:?}, {expected}");
        }
    }

    /// Difficulty has to follow first.
    #[test]
    fn it_pays_only_behind_a_retarget() {
        let outcomes: Vec<SelfishOutcome> =
            (0..12).map(|seed| selfish(seed, Selfish { share: 0.42, gamma: 0.0, blocks: 2_000 })).collect();
        let mean = |of: fn(&SelfishOutcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
        assert!(outcomes.iter().all(|outcome| outcome.retargets > 4 && outcome.wasted > 0.1));
        let (first, after) = (mean(|outcome| outcome.earned_first), mean(|outcome| outcome.earned_after));
        assert!(first < 0.97 && after > 1.05, "{first}, then {after}");
    }
}
