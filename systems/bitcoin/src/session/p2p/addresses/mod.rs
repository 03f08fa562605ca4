//! Where other nodes are, and who of them is not let in.

mod bans;
mod book;
#[cfg(test)]
mod tests;

pub(super) use bans::Bans;
pub use bans::Subnet;
pub(super) use book::{Book, by_hand};
