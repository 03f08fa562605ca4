//! What peers say to each other, as bytes.
//!
//! - `frame` cuts a stream into messages, and `transport` (of `session::p2p`) does so under a cipher;
//! - `message` is each message's content, `address`, `inventory` and `compact` what they are made of;
//! - `filter` is what light clients fetch instead of blocks (BIP 157).
//!
//! Bytes behind a message's last field are ignored, as the network's nodes do: that is how fields were added over the years.
//! Deliberately absent: who said it, and what is to be done about it.

mod address;
mod codec;
mod compact;
mod filter;
mod frame;
mod inventory;
mod message;
#[cfg(test)]
mod tests;

pub use address::{NetAddress, PeerAddress, Place, Services};
pub use codec::{DecodeError, Reader};
pub use compact::{BlockTxns, CompactBlock, GetBlockTxns, Partial, Prefilled, Reconstruction, ShortIdKey};
pub use filter::{BASIC, CHECKPOINT_INTERVAL, FilterRange};
pub use frame::{Decoder, Frame, FrameError, HEADER_SIZE, PAYLOAD_SIZE_MAX, encode_frame};
pub(crate) use frame::{command_bytes, command_text};
pub use inventory::{Inventory, Item};
pub use message::{Locator, Message, Version};

/// The protocol's version that is spoken here: the one that brought announcements by wtxid (BIP 339).
pub const PROTOCOL_VERSION: u32 = 70_016;
/// Peers of a version below are not spoken to.
pub const VERSION_MIN: u32 = 31_800;
/// From here on pings have a nonce and are answered (BIP 31).
pub const PONG_VERSION: u32 = 60_000;
/// From here on new blocks may be announced by headers (BIP 130).
pub const SENDHEADERS_VERSION: u32 = 70_012;
/// From here on peers say what they will not take for its fee (BIP 133).
pub const FEEFILTER_VERSION: u32 = 70_013;
/// From here on there are compact blocks (BIP 152).
pub const COMPACT_VERSION: u32 = 70_014;
/// From here on an invalid compact block is not held against whom it comes from.
pub const COMPACT_NO_BAN_VERSION: u32 = 70_015;
/// From here on transactions may be announced by wtxid (BIP 339).
pub const WTXID_VERSION: u32 = 70_016;
/// The one kind of compact block that is spoken: short ids are of wtxids.
pub const COMPACT_KIND: u64 = 2;
