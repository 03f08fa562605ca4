//! WebSocket (RFC 6455), the server's side.
//!
//! A connection becomes one by a request that [`handshake`] finds valid. Frames that come are put together to messages by
//! [`reader`]; [`frame`] has messages, and the frames that leave. What answers a frame (a pong, the closing handshake) is
//! the [`Server`](crate::Server)'s.
//!
//! Deliberately absent: extensions, `permessage-deflate` among them; none is agreed to, so its bits are refused.

mod frame;
mod handshake;
mod reader;

pub use frame::{CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, CloseReason, Frame, Message, close_code};
pub use handshake::accept_key;
pub(crate) use handshake::{Offer, asks_for_websocket, encode_accept};
pub(crate) use reader::Reader;
