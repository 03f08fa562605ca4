//! Worlds that need no system: the smallest machine and service that show what the rooms below them promise.

#![forbid(unsafe_code)]

pub mod append;
mod engines;
pub mod filed;

pub use engines::{paxos, pbft, raft};
