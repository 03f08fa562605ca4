//! Chaos on real processes: five servers on a lab disk that loses unsynced bytes at a kill, `kill -9`, SIGSTOP and
//! one-way partitions under load, and the checker's verdict on what the clients saw.
//!
//! Deliberately absent: determinism. A seed draws the same faults and requests again; their times are the machine's.
//! The simulator is where runs repeat; here is where the operating system is real.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a harness of real processes lives in real time")]

pub mod cluster;
pub mod history;
pub mod judge;
pub mod kafka;
pub mod load;
pub mod nemesis;
pub mod operation;
pub mod run;
pub mod session;
