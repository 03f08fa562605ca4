//! Scenarios of each protocol, and properties of all of them together.

mod classic;
mod consumer;
mod duty;
mod offsets;
mod properties;
mod rig;
mod share;
mod share_partition;
mod statics;
mod transactions;
