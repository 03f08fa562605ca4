//! What a command would do: worked out from the image, done by the machine, or only answered if the client merely asks.

use super::change::Delta;
use super::command::{Outcome, Refusal};

/// What a command does.
#[derive(Debug)]
pub(super) struct Plan {
    /// How the metadata changes.
    pub(super) deltas: Vec<Delta>,
    /// Partitions' groups whose hosts are then others.
    pub(super) spawn: Vec<u64>,
    /// Groups that end.
    pub(super) retire: Vec<u64>,
    /// What the client hears.
    pub(super) outcome: Outcome,
}

/// A plan, or why there is none.
pub(super) type Planned = Result<Plan, Refusal>;

impl Default for Plan {
    /// Nothing to do.
    fn default() -> Self {
        Self { deltas: Vec::new(), spawn: Vec::new(), retire: Vec::new(), outcome: Outcome::Plain }
    }
}

impl Plan {
    /// To change this.
    pub(super) fn of(deltas: impl IntoIterator<Item = Delta>) -> Self {
        Self { deltas: deltas.into_iter().collect(), ..Self::default() }
    }

    /// The same answer without doing anything.
    pub(super) fn only_if(self, doing: bool) -> Self {
        if doing { self } else { Self { outcome: self.outcome, ..Self::default() } }
    }
}
