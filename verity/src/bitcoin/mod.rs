//! What stands around Bitcoin nodes: Core's command line, a cluster's nodes and what is done to them, finality told to people.

pub(crate) mod attack;
pub(crate) mod bitcoind;
pub(crate) mod chains;
mod chart;
pub(crate) mod client;
pub(crate) mod confidence;
pub(crate) mod daemon;
pub(crate) mod member;
pub(crate) mod mine;
pub(crate) mod miners;
mod notify;
pub(crate) mod races;
pub(crate) mod rpc;
