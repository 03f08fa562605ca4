//! A Bitcoin node, as the network's own: what they take it takes, and what they refuse it refuses.
//!
//! - `script` decides whether an input unlocks the output that it names;
//! - `chain` has the blocks, the coins, and the way from tip to tip, by the choice of `verity-nakamoto`;
//! - `mempool` has what is not in a block yet;
//! - `wire` is what peers say, `session` who they are, and what clients ask;
//! - `wallet` has keys.
//!
//! Deliberately absent: sockets and clocks. Bytes and moments come in as values.

#![forbid(unsafe_code)]

pub mod chain;
pub mod index;
pub mod mempool;
pub mod mining;
pub mod mutant;
pub mod node;
pub mod params;
mod places;
pub mod script;
pub mod session;
pub mod wallet;
pub mod wire;

pub use mutant::Mutant;
pub use params::Params;

/// A script that is written in hex.
#[must_use]
pub fn script_from_hex(text: &str) -> Option<bitcoin::ScriptBuf> {
    bitcoin::ScriptBuf::from_hex(text).ok()
}

/// An amount of work that is written in up to 64 hex digits.
#[must_use]
pub fn work_from_hex(text: &str) -> Option<bitcoin::Work> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 64 {
        return None;
    }
    bitcoin::Work::from_unprefixed_hex(&format!("{digits:0>64}")).ok()
}
