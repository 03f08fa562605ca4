//! What a partition's log promises, tried.

mod basic;
mod compaction;
mod crash;
mod damage;
mod model;
mod rig;
mod transfer;
