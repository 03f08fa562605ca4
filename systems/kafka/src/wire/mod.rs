//! Kafka's wire protocol: everything between bytes and typed values. Pure encoding; no meaning.
//!
//! A connection is a stream of frames ([`Frames`]); a frame is a header and a message ([`decode_request`],
//! [`encode_response`]); a message is a struct of [`message`], defined in the notation of `schema`. Records are not
//! messages: they travel as batches ([`Batch`]), whose bytes the broker passes on as they are.
//!
//! Bounds: [`FRAME_SIZE_MAX`] on a frame, [`DECODED_BYTES_MAX`] on what it becomes in memory, [`STRING_SIZE_MAX`] on a
//! string, [`DECOMPRESSED_SIZE_MAX`] on the records of a batch.

mod api;
mod batch;
mod blob;
mod build;
mod compress;
mod error;
mod frame;
mod header;
pub mod message;
mod reader;
mod record;
mod schema;
#[cfg(test)]
mod tests;
mod uuid;
mod validate;
mod value;
mod writer;

pub use api::{ApiKey, Ask, Request, Response};
pub use batch::{
    Attributes, BATCH_HEADER_SIZE, BATCH_PREFIX_SIZE, Batch, BatchError, BatchHeader, Batches, MAGIC,
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, assign, checksum, stamp,
};
pub use blob::Blob;
pub use build::{BatchBuilder, Marker, Rebuilt, empty_batch, marker_batch, parse_marker, rebuild};
pub use compress::{Codec, CompressionError, DECOMPRESSED_SIZE_MAX};
pub use error::ErrorCode;
pub use frame::{BACKLOG_MAX, CHUNK_COUNT_MAX, FRAME_SIZE_MAX, FrameError, Frames};
pub use header::{
    Incoming, RequestError, RequestHeader, decode_request, decode_response, encode_request, encode_response,
    unsupported_api_versions,
};
pub use reader::{DECODED_BYTES_MAX, Reader, STRING_SIZE_MAX, WireError};
pub use record::{Headers, Record, Records};
pub use schema::Message;
#[cfg(test)]
pub use tests::draw::Draw;
pub use uuid::Uuid;
pub use validate::{Accepted, RECORD_ERRORS_MAX, Rejected, Rules, validate};
pub use value::{Field, Format, Nullable};
pub use writer::Writer;
