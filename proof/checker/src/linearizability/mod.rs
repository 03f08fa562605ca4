//! Is there one order of the operations that respects real time and that the sequential object allows?
//!
//! - a history is linearizable if each operation can be given one instant between its call and its return such that,
//!   in the order of the instants, each outcome is what the sequential object answers (Herlihy & Wing 1990, §2).
//! - upon an operation of unknown outcome: it took effect at some instant after its call, or never; never is the
//!   same as after everything else, so it has no return and need not be placed.
//! - upon an operation that may be stale (a ZooKeeper read): it takes effect after its own session's previous
//!   operation and before its return, but perhaps before its call.
//! - independent objects are checked one by one; that is exact (§3.3, locality) as long as no operation spans two.
//!
//! The search is that of Wing & Gong 1993 with Lowe's 2017 memory of configurations, as in Porcupine; see `search`.

mod cell;
mod partition;
mod search;
mod tree;

pub use cell::{Cell, CellOp, CellOut};
pub use partition::{by_key, by_top_folder};
pub use search::{CONFIGURATIONS_MAX, Limits, Order, Outcome, Stuck, search};
pub use tree::{Code, Seen, Tree, TreeCall, TreeOp, TreeOut, TreeState};

/// A sequential object: what one operation after another would answer.
pub trait Model {
    /// What the object holds.
    type State;
    /// What takes one step back.
    type Undo;
    /// An operation.
    type Op: Clone;
    /// Its outcome.
    type Out: Clone;

    /// The object before the history.
    fn init(&self) -> Self::State;

    /// Takes `op` if it can have the outcome `out` in this state; `None`, and no change, if it cannot.
    /// Without `out`, any outcome will do.
    fn step(&self, state: &mut Self::State, op: &Self::Op, out: Option<&Self::Out>) -> Option<Self::Undo>;

    /// Takes back the last step that was not yet taken back.
    fn undo(&self, state: &mut Self::State, undo: Self::Undo);

    /// A number that equal states share and different states do not, but for a chance of 2^-128.
    fn fingerprint(&self, state: &Self::State) -> u128;

    /// True if the operation, with this outcome, changes no state.
    fn observes_only(&self, op: &Self::Op, out: Option<&Self::Out>) -> bool;

    /// True if the outcome of `other` may depend on whether `op` took effect. An operation on which nothing depends
    /// can be left out of a counterexample.
    fn matters_to(&self, op: (&Self::Op, Option<&Self::Out>), other: (&Self::Op, Option<&Self::Out>)) -> bool;

    /// True if `op`, of unknown outcome and not required to have happened, may have to come directly before `next` in
    /// this state: unless it is so, `op` behind `next`, or no `op` at all, explains as much.
    fn is_needed_before(&self, state: &Self::State, op: &Self::Op, next: (&Self::Op, Option<&Self::Out>)) -> bool;

    /// What the operation is about, what it wrote and what it saw, for the explanation.
    fn account(&self, op: &Self::Op, out: Option<&Self::Out>) -> Account;
}

/// One operation in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The key, path or register.
    pub subject: String,
    /// The value that it makes current, if it is a write.
    pub wrote: Option<String>,
    /// The value that it found, if it says so.
    pub saw: Option<String>,
    /// Short, for a bar of the timeline: `read → 3`.
    pub label: String,
}

/// One operation of a history. Times are in the history's own unit; only their order matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// Who did it: operations of one lane take effect in the order in which they stand in the history.
    pub lane: u64,
    /// When it was called.
    pub call: u64,
    /// When it returned; `None` if its outcome is unknown.
    pub ret: Option<u64>,
    /// What was asked.
    pub op: O,
    /// What came back; `None` if unknown.
    pub out: Option<R>,
    /// Its place in the order that the system itself claims (a zxid), if it claims one.
    pub hint: Option<u64>,
    /// True if it may take effect before its call.
    pub stale: bool,
    /// Where the history says so; the caller's own numbering.
    pub id: usize,
}

/// The operations that a model judges.
pub type Operations<M> = Vec<Operation<<M as Model>::Op, <M as Model>::Out>>;
