//! ZooKeeper: a tree of small nodes on an agreed order, over the wire protocol that its clients speak.
//!
//! `wire` encodes and decodes, `machine` is the tree that consumes the order, `session` talks to
//! clients.

#![forbid(unsafe_code)]

pub mod machine;
pub mod session;
pub mod wire;
