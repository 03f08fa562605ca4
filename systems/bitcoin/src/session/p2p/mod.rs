//! Who the peers are, and what is said to them.
//!
//! - [`Peers`] is the machine: bytes, moments and what became of the node come in, and what is to be done goes out;
//! - how messages travel is `transport`'s, what they are [`wire`](crate::wire)'s;
//! - `greet` is how peers meet, `dial` and `evict` who is met, `gossip` and `addresses` where others are;
//! - `headers`, `presync`, `fetch` and `assemble` are how the chain comes, `serve`, `announce` and `filters` how it goes;
//! - `relay` and `transactions` are for what is in no block yet;
//! - [`PeerControl`] is the operator's view of it all.

mod addresses;
mod announce;
mod assemble;
mod bloom;
mod config;
mod control;
mod dial;
mod evict;
mod fetch;
mod filters;
mod gossip;
mod greet;
mod headers;
mod machine;
mod operate;
mod peer;
mod presync;
mod recent;
mod relay;
mod serve;
#[cfg(test)]
mod tests;
mod transactions;
mod transport;

pub use addresses::Subnet;
pub use config::{Config, Kind, Permissions, Whitelist, user_agent};
pub use control::{AddNode, AddedNode, Banned, KnownAddress, PeerControl, PeerInfo, Upload, Which};
pub use filters::{FilterIndex, StoredFilter};
pub use machine::{Input, Origin, Output, Peers};

/// Counts up with each connection.
pub type PeerId = u64;
