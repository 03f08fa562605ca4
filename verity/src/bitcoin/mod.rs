//! What stands around a Bitcoin node: its finality told to people.

pub(crate) mod bitcoind;
mod chart;
pub(crate) mod client;
pub(crate) mod confidence;
pub(crate) mod daemon;
pub(crate) mod mine;
pub(crate) mod races;
pub(crate) mod rpc;
