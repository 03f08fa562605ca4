//! What sessions ask of the state, what they hear from it, and how both are encoded.
//!
//! ```text
//! query  = kind:1 fields      numbers, blobs and flags as `verity_contract::codec` writes them, signed ones zigzagged
//! answer = 0:1 json | 1:1 text of an error
//! ```
//! Answers are the RPC's results as JSON already: whoever asks puts them into an envelope and looks at nothing.

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::codec::{CodecError, put_blob, put_number, take_blob, take_byte, take_number};

use crate::wire::{Address, BlockId, Hash, PartSetHeader, Time};

/// No field of a query is longer.
const FIELD_SIZE_MAX: usize = 2 << 20;

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub page: Option<i64>,
    /// How many on a page.
    pub per_page: Option<i64>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the RPC's methods and parameters by their names")]
pub enum Query {
    Status,
    Blockchain {
        min: i64,
        max: i64,
    },
    Block {
        height: Option<i64>,
    },
    BlockByHash {
        hash: Bytes,
    },
    BlockResults {
        height: Option<i64>,
    },
    Commit {
        height: Option<i64>,
    },
    Header {
        height: Option<i64>,
    },
    HeaderByHash {
        hash: Bytes,
    },
    Validators {
        height: Option<i64>,
        page: Page,
    },
    ConsensusParams {
        height: Option<i64>,
    },
    Tx {
        hash: Bytes,
        prove: bool,
    },
    TxSearch {
        query: String,
        prove: bool,
        page: Page,
        order_by: String,
    },
    BlockSearch {
        query: String,
        page: Page,
        order_by: String,
    },
    UnconfirmedTxs {
        limit: Option<i64>,
    },
    NumUnconfirmedTxs,
    ConsensusState,
    DumpConsensusState,
    AbciInfo,
    AbciQuery {
        path: String,
        data: Bytes,
        height: i64,
        prove: bool,
    },
    CheckTx {
        tx: Bytes,
    },
    /// What a block's subscribers are told.
    Events {
        height: u64,
    },
    /// The results of some of a block's transactions.
    Results {
        height: u64,
        indexes: Vec<u32>,
    },
    /// What a validator has not signed yet. Answered by [`Proposed`] instead of JSON, or by nothing.
    Unsigned {
        address: Bytes,
    },
}

fn put_signed(out: &mut BytesMut, value: i64) {
    // Heights beyond 2^62 name no block; they are cut to what does not exist either.
    let value = value.clamp(-(1 << 61), 1 << 61);
    put_number(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn take_signed(bytes: &mut Bytes) -> Result<i64, CodecError> {
    let value = take_number(bytes)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn put_option(out: &mut BytesMut, value: Option<i64>) {
    out.put_u8(value.is_some().into());
    if let Some(value) = value {
        put_signed(out, value);
    }
}

fn take_option(bytes: &mut Bytes) -> Result<Option<i64>, CodecError> {
    if take_byte(bytes)? == 0 { Ok(None) } else { take_signed(bytes).map(Some) }
}

fn put_page(out: &mut BytesMut, page: Page) {
    put_option(out, page.page);
    put_option(out, page.per_page);
}

fn take_page(bytes: &mut Bytes) -> Result<Page, CodecError> {
    Ok(Page { page: take_option(bytes)?, per_page: take_option(bytes)? })
}

fn take_text(bytes: &mut Bytes) -> Result<String, CodecError> {
    let blob = take_blob(bytes, FIELD_SIZE_MAX)?;
    String::from_utf8(blob.into()).map_err(|_| CodecError("text that is not UTF-8".to_owned()))
}

impl Query {
    /// As the replica carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(self.kind());
        match self {
            Self::Status
            | Self::NumUnconfirmedTxs
            | Self::ConsensusState
            | Self::DumpConsensusState
            | Self::AbciInfo => {}
            Self::Blockchain { min, max } => [min, max].iter().for_each(|number| put_signed(&mut out, **number)),
            Self::Block { height }
            | Self::BlockResults { height }
            | Self::Commit { height }
            | Self::Header { height }
            | Self::ConsensusParams { height }
            | Self::UnconfirmedTxs { limit: height } => put_option(&mut out, *height),
            Self::BlockByHash { hash: blob }
            | Self::HeaderByHash { hash: blob }
            | Self::CheckTx { tx: blob }
            | Self::Unsigned { address: blob } => put_blob(&mut out, blob),
            Self::Validators { height, page } => {
                put_option(&mut out, *height);
                put_page(&mut out, *page);
            }
            Self::Tx { hash, prove } => {
                put_blob(&mut out, hash);
                out.put_u8((*prove).into());
            }
            Self::TxSearch { query, prove, page, order_by } => {
                put_blob(&mut out, query.as_bytes());
                out.put_u8((*prove).into());
                put_page(&mut out, *page);
                put_blob(&mut out, order_by.as_bytes());
            }
            Self::BlockSearch { query, page, order_by } => {
                put_blob(&mut out, query.as_bytes());
                put_page(&mut out, *page);
                put_blob(&mut out, order_by.as_bytes());
            }
            Self::AbciQuery { path, data, height, prove } => {
                put_blob(&mut out, path.as_bytes());
                put_blob(&mut out, data);
                put_signed(&mut out, *height);
                out.put_u8((*prove).into());
            }
            Self::Events { height } => put_number(&mut out, *height),
            Self::Results { height, indexes } => {
                put_number(&mut out, *height);
                put_number(&mut out, indexes.len() as u64);
                indexes.iter().for_each(|index| put_number(&mut out, (*index).into()));
            }
        }
        out.freeze()
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Status => 1,
            Self::Blockchain { .. } => 2,
            Self::Block { .. } => 3,
            Self::BlockByHash { .. } => 4,
            Self::BlockResults { .. } => 5,
            Self::Commit { .. } => 6,
            Self::Header { .. } => 7,
            Self::HeaderByHash { .. } => 8,
            Self::Validators { .. } => 9,
            Self::ConsensusParams { .. } => 10,
            Self::Tx { .. } => 11,
            Self::TxSearch { .. } => 12,
            Self::BlockSearch { .. } => 13,
            Self::UnconfirmedTxs { .. } => 14,
            Self::NumUnconfirmedTxs => 15,
            Self::ConsensusState => 16,
            Self::DumpConsensusState => 17,
            Self::AbciInfo => 18,
            Self::AbciQuery { .. } => 19,
            Self::CheckTx { .. } => 20,
            Self::Events { .. } => 21,
            Self::Results { .. } => 22,
            Self::Unsigned { .. } => 23,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let bytes = &mut Bytes::copy_from_slice(bytes);
        let kind = take_byte(bytes)?;
        Ok(match kind {
            1 => Self::Status,
            2 => Self::Blockchain { min: take_signed(bytes)?, max: take_signed(bytes)? },
            3 => Self::Block { height: take_option(bytes)? },
            4 => Self::BlockByHash { hash: take_blob(bytes, FIELD_SIZE_MAX)? },
            5 => Self::BlockResults { height: take_option(bytes)? },
            6 => Self::Commit { height: take_option(bytes)? },
            7 => Self::Header { height: take_option(bytes)? },
            8 => Self::HeaderByHash { hash: take_blob(bytes, FIELD_SIZE_MAX)? },
            9 => Self::Validators { height: take_option(bytes)?, page: take_page(bytes)? },
            10 => Self::ConsensusParams { height: take_option(bytes)? },
            11 => Self::Tx { hash: take_blob(bytes, FIELD_SIZE_MAX)?, prove: take_byte(bytes)? != 0 },
            12 => Self::TxSearch {
                query: take_text(bytes)?,
                prove: take_byte(bytes)? != 0,
                page: take_page(bytes)?,
                order_by: take_text(bytes)?,
            },
            13 => Self::BlockSearch { query: take_text(bytes)?, page: take_page(bytes)?, order_by: take_text(bytes)? },
            14 => Self::UnconfirmedTxs { limit: take_option(bytes)? },
            15 => Self::NumUnconfirmedTxs,
            16 => Self::ConsensusState,
            17 => Self::DumpConsensusState,
            18 => Self::AbciInfo,
            19 => Self::AbciQuery {
                path: take_text(bytes)?,
                data: take_blob(bytes, FIELD_SIZE_MAX)?,
                height: take_signed(bytes)?,
                prove: take_byte(bytes)? != 0,
            },
            20 => Self::CheckTx { tx: take_blob(bytes, FIELD_SIZE_MAX)? },
            21 => Self::Events { height: take_number(bytes)? },
            22 => {
                let height = take_number(bytes)?;
                // Each takes a byte at least, so the frame bounds them.
                let count = take_number(bytes)?.min(bytes.len() as u64);
                let index = |_| Ok(u32::try_from(take_number(bytes)?).unwrap_or(u32::MAX));
                Self::Results { height, indexes: (0..count).map(index).collect::<Result<_, CodecError>>()? }
            }
            23 => Self::Unsigned { address: take_blob(bytes, FIELD_SIZE_MAX)? },
            _ => return Err(CodecError("a query of an unknown kind".to_owned())),
        })
    }
}

/// What a question is answered with.
pub type Answer = Result<Bytes, String>;

/// As the replica carries it.
pub(super) fn encode_answer(answer: Answer) -> Bytes {
    let (kind, body) = match answer {
        Ok(json) => (0, json),
        Err(text) => (1, text.into()),
    };
    [&[kind][..], &body].concat().into()
}

/// Reads it.
pub(crate) fn decode_answer(bytes: &Bytes) -> Answer {
    match bytes.first() {
        Some(0) => Ok(bytes.slice(1..)),
        Some(_) => Err(String::from_utf8_lossy(&bytes[1..]).into_owned()),
        None => Err("the state answered nothing".to_owned()),
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic;

impl Topic {
    /// A block was cut and is to be signed: [`Proposed`].
    pub const PROPOSED: &'static [u8] = b"proposed";
    /// A block stands: [`BlockMade`].
    pub const BLOCK: &'static [u8] = b"block";
}

/// A block that is to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Which.
    pub height: u64,
    /// Its name.
    pub id: BlockId,
    /// Its time; a vote is later.
    pub time: Time,
}

fn take_array<const N: usize>(bytes: &mut Bytes) -> Result<[u8; N], CodecError> {
    let array = bytes.first_chunk().copied().ok_or_else(|| CodecError("ends early".to_owned()))?;
    let _ = bytes.split_to(N);
    Ok(array)
}

impl Proposed {
    /// As an event carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.height);
        out.put_slice(&self.id.hash);
        out.put_u32(self.id.parts.total);
        out.put_slice(&self.id.parts.hash);
        out.put_i64(self.time.seconds);
        out.put_u32(self.time.nanos);
        out.freeze()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        let bytes = &mut bytes.clone();
        Ok(Self {
            height: u64::from_be_bytes(take_array(bytes)?),
            id: BlockId {
                hash: take_array(bytes)?,
                parts: PartSetHeader { total: u32::from_be_bytes(take_array(bytes)?), hash: take_array(bytes)? },
            },
            time: Time {
                seconds: i64::from_be_bytes(take_array(bytes)?),
                nanos: u32::from_be_bytes(take_array(bytes)?),
            },
        })
    }
}

/// A block that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMade {
    /// Which.
    pub height: u64,
    /// Of its transactions, in their order.
    pub hashes: Vec<Hash>,
}

impl BlockMade {
    /// As an event carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + 32 * self.hashes.len());
        out.put_u64(self.height);
        self.hashes.iter().for_each(|hash| out.put_slice(hash));
        out.freeze()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, CodecError> {
        let bytes = &mut bytes.clone();
        let height = u64::from_be_bytes(take_array(bytes)?);
        let (hashes, rest) = bytes.as_chunks();
        if rest.is_empty() {
            Ok(Self { height, hashes: hashes.to_vec() })
        } else {
            Err(CodecError("half a hash".to_owned()))
        }
    }
}

/// An address that came as bytes; `None` if it is none.
pub(super) fn address(bytes: &Bytes) -> Option<Address> {
    Address::try_from(&bytes[..]).ok()
}
