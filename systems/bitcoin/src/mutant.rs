//! Bugs that are planted to see whether they are found: a judge that cannot fail is worth nothing.
//!
//! The chain carries the one of its node, and whoever would make the mistake asks it.
//!
//! Deliberately absent: any way to one from outside. A node that ships has none.

/// A planted bug.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// None.
    #[default]
    None,
    /// A chain that undoes a block keeps the coins that it made.
    UndoKeepsOutputs,
    /// A chain that undoes a block does not bring back the coins that it spent.
    UndoForgetsCoins,
    /// Calls are answered before what they changed is on stable storage.
    AnswerBeforeFlush,
    /// A chain never leaves the branch that it is on.
    HeavierBranchIgnored,
    /// The mempool does not take back what undone blocks had.
    RevertedPaymentsForgotten,
    /// Peers are not told of blocks that a reorganisation led to.
    ReorganisationNotTold,
}
