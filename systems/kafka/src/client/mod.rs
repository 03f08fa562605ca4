//! A client's side of the protocol: what it decides between bytes in and bytes out.
//!
//! - [`Versions`]: which version of a request both sides speak;
//! - [`Exchange`]: SASL, until the server has shown that it knows the user;
//! - [`partition_of`]: where a key belongs;
//! - [`consume`]: records out of what a fetch brought;
//! - [`Assignment`], [`Subscription`], [`assign`]: what members of a classic group tell each other.
//!
//! Deliberately absent: sockets, time and retries, which are whoever's uses this; and producers of transactions.

mod consume;
mod membership;
mod partitioner;
mod sasl;
#[cfg(test)]
mod tests;
mod versions;

pub use consume::{Consumed, consume};
pub use membership::{Assignment, Subscription, assign, decode_assignment, encode_assignment};
pub use partitioner::partition_of;
pub use sasl::{AuthenticationError, Exchange, Mechanism};
pub use versions::{Unsupported, Versions};
