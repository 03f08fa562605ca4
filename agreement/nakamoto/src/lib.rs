//! Nakamoto consensus: open membership, and the chain with the most work (Bitcoin, §4, §5, §11).
//!
//! People say "the longest chain". The paper says it too, and then says what it means: the one that has the most work in it. A
//! chain of many easy blocks is longer and counts for less, or nobody would have to mine at the difficulty that the rule asks
//! for.
//!
//! - [`Tree`] has the headers: what each is worth, and which stand on which;
//! - [`Engine`] says which chain is the best that is known to hold, and how to get there: which blocks to revert, which to judge;
//! - `pow` says how hard the next block must be;
//! - [`finality`] says how likely a block is to stay.
//!
//! A pure step machine: whether a block is valid comes in as a verdict, and so does the time.
//!
//! Deliberately absent: blocks. What stands in them is for the machine that is driven.

#![forbid(unsafe_code)]

pub mod cost;
mod engine;
mod error;
pub mod finality;
mod pow;
mod tree;

pub use engine::{Engine, Kept, Output};
pub use error::HeaderError;
pub use pow::{FUTURE_SECONDS_MAX, HeaderRules, PowParams, has_work, next_bits, permitted_transition, target};
pub use tree::{BlockId, Entry, Failure, Tree};
