//! ZooKeeper's wire protocol: numbers, records, framing of multis. Pure encoding; no meaning.
//!
//! A packet is an `i32` length and that many bytes. The first packet of a connection is a [`ConnectRequest`]; every
//! further one a [`RequestHeader`] and the body of a [`Request`]. Packet framing and four-letter words belong to the
//! session.

mod code;
mod jute;
mod record;
mod request;
#[cfg(test)]
mod tests;

pub use code::{AddWatchMode, CreateMode, ErrorCode, EventType, KeeperState, OpCode, WatcherType, perms, xid};
pub use jute::{BUFFER_SIZE_MAX, Decode, DecodeError, Encode, Reader, VECTOR_COUNT_MAX, length_of};
pub use record::{
    Acl, AddWatch, AuthPacket, ConnectBody, ConnectRequest, ConnectResponse, ConnectResponseBody, CountResponse,
    Create2Response, CreateRequest, CreateTtlRequest, ErrorResponse, GetAclResponse, GetChildren2Response,
    GetDataResponse, Id, MultiHeader, PathOnly, PathVersion, PathWatch, ReconfigRequest, ReplyHeader, RequestHeader,
    SaslToken, SetAclRequest, SetDataRequest, SetWatches, SetWatches2, Stat, StatResponse, Strings, WatchRemoval,
    WatcherEvent, WhoAmIResponse,
};
pub use request::{MULTI_COUNT_MAX, Request, decode_request};
