//! What the order carries, and what it is answered with.
//!
//! ```text
//! command = version:1 kind:1 body    version is 2
//! kind 1: a transaction's bytes
//! kind 2: vote = height:8 address:20 seconds:8 nanos:4 signature:64 block, integers big-endian
//!         block = hash:32 parts:4 hash:32
//! kind 3: cut, empty
//! answer  = kind:1 body
//! kind 0: done, empty; 1: what a check says, as `tendermint.abci.ExecTxResult`; 2: why it is refused, as text
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use verity_contract::Pieces;

use crate::wire::{Address, BlockId, CheckTx, PartSetHeader, Time, Vote};

/// The version of this layout.
const VERSION: u8 = 2;

mod kind {
    pub(super) const TX: u8 = 1;
    pub(super) const VOTE: u8 = 2;
    pub(super) const CUT: u8 = 3;
    pub(super) const DONE: u8 = 0;
    pub(super) const CHECKED: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
}

const VOTE_SIZE: usize = 8 + 20 + 8 + 4 + 64 + 32 + 4 + 32;

/// Bytes that are no command or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not of the ledger's: {0}")]
pub struct CommandError(pub &'static str);

/// What is placed in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A client's transaction.
    Tx(Bytes),
    /// A validator's vote, and for which block it is.
    Vote(Vote, BlockId),
    /// A block is wished for, even an empty one.
    Cut,
}

impl Command {
    /// As the order carries it. A transaction is not copied.
    #[must_use]
    pub fn encode(&self) -> Pieces {
        let head = |kind: u8| Bytes::copy_from_slice(&[VERSION, kind]);
        match self {
            Self::Tx(tx) => Pieces { head: head(kind::TX), body: tx.clone() },
            Self::Vote(vote, block_id) => {
                let mut body = BytesMut::with_capacity(VOTE_SIZE);
                body.put_u64(vote.height);
                body.put_slice(&vote.address);
                body.put_i64(vote.time.seconds);
                body.put_u32(vote.time.nanos);
                body.put_slice(&vote.signature);
                body.put_slice(&block_id.hash);
                body.put_u32(block_id.parts.total);
                body.put_slice(&block_id.parts.hash);
                Pieces { head: head(kind::VOTE), body: body.freeze() }
            }
            Self::Cut => Pieces { head: head(kind::CUT), body: Bytes::new() },
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, CommandError> {
        let Some(([version, what], _)) = bytes.split_first_chunk() else {
            return Err(CommandError("a command has a head"));
        };
        if *version != VERSION {
            return Err(CommandError("a command of another version"));
        }
        let body = bytes.slice(2..);
        match *what {
            kind::TX => Ok(Self::Tx(body)),
            kind::VOTE => vote(&body).map(|(vote, block_id)| Self::Vote(vote, block_id)),
            kind::CUT if body.is_empty() => Ok(Self::Cut),
            _ => Err(CommandError("a command of an unknown kind")),
        }
    }
}

fn vote(body: &Bytes) -> Result<(Vote, BlockId), CommandError> {
    if body.len() != VOTE_SIZE {
        return Err(CommandError("a vote has one size"));
    }
    let (height, rest) = body.split_first_chunk().expect("it was measured");
    let (address, rest): (&Address, _) = rest.split_first_chunk().expect("it was measured");
    let (seconds, rest) = rest.split_first_chunk().expect("it was measured");
    let (nanos, rest) = rest.split_first_chunk().expect("it was measured");
    let (signature, rest): (&[u8; 64], _) = rest.split_first_chunk().expect("it was measured");
    let (hash, rest) = rest.split_first_chunk().expect("it was measured");
    let (total, parts) = rest.split_first_chunk().expect("it was measured");
    let parts = parts.first_chunk().expect("it was measured");
    let parts = PartSetHeader { total: u32::from_be_bytes(*total), hash: *parts };
    let block_id = BlockId { hash: *hash, parts };
    let time = Time { seconds: i64::from_be_bytes(*seconds), nanos: u32::from_be_bytes(*nanos) };
    // What a moment may be is what its protobuf form may be; a leader may propose anything.
    if time.nanos >= 1_000_000_000 || !(0..=253_402_300_799).contains(&time.seconds) {
        return Err(CommandError("a vote at no moment"));
    }
    let signature = body.slice_ref(signature);
    Ok((Vote { height: u64::from_be_bytes(*height), address: *address, time, signature }, block_id))
}

/// What a command is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was taken.
    Done,
    /// What the application says of the transaction. It waits for its block if the code is 0.
    Checked(CheckTx),
    /// Why it was not taken.
    Refused(String),
}

impl Reply {
    /// As the replica carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, body) = match self {
            Self::Done => (kind::DONE, Bytes::new()),
            Self::Checked(check) => (kind::CHECKED, check.encode()),
            Self::Refused(why) => (kind::REFUSED, Bytes::copy_from_slice(why.as_bytes())),
        };
        [&[kind][..], &body].concat().into()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, CommandError> {
        match bytes.first() {
            Some(&kind::DONE) => Ok(Self::Done),
            Some(&kind::CHECKED) => {
                CheckTx::decode(bytes.slice(1..)).map(Self::Checked).map_err(|_| CommandError("no check"))
            }
            Some(&kind::REFUSED) => Ok(Self::Refused(String::from_utf8_lossy(&bytes[1..]).into_owned())),
            _ => Err(CommandError("an answer of an unknown kind")),
        }
    }
}
