//! Raw-wire load clients for servers that speak ZooKeeper's protocol, or Kafka's; and loads on a ledger's own nodes.
//!
//! The client is deliberately thin: what it spends is spent from the same cores as the server's share. It fails on
//! the first reply that is an error, out of order or of the wrong size, so a figure never counts work not done.
//!
//! Deliberately absent: reconnects, watches, and everything else that a client library does for its user.

#![forbid(unsafe_code)]

#[cfg(feature = "bitcoin")]
pub mod bitcoin;
pub mod floor;
pub mod kafka;
pub mod ledger;
pub mod load;
pub mod process;
pub mod session;
pub mod wire;
