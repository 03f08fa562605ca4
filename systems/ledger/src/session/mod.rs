//! The protocol towards clients: JSON-RPC by HTTP and WebSocket, as CometBFT's `rpc/jsonrpc` and `rpc/core` have it; and
//! the node's part as a validator, which signs what it sees.
//!
//! [`LedgerService`] holds all connections of a node, [`LedgerDuty`] asks for the first block where the group's leader is.
//! Both are step functions; the chain itself is [`crate::machine`]'s.
//!
//! What differs from CometBFT 0.38, on purpose: `broadcast_tx_async` waits until the transaction is ordered, so that what is
//! refused is said; a batch has up to 100 requests; a page of another site cannot call a node on loopback.
//!
//! Deliberately absent: sockets, TLS, evidence, and the methods that CometBFT calls unsafe.

mod calls;
mod config;
mod duty;
mod methods;
mod params;
mod service;
mod signer;
mod subscriptions;
mod transactions;

#[cfg(test)]
mod tests;

pub use config::{Config, DutyConfig};
pub use duty::LedgerDuty;
pub use service::LedgerService;
