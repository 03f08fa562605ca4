//! The shell around a replica: sockets, TLS, disks, host clocks, timers, faults.
//!
//! A node is one thread on which the replica, its sessions and their sockets live, two threads for its disk, and one
//! for each channel by which it asks other processes. Nothing
//! that decides anything is here: what the node does is what the simulator runs.
//!
//! Deliberately absent: any system and any agreement. Whoever starts a node brings groups and services.

#![forbid(unsafe_code)]

mod book;
mod clock;
mod conn;
mod core;
mod dial;
mod evidence;
mod faults;
mod figures;
mod memory;
mod node;
mod outgoing;
mod outside;
mod parallel;
mod pause;
mod peer;
mod rotation;
mod storage;
mod task;
mod tls;

pub use clock::{CLOCK_SKEW_MS_MAX, HostClock};
pub use faults::{DISK_DELAY_MAX, Faults};
pub use figures::{Counted, Figures, Histogram, Requests, Timings};
pub use memory::machine_memory;
pub use node::{
    AskError, Count, DoorSpec, Meter, NodeClient, NodeError, NodeHandle, NodeSpec, NodeStatus, TRACE, start,
};
pub use parallel::parallel;
pub use peer::{PEER_VERSION, QUEUE_BYTES_MAX, REDIAL_MAX};
pub use tls::{ClientCertificates, Issued, PeerTls, ServerTls, TlsError, issue_client, issue_node, make_ca};
