//! The deterministic world: network, disks, clocks and crashes from one seed.
//!
//! The nodes in it are the ones that ship: the same replica, sessions, machines, log and snapshots, driven by virtual
//! time instead of sockets and threads. One seed gives one history, byte for byte.
//!
//! - upon each step: every replica's invariants are asserted, and the digests of replicas at the same index compared;
//! - upon the end of the faults: everything heals, and the workload must make progress before a deadline;
//! - upon the end: the workload judges the history that its clients saw;
//! - upon a service that dials: a stream to another node, which keeps its order, stalls where the network is cut and ends with
//!   either of its ends.
//!
//! A [`Workload`] brings the groups, the services and the clients: [`ZooKeeperClients`], [`KafkaClients`],
//! [`LedgerClients`] and [`BitcoinClients`] are such.
//!
//! [`mining`] is a world of its own: miners, whose order is made by work.
//!
//! Deliberately absent: any agreement. The workload is handed one.

#![forbid(unsafe_code)]

mod bitcoin;
mod bug;
mod faults;
mod history;
mod kafka;
mod ledger;
pub mod mining;
mod mutant;
mod network;
mod node;
mod trace;
mod twice;
mod workload;
mod world;
mod zookeeper;

pub use bitcoin::BitcoinClients;
pub use faults::{FaultCounts, Swarm};
pub use kafka::KafkaClients;
pub use ledger::LedgerClients;
pub use mutant::{Forget, Mutant, forget_votes, mutate};
pub use trace::Trace;
pub use twice::{Began, mutate_machine};
pub use workload::{ClientId, ClientInput, ClientOutput, NodeSetup, Workload};
pub use world::{Failure, Options, Report, run};
pub use zookeeper::{EngineFn, ZooKeeperClients};
