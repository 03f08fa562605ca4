//! Which rules to come blocks stand for, by bits of their versions (BIP 9, as BIP 341 was brought in).
//!
//! - a deployment is defined, until the median time reaches its start at the end of a period;
//! - started, until at least so many blocks of a period have its bit;
//! - locked in for one period, or until its height;
//! - active, or failed if its time was over before.
//!
//! Rules that are in force everywhere are not here: they hold from a height on. What is left is one that changes nothing, and
//! that only a network for tests ever starts.
//!
//! Deliberately absent: a memory of past periods. There are few on the one network that needs any.

use bitcoin::Network;
use verity_nakamoto::{BlockId, Tree};

use crate::params::Params;

/// Versions that have bits begin with these.
const TOP_BITS: i32 = 0x2000_0000;
const TOP_MASK: i32 = 0xe000_0000_u32 as i32;

/// A rule to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// As clients know it.
    pub name: &'static str,
    /// Which bit of the version.
    pub bit: u8,
    /// The median time, in seconds, from which on it may begin; `None` for never.
    pub start: Option<i64>,
    /// The median time at which it fails.
    pub timeout: i64,
    /// It does not become active before.
    pub min_activation_height: u32,
    /// Blocks that are counted together.
    pub period: u32,
    /// How many of them must stand for it.
    pub threshold: u32,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is counted yet.
    Defined,
    /// Blocks are counted.
    Started,
    /// It comes.
    LockedIn,
    /// It holds.
    Active,
    /// It never came.
    Failed,
}

impl State {
    /// As clients know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Started => "started",
            Self::LockedIn => "locked_in",
            Self::Active => "active",
            Self::Failed => "failed",
        }
    }
}

/// Who stands for it in a period that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Blocks of the period up to here, each with whether it stands for it.
    pub signalling: Vec<bool>,
    /// How many do.
    pub count: u32,
    /// The threshold can still be reached.
    pub possible: bool,
}

/// What a network has to come.
#[must_use]
pub fn deployments(params: &Params) -> [Deployment; 1] {
    let (start, period, threshold) = match params.network {
        Network::Regtest => (Some(0), 144, 108),
        Network::Testnet | Network::Testnet4 => (None, 2_016, 1_512),
        _ => (None, 2_016, 1_815),
    };
    [Deployment { name: "testdummy", bit: 28, start, timeout: i64::MAX, min_activation_height: 0, period, threshold }]
}

impl Deployment {
    /// Its bit.
    #[must_use]
    pub fn mask(&self) -> i32 {
        1 << self.bit
    }

    fn stands(&self, tree: &Tree, id: BlockId) -> bool {
        let version = tree.entry(id).header.version.to_consensus();
        version & TOP_MASK == TOP_BITS && version & self.mask() != 0
    }

    /// The last block of the last period that is over at `prev`; none in the first.
    fn period_end(&self, tree: &Tree, prev: BlockId) -> Option<BlockId> {
        let blocks = tree.entry(prev).height + 1;
        let end = (blocks - blocks % self.period).checked_sub(1)?;
        tree.ancestor(prev, end)
    }

    /// The states of all periods up to that of the block upon `prev`, the first one's first.
    fn states(&self, tree: &Tree, prev: BlockId) -> Vec<State> {
        let Some(start) = self.start else { return vec![State::Failed] };
        let mut states = vec![State::Defined];
        let periods = self.period_end(tree, prev).map_or(0, |end| (tree.entry(end).height + 1) / self.period);
        for period in 0..periods {
            let end = tree.ancestor(prev, (period + 1) * self.period - 1).expect("it is below");
            let time = i64::from(tree.median_time_past(end));
            let state = states.last().copied().unwrap_or(State::Defined);
            states.push(match state {
                State::Defined if time >= start => State::Started,
                State::Started if self.count_to(tree, end) >= self.threshold => State::LockedIn,
                State::Started if time >= self.timeout => State::Failed,
                State::LockedIn if (period + 1) * self.period >= self.min_activation_height => State::Active,
                other => other,
            });
        }
        states
    }

    fn count_to(&self, tree: &Tree, end: BlockId) -> u32 {
        self.signalling(tree, end).into_iter().map(u32::from).sum()
    }

    /// Of the period that `id` is in, each block up to it.
    fn signalling(&self, tree: &Tree, id: BlockId) -> Vec<bool> {
        let count = tree.entry(id).height % self.period + 1;
        let blocks = std::iter::successors(Some(id), |id| tree.entry(*id).prev).take(count as usize);
        let mut signalling: Vec<bool> = blocks.map(|id| self.stands(tree, id)).collect();
        signalling.reverse();
        signalling
    }

    /// Its state for a block upon `prev`.
    #[must_use]
    pub fn state_after(&self, tree: &Tree, prev: BlockId) -> State {
        self.states(tree, prev).pop().unwrap_or(State::Defined)
    }

    /// Since which height a block upon `prev` finds it in its state.
    #[must_use]
    pub fn since(&self, tree: &Tree, prev: BlockId) -> u32 {
        let states = self.states(tree, prev);
        let same = states.iter().rev().take_while(|state| Some(*state) == states.last()).count();
        (states.len() - same) as u32 * self.period
    }

    /// Who stands for it in the period of this block, up to it.
    #[must_use]
    pub fn count(&self, tree: &Tree, id: BlockId) -> Count {
        let signalling = self.signalling(tree, id);
        let count: u32 = signalling.iter().copied().map(u32::from).sum();
        let against = signalling.len() as u32 - count;
        Count { count, possible: against <= self.period - self.threshold, signalling }
    }
}

/// The version of a block upon `prev` that stands for all that may come.
#[must_use]
pub fn version(tree: &Tree, prev: BlockId, params: &Params) -> i32 {
    deployments(params)
        .iter()
        .filter(|deployment| matches!(deployment.state_after(tree, prev), State::Started | State::LockedIn))
        .fold(TOP_BITS, |version, deployment| version | deployment.mask())
}
