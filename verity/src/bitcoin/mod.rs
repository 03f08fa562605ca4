//! What stands around a Bitcoin node: its finality told to people.

pub(crate) mod bitcoind;
pub(crate) mod confidence;
pub(crate) mod daemon;
