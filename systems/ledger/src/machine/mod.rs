//! The state: what makes blocks of an agreed order, and the application that runs them.
//!
//! - upon a transaction: it is checked as CometBFT's mempool checks it, and waits for its block;
//! - upon nothing under way, and a transaction that waits, or a state that no header says yet: a block is cut. Its last
//!   commit is the votes for the block before it that the order has brought so far, and its time their median;
//! - upon a vote that its validator signed: it counts for the block under way, or is late for the last one;
//! - upon votes of more than two thirds: the block stands. It runs, it can be read, and whoever waits for it hears of it.
//!
//! Every replica does this at the same place of the same order, whatever agreement made it. The votes are not needed to
//! agree; they are what a client can verify without trusting the node that it is connected to. A block is therefore shown
//! only with them.
//!
//! Deliberately absent: evidence, changes of validators, and a clock. Times come in votes.

mod abroad;
mod app;
mod command;
mod draw;
mod index;
mod kvstore;
mod ledger;
mod pool;
mod query;
mod read;
mod restore;
mod rounds;
mod show;
mod store;
mod trail;
mod tree;

#[cfg(test)]
pub(crate) mod tests;

pub use abroad::{Ask, Errand, Told};
pub use app::{App, AppQuery, BlockToRun, FinalizedBlock};
pub use command::{Command, CommandError, Reply};
pub use kvstore::KvStore;
pub use ledger::{Ledger, LedgerConfig, Mutant};
pub use pool::PoolLimits;
pub use query::{Answer, BlockMade, Page, Proposed, Query, Topic};

pub(crate) use query::decode_answer;
pub(crate) use rounds::vote_time;
