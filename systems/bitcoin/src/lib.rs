//! A Bitcoin node: so far the rule by which an output may be spent.
//!
//! `script` decides whether an input unlocks the output that it names, exactly as the network's nodes do, and says in their
//! words why not.
//!
//! Deliberately absent, so far: the wire, the chain, the mempool.

#![forbid(unsafe_code)]

pub mod script;
