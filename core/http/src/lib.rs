//! HTTP/1.1 (RFC 9112) and WebSocket (RFC 6455), the server's side, as a step machine over bytes.
//!
//! A service keeps one [`Server`] for each connection:
//!
//! - upon bytes, cut anywhere: [`Server::on_bytes`]. After each call, [`Server::poll`] until it gives no more.
//! - upon [`Event::Request`]: answer it by its number, now or later, with [`Server::respond`]. Responses leave in the order
//!   of the requests, whatever the order of the answers (RFC 9112 §9.3.2).
//! - upon [`Event::Upgrade`]: [`Server::accept_websocket`], or any response by `respond`.
//! - upon [`Event::Message`]: whatever the service likes; [`Server::send`] takes frames.
//! - upon [`Event::Write`], [`Event::Close`], [`Event::Pause`] and [`Event::Resume`]: carry it out. These are the outputs of
//!   the same names that a service has.
//!
//! Whatever breaks a rule is refused with the status, or the close code, that the RFC has for it. Where the RFC lets a
//! server be lenient about where a message ends, this one is strict: that is how requests are smuggled (RFC 9112 §11.2).
//!
//! Deliberately absent: sockets, TLS, clocks (timeouts are the service's, [`Server::is_idle`] tells when they matter),
//! routing, content codings, responses of unknown length, extensions of WebSocket, HTTP/2.

#![forbid(unsafe_code)]

mod body;
mod date;
mod head;
mod headers;
mod host;
mod limits;
mod line;
mod order;
mod query;
mod refusal;
mod request;
mod response;
mod server;
mod target;
#[cfg(test)]
mod tests;
mod websocket;

pub use date::http_date;
pub use headers::Headers;
pub use host::{is_loopback_host, is_rebind_safe, origin_host, split_authority};
pub use limits::{HELD_BYTES_MAX, Limits};
pub use query::{PAIRS_MAX, QueryError, parse_query, percent_decode};
pub use refusal::Refusal;
pub use request::{Request, RequestNumber, Upgrade, Version};
pub use response::{Response, is_token};
pub use server::{Event, Server};
pub use websocket::{CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, CloseReason, Frame, Message, accept_key, close_code};
