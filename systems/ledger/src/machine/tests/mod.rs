//! The state by itself: a chain that other hands verify, snapshots, and what clients can ask.

mod abroad;
mod chain;
pub(crate) mod rig;
mod snapshots;
