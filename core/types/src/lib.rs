//! Numbers with names: what every other crate calls a node, a group, a place in a log, a moment.
//!
//! Each protocol number is a type of its own, so that a term cannot be passed where an index is meant.
//! Deliberately absent: any behaviour beyond comparison and arithmetic, and any dependency.

#![forbid(unsafe_code)]

mod digest;
mod ids;
mod time;

pub use digest::Digest;
pub use ids::{ConnId, GroupId, Incarnation, LogIndex, NodeId, Term, Token};
pub use time::{Mono, Nanos, WallMs};
