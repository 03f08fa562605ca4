//! What a node warns of: a chain that does not count and has far more work than the one that does.
//!
//! - upon a block that is judged, or said by an operator, to be invalid: the branch with the most work that stands on such a block is noted;
//! - upon a tip, or such a block: if that branch has six blocks' work more than the tip, there is a warning; else there is none.
//!
//! Deliberately absent: unknown rules that miners vote for.

use verity_nakamoto::BlockId;

use crate::chain::{Chain, ChainEvent};
use crate::node::Event;

const LARGE_WORK: &str = "Warning: Found invalid chain more than 6 blocks longer than our best chain. This could be due to database \
                          corruption or consensus incompatibility with peers.";
/// So many blocks' work more.
const AHEAD: usize = 6;

/// What there is to warn of now.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// The best of what does not count.
    worst: Option<BlockId>,
    told: Vec<String>,
}

impl Warnings {
    /// What there is to warn of.
    pub(super) fn told(&self) -> &[String] {
        &self.told
    }

    /// Upon what became of a node that has caught up. A warning that was not there before.
    pub(super) fn on_events(&mut self, chain: &Chain, events: &[Event]) -> Option<String> {
        let invalid = |event: &Event| match event {
            Event::Chain(ChainEvent::Invalid { .. }) => true,
            Event::Chain(ChainEvent::Disconnected { id, .. }) => chain.entry(*id).failure.is_some(),
            _ => false,
        };
        let moved = |event: &Event| matches!(event, Event::Tip { .. });
        // An operator may have found that it counts, after all.
        let gone = self.worst.is_some_and(|id| chain.entry(id).failure.is_none());
        if gone || events.iter().any(invalid) {
            let failed = chain.tree().ids().filter(|id| chain.entry(*id).failure.is_some());
            self.worst = failed.max_by_key(|id| chain.entry(*id).work);
        } else if !events.iter().any(moved) {
            return None;
        }
        let tip = chain.entry(chain.tip());
        let ahead = std::iter::repeat_n(tip.header.work(), AHEAD).fold(tip.work, |sum, one| sum + one);
        let warns = self.worst.is_some_and(|id| chain.entry(id).work > ahead);
        let new = warns && self.told.is_empty();
        self.told = if warns { vec![LARGE_WORK.to_owned()] } else { Vec::new() };
        new.then(|| LARGE_WORK.to_owned())
    }
}
