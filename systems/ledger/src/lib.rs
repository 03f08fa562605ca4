//! A replicated ledger: blocks on an agreed order, over the JSON-RPC that CometBFT v0.38's clients speak.
//!
//! `wire` encodes and hashes as CometBFT does, `machine` makes blocks of the order and runs the application, `session`
//! talks to clients and signs.

#![forbid(unsafe_code)]

pub mod machine;
pub mod outside;
pub mod session;
pub mod wire;

pub use ed25519_zebra::SigningKey;
